//! The server's name in a ClientHello (RFC 8446 4.1.2, RFC 6066 3) and the protocols that it asks for (RFC 7301), from
//! bytes that arrive piece by piece.

/// What the first bytes of a connection say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerName {
    /// The ClientHello is not complete. Never for [`LIMIT`] bytes or more.
    NeedMore,
    /// They are no TLS.
    NotTls,
    /// They begin as TLS and break its rules, or the ClientHello is larger than [`LIMIT`]: close the connection.
    Broken,
    /// A ClientHello without a name.
    Unnamed,
    /// A DNS name: lower case, no dot at its end.
    Name(String),
}

/// Whether a connection begins with TLS that asks for a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The ClientHello is not complete. Never for [`LIMIT`] bytes or more.
    NeedMore,
    /// It does.
    Yes,
    /// It is other TLS, broken, or no TLS.
    No,
}

/// Clients send 200 to 2000 bytes, with several post-quantum key shares some more.
pub const LIMIT: usize = 16 * 1024;

/// Reads the name that a connection begins with.
pub fn server_name(first: &[u8]) -> ServerName {
    match handshake(&first[..first.len().min(LIMIT)]) {
        Ok(hello) => name(&hello).unwrap_or(ServerName::Broken),
        Err(ServerName::NeedMore) if first.len() >= LIMIT => ServerName::Broken,
        Err(early) => early,
    }
}

/// Whether `first` begins with TLS that asks for `protocol` (ALPN).
pub fn asks_for(first: &[u8], protocol: &[u8]) -> Asked {
    match handshake(&first[..first.len().min(LIMIT)]) {
        Ok(hello) if offers(&hello, protocol) == Some(true) => Asked::Yes,
        Err(ServerName::NeedMore) if first.len() < LIMIT => Asked::NeedMore,
        _ => Asked::No,
    }
}

/// The body of the ClientHello, put together from its records.
fn handshake(first: &[u8]) -> Result<Vec<u8>, ServerName> {
    let mut message = Vec::new();
    let mut rest = first;
    loop {
        let broken = if message.is_empty() { ServerName::NotTls } else { ServerName::Broken };
        let expected = |place: usize, byte: &u8| match place {
            0 => *byte == HANDSHAKE,
            1 => *byte == 3,
            _ => true,
        };
        if !rest.iter().take(2).enumerate().all(|(place, byte)| expected(place, byte)) {
            return Err(broken);
        }
        let [_, _, _, high, low, body @ ..] = rest else { return Err(ServerName::NeedMore) };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if length == 0 || length > LARGEST_RECORD {
            return Err(broken);
        }
        message.extend_from_slice(&body[..length.min(body.len())]);
        if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err(broken);
        }
        if let [_, high, middle, low, hello @ ..] = &*message {
            let wanted = u32::from_be_bytes([0, *high, *middle, *low]);
            let wanted = usize::try_from(wanted).map_err(|_| ServerName::Broken)?;
            if wanted > LIMIT {
                return Err(ServerName::Broken);
            }
            if let Some(hello) = hello.get(..wanted) {
                return Ok(hello.to_vec());
            }
        }
        rest = body.get(length..).ok_or(ServerName::NeedMore)?;
    }
}

/// The name in a ClientHello; `None` if it breaks the rules.
fn name(hello: &[u8]) -> Option<ServerName> {
    let mut found = None;
    each_extension(hello, |kind, body| {
        (kind != SERVER_NAME || found.replace(host_name(body)?).is_none()).then_some(())
    })?;
    Some(found.map_or(ServerName::Unnamed, ServerName::Name))
}

/// Whether a ClientHello offers `protocol`; `None` if it breaks the rules.
fn offers(hello: &[u8], protocol: &[u8]) -> Option<bool> {
    let mut found = false;
    each_extension(hello, |kind, body| {
        if kind == PROTOCOLS {
            let mut names = Reader(Reader(body).list()?);
            while !names.0.is_empty() {
                found |= names.short_list()? == protocol;
            }
        }
        Some(())
    })?;
    Some(found)
}

/// Has every extension of a ClientHello looked at; `None` if it breaks the rules, or one of them does.
fn each_extension(hello: &[u8], mut look: impl FnMut(u16, &[u8]) -> Option<()>) -> Option<()> {
    let mut hello = Reader(hello);
    hello.take(2 + 32)?; // version, random
    let session = hello.short_list()?;
    let suites = hello.list()?;
    let compressions = hello.short_list()?;
    if session.len() > 32 || suites.is_empty() || suites.len() % 2 != 0 || compressions.is_empty() {
        return None;
    }
    if hello.0.is_empty() {
        return Some(()); // TLS 1.2 without extensions
    }
    let mut extensions = Reader(hello.list()?);
    while !extensions.0.is_empty() {
        look(extensions.number()?, extensions.list()?)?;
    }
    hello.0.is_empty().then_some(())
}

/// The one name of a `server_name` extension.
fn host_name(body: &[u8]) -> Option<String> {
    let mut body = Reader(body);
    let mut names = Reader(body.list()?);
    let kind = names.take(1)?;
    let name = names.list()?;
    if kind != [HOST_NAME] || !names.0.is_empty() || !body.0.is_empty() {
        return None;
    }
    let name = name.strip_suffix(b".").unwrap_or(name);
    let is_label = |label: &[u8]| {
        (1..=63).contains(&label.len())
            && label.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let valid = name.len() <= 253 && name.split(|byte| *byte == b'.').all(is_label);
    valid.then(|| name.iter().map(|byte| char::from(byte.to_ascii_lowercase())).collect())
}

/// What is left to be read. Nothing is read beyond it.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// Bytes behind a length of two bytes.
    fn list(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(length.into())
    }

    /// Bytes behind a length of one byte.
    fn short_list(&mut self) -> Option<&'a [u8]> {
        let length = self.take(1)?[0];
        self.take(length.into())
    }
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const PROTOCOLS: u16 = 16;
const HOST_NAME: u8 = 0;
const LARGEST_RECORD: usize = 1 << 14;
