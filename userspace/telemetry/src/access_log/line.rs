//! One line. Keys are those that ztunnel and Linkerd made known, or Envoy's.

use std::{
    fmt::Write,
    time::{Duration, SystemTime},
};

use super::Logged;
use crate::{api::Time, pods::Pod};

enum Value<'a> {
    Text(&'a str),
    Owned(String),
    Number(u64),
    Milliseconds(u64),
}

/// An object.
pub(super) fn json(request: &Logged<'_>) -> String {
    let mut line = String::with_capacity(ROOM);
    for (key, value) in fields(request) {
        line.push(if line.is_empty() { '{' } else { ',' });
        let _ = write!(line, "\"{key}\":");
        match value.text() {
            Ok(text) => line.push_str(&serde_json::to_string(text).expect("a text is JSON")),
            Err(number) => line.push_str(&number),
        }
    }
    line + "}\n"
}

/// `key=value` pairs; a value with a space, a quote or an equals sign is quoted.
pub(super) fn text(request: &Logged<'_>) -> String {
    let mut line = String::with_capacity(ROOM);
    for (key, value) in fields(request) {
        let space = if line.is_empty() { "" } else { " " };
        match value.text() {
            Ok(text) if text.is_empty() || text.contains([' ', '"', '=', '\\']) => {
                let _ = write!(line, "{space}{key}={text:?}");
            }
            Ok(text) => {
                let _ = write!(line, "{space}{key}={text}");
            }
            Err(number) => {
                let _ = write!(line, "{space}{key}={number}");
            }
        }
    }
    line + "\n"
}

/// What is known, in the order of a line; what is not is left out.
fn fields<'a>(request: &Logged<'a>) -> Vec<(&'static str, Value<'a>)> {
    let record = request.record;
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(record.ended));
    let mut all = vec![
        ("time", Value::Owned(Time::from(time.unwrap_or(SystemTime::UNIX_EPOCH)).to_string())),
        ("src.addr", Value::Owned(record.client.to_string())),
        ("src.namespace", Value::Text(&record.pod.namespace)),
        ("src.pod", Value::Text(&record.pod.name)),
    ];
    all.extend(request.source.into_iter().flat_map(|pod| of_pod(["src.workload", "src.identity"], pod)));
    all.extend(record.endpoint.map(|address| ("dst.addr", Value::Owned(address.to_string()))));
    if let Some(service) = &record.service {
        all.push(("dst.service", Value::Owned(format!("{}:{}", service.0, service.1))));
    }
    if let Some(pod) = request.destination {
        all.push(("dst.namespace", Value::Text(&pod.workload.name.namespace)));
        all.push(("dst.pod", Value::Text(&pod.workload.name.name)));
        all.extend(of_pod(["dst.workload", "dst.identity"], pod));
    }
    all.extend([
        ("protocol", Value::Text(if record.grpc { "gRPC" } else { record.spoken.word() })),
        ("method", Value::Text(&record.method)),
        ("host", Value::Text(&record.authority)),
        ("path", Value::Text(&record.path)),
        ("status", Value::Number(record.status.into())),
    ]);
    all.extend(record.grpc_status.map(|code| ("grpc_status", Value::Number(code.into()))));
    all.push(("response_flags", Value::Text(record.flags())));
    all.extend(record.reason.map(|reason| ("reason", Value::Text(reason.word()))));
    if let Some(rule) = &record.rule {
        all.push(("route", Value::Owned(format!("{} rules[{}]", rule.0, rule.1))));
    }
    all.extend([
        ("request_bytes", Value::Number(record.received)),
        ("response_bytes", Value::Number(record.sent)),
        ("duration_ms", Value::Milliseconds(record.lasted)),
        ("upstream_ms", Value::Milliseconds(record.upstream)),
        ("tries", Value::Number(record.tries.into())),
        ("connection_security_policy", Value::Text(record.security.word())),
    ]);
    let texts = [("request_id", &*record.id), ("trace_id", &*record.trace), ("user_agent", &*record.agent)];
    let texts = texts.into_iter().filter(|(_, text)| !text.is_empty());
    all.extend(texts.map(|(key, text)| (key, Value::Text(text))));
    all
}

fn of_pod<'a>([workload, identity]: [&'static str; 2], pod: &'a Pod) -> [(&'static str, Value<'a>); 2] {
    [(workload, Value::Text(&pod.workload.owner)), (identity, Value::Text(&pod.identity))]
}

impl Value<'_> {
    /// The text, or a number as it is written.
    fn text(&self) -> Result<&str, String> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Owned(text) => Ok(text),
            Self::Number(number) => Err(number.to_string()),
            Self::Milliseconds(micros) => Err(format!("{}.{:03}", micros / 1_000, micros % 1_000)),
        }
    }
}

/// Bytes of most lines.
const ROOM: usize = 768;
