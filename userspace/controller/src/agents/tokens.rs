//! What was found out about tokens, for some seconds: an agent that begins asks for all of its certificates at once.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

/// What was found out, by the hashes of tokens. Who asks while somebody else finds out waits for him.
pub(super) struct Tokens<T: Clone>(Mutex<HashMap<[u8; 32], Known<T>>>);

struct Known<T: Clone> {
    at: Instant,
    found: Shared<BoxFuture<'static, T>>,
}

impl<T: Clone> Default for Tokens<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone + Send + Sync + 'static> Tokens<T> {
    /// What is known of `token`; it is found out where it is not known, or no longer.
    pub(super) async fn known<F>(&self, token: &str, find_out: impl FnOnce() -> F) -> T
    where
        F: Future<Output = T> + Send + 'static,
    {
        let key = Sha256::digest(token).into();
        let found = {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            known.retain(|_, known| known.at.elapsed() < REMEMBERED);
            if known.len() >= MOST {
                // Whoever sends so many different tokens shall at least not fill the memory.
                known.clear();
            }
            let fresh = || Known { at: Instant::now(), found: find_out().boxed().shared() };
            known.entry(key).or_insert_with(fresh).found.clone()
        };
        found.await
    }
}

/// How long: a token whose pod is deleted is taken for so long at the most.
const REMEMBERED: Duration = Duration::from_secs(5);

/// How many: more than a large mesh has agents.
const MOST: usize = 10_000;

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_token_is_asked_about_once_in_a_while_whoever_asks_meanwhile() {
        let (tokens, asked) = (Tokens::default(), Arc::new(AtomicU32::new(0)));
        let ask = |token: &'static str| {
            let asked = Arc::clone(&asked);
            tokens.known(token, move || async move {
                sleep(Duration::from_millis(100)).await;
                asked.fetch_add(1, Ordering::Relaxed)
            })
        };
        assert_eq!(futures_util::future::join(ask("a"), ask("a")).await, (0, 0));
        assert_eq!(ask("b").await, 1);
        assert_eq!(ask("a").await, 0);
        sleep(REMEMBERED).await;
        assert_eq!(ask("a").await, 2);
    }
}
