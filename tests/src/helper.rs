//! The helper process: the test's hands inside a pod.
//!
//! A socket belongs for ever to the cgroup of the process, and to the network namespace of the thread,
//! that made it. So this process makes and connects the sockets of a pod, and hands them to the test
//! over a unix socket, its standard input.

use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Mutex;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use weft_transport::Netns;

use crate::pod::SocketRequest;
use crate::{cgroup, command, rush, sweep};

/// The test's end of a helper process.
pub(crate) struct Helper {
    process: Child,
    channel: Mutex<OwnedFd>,
}

/// The whole of the binary `weft-test-helper`.
pub fn main(arguments: &[OsString]) -> ExitCode {
    let result = match arguments {
        [mode, group] if mode == "sockets" => cgroup::enter(Path::new(group)).and_then(|()| serve_sockets()),
        [mode, group, program, rest @ ..] if mode == "exec" => {
            cgroup::enter(Path::new(group)).and_then(|()| Err(Command::new(program).args(rest).exec()))
        }
        [mode, to] if mode == "rush" => {
            let to = to.to_string_lossy().parse().map_err(io::Error::other);
            to.and_then(rush::connect)
        }
        [mode, program, rest @ ..] if mode == "private" => {
            private().and_then(|()| Err(Command::new(program).args(rest).exec()))
        }
        [mode, name] if mode == "janitor" => sweep::serve_as_janitor(&name.to_string_lossy()),
        _ => Err(io::Error::other(
            "use: sockets CGROUP | exec CGROUP PROGRAM ARGUMENTS... | rush ADDRESS | private PROGRAM ARGUMENTS... | \
             janitor NAME",
        )),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft-test-helper {arguments:?}: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Helper {
    /// Starts the helper inside `netns` and the group at `cgroup`.
    pub(crate) fn start(netns: &Netns, cgroup: &Path) -> Self {
        let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let (ours, theirs) = pair.expect("two more descriptors are allowed");
        let mut command = command::helper(["sockets".as_ref(), cgroup.as_os_str()]);
        command.stdin(Stdio::from(theirs));
        // A child begins in the network namespace of the thread that makes it.
        let process = netns.run(|| command.spawn()).expect("root can enter a namespace");
        Self { process: process.expect("the helper can be started"), channel: Mutex::new(ours) }
    }

    /// Has a socket made. An error is the kernel's answer to the helper.
    pub(crate) fn socket(&self, request: &SocketRequest) -> io::Result<OwnedFd> {
        let request = serde_json::to_vec(request).expect("a request is plain data");
        let channel = self.channel.lock().expect("no holder of this lock panics");
        send(channel.as_fd(), &request, None)?;
        let (answer, socket) = receive(channel.as_fd())?;
        match (<[u8; 4]>::try_from(answer.as_slice()), socket) {
            (Ok(errno), None) => Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno))),
            (_, Some(socket)) => Ok(socket),
            (Err(_), None) => Err(io::Error::other("the pod's helper process has ended")),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // It may have been killed with its cgroup.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Gives the process mounts and a root of the cgroup tree of its own, as a container has them.
fn private() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWCGROUP)?;
    let own = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    Ok(mount(None::<&str>, "/", None::<&str>, own, None::<&str>)?)
}

/// Answers requests until the test's end of the channel closes.
fn serve_sockets() -> io::Result<()> {
    let channel = io::stdin();
    loop {
        let (request, _) = receive(channel.as_fd())?;
        if request.is_empty() {
            return Ok(());
        }
        let request: SocketRequest = serde_json::from_slice(&request).map_err(io::Error::other)?;
        match request.open() {
            Ok(socket) => send(channel.as_fd(), b"socket", Some(socket.as_fd()))?,
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(libc::EINVAL);
                send(channel.as_fd(), &errno.to_ne_bytes(), None)?;
            }
        }
    }
}

fn send(channel: BorrowedFd<'_>, message: &[u8], socket: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let sockets: Vec<BorrowedFd<'_>> = socket.into_iter().collect();
    if !sockets.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(&sockets)), "there is room for one descriptor");
    }
    sendmsg(channel, &[IoSlice::new(message)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// One message, empty when the other end is closed, and the socket that came with it.
fn receive(channel: BorrowedFd<'_>) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let mut message = vec![0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(channel, &mut [IoSliceMut::new(&mut message)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    message.truncate(received.bytes);
    let mut sockets = control.drain().filter_map(|control| match control {
        RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
        _ => None,
    });
    Ok((message, sockets.next().and_then(|mut sockets| sockets.next())))
}
