//! The shop's app, run inside a pod: every request counts an order in redis, over a connection of its own.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::thread;

use anyhow::{Context as _, Result};

/// Serves HTTP until it is killed.
pub(crate) fn serve(name: &str, db: &str) -> Result<()> {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)).context("listen")?;
    loop {
        let (client, _) = listener.accept().context("accept")?;
        let (name, db) = (name.to_owned(), db.to_owned());
        // A client that has gone is no concern of the others.
        thread::spawn(move || answer(&client, &name, &db));
    }
}

fn answer(mut client: &TcpStream, name: &str, db: &str) -> io::Result<()> {
    for line in BufReader::new(client).lines() {
        if line?.is_empty() {
            break;
        }
    }
    let (status, body) = match order(db) {
        Ok(number) => ("200 OK", format!("order {number}, taken by {name}\n")),
        Err(error) => ("502 Bad Gateway", format!("{name} cannot reach {db}: {error}\n")),
    };
    let len = body.len();
    write!(client, "HTTP/1.1 {status}\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n{body}")
}

/// The number of a new order.
fn order(db: &str) -> io::Result<u64> {
    let mut stream = TcpStream::connect(db)?;
    stream.write_all(b"INCR orders\r\n")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let number = line.trim_end().strip_prefix(':').and_then(|number| number.parse().ok());
    number.ok_or_else(|| io::Error::other(format!("redis says {line:?}")))
}

const PORT: u16 = 8080;
