//! Servers that run as threads of the test, on a pod's socket.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::socket;

/// A server. Dropped, it ends like a process: its listener and its connections close.
#[must_use = "a server ends when it is dropped"]
pub struct Server {
    stop: Arc<AtomicBool>,
    listener: Option<TcpListener>,
    connections: Connections,
    thread: Option<JoinHandle<()>>,
}

/// Those that are open; weak, so that a connection closes when its thread is done with it.
type Connections = Arc<Mutex<Vec<Weak<TcpStream>>>>;

impl Server {
    /// Serves each connection by `work`, on a thread of its own.
    pub(crate) fn each(listener: TcpListener, name: String, work: fn(&TcpStream, &str)) -> Self {
        let (stop, connections) = (Arc::default(), Connections::default());
        let accepting = listener.try_clone().expect("one more descriptor is allowed");
        let open = Arc::clone(&connections);
        let thread = thread::spawn(move || {
            // It ends when the listener is shut down.
            while let Ok((stream, _)) = accepting.accept() {
                let stream = Arc::new(stream);
                remember(&open, &stream);
                let name = name.clone();
                thread::spawn(move || work(&stream, &name));
            }
        });
        Self { stop, listener: Some(listener), connections, thread: Some(thread) }
    }

    pub(crate) fn tcp(listener: TcpListener, name: Option<&str>) -> Self {
        let greeting = name.map(|name| format!("{name}\n")).unwrap_or_default();
        Self::each(listener, greeting, |stream, greeting| {
            // It ends with the connection.
            let _ = echo(stream, greeting);
        })
    }

    pub(crate) fn udp(socket: UdpSocket, name: Option<&str>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, name) = (Arc::clone(&stop), name.map(str::to_owned));
        socket.set_read_timeout(Some(UDP_POLL)).expect("a time-out that is not zero is allowed");
        let thread = thread::spawn(move || {
            let mut datagram = vec![0; 65_536];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((len, from)) = socket.recv_from(&mut datagram) {
                    let answer = name.as_ref().map_or(&datagram[..len], |name| name.as_bytes());
                    // As for any server: who asked may be gone.
                    let _ = socket.send_to(answer, from);
                }
            }
        });
        Self { stop, listener: None, connections: Connections::default(), thread: Some(thread) }
    }

    /// How many connections are open.
    pub fn open_connections(&self) -> usize {
        let connections = self.connections.lock().expect("no holder of this lock panics");
        connections.iter().filter(|connection| connection.strong_count() > 0).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(listener) = &self.listener {
            // Wakes the thread in accept(2), which closing alone does not.
            let _ = socket::shutdown(listener.as_fd().as_raw_fd(), socket::Shutdown::Both);
        }
        if let Some(thread) = self.thread.take() {
            // Its panic has been printed.
            let _ = thread.join();
        }
        for connection in self.connections.lock().expect("no holder of this lock panics").drain(..) {
            if let Some(stream) = connection.upgrade() {
                // The client may have closed it.
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}

fn remember(connections: &Connections, stream: &Arc<TcpStream>) {
    let mut connections = connections.lock().expect("no holder of this lock panics");
    connections.retain(|connection| connection.strong_count() > 0);
    connections.push(Arc::downgrade(stream));
}

/// Ends with the connection, in whatever way that ends.
fn echo(mut stream: &TcpStream, greeting: &str) -> io::Result<()> {
    stream.write_all(greeting.as_bytes())?;
    let mut bytes = vec![0; 65_536];
    loop {
        match stream.read(&mut bytes)? {
            0 => return Ok(()),
            len => stream.write_all(&bytes[..len])?,
        }
    }
}

const UDP_POLL: Duration = Duration::from_millis(20);
