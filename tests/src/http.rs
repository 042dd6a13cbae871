//! HTTP/1.1 by hand: servers that say what they saw, and requests whose every byte a test knows.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Pod;
use crate::serve::Server;

/// What a server saw of a request, which is the body of its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The server's name.
    pub server: String,
    /// Who is at the other end of its socket.
    pub peer: SocketAddr,
    /// The request's method.
    pub method: String,
    /// Its target.
    pub target: String,
    /// Its headers, by lower-case name; several of one name are joined by `, `.
    pub headers: BTreeMap<String, String>,
    /// How many bytes its body had.
    pub body: usize,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status code.
    pub status: u16,
    /// Its headers, as in [`Seen::headers`].
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// What the server saw; panics when it was not one of [`Pod::serve_http`] that answered.
    #[track_caller]
    pub fn seen(&self) -> Seen {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{} {text:?}: {error}", self.status))
    }

    /// A header's value; empty where it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// A connection that carries one request after the other.
pub struct HttpClient {
    stream: BufReader<TcpStream>,
}

impl HttpClient {
    /// Speaks HTTP over `stream`.
    pub fn over(stream: TcpStream) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    /// The connection.
    pub fn stream(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    /// Asks `method target` with these headers and this body, and reads the answer to its end.
    pub fn ask(
        &mut self,
        (method, target): (&str, &str),
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        let named = |name: &str| headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
        let mut lines = vec![format!("{method} {target} HTTP/1.1")];
        if !named("host") {
            lines.push("Host: test".to_owned());
        }
        if !body.is_empty() && !named("transfer-encoding") {
            lines.push(format!("Content-Length: {}", body.len()));
        }
        lines.extend(headers.iter().map(|(name, value)| format!("{name}: {value}")));
        let head = lines.join("\r\n") + "\r\n\r\n";
        self.stream.get_mut().write_all(&[head.as_bytes(), body].concat())?;
        self.answer(method)
    }

    /// Reads the answer to a request of this method.
    pub fn answer(&mut self, method: &str) -> io::Result<Answer> {
        let (first, headers) = head(&mut self.stream)?;
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status line: {first:?}")))?;
        let empty = method == "HEAD" || matches!(status, 101 | 204 | 304);
        let body = if empty { Vec::new() } else { body(&mut self.stream, &headers)? };
        Ok(Answer { status, headers, body })
    }
}

impl Server {
    /// As [`Pod::serve_http`], on a listener that is there.
    pub fn http(listener: TcpListener, name: &str) -> Self {
        Self::each(listener, name.to_owned(), |stream, name| {
            // The client ends it, one way or another.
            let _ = serve(stream, name);
        })
    }
}

impl Pod {
    /// Serves `port` over HTTP/1.1, both families: each answer is a [`Seen`]. A target `/status/<code>` is
    /// answered with that code, `/wait/<ms>` after that time. A connection that asks to speak WebSocket echoes.
    pub fn serve_http(&self, port: u16, name: &str) -> Server {
        Server::http(self.listen_everywhere(port), name)
    }

    /// Connects over TCP, to ask by HTTP.
    pub fn http(&self, to: SocketAddr) -> io::Result<HttpClient> {
        self.tcp_connect(to).map(HttpClient::over)
    }

    /// The answer to one `GET`, on a connection of its own.
    pub fn get(&self, to: SocketAddr, target: &str, headers: &[(&str, &str)]) -> io::Result<Answer> {
        self.http(to)?.ask(("GET", target), headers, &[])
    }

    fn listen_everywhere(&self, port: u16) -> TcpListener {
        let listener = self.tcp_listen((std::net::Ipv6Addr::UNSPECIFIED, port).into());
        listener.unwrap_or_else(|error| panic!("cannot listen on port {port}: {error}"))
    }
}

fn serve(stream: &TcpStream, name: &str) -> io::Result<()> {
    let peer = stream.peer_addr()?;
    let mut reader = BufReader::new(stream);
    loop {
        let (first, headers) = match head(&mut reader) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        };
        let mut words = first.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let framed = headers.contains_key("content-length") || headers.contains_key("transfer-encoding");
        let body = if framed { body(&mut reader, &headers)?.len() } else { 0 };
        if headers.get("upgrade").is_some_and(|upgrade| upgrade == "websocket") {
            return echo(stream, &mut reader);
        }
        let number = |prefix| target.strip_prefix(prefix).and_then(|code| code.parse::<u16>().ok());
        if let Some(wait) = number("/wait/") {
            thread::sleep(Duration::from_millis(wait.into()));
        }
        let seen = Seen {
            server: name.to_owned(),
            peer: SocketAddr::new(peer.ip().to_canonical(), peer.port()),
            method: method.to_owned(),
            target: target.to_owned(),
            headers,
            body,
        };
        let text = serde_json::to_string(&seen).map_err(io::Error::other)?;
        let status = number("/status/").unwrap_or(200);
        let mut answer = format!(
            "HTTP/1.1 {status} Because\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            text.len()
        );
        if method != "HEAD" {
            answer += &text;
        }
        (&mut &*stream).write_all(answer.as_bytes())?;
    }
}

/// Agrees to speak WebSocket, and then says what it hears. Only the key of RFC 6455's own example is agreed to.
fn echo(mut stream: &TcpStream, reader: &mut BufReader<&TcpStream>) -> io::Result<()> {
    let agreed = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                  Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    stream.write_all(agreed.as_bytes())?;
    io::copy(reader, &mut stream).map(drop)
}

/// The first line and the headers.
fn head(from: &mut impl io::BufRead) -> io::Result<(String, BTreeMap<String, String>)> {
    let first = line(from)?;
    let mut headers = BTreeMap::<String, String>::new();
    loop {
        let line = line(from)?;
        if line.is_empty() {
            return Ok((first, headers));
        }
        let (name, value) =
            line.split_once(':').ok_or_else(|| io::Error::other(format!("no header: {line:?}")))?;
        let all = headers.entry(name.to_ascii_lowercase()).or_default();
        *all = if all.is_empty() { value.trim().to_owned() } else { format!("{all}, {}", value.trim()) };
    }
}

fn body(from: &mut impl io::BufRead, headers: &BTreeMap<String, String>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if let Some(length) = headers.get("content-length") {
        body.resize(length.parse().map_err(io::Error::other)?, 0);
        from.read_exact(&mut body)?;
    } else if headers.contains_key("transfer-encoding") {
        loop {
            let size = usize::from_str_radix(line(from)?.trim(), 16).map_err(io::Error::other)?;
            let mut chunk = vec![0; size];
            from.read_exact(&mut chunk)?;
            body.extend(chunk);
            line(from)?;
            if size == 0 {
                break;
            }
        }
    } else {
        from.read_to_end(&mut body)?;
    }
    Ok(body)
}

fn line(from: &mut impl io::BufRead) -> io::Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    match line.strip_suffix("\r\n") {
        Some(line) => Ok(line.to_owned()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
