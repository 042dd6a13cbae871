//! Two real connections and the relay between them.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::fs;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt::{set_socket_linger, set_socket_recv_buffer_size, set_socket_send_buffer_size};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use weft_transport::{BUFFER, End, Progress, Relayed, relay};

const LONG: Duration = Duration::from_mins(1);

#[tokio::test]
async fn the_end_of_one_side_is_passed_on_and_the_other_way_goes_on() {
    for left_first in [true, false] {
        let mut relaying = Relaying::start(LONG).await;
        let (mut first, mut second) = relaying.ends(left_first);
        first.write_all(b"question").await.unwrap();
        first.shutdown().await.unwrap();
        assert_eq!(read_all(&mut second).await.unwrap(), b"question");
        second.write_all(b"answer").await.unwrap();
        second.shutdown().await.unwrap();
        assert_eq!(read_all(&mut first).await.unwrap(), b"answer");
        let progress = Arc::clone(&relaying.progress);
        let relayed = relaying.end().await;
        assert!(matches!(relayed, Relayed { left: End::Eof, right: End::Eof }), "{relayed:?}");
        let bytes = (progress.left_to_right(), progress.right_to_left());
        assert_eq!(bytes, if left_first { (8, 6) } else { (6, 8) });
    }
}

#[tokio::test]
async fn a_reset_is_passed_on_as_a_reset_behind_the_bytes_before_it() {
    for left_first in [true, false] {
        let mut relaying = Relaying::start(LONG).await;
        let (mut first, mut second) = relaying.ends(left_first);
        first.write_all(b"before").await.unwrap();
        second.read_exact(&mut [0; 6]).await.unwrap();
        reset(first);
        assert_eq!(read_all(&mut second).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        let relayed = relaying.end().await;
        let (one, other) =
            if left_first { (relayed.left, relayed.right) } else { (relayed.right, relayed.left) };
        assert!(matches!((&one, &other), (End::Reset, End::Cut)), "{one:?} {other:?}");
    }
}

#[tokio::test]
async fn a_reset_after_the_end_of_a_stream_is_still_passed_on() {
    for left_first in [true, false] {
        let mut relaying = Relaying::start(LONG).await;
        let (mut first, mut second) = relaying.ends(left_first);
        first.shutdown().await.unwrap();
        assert_eq!(second.read(&mut [0]).await.unwrap(), 0);
        // Nobody writes and nobody reads any more: only the reset itself can be noticed.
        reset(first);
        let relayed = relaying.end().await;
        let (one, other) =
            if left_first { (relayed.left, relayed.right) } else { (relayed.right, relayed.left) };
        assert!(matches!((&one, &other), (End::Reset, End::Cut)), "{one:?} {other:?}");
        let error = timeout(LONG, second.write_all(&vec![0; 1 << 20])).await.unwrap().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
    }
}

#[tokio::test]
async fn whoever_writes_to_a_side_that_closed_gets_a_reset() {
    let mut relaying = Relaying::start(LONG).await;
    let (first, mut second) = relaying.ends(true);
    drop(first);
    assert_eq!(second.read(&mut [0]).await.unwrap(), 0);
    let writing = async { while second.write_all(&[0; 4096]).await.is_ok() {} };
    timeout(LONG, writing).await.expect("the writer is told");
    assert!(matches!(relaying.end().await.left, End::Reset));
}

#[tokio::test]
async fn a_quiet_relay_ends_after_its_idle_time_and_resets_both() {
    let mut relaying = Relaying::start(Duration::from_millis(50)).await;
    let (mut left, mut right) = relaying.ends(true);
    left.write_all(b"x").await.unwrap();
    for end in [&mut left, &mut right] {
        assert_eq!(read_all(end).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    let relayed = relaying.end().await;
    assert!(matches!(relayed, Relayed { left: End::Idle, right: End::Idle }), "{relayed:?}");
}

#[tokio::test]
async fn a_relay_that_is_dropped_resets_both() {
    let mut relaying = Relaying::start(LONG).await;
    let (mut left, mut right) = relaying.ends(true);
    left.write_all(b"x").await.unwrap();
    right.read_exact(&mut [0]).await.unwrap();
    relaying.task.abort();
    for end in [&mut left, &mut right] {
        assert_eq!(read_all(end).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn a_side_that_does_not_read_stops_the_other() {
    let mut relaying = Relaying::start(LONG).await;
    let (mut left, right) = relaying.ends(true);
    // What the kernel holds is bounded by the buffers of the sockets.
    let mut written = 0;
    while let Ok(result) = timeout(Duration::from_millis(500), left.write(&[0; 16_000])).await {
        written += result.unwrap();
        assert!(written < 8 << 20, "{written} bytes went to nobody");
    }
    assert!(relaying.progress.left_to_right() <= written as u64);
    drop(right);
    timeout(LONG, relaying.end()).await.unwrap();
}

#[tokio::test]
async fn both_ways_are_exact_with_slow_readers_and_the_relay_holds_no_more_than_two_buffers() {
    const BYTES: usize = 64 << 20;
    let mut relaying = Relaying::start(LONG).await;
    let (left, right) = relaying.ends(true);
    let before = resident();
    let (mut from_left, mut to_left) = left.into_split();
    let (mut from_right, mut to_right) = right.into_split();
    let write = async |to: &mut tokio::net::tcp::OwnedWriteHalf, seed: u64| {
        let mut pattern = Pattern::new(seed);
        let mut chunk = [0; 16_000];
        for at in (0..BYTES).step_by(chunk.len()) {
            let chunk = &mut chunk[..(BYTES - at).min(16_000)];
            pattern.fill(chunk);
            to.write_all(chunk).await.unwrap();
        }
        to.shutdown().await.unwrap();
    };
    let read = async |from: &mut tokio::net::tcp::OwnedReadHalf, seed: u64| {
        let (mut pattern, mut total, mut grown) = (Pattern::new(seed), 0, 0);
        let (mut chunk, mut expected) = ([0; 7_000], [0; 7_000]);
        loop {
            let len = from.read(&mut chunk).await.unwrap();
            if len == 0 {
                return (total, grown);
            }
            pattern.fill(&mut expected[..len]);
            assert_eq!(chunk[..len], expected[..len], "after {total} bytes");
            total += len;
            // Slower than the writer: others run between two reads.
            tokio::task::yield_now().await;
            grown = grown.max(resident().saturating_sub(before));
        }
    };
    let all = async {
        tokio::join!(
            write(&mut to_left, 1),
            write(&mut to_right, 2),
            read(&mut from_left, 2),
            read(&mut from_right, 1)
        )
    };
    let ((), (), (at_left, grown), (at_right, _)) = timeout(LONG, Box::pin(all)).await.unwrap();
    assert_eq!((at_left, at_right), (BYTES, BYTES));
    assert!(grown < 16 << 20, "memory grew by {grown} bytes for two buffers of {BUFFER}");
    let relayed = relaying.end().await;
    assert!(matches!(relayed, Relayed { left: End::Eof, right: End::Eof }), "{relayed:?}");
}

#[tokio::test]
async fn a_relay_is_small_while_it_waits() {
    let ((_, left), (_, right)) = (connection().await, connection().await);
    let progress = Progress::default();
    let bytes = size_of_val(&relay(left, right, LONG, &progress));
    assert!(bytes <= 2048, "{bytes} bytes");
}

/// Two connections whose inner ends a relay carries.
struct Relaying {
    outer: Option<(TcpStream, TcpStream)>,
    progress: Arc<Progress>,
    task: JoinHandle<Relayed>,
}

impl Relaying {
    async fn start(idle: Duration) -> Self {
        let ((left, inner_left), (right, inner_right)) = (connection().await, connection().await);
        let progress = Arc::new(Progress::default());
        let carried = Arc::clone(&progress);
        #[expect(clippy::disallowed_methods, reason = "the test owns it")]
        let task = tokio::spawn(async move { relay(inner_left, inner_right, idle, &carried).await });
        Self { outer: Some((left, right)), progress, task }
    }

    /// The outer ends, left first if asked so.
    fn ends(&mut self, left_first: bool) -> (TcpStream, TcpStream) {
        let (left, right) = self.outer.take().unwrap();
        if left_first { (left, right) } else { (right, left) }
    }

    async fn end(self) -> Relayed {
        timeout(LONG, self.task).await.expect("the relay ends").unwrap()
    }
}

/// Both ends of a connection with small buffers.
async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    set_socket_recv_buffer_size(&listener, 64 << 10).unwrap();
    let (client, server) =
        tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let (client, (server, _)) = (client.unwrap(), server.unwrap());
    for end in [&client, &server] {
        set_socket_send_buffer_size(end, 64 << 10).unwrap();
    }
    (client, server)
}

fn reset(stream: TcpStream) {
    set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    drop(stream);
}

async fn read_all(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    timeout(LONG, stream.read_to_end(&mut bytes)).await.expect("the stream ends").map(|_| bytes)
}

/// Bytes of this process that are in memory.
fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Bytes that look random and come again from the same seed (xorshift).
struct Pattern {
    state: u64,
}

impl Pattern {
    fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            *byte = self.state.to_le_bytes()[0];
        }
    }
}
