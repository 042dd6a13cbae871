//! A tighter policy ends a live connection.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use weft_tests::Pod;

use crate::screen::{self, said};
use crate::shop::{DB, DB_CLIENTS, Shop};

pub(super) fn tell(shop: &mut Shop) -> Result<()> {
    screen::chapter(5, "A policy change cuts a live connection");
    let mut allowed = session(&shop.pods.api_v1)?;
    let mut forbidden = session(&shop.pods.reports)?;
    screen::say("Pods reports and api-v1 hold connections to the database, a PING every 2 ms.");
    let (file, yaml) = DB_CLIENTS;
    let (gone, kept): (Vec<&str>, Vec<&str>) = yaml.lines().partition(|line| line.contains("name: reports"));
    let [gone] = gone.as_slice() else { anyhow::bail!("one line of {file} is to name reports") };
    screen::removed(file, gone);
    let client = thread::spawn(move || {
        let mut answers = 0;
        let error = loop {
            match ping(&mut forbidden) {
                Ok(()) => answers += 1,
                Err(error) => break error,
            }
            thread::sleep(PACE);
        };
        (Instant::now(), answers, error)
    });
    let changed = Instant::now();
    shop.world.apply(file, &(kept.join("\n") + "\n"));
    while !client.is_finished() {
        ensure!(changed.elapsed() < LIMIT, "the connection of reports lives on after {LIMIT:?}");
        ping(&mut allowed).context("the connection of api-v1")?;
        thread::sleep(PACE);
    }
    let (cut, answers, error) = client.join().expect("a panic is told by the hook");
    let took = cut.duration_since(changed);
    screen::timed(
        &format!("reports, after {answers} answers: {}; from saved file to cut", said(&error)),
        took,
    );
    shop.wait();
    let error = shop.pods.reports.tcp_connect(DB.parse()?).err().context("reports may connect again")?;
    screen::fact(format_args!("reports, dialling again: {}", said(&error)));
    ping(&mut allowed).context("the connection of api-v1")?;
    screen::fact("the connection of api-v1 was not touched, and still answers");
    Ok(())
}

/// A connection to redis that has answered once.
fn session(pod: &Pod) -> Result<TcpStream> {
    let mut stream = pod.tcp_connect(DB.parse()?).context("a client that is allowed")?;
    ping(&mut stream).context("a client that is allowed")?;
    Ok(stream)
}

fn ping(stream: &mut TcpStream) -> io::Result<()> {
    let mut answer = [0; 7];
    stream.write_all(b"PING\r\n")?;
    stream.read_exact(&mut answer)?;
    if &answer == b"+PONG\r\n" { Ok(()) } else { Err(io::Error::other("redis does not say PONG")) }
}

const PACE: Duration = Duration::from_millis(2);
/// What is promised.
const LIMIT: Duration = Duration::from_secs(1);
