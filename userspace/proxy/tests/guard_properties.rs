//! The guard's verdict does not depend on how bytes arrive, and nothing malformed slips through by chance.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::io;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};

use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::runtime::Runtime;
use weft_proxy::http1::guard::{Exchange, Guard, Rest};
use weft_proxy::http1::{Guarded, Limits, Malformed};

/// What passed, how many requests it was, and why it ended if it was not at the end.
type Outcome = (Vec<u8>, usize, Option<Malformed>);

/// The guard of requests alone, with bytes that arrive in pieces of these sizes.
fn judged(bytes: &[u8], pieces: &[usize]) -> Outcome {
    judged_by(Guard::requests(Limits::default()), Exchange::default(), bytes, pieces)
}

/// The guard of answers to these requests.
fn judged_answers(asked: &[u8], bytes: &[u8], pieces: &[usize]) -> Outcome {
    let mut exchange = Exchange::default();
    Guard::requests(Limits::default()).judge(asked, &mut exchange);
    judged_by(Guard::responses(Limits::default()), exchange, bytes, pieces)
}

fn judged_by(mut guard: Guard, mut exchange: Exchange, bytes: &[u8], pieces: &[usize]) -> Outcome {
    let (mut passed, mut here) = (0, 0);
    let mut pieces = pieces.iter().cycle();
    loop {
        let verdict = guard.judge(&bytes[passed..here], &mut exchange);
        passed += verdict.pass;
        if let Rest::Malformed(why) = verdict.rest {
            return (bytes[..passed].to_vec(), exchange.unanswered(), Some(why));
        }
        if here == bytes.len() {
            return (bytes[..passed].to_vec(), exchange.unanswered(), None);
        }
        here = bytes.len().min(here + pieces.next().unwrap());
    }
}

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap());

/// The same through a [`Guarded`], whose reader has a buffer of `room` bytes.
fn read(bytes: &[u8], pieces: &[usize], room: usize) -> (Vec<u8>, Option<Malformed>) {
    let source = Pieces { bytes: bytes.to_vec(), at: 0, sizes: pieces.to_vec(), next: 0 };
    let mut guarded = Guarded::server(source, Limits::default());
    RUNTIME.block_on(async {
        let mut read = Vec::new();
        let mut buf = vec![0; room];
        loop {
            // Where an answer is awaited the read is pending for good: one poll tells.
            let next = std::future::poll_fn(|cx| {
                let mut buf = ReadBuf::new(&mut buf);
                Poll::Ready(match Pin::new(&mut guarded).poll_read(cx, &mut buf) {
                    Poll::Pending => None,
                    Poll::Ready(result) => Some(result.map(|()| buf.filled().to_vec())),
                })
            });
            match next.await {
                None => return (read, None),
                Some(Ok(bytes)) if bytes.is_empty() => return (read, None),
                Some(Ok(bytes)) => read.extend(bytes),
                Some(Err(error)) => return (read, Malformed::of(&error)),
            }
        }
    })
}

/// A socket whose bytes arrive in pieces.
struct Pieces {
    bytes: Vec<u8>,
    at: usize,
    sizes: Vec<usize>,
    next: usize,
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let piece = self.sizes[self.next % self.sizes.len()];
        self.next += 1;
        let end = self.bytes.len().min(self.at + piece.min(buf.remaining()));
        buf.put_slice(&self.bytes[self.at..end]);
        self.at = end;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A well-formed request.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let field = ("[A-Za-z][A-Za-z-]{0,8}x", "[ -~]{0,20}");
    let fields = prop::collection::vec(field, 0..6).prop_map(|fields| {
        fields.iter().flat_map(|(name, value)| [name, ":", value, "\r\n"]).collect::<String>()
    });
    let start = ("(GET|POST|PUT|HEAD|X-1)", "/[a-z0-9/._~-]{0,20}(\\?[a-z=&%]{0,9})?");
    (start, fields, body()).prop_map(|((method, target), fields, (framing, body))| {
        let mut bytes =
            format!("{method} {target} HTTP/1.1\r\nHost: a.example\r\n{fields}{framing}\r\n").into_bytes();
        bytes.extend(body);
        bytes
    })
}

/// The framing fields and the body that they announce.
fn body() -> impl Strategy<Value = (String, Vec<u8>)> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..60);
    let length = bytes().prop_map(|body| (format!("Content-Length: {}\r\n", body.len()), body));
    let chunks = prop::collection::vec((bytes(), "(;[a-z]{1,5}(=[a-z0-9]{1,5}|=\"[a-z ,;]{0,5}\")?)?"), 0..5);
    let chunked = (chunks, "(X-Sum: [a-z]{0,5}\r\n)?").prop_map(|(chunks, trailers)| {
        let mut body = Vec::new();
        for (data, extension) in chunks.iter().filter(|(data, _)| !data.is_empty()) {
            body.extend(format!("{:x}{extension}\r\n", data.len()).into_bytes());
            body.extend(data);
            body.extend(b"\r\n");
        }
        body.extend(format!("0\r\n{trailers}\r\n").into_bytes());
        ("Transfer-Encoding: chunked\r\n".to_owned(), body)
    });
    prop_oneof![Just((String::new(), Vec::new())), length, chunked]
}

/// A well-formed answer to GET, with or without something before it.
fn answer() -> impl Strategy<Value = Vec<u8>> {
    let start = ("(HTTP/1\\.1 10[023] Wait\r\nX: y\r\n\r\n)?", "(200|206|404|503)( [ -~]{0,9})?");
    (start, body()).prop_map(|((before, status), (framing, body))| {
        let framing = if framing.is_empty() { "Content-Length: 0\r\n" } else { &framing };
        let mut bytes = format!("{before}HTTP/1.1 {status}\r\n{framing}\r\n").into_bytes();
        bytes.extend(body);
        bytes
    })
}

