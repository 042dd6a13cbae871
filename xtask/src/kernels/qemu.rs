//! One boot: the console passes through, and the verdict is read from it. No verdict is a failure.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::screen;
use crate::test::Counts;

/// The line before the tests, printed by /init.
pub(super) const BOOTED: &str = "weft-matrix: booted";
/// The line after them, with their exit status.
pub(super) const EXIT: &str = "weft-matrix: exit";

/// What a boot came to.
pub(super) struct Outcome {
    /// How long until the tests began; none: they never did.
    pub(super) boot: Option<Duration>,
    pub(super) end: End,
    said: Counts,
}

/// How a boot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Exit(i32),
    NoVerdict,
    TimedOut,
}

/// Boots `vmlinuz` on `initrd`, on two emulated processors and nothing else.
pub(super) fn boot(vmlinuz: &Path, initrd: &Path) -> Result<Outcome> {
    let mut qemu = Machine(
        Command::new("qemu-system-x86_64")
            .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024"])
            .args(["-nographic", "-nodefaults", "-no-reboot", "-serial", "stdio"])
            .arg("-kernel")
            .arg(vmlinuz)
            .arg("-initrd")
            .arg(initrd)
            .args(["-append", "console=ttyS0 quiet panic=-1"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("start qemu-system-x86_64")?,
    );
    let console = lines(qemu.0.stdout.take().expect("stdout was piped above"));
    Ok(read(&console, TIME_LIMIT))
}

impl Outcome {
    /// As counted by the tests; what they could not count is one failure.
    pub(super) fn counts(&self) -> Counts {
        let silent_failure = self.end != End::Exit(0) && self.said.failed == 0;
        let nothing_ran = self.end == End::Exit(0) && self.said == Counts::default();
        Counts { failed: self.said.failed + u64::from(silent_failure || nothing_ran), ..self.said }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(status) => write!(f, "exit status {status}"),
            Self::NoVerdict => write!(f, "no verdict: the machine stopped before the tests ended"),
            Self::TimedOut => write!(f, "no verdict within {}", screen::seconds(TIME_LIMIT)),
        }
    }
}

/// Ends with the process that started it.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself; either way nothing is left to report.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The console's lines, read aside so that a silent machine cannot hold us up.
fn lines(console: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                return;
            }
        }
    });
    receiver
}

fn read(console: &Receiver<String>, limit: Duration) -> Outcome {
    let started = Instant::now();
    let mut outcome = Outcome { boot: None, end: End::NoVerdict, said: Counts::default() };
    // The firmware's messages (and its clearing of the screen) are of interest only if nothing follows.
    let mut firmware: Vec<String> = Vec::new();
    loop {
        let line = match console.recv_timeout(limit.saturating_sub(started.elapsed())) {
            Ok(line) => line,
            Err(error) => {
                for line in &firmware {
                    show(line);
                }
                let timed_out = error == RecvTimeoutError::Timeout;
                return Outcome { end: if timed_out { End::TimedOut } else { End::NoVerdict }, ..outcome };
            }
        };
        if line.contains(BOOTED) {
            outcome.boot = Some(started.elapsed());
            firmware.clear();
        } else if let Some((_, status)) = line.split_once(EXIT) {
            outcome.end = status.trim().parse().map_or(End::NoVerdict, End::Exit);
            return outcome;
        } else if outcome.boot.is_none() {
            firmware.push(line);
        } else {
            outcome.said = outcome.said + Counts::of_line(&line).unwrap_or_default();
            show(&line);
        }
    }
}

fn show(line: &str) {
    screen::line(format_args!("    {}", line.replace(char::is_control, "")));
}

/// Many times what the data-path tests take; a hang should not take the whole of CI's time.
const TIME_LIMIT: Duration = Duration::from_mins(45);

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::time::Duration;

    use super::{End, lines, read};
    use crate::test::Counts;

    fn outcome(console: &'static str) -> super::Outcome {
        read(&lines(Cursor::new(console)), Duration::from_secs(10))
    }

    #[test]
    fn the_verdict_is_the_tests_own() {
        let outcome = outcome(
            "weft-matrix: booted 6.1.0\r\ntest result: ok. 7 passed; 0 failed; 0 ignored; 0 measured\r\nweft-matrix: exit 0\r\n",
        );
        assert!(outcome.boot.is_some());
        assert_eq!(outcome.counts(), Counts { passed: 7, failed: 0, ignored: 0 });
    }

    #[test]
    fn no_verdict_is_a_failure() {
        let outcome = outcome(
            "weft-matrix: booted 6.1.0\ntest result: ok. 7 passed; 0 failed; 0 ignored; 0 measured\n",
        );
        assert_eq!(outcome.end, End::NoVerdict);
        assert_eq!(outcome.counts().failed, 1);
    }

    #[test]
    fn a_crash_after_good_results_is_a_failure() {
        let outcome = outcome(
            "weft-matrix: booted 6.1\ntest result: ok. 7 passed; 0 failed; 0 ignored; 0 measured\nweft-matrix: exit 139\n",
        );
        assert_eq!(outcome.counts(), Counts { passed: 7, failed: 1, ignored: 0 });
    }

    #[test]
    fn a_machine_that_ran_no_test_is_a_failure() {
        assert_eq!(outcome("weft-matrix: booted 6.1.0\nweft-matrix: exit 0\n").counts().failed, 1);
    }

    #[test]
    fn a_silent_machine_runs_into_the_time_limit() {
        let (sender, receiver) = std::sync::mpsc::channel();
        assert_eq!(read(&receiver, Duration::from_millis(10)).end, End::TimedOut);
        drop(sender);
    }
}
