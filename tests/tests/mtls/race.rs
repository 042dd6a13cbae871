//! A policy that changes again and again while clients of another node connect: each connection is registered, then decided
//! about, then guarded, so that no moment is between two of them.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use socket2::Socket;
use weft_tests::{manifests, soon, throughout};

use crate::stage::{API, Stage};

/// 6 changes, or 300 with `WEFT_SOAK` set.
#[test]
fn no_connection_outlives_a_policy_that_forbids_it_and_none_that_is_allowed_is_cut() {
    let Some(stage) = Stage::open(&[("policy.yaml", policy(0))]) else { return };
    let changes = if std::env::var_os("WEFT_SOAK").is_some() { 300 } else { 6 };
    let race = Race {
        stage: &stage,
        phase: AtomicU64::new(0),
        over: AtomicBool::new(false),
        seen: AtomicU64::new(0),
    };
    let seen = thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| race.client());
        }
        // Also when this thread panics: the scope waits for the others.
        let _over = Over(&race.over);
        let seen: Vec<_> = (1..=changes).map(|change| race.change(change)).collect();
        seen
    });
    eprintln!("exchanges that were judged in each phase: {seen:?}");
}

/// The moment between the decision and the guard, made as long as one likes: the app's queue is full, so that it is being
/// connected to when the policy changes.
#[test]
fn a_connection_that_is_forbidden_while_its_app_is_connected_to_does_not_come_in() {
    let Some(stage) = Stage::open(&[("policy.yaml", policy(0))]) else { return };
    let slow = Socket::from(stage.api.socket(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap());
    slow.bind(&stage.api.addr(8081).into()).unwrap();
    slow.listen(0).unwrap();
    // The kernel drops the SYNs to a full queue.
    let _waits = stage.api.tcp_connect(stage.api.addr(8081)).unwrap();
    let mut stream = stage.web.tcp_connect(stage.api.addr(8081)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"?").unwrap();
    stage.world.apply("policy.yaml", &policy(1));
    stage.b.wait();
    slow.accept().unwrap();
    let end = stream.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(end, Err(ErrorKind::ConnectionReset));
    // What came to the app, if anything did, has ended without a byte.
    slow.set_nonblocking(true).unwrap();
    while let Ok((socket, _)) = slow.accept() {
        let mut heard = TcpStream::from(socket);
        heard.set_nonblocking(false).unwrap();
        heard.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        assert!(!matches!(heard.read(&mut [0]), Ok(1..)), "the app has heard a forbidden byte");
    }
}

struct Race<'a> {
    stage: &'a Stage,
    /// Even ones are settled: allowed, forbidden and so on; between them a change is on its way.
    phase: AtomicU64,
    over: AtomicBool,
    /// Exchanges that were judged in this phase.
    seen: AtomicU64,
}

/// Sets it when it goes.
struct Over<'a>(&'a AtomicBool);

impl Race<'_> {
    /// Changes the policy, gives it the second that it has, and stays until clients have tried enough; how much they have.
    fn change(&self, change: u64) -> u64 {
        self.phase.fetch_add(1, Ordering::SeqCst);
        self.stage.world.apply("policy.yaml", &policy(change));
        self.stage.b.wait();
        if is_allowed(change) {
            soon(|| self.stage.echoes(API, b"there?").is_ok());
        } else {
            throughout(Duration::from_secs(1), || !self.over.load(Ordering::Relaxed));
        }
        self.seen.store(0, Ordering::SeqCst);
        self.phase.fetch_add(1, Ordering::SeqCst);
        soon(|| self.seen.load(Ordering::SeqCst) >= ENOUGH || self.over.load(Ordering::Relaxed));
        assert!(!self.over.load(Ordering::Relaxed), "a client says what has failed");
        self.seen.load(Ordering::SeqCst)
    }

    /// Opens connections, and asks something on each of those that it has, until they fail or are too many.
    fn client(&self) {
        let _over = Over(&self.over);
        let mut live: Vec<(TcpStream, u64)> = Vec::new();
        while !self.over.load(Ordering::Relaxed) {
            let since = self.phase.load(Ordering::SeqCst);
            match self.stage.web.tcp_connect(API) {
                Ok(stream) => live.push((stream, since)),
                Err(_) => self.judge(since, since, false),
            }
            live.retain_mut(|(stream, since)| {
                let begun = self.phase.load(Ordering::SeqCst);
                let answered = is_answered(stream);
                self.judge(*since, begun, answered);
                answered
            });
            if live.len() > MOST_LIVE {
                live.remove(0);
            }
        }
    }

    /// Of an exchange during which the phase did not change.
    fn judge(&self, since: u64, begun: u64, answered: bool) {
        if self.phase.load(Ordering::SeqCst) != begun || begun % 2 == 1 {
            return;
        }
        if is_allowed(begun / 2) {
            // What was opened before may have been cut by the last change.
            assert!(answered || since != begun, "a connection that is allowed is cut, in phase {begun}");
        } else {
            assert!(
                !answered,
                "a connection of phase {since} lives in phase {begun}, a second after it was forbidden"
            );
        }
        self.seen.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The policy after so many changes: `web` is allowed, and then forbidden by what is missing, or by name.
fn policy(changes: u64) -> String {
    let (action, account) = match changes % 4 {
        0 => ("ALLOW", "web"),
        1 => ("ALLOW", "other"),
        2 => ("DENY", "other"),
        _ => ("DENY", "web"),
    };
    let spec = format!(
        "{{targetRefs: [{{group: \"\", kind: Pod, selector: {{matchLabels: {{app: api}}}}}}], action: {action}, rules: \
         [{{sources: [{{type: ServiceAccount, serviceAccount: {{namespace: shop, name: {account}}}}}]}}]}}"
    );
    manifests::authorization_policy("shop/api", &spec)
}

fn is_allowed(changes: u64) -> bool {
    changes.is_multiple_of(2)
}

fn is_answered(stream: &mut TcpStream) -> bool {
    let mut exchange = || {
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(b"?")?;
        stream.read_exact(&mut [0])
    };
    exchange().is_ok()
}

const CLIENTS: usize = 3;
const MOST_LIVE: usize = 8;
/// Exchanges of a phase.
const ENOUGH: u64 = 60;
