//! Waiting for a condition, with a limit.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Asks `holds` until it says yes; at the limit, its last answer is the error.
pub(super) fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> Result<()>) -> Result<()> {
    let started = Instant::now();
    while let Err(error) = holds() {
        if started.elapsed() > limit {
            return Err(error).with_context(|| format!("wait {} s until {what}", limit.as_secs()));
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use anyhow::ensure;

    use super::until;

    #[test]
    fn it_asks_again_until_the_answer_is_yes() {
        let mut left = 3;
        until("none are left", Duration::from_mins(1), || {
            left -= 1;
            ensure!(left == 0, "{left} left");
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn at_the_limit_the_last_answer_is_the_error() {
        let error = until("pigs fly", Duration::ZERO, || anyhow::bail!("they walk")).unwrap_err();
        assert_eq!(format!("{error:#}"), "wait 0 s until pigs fly: they walk");
    }
}
