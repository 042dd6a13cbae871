//! As `race`, of requests and of answers without end: a policy by path that changes again and again while a client of
//! another node asks.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv6Addr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use weft_tests::{HttpClient, Pod, manifests, soon, throughout};

use crate::stage::{API, Stage};

/// 8 changes, or 200 with `WEFT_SOAK` set.
#[test]
fn no_request_or_answer_outlives_a_policy_that_forbids_it_and_none_that_is_allowed_is_refused_or_cut() {
    let policy = ("policy.yaml", policy(0));
    let Some(stage) = Stage::start(&[policy], |_| Vec::new()) else { return };
    let window = Arc::new(Window::default());
    serve(&stage.api, &window);
    soon(|| stage.web.get(API, "/flip/now", &[]).is_ok_and(|answer| answer.status == 200));
    let changes = if std::env::var_os("WEFT_SOAK").is_some() { 200 } else { 8 };
    let race = Race {
        stage: &stage,
        window: &window,
        phase: AtomicU64::new(0),
        over: AtomicBool::new(false),
        requests: AtomicU64::new(0),
        pieces: AtomicU64::new(0),
    };
    let seen = thread::scope(|scope| {
        for path in ["/flip/now", "/flip/slow", "/always/now", "/always/slow"] {
            scope.spawn(|| race.asks(path));
        }
        for path in ["/flip/long", "/flip/long", "/always/long"] {
            scope.spawn(|| race.listens(path));
        }
        // Also when this thread panics: the scope waits for the others.
        let _over = Over(&race.over);
        let seen: Vec<_> = (1..=changes).map(|change| race.change(change)).collect();
        seen
    });
    let late = window.let_in.load(Ordering::SeqCst);
    assert_eq!(late, 0, "requests came to the app a second and more after they were forbidden");
    eprintln!("requests that were judged in each phase: {seen:?}");
}

struct Race<'a> {
    stage: &'a Stage,
    window: &'a Window,
    /// Even ones are settled: allowed, forbidden and so on; between them a change is on its way.
    phase: AtomicU64,
    over: AtomicBool,
    /// What was judged in this phase of what changes.
    requests: AtomicU64,
    /// Pieces of answers without end that came in this phase, of what changes.
    pieces: AtomicU64,
}

/// From when on nothing of what changes may come to the app any more, on the clock of [`now`].
struct Window {
    forbidden_from: AtomicU64,
    /// Requests that came later.
    let_in: AtomicU64,
}

impl Default for Window {
    fn default() -> Self {
        Self { forbidden_from: AtomicU64::new(u64::MAX), let_in: AtomicU64::new(0) }
    }
}

/// Sets it when it goes.
struct Over<'a>(&'a AtomicBool);

