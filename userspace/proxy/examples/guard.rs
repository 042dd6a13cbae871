//! What the guard costs: nanoseconds for a head, and how fast bodies pass.
//!
//! `cargo run --release -p weft-proxy --example guard`

use std::hint::black_box;
use std::io::{self, Write as _};
use std::time::Instant;

use weft_proxy::http1::Limits;
use weft_proxy::http1::guard::{Exchange, Guard};

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (what, request) in [("small request", SMALL), ("browser's request", BROWSER)] {
        let each = nanoseconds(request.as_bytes());
        writeln!(out, "{what:24} {:6} bytes {each:8.0} ns", request.len())?;
    }
    let length = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {BODY}\r\n\r\n{}", "a".repeat(BODY));
    let chunks = format!("4000\r\n{}\r\n", "a".repeat(0x4000)).repeat(BODY / 0x4000);
    let chunked =
        format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n");
    for (what, request) in [("1 MiB of known length", length), ("1 MiB in 64 chunks", chunked)] {
        let each = nanoseconds(request.as_bytes());
        writeln!(out, "{what:24} {:6} bytes {each:8.0} ns", request.len())?;
    }
    Ok(())
}

/// The median of some rounds.
fn nanoseconds(request: &[u8]) -> f64 {
    let mut rounds: Vec<f64> = (0..ROUNDS).map(|_| round(request)).collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

fn round(request: &[u8]) -> f64 {
    let start = Instant::now();
    for _ in 0..REPEATS {
        let (mut guard, mut exchange) = (Guard::requests(Limits::default()), Exchange::default());
        let judged = guard.judge(black_box(request), &mut exchange);
        assert_eq!(judged.pass, request.len(), "the request is well-formed");
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(REPEATS)
}

const ROUNDS: usize = 21;
const REPEATS: u32 = 2_000;
const BODY: usize = 1 << 20;

const SMALL: &str = "GET / HTTP/1.1\r\nhost: web.shop:8080\r\nuser-agent: curl/8\r\naccept: */*\r\n\r\n";

const BROWSER: &str = "GET /products/list?page=2&sort=price HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: Mozilla/5.0 \
    (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\nAccept: text/html,application/xhtml+xml,application/\
    xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\n\
    Referer: https://shop.example/products\r\nConnection: keep-alive\r\nCookie: session=0123456789abcdef0123456789abcdef; \
    theme=dark; consent=all\r\nUpgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-Site: same-origin\r\nPriority: u=0, i\r\n\r\n";
