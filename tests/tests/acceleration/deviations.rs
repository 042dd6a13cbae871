//! Case 42: what a socket of an accelerated Service does otherwise than TCP. Each is documented for the
//! annotation, so each is pinned down here, beside what a Service without it does.
#![expect(unsafe_code, reason = "socket options and calls that no safe crate here wraps")]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::pipe::{SpliceFlags, pipe, splice};

use crate::stage::{FAST, PLAIN, Stage, pass};

#[test]
fn recv_with_waitall_may_return_early() {
    assert_both(
        |client, server| {
            client.write_all(b"1234").unwrap();
            let mut late = client.try_clone().unwrap();
            let writer = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(50));
                late.write_all(b"567890").unwrap();
            });
            let mut got = [0; 10];
            let (len, _) = recv(server.as_fd(), &mut got, RecvFlags::WAITALL).unwrap();
            writer.join().unwrap();
            len
        },
        10,
        4,
    );
}

#[test]
fn a_low_water_mark_is_ignored_by_poll() {
    assert_both(
        |client, server| {
            set_option(server, libc::SOL_SOCKET, libc::SO_RCVLOWAT, 10);
            client.write_all(b"1234").unwrap();
            readable(server, Duration::from_millis(200))
        },
        false,
        true,
    );
}

#[test]
fn urgent_data_is_inlined() {
    assert_both(
        |client, server| {
            client.write_all(b"ab").unwrap();
            send(client.as_fd(), b"!", SendFlags::OOB).unwrap();
            client.write_all(b"cd").unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
            let mut got = Vec::new();
            server.read_to_end(&mut got).unwrap();
            String::from_utf8(got).unwrap()
        },
        "abcd".to_owned(),
        "ab!cd".to_owned(),
    );
}

#[test]
fn splice_finds_nothing_although_poll_says_readable() {
    assert_both(
        |client, server| {
            client.write_all(b"1234").unwrap();
            assert!(readable(server, Duration::from_secs(2)));
            let (_out, into) = pipe().unwrap();
            splice(server.as_fd(), None, into.as_fd(), None, 4, SpliceFlags::NONBLOCK)
        },
        Ok(4),
        Err(rustix::io::Errno::AGAIN),
    );
}

#[test]
fn a_zerocopy_send_is_never_reported_complete() {
    assert_both(
        |client, server| {
            set_option(client, libc::SOL_SOCKET, libc::SO_ZEROCOPY, 1);
            let data = vec![7_u8; 8192];
            // SAFETY: the pointer and length are of `data`, which outlives the completion or the connection.
            let sent = unsafe {
                libc::send(client.as_raw_fd(), data.as_ptr().cast(), data.len(), libc::MSG_ZEROCOPY)
            };
            assert_eq!(sent, 8192);
            server.read_exact(&mut vec![0; 8192]).unwrap();
            let mut error = [PollFd::new(&*client, PollFlags::empty())];
            poll(&mut error, Some(&timeout(Duration::from_secs(1)))).unwrap();
            error[0].revents().contains(PollFlags::ERR)
        },
        true,
        false,
    );
}

#[test]
fn a_recv_that_is_blocked_returns_eagain_when_a_reset_wakes_it() {
    assert_both(
        |client, server| {
            let mut reader = server.try_clone().unwrap();
            let blocked = std::thread::spawn(move || reader.read(&mut [0]).unwrap_err().kind());
            std::thread::sleep(Duration::from_millis(100));
            set_socket_linger(&*client, Some(Duration::ZERO)).unwrap();
            drop(std::mem::replace(client, server.try_clone().unwrap()));
            blocked.join().unwrap()
        },
        ErrorKind::ConnectionReset,
        ErrorKind::WouldBlock,
    );
}

#[test]
fn peeking_polling_and_sendfile_are_as_ever() {
    assert_both(
        |client, server| {
            assert!(!readable(server, Duration::ZERO));
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(b"from a file").unwrap();
            let mut offset = 0;
            // SAFETY: both descriptors are open, and `offset` outlives the call.
            let sent = unsafe { libc::sendfile(client.as_raw_fd(), file.as_raw_fd(), &raw mut offset, 11) };
            assert_eq!(sent, 11);
            assert!(readable(server, Duration::from_secs(2)));
            let mut got = [0; 11];
            assert_eq!(server.peek(&mut got).unwrap(), 11);
            assert_eq!(&got, b"from a file");
            server.read_exact(&mut got).unwrap();
            assert_eq!(&got, b"from a file");
            server.set_nonblocking(true).unwrap();
            server.read(&mut got).unwrap_err().kind()
        },
        ErrorKind::WouldBlock,
        ErrorKind::WouldBlock,
    );
}

/// Runs `script` on a connection of each Service, client's end first.
#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "outcomes are written where the script is")]
fn assert_both<T: PartialEq + std::fmt::Debug>(
    script: impl Fn(&mut TcpStream, &mut TcpStream) -> T,
    plain: T,
    accelerated: T,
) {
    let Some(stage) = Stage::open() else { return };
    let outcome = |to: SocketAddr| {
        let (mut client, mut server) = stage.connect(to);
        // The latch decides by the first message; this one is small, and both sockets are there.
        assert_eq!(pass(&mut client, &mut server, b"go"), b"go");
        script(&mut client, &mut server)
    };
    assert_eq!(outcome(PLAIN), plain, "as TCP");
    assert_eq!(stage.latches(), [0, 0, 0]);
    assert_eq!(outcome(FAST), accelerated, "accelerated");
    assert_eq!(stage.latches()[0], 1, "it was not accelerated at all");
}

fn readable(socket: &TcpStream, within: Duration) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::IN)];
    poll(&mut fds, Some(&timeout(within))).unwrap() > 0
}

fn timeout(time: Duration) -> rustix::event::Timespec {
    time.try_into().unwrap()
}

/// Sets an option that is an int.
pub(crate) fn set_option(socket: &impl AsRawFd, level: i32, name: i32, value: i32) {
    let len = libc::socklen_t::try_from(size_of::<i32>()).unwrap();
    // SAFETY: `value` is an int that outlives the call, and `len` is its size.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), len) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// Ends a connection by connecting to nowhere (`AF_UNSPEC`).
pub(crate) fn disconnect(socket: &impl AsRawFd) {
    let nowhere = libc::sockaddr { sa_family: 0, sa_data: [0; 14] };
    let len = libc::socklen_t::try_from(size_of::<libc::sockaddr>()).unwrap();
    // SAFETY: `nowhere` is a sockaddr of `len` bytes that outlives the call.
    let result = unsafe { libc::connect(socket.as_raw_fd(), &raw const nowhere, len) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}
