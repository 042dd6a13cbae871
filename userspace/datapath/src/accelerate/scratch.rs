//! A network namespace of the self-test's own, with nothing in it but loopback.

use std::{io, os::fd::AsRawFd, thread};

use nix::{
    sched::{CloneFlags, unshare},
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
    },
};

/// Runs `work` in a new network namespace, which ends with the last socket made in it.
pub(super) fn inside<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("self-test".into()).spawn_scoped(scope, || {
            unshare(CloneFlags::CLONE_NEWNET)?;
            raise_loopback()?;
            Ok(work())
        })?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// `ip link set lo up`. A new namespace has it as interface 1.
fn raise_loopback() -> io::Result<()> {
    let netlink =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    let words: [u32; 8] = [
        32,                                                               // nlmsghdr: length,
        u32::from(libc::RTM_NEWLINK) | (NLM_F_REQUEST | NLM_F_ACK) << 16, // type and flags,
        1,                                                                // sequence,
        0,                                                                // port
        0,                                                                // ifinfomsg: family, type,
        1,                                                                // index,
        libc::IFF_UP.cast_unsigned(),                                     // flags,
        libc::IFF_UP.cast_unsigned(),                                     // which of them
    ];
    let request: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    sendto(netlink.as_raw_fd(), &request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut answer = [0; 64];
    let len = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    // nlmsgerr: the error stands behind the header, negated; 0 acknowledges.
    let error = answer[..len].get(16..20).and_then(|word| word.try_into().ok()).map(i32::from_ne_bytes);
    match error {
        Some(0) => Ok(()),
        Some(error) => Err(io::Error::from_raw_os_error(-error)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

const NLM_F_REQUEST: u32 = 1;
const NLM_F_ACK: u32 = 4;
