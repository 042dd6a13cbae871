//! When the process is asked to end.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT, caught from the moment that this is made.
#[derive(Debug)]
pub struct Shutdown {
    terminate: Signal,
    interrupt: Signal,
}

impl Shutdown {
    /// Catches both signals from now on.
    pub fn catch() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for one of them and names it.
    pub async fn asked(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        process::{Command, id},
        time::Duration,
    };

    use super::Shutdown;

    #[tokio::test]
    async fn a_signal_that_came_before_anyone_waited_is_not_lost() {
        let mut shutdown = Shutdown::catch().unwrap();
        for (flag, name) in [("-TERM", "SIGTERM"), ("-INT", "SIGINT")] {
            assert!(Command::new("kill").args([flag, &id().to_string()]).status().unwrap().success());
            let asked = tokio::time::timeout(Duration::from_secs(10), shutdown.asked()).await;
            assert_eq!(asked, Ok(name));
        }
    }
}
