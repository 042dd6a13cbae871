//! Connections, one after the other, while something else happens.

use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::Pod;

/// How the connections went.
#[derive(Debug, Default)]
pub struct Tally {
    /// Connections that were made and answered.
    pub answered: usize,
    /// What went wrong with the others.
    pub failures: Vec<String>,
    /// Those of the answered whose getpeername(2) did not say what was dialled.
    pub misnamed: usize,
}

/// Has `pod` connect to `to` again and again until `work` is done. A connection counts as answered when
/// the server of `to`, a [`Pod::serve_name`], said its name.
pub fn while_connecting(pod: &Pod, to: SocketAddr, work: impl FnOnce()) -> Tally {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut tally = Tally::default();
            while !done.load(Ordering::Relaxed) {
                match answered(pod, to) {
                    Ok(peer) => {
                        tally.answered += 1;
                        tally.misnamed += usize::from(peer != to);
                    }
                    Err(error) => tally.failures.push(error.to_string()),
                }
                thread::sleep(PACE);
            }
            tally
        });
        // Also when `work` panics: the scope waits for the client.
        let guard = Done(&done);
        work();
        drop(guard);
        client.join().expect("the client does not panic")
    })
}

struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Whom the connection says it is with.
fn answered(pod: &Pod, to: SocketAddr) -> io::Result<SocketAddr> {
    let stream = pod.tcp_connect(to)?;
    let peer = stream.peer_addr()?;
    match BufReader::new(stream).read_line(&mut String::new())? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(peer),
    }
}

/// A few hundred microseconds leave the ephemeral ports time to become free again.
const PACE: Duration = Duration::from_micros(200);
