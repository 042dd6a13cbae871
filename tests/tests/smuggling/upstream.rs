//! A server that takes down what it gets.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use weft_tests::soon;

use crate::strict::{self, Fault, Request};

/// An upstream for one payload at a time.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    record: Record,
    open: usize,
    /// The clients of all connections that were accepted.
    seen: Vec<SocketAddr>,
}

/// What arrived.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) requests: Vec<Request>,
    /// What has more than one reading.
    pub(crate) ambiguous: Vec<String>,
    /// Bytes behind a switch of protocols that this server agreed to.
    pub(crate) tunnelled: usize,
}

impl Upstream {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        // It ends with the process: nothing but this test connects to it.
        thread::spawn(move || {
            while let Ok((stream, from)) = listener.accept() {
                let mut state = shared.lock().unwrap();
                state.seen.push(from);
                state.open += 1;
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    serve(&stream, &shared);
                    shared.lock().unwrap().open -= 1;
                });
            }
        });
        Self { address, state }
    }

    /// What has arrived since the last time. Connections are accepted in their order: once a last one is, the proxy's
    /// are, and when all are closed, all is written down.
    pub(crate) fn take(&self) -> Record {
        let last = TcpStream::connect(self.address).unwrap();
        let from = last.local_addr().unwrap();
        drop(last);
        soon(|| {
            let state = self.state.lock().unwrap();
            state.seen.contains(&from) && state.open == 0
        });
        std::mem::take(&mut *self.state.lock().unwrap()).record
    }
}

fn serve(stream: &TcpStream, state: &Mutex<State>) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut from = BufReader::new(stream);
    loop {
        match strict::read(&mut from) {
            Ok(None) | Err(Fault::Unfinished) => return,
            Err(Fault::Ambiguous(what)) => {
                state.lock().unwrap().record.ambiguous.push(what);
                return;
            }
            Ok(Some(request)) => {
                let (switch, last) = (switches(&request), closes(&request));
                let answer = if switch { SWITCH } else { answer(&request) };
                state.lock().unwrap().record.requests.push(request);
                if (&*stream).write_all(answer.as_bytes()).is_err() || last {
                    return;
                }
                if switch {
                    let mut tunnelled = Vec::new();
                    // However it ends: these have come.
                    let _ = from.read_to_end(&mut tunnelled);
                    state.lock().unwrap().record.tunnelled += tunnelled.len();
                    return;
                }
            }
        }
    }
}

/// It agrees to whatever it is asked for, as a server with HTTP/2 would.
fn switches(request: &Request) -> bool {
    request.all("upgrade").next().is_some()
}

fn closes(request: &Request) -> bool {
    request.all("connection").any(|value| value.eq_ignore_ascii_case("close"))
}

fn answer(request: &Request) -> &'static str {
    match request.method.as_str() {
        "HEAD" => "HTTP/1.1 200 OK\r\nx-upstream: yes\r\ncontent-length: 2\r\n\r\n",
        _ => "HTTP/1.1 200 OK\r\nx-upstream: yes\r\ncontent-length: 2\r\n\r\nok",
    }
}

const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nx-upstream: yes\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n";

const PATIENCE: Duration = Duration::from_secs(20);
