//! How one flow reads.

use std::time::Duration;

use jiff::tz::TimeZone;
use weft_telemetry::api::{Flow, FlowKind, HttpFlow, Verdict};

use crate::{Screen, flow, units};

/// Aligns lines that are not known beforehand: each column is as wide as its widest cell so far.
pub(crate) struct Columns {
    node: usize,
    ends: usize,
    width: Option<u16>,
    zone: TimeZone,
}

impl Columns {
    /// For lines on `screen`.
    pub(crate) fn new(screen: &Screen) -> Self {
        Self { node: 0, ends: 0, width: screen.width(), zone: screen.zone().clone() }
    }

    /// `12:01:02.123  shop/web-1:41234 -> shop/api (shop/api-1:8080)  TCP  FORWARDED  ...`, in two
    /// lines where the screen is too narrow for one.
    ///
    /// `node` stands before it, where several nodes tell.
    pub(crate) fn line(&mut self, node: Option<&str>, flow: &Flow) -> String {
        let mut time = flow.time.clock(&self.zone);
        if let Some(node) = node {
            self.node = self.node.max(node.len());
            time = format!("{node:width$}  {time}", width = self.node);
        }
        let ends = format!("{} -> {}", flow::source(&flow.source), flow::destination(&flow.destination));
        self.ends = self.ends.max(ends.len()).min(WIDEST);
        let what = format!("{}  {:9}  {}", flow.protocol, flow.verdict.to_string(), details(flow));
        let line = format!("{time}  {ends:width$}  {what}", width = self.ends);
        if self.width.is_none_or(|width| line.len() <= width.into()) {
            return line + "\n";
        }
        format!("{time}  {ends}\n{:indent$}  {what}\n", "", indent = time.len())
    }
}

fn details(flow: &Flow) -> String {
    let mut parts = Vec::new();
    if let Some(http) = &flow.http {
        return request(flow, http);
    }
    if flow.verdict == Verdict::Forwarded {
        parts.push(flow.path.to_string());
        parts.push(flow.kind.to_string());
        if flow.kind == FlowKind::Closed {
            parts.push(format!("{}/{}", units::bytes(flow.bytes_sent), units::bytes(flow.bytes_received)));
            parts.push(units::span(Duration::from_millis(flow.duration_ms)));
            parts.extend(
                flow.rtt_us.map(|rtt| format!("rtt {}", units::span(Duration::from_micros(rtt.into())))),
            );
            parts.extend(
                flow.retransmits.filter(|&count| count > 0).map(|count| format!("{count} retransmits")),
            );
        }
    } else {
        parts.extend(flow.reason.as_ref().map(ToString::to_string));
        parts.extend(flow.rule.as_ref().map(|rule| format!("by {rule}")));
    }
    parts.join("  ")
}

/// `http  GET /v1/items  200  12ms  HTTPRoute shop/web`; a refusal begins with its reason instead.
fn request(flow: &Flow, http: &HttpFlow) -> String {
    let refused = flow.verdict != Verdict::Forwarded;
    let reason = flow.reason.as_ref().map(ToString::to_string);
    let first = if refused { reason.clone().unwrap_or_default() } else { flow.path.to_string() };
    let status = match (http.status, http.grpc_status) {
        (0, _) => "-".to_owned(),
        (status, None) => status.to_string(),
        (status, Some(code)) => format!("{status}/grpc {code}"),
    };
    let latency = units::span(Duration::from_secs_f64(http.latency_ms.max(0.0) / 1e3));
    let mut parts = vec![first, format!("{} {}", http.method, http.path), status, latency];
    parts.extend(http.route.as_ref().map(ToString::to_string));
    parts.extend(reason.filter(|_| !refused));
    parts.join("  ")
}

/// Where longer ends no longer push the rest to the right.
const WIDEST: usize = 80;
