//! Connections from a pod by the thousand each second: by threads of a process of its own, since a pod's helper makes one
//! socket at a time.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Child;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::net::{Shutdown, shutdown};

use crate::Pod;

/// How the connections went so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rushed {
    /// Connections that were made, and ended by the server.
    pub made: u64,
    /// Those of the made whose getpeername(2) did not say what was dialled.
    pub misnamed: u64,
    /// Those that were not.
    pub failed: u64,
    /// Why the last of these was not.
    pub why: String,
}

/// A pod that connects again and again until this is dropped, to a server that ends each connection at once.
pub struct Rush {
    process: Child,
    listener: TcpListener,
    rushed: Arc<Mutex<Rushed>>,
    reader: Option<JoinHandle<()>>,
}

impl Rush {
    /// Has `client` connect to `to`; `listener` is the server's.
    pub fn start(client: &Pod, to: SocketAddr, listener: TcpListener) -> Self {
        for _ in 0..THREADS {
            let listener = listener.try_clone().expect("one more descriptor is allowed");
            // It ends when the listener is shut down.
            thread::spawn(move || while listener.accept().is_ok() {});
        }
        let mut process = client.rush(to);
        let lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let rushed = Arc::<Mutex<Rushed>>::default();
        let known = Arc::clone(&rushed);
        let reader = thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                *known.lock().expect("no holder of this lock panics") = Rushed::read(&line);
            }
        });
        Self { process, listener, rushed, reader: Some(reader) }
    }

    /// How it went so far.
    pub fn so_far(&self) -> Rushed {
        self.rushed.lock().expect("no holder of this lock panics").clone()
    }
}

impl Drop for Rush {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = self.reader.take().map(JoinHandle::join);
        // Wakes the threads in accept(2), which closing alone does not. Else they would keep the namespace.
        let _ = shutdown(&self.listener, Shutdown::Both);
    }
}

impl Rushed {
    fn read(line: &str) -> Self {
        let mut words = line.splitn(4, ' ');
        let mut number = || words.next().and_then(|word| word.parse().ok()).unwrap_or_default();
        let (made, misnamed, failed) = (number(), number(), number());
        Self { made, misnamed, failed, why: words.next().unwrap_or_default().to_owned() }
    }
}

/// What the helper does: connects by several threads, and says how that goes.
pub(crate) fn connect(to: SocketAddr) -> io::Result<()> {
    let counts: [AtomicU64; 3] = Default::default();
    let why = Mutex::new(String::new());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    match one(to) {
                        Ok(peer) => {
                            counts[0].fetch_add(1, Relaxed);
                            counts[1].fetch_add(u64::from(peer != to), Relaxed);
                        }
                        Err(error) => {
                            counts[2].fetch_add(1, Relaxed);
                            *why.lock().expect("no holder of this lock panics") = error.to_string();
                        }
                    }
                }
            });
        }
        let mut out = io::stdout();
        loop {
            thread::sleep(LINE);
            let why = why.lock().expect("no holder of this lock panics").clone();
            let [made, misnamed, failed] = counts.each_ref().map(|count| count.load(Relaxed));
            writeln!(out, "{made} {misnamed} {failed} {why}")?;
        }
    })
}

fn one(to: SocketAddr) -> io::Result<SocketAddr> {
    let mut stream = TcpStream::connect(to)?;
    let peer = stream.peer_addr()?;
    // The server's end comes first: the client's port is free again at once.
    stream.read_to_end(&mut Vec::new())?;
    Ok(peer)
}

const THREADS: usize = 4;
const LINE: Duration = Duration::from_millis(20);