fn requests() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(request(), 1..5)
}

/// Bytes that a mutation puts in: those that framing is made of.
fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![any::<u8>(), prop::sample::select(b"\r\n :;,0aA\t\0".to_vec())]
}

#[derive(Debug, Clone)]
enum Mutation {
    Replace(u8),
    Insert(u8),
    Remove,
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![byte().prop_map(Mutation::Replace), byte().prop_map(Mutation::Insert), Just(Mutation::Remove)]
}

fn mutated(mut bytes: Vec<u8>, mutation: &Mutation, at: prop::sample::Index) -> Vec<u8> {
    let at = at.index(bytes.len());
    match mutation {
        Mutation::Replace(byte) => bytes[at] = *byte,
        Mutation::Insert(byte) => bytes.insert(at, *byte),
        Mutation::Remove => drop(bytes.remove(at)),
    }
    bytes
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1_usize..40, 1..6)
}

/// How a careless reader takes what passed: LF ends a line, whatever else there is. The bytes of each request's body.
fn careless(mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut bodies = Vec::new();
    while !bytes.is_empty() {
        let mut framing = None;
        loop {
            let line = careless_line(&mut bytes)?;
            if line.is_empty() && framing.is_some() {
                break;
            }
            // A careless reader skips any number of empty lines.
            if line.is_empty() {
                continue;
            }
            let framing = framing.get_or_insert((0, false));
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                "content-length" => framing.0 = value.trim().parse().ok()?,
                "transfer-encoding" => framing.1 = value.to_ascii_lowercase().contains("chunked"),
                _ => {}
            }
        }
        let (length, chunked) = framing?;
        bodies.push(if chunked { careless_chunks(&mut bytes)? } else { careless_take(&mut bytes, length)? });
    }
    Some(bodies)
}

fn careless_chunks(bytes: &mut &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = careless_line(bytes)?;
        let digits = line.trim().split([';', ' ']).next()?;
        match usize::from_str_radix(digits, 16).ok()? {
            0 => break,
            size => body.extend(careless_take(bytes, size)?),
        }
        careless_line(bytes)?;
    }
    while !careless_line(bytes)?.is_empty() {}
    Some(body)
}

fn careless_take(bytes: &mut &[u8], length: usize) -> Option<Vec<u8>> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken.to_vec())
}

fn careless_line(bytes: &mut &[u8]) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let line = bytes[..end].iter().map(|byte| char::from(*byte)).collect::<String>();
    *bytes = &bytes[end + 1..];
    Some(line.trim_end_matches('\r').to_owned())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn well_formed_requests_pass_byte_for_byte(requests in requests(), pieces in sizes(), room in 1_usize..300) {
        let bytes = requests.concat();
        prop_assert_eq!(judged(&bytes, &pieces), (bytes.clone(), requests.len(), None));
        prop_assert_eq!(read(&bytes, &pieces, room), (bytes, None));
    }

    #[test]
    fn the_verdict_is_the_same_for_every_split(
        requests in requests(), mutation in mutation(), at in any::<prop::sample::Index>(),
        pieces in sizes(), room in 1_usize..300,
    ) {
        let bytes = mutated(requests.concat(), &mutation, at);
        let whole = judged(&bytes, &[bytes.len().max(1)]);
        prop_assert_eq!(&judged(&bytes, &pieces), &whole);
        prop_assert_eq!(read(&bytes, &pieces, room).0, whole.0);
    }

    #[test]
    fn what_passes_of_a_mutation_is_read_alike_by_the_careless(
        requests in requests(), mutation in mutation(), at in any::<prop::sample::Index>(),
    ) {
        let bytes = mutated(requests.concat(), &mutation, at);
        let (passed, seen, why) = judged(&bytes, &[bytes.len().max(1)]);
        // Broken off in a body, there is nothing to compare.
        if why.is_none() && passed.len() == bytes.len()
            && let Some(bodies) = careless(&passed)
        {
            prop_assert_eq!(bodies.len(), seen, "{}", passed.escape_ascii());
        }
    }

    #[test]
    fn well_formed_answers_pass_and_broken_ones_are_judged_alike_in_any_pieces(
        answers in prop::collection::vec(answer(), 1..5), mutation in mutation(),
        at in any::<prop::sample::Index>(), pieces in sizes(),
    ) {
        let (asked, bytes) = (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(answers.len()), answers.concat());
        prop_assert_eq!(judged_answers(&asked, &bytes, &pieces), (bytes.clone(), 0, None));
        let bytes = mutated(bytes, &mutation, at);
        let whole = judged_answers(&asked, &bytes, &[bytes.len().max(1)]);
        prop_assert_eq!(judged_answers(&asked, &bytes, &pieces), whole);
    }

    #[test]
    fn any_bytes_at_all_get_the_same_verdict_in_any_pieces(
        bytes in prop::collection::vec(byte(), 0..400), pieces in sizes(),
    ) {
        prop_assert_eq!(judged(&bytes, &pieces), judged(&bytes, &[400]));
    }
}

#[tokio::test]
async fn an_error_of_a_read_carries_what_was_malformed() {
    let bytes = b"GET / HTTP/1.1\nHost: a\r\n\r\n".to_vec();
    let source = Pieces { bytes, at: 0, sizes: vec![7], next: 0 };
    let mut guarded = Guarded::server(source, Limits::default());
    let refusal = guarded.refusal();
    assert_eq!(refusal.malformed(), None);
    let error = guarded.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(Malformed::of(&error), Some(Malformed::BareLf));
    assert_eq!(refusal.malformed(), Some(Malformed::BareLf));
}
