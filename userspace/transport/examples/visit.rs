//! What a socket inside another namespace costs: made on the calling thread, and on a thread of its own.
//!
//! ```text
//! cargo run --release -p weft-transport --example visit      # as root
//! ```
#![expect(clippy::print_stdout, reason = "prints its table")]
#![expect(clippy::unwrap_used, reason = "a failed step ends it")]

use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use weft_transport::Netns;

const ROUNDS: usize = 15;

fn main() {
    let pod = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("makes a network namespace: run it as root");
        Netns::current().unwrap()
    });
    let pod = pod.join().unwrap();
    let to = SocketAddr::from(([127, 0, 0, 1], 1));
    println!("medians of {ROUNDS} rounds, each made and closed again");
    let plain = || {
        socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    };
    show("socket(2) here", 20_000, plain);
    show("Netns::outgoing", 20_000, || drop(pod.outgoing(to, None).unwrap()));
    show("Netns::run, socket(2) inside", 500, || pod.run(plain).unwrap());
    let bind = || drop(TcpListener::bind("127.0.0.1:0").unwrap());
    show("a listener here", 5_000, bind);
    show("Netns::listen", 5_000, || drop(pod.listen(SocketAddr::from(([0, 0, 0, 0], 0))).unwrap()));
}

fn show(name: &str, times: u32, mut work: impl FnMut()) {
    let mut rounds = [(); ROUNDS].map(|()| {
        let start = Instant::now();
        (0..times).for_each(|_| work());
        start.elapsed() / times
    });
    rounds.sort();
    let [least, median] = [rounds[0], rounds[ROUNDS / 2]].map(micros);
    println!("{name:32} {median:8.2} µs (least {least:.2})");
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
