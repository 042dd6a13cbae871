//! Prints the list of reasons: `docs/reasons.md` is its output (`cargo xtask codegen`).
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use weft_abi::Reason;

fn main() {
    println!("{HEAD}");
    for reason in Reason::ALL.iter().filter(|reason| ![Reason::NONE, Reason::UNKNOWN].contains(*reason)) {
        let errno = if reason.code < HTTP { errno(reason.errno()) } else { "-" };
        let status = reason.status().map_or("reset".to_owned(), |status| status.to_string());
        println!("| `{reason}` | {errno} | {status} | {} | {} |", reason.flag(), reason.meaning());
    }
}

fn errno(number: i32) -> &'static str {
    match number {
        13 => "EACCES",
        111 => "ECONNREFUSED",
        _ => "?",
    }
}

/// Codes from here on are the proxy's alone.
const HTTP: u8 = 16;

const HEAD: &str = "\
# Reasons

Why a connection or a request did not get what it asked for. One closed list: the same words stand in flows, metrics,
access logs, the `x-weft-reason` header and the command line. The list is `ebpf/abi/src/reason.rs`; this page is made
of it by `cargo xtask codegen`.

*errno*: what `connect(2)` returns where the kernel refuses (EPERM before kernel 5.18). *status*: what the proxy answers
an HTTP client; gRPC clients get the code that goes with it. *flag*: Envoy's short flag, as the metric label
`response_flags` and the access log show it. Two flags have no reason of their own: `URX`, all tries that `retry` gives
were used up; `DI`, a delay was injected.

| reason | errno | status | flag | meaning |
|---|---|---|---|---|";
