//! Whether this kernel does what the latch relies on, found out with the real programs.

use std::{
    fmt::Debug,
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    os::fd::AsFd as _,
};

use aya::maps::MapError;
use nix::errno::Errno;
use weft_abi::{Pair, limits};

use super::{
    Unfit,
    bench::{Bench, Connection},
    scratch::inside,
};

/// What the kernel did instead.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A step failed.
    #[error("{step}: {source}")]
    Step {
        /// The step.
        step: &'static str,
        /// Why.
        source: Box<Failure>,
    },
    /// A call of the kernel failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A map could not be read or written.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The outcome is not what it must be.
    #[error("expected {expected}, found {found}")]
    Wrong {
        /// What must be.
        expected: String,
        /// What was.
        found: String,
    },
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// Runs every step in a network namespace of its own.
pub(super) fn run() -> Result<(), Unfit> {
    let mut bench = Bench::new()?;
    inside(move || {
        STEPS.iter().try_for_each(|(step, run)| {
            bench.switch(true)?;
            run(&mut bench).map_err(|source| Failure::Step { step, source: Box::new(source) })
        })
    })
    .map_err(Failure::from)??;
    Ok(())
}

/// What is tried, and how.
type Step = (&'static str, fn(&mut Bench) -> Result<(), Failure>);

const STEPS: &[Step] = &[
    ("order of a late server", order_of_a_late_server),
    ("echo of 8 MiB", echo),
    ("half close", half_close),
    ("FIONREAD", readable_bytes),
    ("EBUSY", one_map_for_a_socket),
    ("budget", budget),
    ("kill switch", kill_switch),
];

/// What went natively before the server's socket joined stays before what comes after.
fn order_of_a_late_server(bench: &mut Bench) -> Result<(), Failure> {
    let Connection { mut client, mut server, pair } = bench.connect()?;
    let row = bench.row(pair)?;
    expect(&true, &row.sockets.iter().all(|socket| *socket != 0))?;
    bench.set_row(pair, Pair { sockets: [row.sockets[0], 0], ..row })?;
    client.write_all(b"first ")?;
    bench.set_row(pair, row)?;
    client.write_all(b"second")?;
    expect("first second", &read(&mut server, 12)?)?;
    expect(&[0, 0], &bench.row(pair)?.redirected)
}

/// 8 MiB there and back, all of it redirected: the kernel says what was read.
fn echo(bench: &mut Bench) -> Result<(), Failure> {
    let Connection { mut client, mut server, pair } = bench.connect()?;
    let bytes: Vec<u8> = (0..CHUNK + ROUNDS).map(|i| (i * 31).to_le_bytes()[0]).collect();
    let mut there = vec![0; CHUNK];
    let mut back = vec![0; CHUNK];
    for round in 0..ROUNDS {
        let sent = &bytes[round..round + CHUNK];
        client.write_all(sent)?;
        server.read_exact(&mut there)?;
        server.write_all(&there)?;
        client.read_exact(&mut back)?;
        expect(&true, &(back == sent))?;
    }
    let all = (CHUNK * ROUNDS) as u64;
    expect(&[all, all], &bench.row(pair)?.redirected)
}

/// A FIN comes behind what was redirected, and the other direction goes on.
fn half_close(bench: &mut Bench) -> Result<(), Failure> {
    let Connection { mut client, mut server, .. } = bench.connect()?;
    client.write_all(b"ask")?;
    client.shutdown(Shutdown::Write)?;
    let mut asked = String::new();
    server.read_to_string(&mut asked)?;
    expect("ask", &asked)?;
    server.write_all(b"answer")?;
    server.shutdown(Shutdown::Write)?;
    let mut answered = String::new();
    client.read_to_string(&mut answered)?;
    expect("answer", &answered)
}

/// `FIONREAD` counts what was redirected.
fn readable_bytes(bench: &mut Bench) -> Result<(), Failure> {
    let Connection { mut client, server, .. } = bench.connect()?;
    client.write_all(&[0; 1000])?;
    expect(&1000, &rustix::io::ioctl_fionread(server.as_fd()).map_err(io::Error::from)?)
}

/// A socket that has a program by one entry gets none by another.
fn one_map_for_a_socket(bench: &mut Bench) -> Result<(), Failure> {
    let Connection { client, server: _server, .. } = bench.connect()?;
    match bench.join_again(&client) {
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::EBUSY) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(()) => Err(wrong("EBUSY", "success")),
    }
}

/// A reader that does not read is sent the budget, then TCP's buffers, then nothing; nothing is lost.
fn budget(bench: &mut Bench) -> Result<(), Failure> {
    let Connection { mut client, mut server, pair } = bench.connect()?;
    client.set_nonblocking(true)?;
    let chunk: [u8; 8192] = std::array::from_fn(|i| (i % 251).to_le_bytes()[0]);
    let mut sent = 0;
    while sent < RUNAWAY {
        match client.write(&chunk[sent % chunk.len()..]) {
            Ok(bytes) => sent += bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error.into()),
        }
    }
    let [redirected, _] = bench.row(pair)?.redirected;
    if sent >= RUNAWAY || redirected == 0 || redirected > u64::from(limits::ACCELERATE_BUDGET) {
        return Err(wrong("a writer that blocks", &format!("{redirected} bytes redirected of {sent} sent")));
    }
    let mut got = vec![0; sent];
    server.read_exact(&mut got)?;
    expect(&true, &got.iter().enumerate().all(|(at, byte)| *byte == chunk[at % chunk.len()]))
}

/// Without the switch messages go natively as soon as the reader has taken what was redirected: the kernel counts
/// what it has not.
fn kill_switch(bench: &mut Bench) -> Result<(), Failure> {
    let Connection { mut client, mut server, pair } = bench.connect()?;
    client.write_all(b"before ")?;
    bench.switch(false)?;
    client.write_all(b"that, ")?;
    expect("before that", &read(&mut server, 11)?)?;
    client.write_all(b"and ")?;
    expect(", and ", &read(&mut server, 6)?)?;
    client.write_all(b"after")?;
    expect("after", &read(&mut server, 5)?)?;
    expect(&[17, 0], &bench.row(pair)?.redirected)
}

fn read(from: &mut TcpStream, len: usize) -> Result<String, Failure> {
    let mut got = vec![0; len];
    from.read_exact(&mut got)?;
    Ok(String::from_utf8_lossy(&got).into_owned())
}

fn expect<T: PartialEq + Debug + ?Sized>(expected: &T, found: &T) -> Result<(), Failure> {
    if expected == found { Ok(()) } else { Err(wrong(&format!("{expected:?}"), &format!("{found:?}"))) }
}

fn wrong(expected: &str, found: &str) -> Failure {
    Failure::Wrong { expected: expected.to_owned(), found: found.to_owned() }
}

const CHUNK: usize = 16 << 10;
const ROUNDS: usize = 512;
/// More than any TCP buffer holds.
const RUNAWAY: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_step_and_both_outcomes() {
        let source = Box::new(expect(&1, &2).unwrap_err());
        let failure = Failure::Step { step: "echo", source };
        assert_eq!(failure.to_string(), "echo: expected 1, found 2");
    }
}
