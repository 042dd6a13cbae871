//! How an upstream reads that takes nothing but RFC 9112 to the letter. It shares no code with the guard.

use std::io::{BufRead, Read};

/// A request as the upstream sees it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    /// Names in small letters.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: String,
}

/// Why there is no request.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The connection ends inside of it.
    Unfinished,
    /// Another reader might take the bytes for something else.
    Ambiguous(String),
}

impl Request {
    /// `METHOD target body`
    pub(crate) fn line(&self) -> String {
        format!("{} {} {}", self.method, self.target, self.body).trim_end_matches(' ').to_owned()
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// Reads a request; `None` where the connection ends before it.
pub(crate) fn read(from: &mut impl BufRead) -> Result<Option<Request>, Fault> {
    match from.fill_buf() {
        Ok([]) | Err(_) => return Ok(None),
        Ok(_) => {}
    }
    let start = line(from)?;
    let parts: Vec<&str> = start.split(' ').collect();
    let &[method, target, "HTTP/1.1" | "HTTP/1.0"] = &parts[..] else {
        return ambiguous("request line", &start);
    };
    if method.is_empty() || target.is_empty() || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return ambiguous("request line", &start);
    }
    let mut request = Request {
        method: method.to_owned(),
        target: target.to_owned(),
        fields: fields(from)?,
        body: String::new(),
    };
    let hosts = request.all("host").count();
    if hosts > 1 || (hosts == 0 && parts[2] == "HTTP/1.1") {
        return ambiguous("hosts", &hosts.to_string());
    }
    request.body = body(from, &request)?;
    Ok(Some(request))
}

fn body(from: &mut impl BufRead, request: &Request) -> Result<String, Fault> {
    let lengths: Vec<&str> = request.all("content-length").collect();
    let encodings: Vec<&str> = request.all("transfer-encoding").collect();
    match (&lengths[..], &encodings[..]) {
        ([], []) => Ok(String::new()),
        ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => match length.parse() {
            Ok(length) => exactly(from, length),
            Err(_) => ambiguous("length", length),
        },
        ([], ["chunked"]) => chunks(from),
        _ => ambiguous("framing", &format!("{lengths:?} {encodings:?}")),
    }
}

fn chunks(from: &mut impl BufRead) -> Result<String, Fault> {
    let mut body = String::new();
    loop {
        let size = line(from)?;
        if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return ambiguous("chunk size", &size);
        }
        match usize::from_str_radix(&size, 16) {
            Ok(0) => break,
            Ok(size) => body += &exactly(from, size)?,
            Err(_) => return ambiguous("chunk size", &size),
        }
        let end = exactly(from, 2)?;
        if end != "\r\n" {
            return ambiguous("chunk end", &end);
        }
    }
    let trailers = fields(from)?;
    let framing =
        trailers.iter().find(|(name, _)| ["content-length", "transfer-encoding", "host"].contains(&&**name));
    match framing {
        Some((name, _)) => ambiguous("trailer", name),
        None => Ok(body),
    }
}

fn fields(from: &mut impl BufRead) -> Result<Vec<(String, String)>, Fault> {
    let mut fields = Vec::new();
    loop {
        let line = line(from)?;
        if line.is_empty() {
            return Ok(fields);
        }
        let Some((name, value)) = line.split_once(':') else { return ambiguous("field", &line) };
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty()
            || !name.bytes().all(token)
            || value.chars().any(|it| it.is_control() && it < ' ' && it != '\t')
        {
            return ambiguous("field", &line);
        }
        fields.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
    }
}

/// A line without its CR LF. A byte is a character.
fn line(from: &mut impl BufRead) -> Result<String, Fault> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line).map_err(|_| Fault::Unfinished)?;
    match line.strip_suffix(b"\r\n") {
        Some(line) if line.contains(&b'\r') => ambiguous("line", &text(line)),
        Some(line) => Ok(text(line)),
        None if line.ends_with(b"\n") => ambiguous("line", &text(&line)),
        None => Err(Fault::Unfinished),
    }
}

fn exactly(from: &mut impl Read, length: usize) -> Result<String, Fault> {
    let mut bytes = Vec::new();
    from.take(length as u64).read_to_end(&mut bytes).map_err(|_| Fault::Unfinished)?;
    if bytes.len() == length { Ok(text(&bytes)) } else { Err(Fault::Unfinished) }
}

fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn ambiguous<T>(what: &str, found: &str) -> Result<T, Fault> {
    Err(Fault::Ambiguous(format!("{what}: {found:?}")))
}
