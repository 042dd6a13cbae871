//! As much of HTTP/1.1 as the bench's own clients and server need.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

/// A request that the routes match.
pub(super) const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: bench\r\nx-bench: 1\r\n\r\n";

/// How far an answer has come. It is done with a new one at its end.
#[derive(Default)]
pub(super) struct Answer {
    head: Vec<u8>,
    /// Bytes of the body that are missing, once the head is whole.
    missing: Option<usize>,
}

impl Answer {
    /// Takes bytes; whether the answer is whole.
    ///
    /// # Errors
    /// The connection has ended, the answer is none with status 200, or there is more than one.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> io::Result<bool> {
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if self.missing.is_none() {
            let (known, look_at) = (self.head.len(), self.head.len().saturating_sub(3));
            self.head.extend_from_slice(bytes);
            let Some(end) = self.head[look_at..].windows(4).position(|four| four == b"\r\n\r\n") else {
                return Ok(false);
            };
            let end = look_at + end + 4;
            self.missing = Some(body_length(&self.head[..end])?);
            bytes = &bytes[end - known..];
        }
        let missing = self.missing.expect("the head is whole");
        let left =
            missing.checked_sub(bytes.len()).ok_or_else(|| io::Error::other("more than one answer"))?;
        self.missing = Some(left);
        if left == 0 {
            self.head.clear();
            self.missing = None;
        }
        Ok(left == 0)
    }
}

/// The length that the head of a good answer gives.
fn body_length(head: &[u8]) -> io::Result<usize> {
    let text = String::from_utf8_lossy(head);
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    length
        .filter(|_| text.starts_with("HTTP/1.1 200"))
        .ok_or_else(|| io::Error::other(format!("an answer: {text}")))
}

/// Bytes per second of one body, from the request's head to the last byte's arrival.
pub(super) fn transfer(to: SocketAddr, bytes: u64, upload: bool) -> io::Result<f64> {
    let mut stream = TcpStream::connect(to)?;
    let mut block = vec![0; BLOCK];
    let begin = Instant::now();
    let (method, length) = if upload { ("POST", bytes) } else { ("GET", 0) };
    write!(
        stream,
        "{method} /{bytes} HTTP/1.1\r\nHost: bench\r\nx-bench: 1\r\nContent-Length: {length}\r\n\r\n"
    )?;
    let mut left = length;
    while left > 0 {
        let part = BLOCK.min(usize::try_from(left).unwrap_or(BLOCK));
        stream.write_all(&block[..part])?;
        left -= part as u64;
    }
    let mut answer = Answer::default();
    while !{
        let len = stream.read(&mut block)?;
        answer.take(&block[..len])?
    } {}
    Ok(super::rate(bytes, begin.elapsed()))
}

/// Bytes per second of as many bodies at once as there are `streams`, from the first request to the last byte.
pub(super) fn downloads(to: SocketAddr, bytes: u64, streams: u64) -> io::Result<f64> {
    let begin = Instant::now();
    thread::scope(|scope| {
        let one = || scope.spawn(|| transfer(to, bytes / streams, false));
        let all: Vec<_> = (0..streams).map(|_| one()).collect();
        all.into_iter().try_for_each(|one| one.join().expect("it does not panic").map(drop))
    })?;
    Ok(super::rate(bytes, begin.elapsed()))
}

/// Serves bodies until the process is killed: as many bytes as the path says, or as many as come.
pub(super) fn serve(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
    loop {
        let (stream, _) = listener.accept()?;
        thread::spawn(move || {
            // It ends with its connection.
            let _ = serve_one(&stream);
        });
    }
}

fn serve_one(stream: &TcpStream) -> io::Result<()> {
    let (mut reader, mut writer) = (BufReader::with_capacity(BLOCK, stream), stream);
    let block = vec![0; BLOCK];
    loop {
        let Some((get, asked, mut coming)) = head(&mut reader)? else { return Ok(()) };
        while coming > 0 {
            let len = reader.fill_buf()?.len();
            let part = len.min(usize::try_from(coming).unwrap_or(len));
            if len == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            reader.consume(part);
            coming -= part as u64;
        }
        let mut left = if get { asked } else { 0 };
        write!(writer, "HTTP/1.1 200 OK\r\nContent-Length: {left}\r\n\r\n")?;
        while left > 0 {
            let part = BLOCK.min(usize::try_from(left).unwrap_or(BLOCK));
            writer.write_all(&block[..part])?;
            left -= part as u64;
        }
    }
}

/// Whether it is a GET, the number in its path, and the length of its body; None at the end.
fn head(reader: &mut impl io::BufRead) -> io::Result<Option<(bool, u64, u64)>> {
    let mut first = String::new();
    if reader.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? <= 2 {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
    let path = first.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
    Ok(Some((first.starts_with("GET "), path.parse().unwrap_or(0), length)))
}

const BLOCK: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::Answer;

    #[test]
    fn an_answer_is_whole_with_its_last_byte_however_it_was_cut() {
        let whole = b"HTTP/1.1 200 OK\r\ncontent-Length: 3\r\n\r\nabc";
        for cut in 1..whole.len() {
            let mut answer = Answer::default();
            for _ in 0..2 {
                assert!(!answer.take(&whole[..cut]).unwrap(), "{cut}");
                assert!(answer.take(&whole[cut..]).unwrap(), "{cut}");
            }
        }
    }

    #[test]
    fn another_status_the_end_and_a_second_answer_are_errors() {
        for bytes in [
            &b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"[..],
            b"",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP",
        ] {
            assert!(Answer::default().take(bytes).is_err());
        }
    }
}
