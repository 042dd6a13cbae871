//! Messages and descriptors over real unix sockets.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::fs::{self, File};
use std::io::{IoSlice, Read as _, Write as _, pipe};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_getfd};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketType, connect,
    sendmsg, socket,
};
use tempfile::tempdir;
use tokio::time::timeout;
use weft_transport::seqpacket::{Connection, Error, LARGEST_MESSAGE, Listener, MOST_FDS};

#[tokio::test]
async fn a_message_comes_whole_with_its_descriptors_in_order() {
    let (one, other) = Connection::pair().unwrap();
    let (mut first_out, first_in) = pipe().unwrap();
    let (mut second_out, second_in) = pipe().unwrap();
    one.send(b"hello", &[first_in.as_fd(), second_in.as_fd()]).await.unwrap();
    one.send(b"bare", &[]).await.unwrap();
    drop((first_in, second_in));

    let message = other.receive().await.unwrap().unwrap();
    assert_eq!((message.bytes.as_slice(), message.fds.len()), (&b"hello"[..], 2));
    for (fd, text) in message.fds.into_iter().zip(["1", "2"]) {
        assert!(fcntl_getfd(&fd).unwrap().contains(FdFlags::CLOEXEC));
        File::from(fd).write_all(text.as_bytes()).unwrap();
    }
    let mut texts = [String::new(), String::new()];
    first_out.read_to_string(&mut texts[0]).unwrap();
    second_out.read_to_string(&mut texts[1]).unwrap();
    assert_eq!(texts, ["1", "2"]);
    let message = other.receive().await.unwrap().unwrap();
    assert_eq!((message.bytes.as_slice(), message.fds.len()), (&b"bare"[..], 0));
}

#[tokio::test]
async fn the_largest_message_fits_the_default_buffers_and_a_larger_one_is_refused() {
    let (one, other) = Connection::pair().unwrap();
    let file = File::open("/dev/null").unwrap();
    let fds = [file.as_fd(); MOST_FDS];
    let unread = timeout(Duration::from_secs(5), one.send(&vec![7; LARGEST_MESSAGE], &fds)).await;
    unread.expect("it fits before anybody reads").unwrap();
    let message = other.receive().await.unwrap().unwrap();
    assert_eq!((message.bytes, message.fds.len()), (vec![7; LARGEST_MESSAGE], MOST_FDS));

    let too_many = [file.as_fd(); MOST_FDS + 1];
    for (bytes, fds) in [(LARGEST_MESSAGE + 1, &fds[..0]), (0, &fds[..0]), (1, &too_many[..])] {
        let error = one.send(&vec![0; bytes], fds).await.unwrap_err();
        assert!(matches!(error, Error::Size { .. }), "{error}");
    }
}

#[tokio::test]
async fn what_does_not_fit_is_an_error_and_leaks_nothing() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("socket");
    let listener = Listener::bind(&path).unwrap();
    let raw = raw_client(&path);
    let connection = listener.accept().await.unwrap();

    let (mut out, write_end) = pipe().unwrap();
    send_raw(&raw, &vec![0; LARGEST_MESSAGE + 1], &[write_end.as_fd()]);
    assert!(matches!(connection.receive().await, Err(Error::Truncated)));
    send_raw(&raw, b"x", &[write_end.as_fd(); MOST_FDS + 1]);
    assert!(matches!(connection.receive().await, Err(Error::FdsLost)));
    drop(write_end);
    assert_eq!(out.read(&mut [0]).unwrap(), 0, "every copy of the descriptor is closed");
    send_raw(&raw, b"next", &[]);
    assert_eq!(connection.receive().await.unwrap().unwrap().bytes, b"next");
}

#[tokio::test]
async fn a_sender_waits_for_a_reader_and_no_message_is_lost() {
    let (one, other) = Connection::pair().unwrap();
    let mut fit = 0_u32;
    while timeout(Duration::from_millis(500), one.send(&fit.to_le_bytes(), &[])).await.is_ok() {
        fit += 1;
    }
    assert!(fit > 10, "{fit} messages fit");
    // The send that waited was dropped: it did not happen.
    for expected in 0..fit {
        assert_eq!(other.receive().await.unwrap().unwrap().bytes, expected.to_le_bytes());
    }
    one.send(b"last", &[]).await.unwrap();
    assert_eq!(other.receive().await.unwrap().unwrap().bytes, b"last");
}

#[tokio::test]
async fn a_closed_end_reads_as_the_end_even_with_messages_unread() {
    let (one, other) = Connection::pair().unwrap();
    one.send(b"before", &[]).await.unwrap();
    other.send(b"never read", &[]).await.unwrap();
    drop(one);
    let mut received = Vec::new();
    while let Some(message) = other.receive().await.unwrap() {
        received.push(message.bytes);
    }
    assert!(received.is_empty() || received == [b"before"], "{received:?}");
    assert!(matches!(other.send(b"x", &[]).await, Err(Error::Send { .. })));
}

#[tokio::test]
async fn only_the_owner_can_connect_and_a_dead_listeners_socket_is_replaced() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("socket");
    drop(Listener::bind(&path).unwrap());
    let refused = Connection::connect(&path).unwrap_err();
    assert!(refused.to_string().contains("does the agent run?"), "{refused}");

    let listener = Listener::bind(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
    let client = Connection::connect(&path).unwrap();
    client.send(b"hello", &[]).await.unwrap();
    let server = listener.accept().await.unwrap();
    assert_eq!(server.receive().await.unwrap().unwrap().bytes, b"hello");
}

fn raw_client(path: &Path) -> OwnedFd {
    let client = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
    connect(&client, &SocketAddrUnix::new(path).unwrap()).unwrap();
    client
}

fn send_raw(socket: &OwnedFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2 * MOST_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(fds)));
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::empty()).unwrap();
}
