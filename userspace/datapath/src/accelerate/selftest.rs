//! Whether this kernel does what the latch relies on, found out with the real programs.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    os::fd::AsFd as _,
};

use aya::maps::MapError;
use weft_abi::limits;

use super::{
    Unfit,
    bench::Bench,
    scratch::{connection, inside, pass},
};

/// What the kernel did instead.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A step could not be carried out.
    #[error("{step}: {source}")]
    Io {
        /// The step.
        step: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A map could not be written.
    #[error("{step}: {source}")]
    Map {
        /// The step.
        step: &'static str,
        /// Why.
        source: MapError,
    },
    /// The outcome is not what it must be.
    #[error("{step}: expected {expected}, found {found}")]
    Wrong {
        /// The step.
        step: &'static str,
        /// What must be.
        expected: String,
        /// What was.
        found: String,
    },
    /// No network namespace for the test.
    #[error("no network namespace to test in: {0}")]
    Scratch(io::Error),
}

/// Runs every step in a network namespace of its own.
pub(super) fn run() -> Result<(), Unfit> {
    let mut bench = Bench::new()?;
    inside(move || every_step(&mut bench)).map_err(Failure::Scratch)??;
    Ok(())
}

fn every_step(bench: &mut Bench) -> Result<(), Failure> {
    bench.switch(true).map_err(of_map("switch"))?;
    order_of_a_late_server(bench)?;
    echo(bench)?;
    half_close(bench)?;
    readable_bytes(bench)?;
    one_map_for_a_socket(bench)?;
    budget(bench)?;
    kill_switch(bench)
}

/// What went natively before the server's socket joined stays before what comes after.
fn order_of_a_late_server(bench: &mut Bench) -> Result<(), Failure> {
    const STEP: &str = "order of a late server";
    let (mut client, mut server) = connection().map_err(of_io(STEP))?;
    let id = bench.join_client(&client).map_err(of_map(STEP))?;
    client.write_all(b"first ").map_err(of_io(STEP))?;
    bench.join_server(&server, id).map_err(of_map(STEP))?;
    client.write_all(b"second").map_err(of_io(STEP))?;
    let mut got = [0; 12];
    server.read_exact(&mut got).map_err(of_io(STEP))?;
    same(STEP, "first second", &String::from_utf8_lossy(&got))?;
    same(STEP, &[0, 0], &bench.redirected(id).map_err(of_map(STEP))?)
}

/// 8 MiB there and back, all of it redirected: needs the evidence of reading.
fn echo(bench: &mut Bench) -> Result<(), Failure> {
    const STEP: &str = "echo of 8 MiB";
    let (client, server, id) = pair(bench, STEP)?;
    for round in 0..ROUNDS {
        let sent: Vec<u8> = (0..CHUNK).map(|i| i.wrapping_mul(31).wrapping_add(round).to_le_bytes()[0]).collect();
        let there = pass(&client, &server, &sent).map_err(of_io(STEP))?;
        let back = pass(&server, &client, &there).map_err(of_io(STEP))?;
        if back != sent {
            return wrong(STEP, "the same bytes", "others");
        }
    }
    let all = u64::from(CHUNK) * u64::from(ROUNDS);
    same(STEP, &[all, all], &bench.redirected(id).map_err(of_map(STEP))?)
}

/// A FIN comes behind what was redirected, and the other direction goes on.
fn half_close(bench: &mut Bench) -> Result<(), Failure> {
    const STEP: &str = "half close";
    let (mut client, mut server, _) = pair(bench, STEP)?;
    client.write_all(b"ask").map_err(of_io(STEP))?;
    client.shutdown(Shutdown::Write).map_err(of_io(STEP))?;
    let mut asked = String::new();
    server.read_to_string(&mut asked).map_err(of_io(STEP))?;
    same(STEP, "ask", &asked)?;
    server.write_all(b"answer").map_err(of_io(STEP))?;
    server.shutdown(Shutdown::Write).map_err(of_io(STEP))?;
    let mut answered = String::new();
    client.read_to_string(&mut answered).map_err(of_io(STEP))?;
    same(STEP, "answer", &answered)
}

