//! Load as fast as it goes, by programs that others know: wrk and h2load.

use std::net::SocketAddr;
use std::path::Path as File;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use weft_tests::Pod;

use super::nginx::CALL;
use super::path::Port;
use super::pin::Cpu;

/// How many requests are under way.
#[derive(Clone, Copy)]
pub(crate) enum Load {
    /// One on each of so many connections.
    Connections(u32),
    /// So many on one connection.
    Streams(u32),
    /// One on each of so many connections, which ends with it.
    Churn(u32),
}

impl Load {
    /// Requests per second. Fails when any request failed.
    pub(crate) fn run(
        self,
        cpu: Cpu,
        from: &Pod,
        to: SocketAddr,
        port: Port,
        lasts: Duration,
        message: &File,
    ) -> Result<f64> {
        let seconds = lasts.as_secs().to_string();
        let (Self::Connections(many) | Self::Streams(many) | Self::Churn(many)) = self;
        let many = many.to_string();
        let message = message.to_str().context("the bench's own paths are UTF-8")?;
        let url = match port {
            Port::Grpc => format!("http://{to}{CALL}Echo/Say"),
            _ => format!("http://{to}/"),
        };
        let mut command = cpu.pinned().to_vec();
        let more: &[&str] = match (self, port) {
            (Self::Connections(_), _) => &["wrk", "-t", "1", "-H", HEADER, "-c", &many, "-d", &seconds],
            (Self::Churn(_), _) => &["wrk", "-t", "1", "-H", CLOSE, "-c", &many, "-d", &seconds],
            (Self::Streams(_), Port::Grpc) => &[
                "h2load", "-D", &seconds, "-m", &many, "-H", HEADER, "-d", message, "-H", GRPC, "-H",
                TRAILERS,
            ],
            (Self::Streams(_), _) => &["h2load", "-D", &seconds, "-m", &many, "-H", HEADER],
        };
        command.extend(more.iter().map(ToString::to_string).chain([url]));
        let output = from.exec(&command.iter().map(String::as_str).collect::<Vec<_>>());
        let said = weft_tests::text(&output);
        ensure!(output.status.success(), "{}: {said}", command.join(" "));
        let rate = match self {
            Self::Connections(_) | Self::Churn(_) => of_wrk(&said),
            Self::Streams(_) => of_h2load(&said),
        };
        rate.with_context(|| {
            format!("{}: requests failed, or the answer is unknown: {said}", command.join(" "))
        })
    }
}

/// None where a request failed.
fn of_wrk(said: &str) -> Option<f64> {
    if said.contains("Socket errors:") || said.contains("Non-2xx") {
        return None;
    }
    number_after(said, "Requests/sec:").filter(|rate| *rate > 0.0)
}

/// None where a request failed; those that the end cut are none of them.
fn of_h2load(said: &str) -> Option<f64> {
    let failed = ["0 failed, 0 errored, 0 timeout", "0 3xx, 0 4xx, 0 5xx"];
    if !failed.iter().all(|fine| said.contains(&format!(" {fine}"))) {
        return None;
    }
    let rate = said.split(" req/s").next()?.rsplit(' ').next()?;
    rate.parse().ok().filter(|rate| *rate > 0.0)
}

fn number_after(said: &str, word: &str) -> Option<f64> {
    said.split(word).nth(1)?.split_whitespace().next()?.parse().ok()
}

/// What the routes match.
pub(super) const HEADER: &str = "x-bench: 1";
const GRPC: &str = "content-type: application/grpc";
const TRAILERS: &str = "te: trailers";
const CLOSE: &str = "connection: close";

#[cfg(test)]
mod tests {
    use super::{of_h2load, of_wrk};

    #[test]
    fn a_rate_is_read_and_a_failed_request_leaves_none() {
        let wrk = "  53211 requests in 1.00s, 4 MB read\nRequests/sec:  53210.55\nTransfer/sec: 4 MB\n";
        assert_eq!(of_wrk(wrk), Some(53_210.55));
        assert_eq!(of_wrk(&format!("{wrk}  Non-2xx or 3xx responses: 3\n")), None);
        let h2load = "finished in 1.00s, 59560.50 req/s, 9.71MB/s\n\
                      requests: 9 total, 9 started, 9 done, 9 succeeded, 0 failed, 0 errored, 0 timeout\n\
                      status codes: 9 2xx, 0 3xx, 0 4xx, 0 5xx\n";
        assert_eq!(of_h2load(h2load), Some(59_560.5));
        assert_eq!(of_h2load(&h2load.replace(" 0 5xx", " 1 5xx")), None);
    }
}
