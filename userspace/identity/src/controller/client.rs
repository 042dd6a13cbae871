//! The controllers of a mesh, as an agent asks them.

use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc};

use bytes::Bytes;
use http::Method;
use tokio::sync::watch;

use super::{
    ControllerError, Roots,
    ask::{Asking, Question},
};

/// Whom to trust, or why that is not known yet.
pub(crate) type KnownRoots = Result<Arc<Roots>, Arc<str>>;

/// The controllers of a mesh. Clones share them.
#[derive(Clone)]
pub struct Controllers {
    host: Arc<str>,
    token: PathBuf,
    addresses: watch::Receiver<Arc<[SocketAddr]>>,
    roots: watch::Receiver<KnownRoots>,
}

impl Controllers {
    /// Those that are at `addresses` and prove by `roots` that they are `host`. The token in the file `token` says which
    /// agent asks; it is read for each question, since the kubelet renews it.
    pub fn new(
        host: impl Into<Arc<str>>,
        token: PathBuf,
        addresses: watch::Receiver<Arc<[SocketAddr]>>,
        roots: watch::Receiver<KnownRoots>,
    ) -> Self {
        Self { host: host.into(), token, addresses, roots }
    }

    /// Where they are now.
    pub fn addresses(&self) -> Arc<[SocketAddr]> {
        Arc::clone(&self.addresses.borrow())
    }

    /// The answer of one of them: of the next where one does not answer. Which is first is left to chance.
    pub async fn ask(
        &self,
        method: Method,
        path: &'static str,
        body: Bytes,
    ) -> Result<(SocketAddr, Bytes), ControllerError> {
        let addresses = self.addresses();
        let first = chance(addresses.len());
        let mut last = ControllerError::Nobody { host: Arc::clone(&self.host) };
        for &to in addresses[first..].iter().chain(&addresses[..first]) {
            match self.ask_at(to, method.clone(), path, body.clone()).await {
                Ok(answer) => return Ok((to, answer)),
                Err(error) if error.is_final() => return Err(error),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The answer of the one at `to`.
    pub async fn ask_at(
        &self,
        to: SocketAddr,
        method: Method,
        path: &'static str,
        body: Bytes,
    ) -> Result<Bytes, ControllerError> {
        let roots = self.roots()?;
        let token = tokio::fs::read_to_string(&self.token).await;
        let token = token.map_err(|source| ControllerError::Token { path: self.token.clone(), source })?;
        let asking = Asking { host: &self.host, roots: &roots, token: token.trim() };
        asking.ask(to, Question { method, path, body }).await
    }

    /// Whom to trust now.
    pub(super) fn roots(&self) -> Result<Arc<Roots>, ControllerError> {
        self.roots.borrow().clone().map_err(|why| ControllerError::NoRoots { why })
    }
}

impl fmt::Debug for Controllers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controllers").field("host", &self.host).finish_non_exhaustive()
    }
}

/// One of the numbers below `count`; 0 of none.
fn chance(count: usize) -> usize {
    let share = weft_runtime::fraction() * f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to count")]
    let number = share as usize;
    number.min(count.saturating_sub(1))
}
