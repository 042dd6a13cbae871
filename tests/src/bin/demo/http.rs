//! As little HTTP as a narrator needs.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;

use weft_tests::Pod;

/// The body of `GET /` from `pod`; any answer but 200 is an error.
pub(crate) fn get(pod: &Pod, to: SocketAddr) -> io::Result<String> {
    get_with(pod, to, "")
}

/// The same with more header lines, each with its end.
pub(crate) fn get_with(pod: &Pod, to: SocketAddr, headers: &str) -> io::Result<String> {
    let answer = answer(pod, to, "/", headers)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.lines().next().unwrap_or_default();
    if status != "HTTP/1.1 200 OK" {
        return Err(io::Error::other(format!("{status}: {body}")));
    }
    Ok(body.to_owned())
}

/// The head of the answer to `GET path`, whatever it is.
pub(crate) fn ask(pod: &Pod, to: SocketAddr, path: &str) -> io::Result<String> {
    let answer = answer(pod, to, path, "")?;
    let (head, _) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(head.to_owned())
}

fn answer(pod: &Pod, to: SocketAddr, path: &str, headers: &str) -> io::Result<String> {
    let mut stream = pod.tcp_connect(to)?;
    let head = format!("GET {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(head.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