/// `FIONREAD` counts what was redirected.
fn readable_bytes(bench: &mut Bench) -> Result<(), Failure> {
    const STEP: &str = "FIONREAD";
    let (mut client, server, _) = pair(bench, STEP)?;
    client.write_all(&[0; 1000]).map_err(of_io(STEP))?;
    let readable = rustix::io::ioctl_fionread(server.as_fd()).map_err(|errno| of_io(STEP)(errno.into()))?;
    same(STEP, &1000, &readable)
}

/// A socket that has a program by one map gets none by another.
fn one_map_for_a_socket(bench: &mut Bench) -> Result<(), Failure> {
    const STEP: &str = "EBUSY";
    let (client, _server, _) = pair(bench, STEP)?;
    match bench.join_again(&client) {
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::EBUSY) => Ok(()),
        Err(error) => wrong(STEP, "EBUSY", &error.to_string()),
        Ok(()) => wrong(STEP, "EBUSY", "success"),
    }
}

/// A reader that does not read is sent the budget, then TCP's buffers, then nothing; nothing is lost.
fn budget(bench: &mut Bench) -> Result<(), Failure> {
    const STEP: &str = "budget";
    let (mut client, mut server, id) = pair(bench, STEP)?;
    client.set_nonblocking(true).map_err(of_io(STEP))?;
    let chunk: [u8; 8192] = std::array::from_fn(|i| (i % 251).to_le_bytes()[0]);
    let mut sent = 0;
    while sent < RUNAWAY {
        match client.write(&chunk[sent % chunk.len()..]) {
            Ok(bytes) => sent += bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(of_io(STEP)(error)),
        }
    }
    let [redirected, _] = bench.redirected(id).map_err(of_map(STEP))?;
    if sent >= RUNAWAY || redirected == 0 || redirected > u64::from(limits::ACCELERATE_BUDGET) {
        let found = format!("{redirected} bytes redirected of {sent} sent");
        return wrong(STEP, "a writer that blocks at the budget", &found);
    }
    let mut got = vec![0; sent];
    server.read_exact(&mut got).map_err(of_io(STEP))?;
    if got.iter().enumerate().any(|(at, byte)| *byte != chunk[at % chunk.len()]) {
        return wrong(STEP, "the same bytes", "others");
    }
    Ok(())
}

/// Without the switch the next message goes natively, behind what was redirected.
fn kill_switch(bench: &mut Bench) -> Result<(), Failure> {
    const STEP: &str = "kill switch";
    let (mut client, mut server, id) = pair(bench, STEP)?;
    client.write_all(b"before ").map_err(of_io(STEP))?;
    bench.switch(false).map_err(of_map(STEP))?;
    client.write_all(b"after").map_err(of_io(STEP))?;
    let mut got = [0; 12];
    server.read_exact(&mut got).map_err(of_io(STEP))?;
    same(STEP, "before after", &String::from_utf8_lossy(&got))?;
    same(STEP, &[7, 0], &bench.redirected(id).map_err(of_map(STEP))?)
}

fn pair(bench: &mut Bench, step: &'static str) -> Result<(TcpStream, TcpStream, u64), Failure> {
    let (client, server) = connection().map_err(of_io(step))?;
    let id = bench.join_client(&client).map_err(of_map(step))?;
    bench.join_server(&server, id).map_err(of_map(step))?;
    Ok((client, server, id))
}

fn same<T: PartialEq + std::fmt::Debug + ?Sized>(step: &'static str, expected: &T, found: &T) -> Result<(), Failure> {
    if expected == found { Ok(()) } else { wrong(step, &format!("{expected:?}"), &format!("{found:?}")) }
}

fn wrong(step: &'static str, expected: &str, found: &str) -> Result<(), Failure> {
    Err(Failure::Wrong { step, expected: expected.to_owned(), found: found.to_owned() })
}

fn of_io(step: &'static str) -> impl Fn(io::Error) -> Failure {
    move |source| Failure::Io { step, source }
}

fn of_map(step: &'static str) -> impl Fn(MapError) -> Failure {
    move |source| Failure::Map { step, source }
}

const CHUNK: u32 = 16 << 10;
const ROUNDS: u32 = 512;
/// More than any TCP buffer holds.
const RUNAWAY: usize = 64 << 20;

#[cfg(test)]
mod tests;