impl Race<'_> {
    /// Changes the policy, gives it the second that it has, and stays until clients have tried enough; how much they have.
    fn change(&self, change: u64) -> u64 {
        self.phase.fetch_add(1, Ordering::SeqCst);
        self.window.forbidden_from.store(u64::MAX, Ordering::SeqCst);
        self.stage.world.apply("policy.yaml", &policy(change));
        self.stage.b.wait();
        let enforced = now();
        if is_allowed(change) {
            soon(|| self.stage.web.get(API, "/flip/now", &[]).is_ok_and(|answer| answer.status == 200));
        } else {
            self.window.forbidden_from.store(enforced + SECOND, Ordering::SeqCst);
            throughout(Duration::from_secs(1), || !self.is_over());
        }
        for seen in [&self.requests, &self.pieces] {
            seen.store(0, Ordering::SeqCst);
        }
        self.phase.fetch_add(1, Ordering::SeqCst);
        let pieces = if is_allowed(change) { ENOUGH } else { 0 };
        soon(|| {
            let enough = self.requests.load(Ordering::SeqCst) >= ENOUGH;
            self.is_over() || (enough && self.pieces.load(Ordering::SeqCst) >= pieces)
        });
        assert!(!self.is_over(), "a client says what has failed");
        self.requests.load(Ordering::SeqCst)
    }

    /// Asks for this again and again, on one connection for as long as that lives.
    fn asks(&self, path: &str) {
        let _over = Over(&self.over);
        let mut line: Option<(HttpClient, u64)> = None;
        while !self.is_over() {
            let begun = self.phase.load(Ordering::SeqCst);
            let (mut client, since) = match line.take() {
                Some(line) => line,
                None => (self.stage.web.http(API).expect("the proxy of its node accepts"), begun),
            };
            client.stream().set_read_timeout(Some(PATIENCE)).unwrap();
            let status = client.ask(("GET", path), &[], &[]).map(|answer| answer.status);
            self.judge(path, (since, begun), &status);
            if status.is_ok() {
                line = Some((client, since));
            }
        }
    }

    /// Of an answer on a connection of the phase `since`, to what was asked in the phase `begun`.
    fn judge(&self, path: &str, (since, begun): (u64, u64), status: &io::Result<u16>) {
        if !path.starts_with("/flip") {
            assert!(
                matches!(status, Ok(200)),
                "{path}, which is always allowed, in phase {begun}: {status:?}"
            );
            return;
        }
        if self.phase.load(Ordering::SeqCst) != begun || !begun.is_multiple_of(2) {
            return;
        }
        let is_fine = match (is_allowed(begun / 2), status) {
            (true, Ok(200)) | (false, Ok(403)) => true,
            // The last change may have cut what was under way; what follows it on the same connection has no answer.
            (_, Err(_)) => since != begun,
            _ => false,
        };
        assert!(is_fine, "{path} in phase {begun}, on a connection of phase {since}: {status:?}");
        self.requests.fetch_add(1, Ordering::SeqCst);
    }

    /// Has this answered without end, anew whenever that is cut.
    fn listens(&self, path: &str) {
        let _over = Over(&self.over);
        while !self.is_over() {
            let since = self.phase.load(Ordering::SeqCst);
            let end = self.hears(path, since);
            let phase = self.phase.load(Ordering::SeqCst);
            let settled = phase == since && phase.is_multiple_of(2);
            let may_end =
                self.is_over() || (path.starts_with("/flip") && !(settled && is_allowed(phase / 2)));
            assert!(
                may_end,
                "{path}, which is allowed, begun in phase {since}, is cut in phase {phase}: {end:?}"
            );
        }
    }

    /// Reads one such answer to its end.
    fn hears(&self, path: &str, since: u64) -> io::Result<()> {
        let mut stream = self.stage.web.tcp_connect(API)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: api\r\n\r\n")?;
        let mut lines = BufReader::new(stream).lines();
        let mut line = || lines.next().unwrap_or(Err(io::ErrorKind::UnexpectedEof.into()));
        let status = line()?;
        while !line()?.is_empty() {}
        if status.contains(" 403 ") {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        while !self.is_over() {
            // A chunk: its size, and when it was sent.
            let (_, sent) = (line()?, line()?);
            let sent: u64 = sent.trim().parse().map_err(io::Error::other)?;
            if path.starts_with("/flip") {
                let until = self.window.forbidden_from.load(Ordering::SeqCst);
                assert!(
                    sent <= until,
                    "an answer of phase {since} goes on {} ms after its second was over",
                    (sent - until) / 1000
                );
                self.pieces.fetch_add(1, Ordering::SeqCst);
            }
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The policy after so many changes: `/flip` is allowed, and then forbidden by what is missing, or by name. All that is
/// asked for besides is always allowed.
fn policy(changes: u64) -> String {
    let (action, path) = match changes % 4 {
        0 => ("ALLOW", "/"),
        1 => ("ALLOW", "/always"),
        2 => ("DENY", "/nothing"),
        _ => ("DENY", "/flip"),
    };
    let spec = format!(
        "{{targetRefs: [{{group: \"\", kind: Pod, selector: {{matchLabels: {{app: api}}}}}}], action: {action}, rules: \
         [{{sources: [{{type: ServiceAccount, serviceAccount: {{namespace: shop, name: web}}}}], httpAttributes: {{paths: \
         [{{type: PathPrefix, value: {path}}}]}}}}]}}"
    );
    manifests::authorization_policy("shop/api", &spec)
}

fn is_allowed(changes: u64) -> bool {
    changes.is_multiple_of(2)
}

/// Answers at once, or after a while, or without end, as the path says; counts what comes too late.
fn serve(api: &Pod, window: &Arc<Window>) {
    let listener = api.tcp_listen((Ipv6Addr::UNSPECIFIED, 8080).into()).unwrap();
    let window = Arc::clone(window);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let window = Arc::clone(&window);
            // Its client has gone.
            thread::spawn(move || drop(answer(&stream, &window)));
        }
    });
}

fn answer(mut stream: &TcpStream, window: &Window) -> io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    loop {
        let mut line = || lines.next().unwrap_or(Err(io::ErrorKind::UnexpectedEof.into()));
        let first = line()?;
        while !line()?.is_empty() {}
        if first.contains("/flip") && now() > window.forbidden_from.load(Ordering::SeqCst) {
            window.let_in.fetch_add(1, Ordering::SeqCst);
        }
        if first.contains("/long") {
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
            loop {
                write!(stream, "10\r\n{:016}\r\n", now())?;
                thread::park_timeout(Duration::from_millis(5));
            }
        }
        if first.contains("/slow") {
            thread::park_timeout(Duration::from_millis(30));
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
    }
}

/// Microseconds of this process's own clock.
fn now() -> u64 {
    static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);
    BEGUN.elapsed().as_micros().try_into().expect("the test is over by then")
}

const SECOND: u64 = 1_000_000;
/// Requests, and pieces of answers, of a phase.
const ENOUGH: u64 = 40;
const PATIENCE: Duration = Duration::from_secs(20);
