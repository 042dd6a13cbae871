//! Which flows someone wants to see.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use weft_model::Protocol;

use super::{Flow, Verdict};

/// All that is set must hold; the empty filter keeps every flow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowFilter {
    /// Either end is in this namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Either end is this pod: `name`, or `namespace/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// This was decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// It is one of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<FlowProtocol>,
    /// It is a request with this method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// It is a request whose path begins so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_path: Option<String>,
    /// It is a request that was answered so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Statuses>,
}

/// What a flow is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlowProtocol {
    /// A TCP connection.
    Tcp,
    /// Datagrams.
    Udp,
    /// A request.
    Http,
}

/// A status, or a class of them: `404`, `5xx`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statuses {
    /// This one.
    One(u16),
    /// Those that begin with this digit.
    Class(u16),
}

impl FlowFilter {
    /// Whether `flow` is wanted.
    pub fn keeps(&self, flow: &Flow) -> bool {
        let ends = [
            (flow.source.namespace.as_deref(), flow.source.pod.as_deref()),
            (flow.destination.namespace.as_deref(), flow.destination.pod.as_deref()),
        ];
        let namespace = |wanted: &str| ends.iter().any(|end| end.0 == Some(wanted));
        let pod = |wanted: &str| match wanted.split_once('/') {
            Some((namespace, pod)) => ends.contains(&(Some(namespace), Some(pod))),
            None => ends.iter().any(|end| end.1 == Some(wanted)),
        };
        self.verdict.is_none_or(|verdict| verdict == flow.verdict)
            && self.namespace.as_deref().is_none_or(namespace)
            && self.pod.as_deref().is_none_or(pod)
            && self.protocol.is_none_or(|protocol| protocol.is_of(flow))
            && self.keeps_request(flow)
    }

    fn keeps_request(&self, flow: &Flow) -> bool {
        let Some(http) = &flow.http else {
            return self.method.is_none() && self.http_path.is_none() && self.status.is_none();
        };
        self.method.as_ref().is_none_or(|method| method.eq_ignore_ascii_case(&http.method))
            && self.http_path.as_ref().is_none_or(|path| http.path.starts_with(path.as_str()))
            && self.status.is_none_or(|statuses| statuses.contain(http.status))
    }
}

impl FlowProtocol {
    fn is_of(self, flow: &Flow) -> bool {
        match self {
            Self::Http => flow.http.is_some(),
            Self::Tcp => flow.http.is_none() && flow.protocol == Protocol::Tcp,
            Self::Udp => flow.protocol == Protocol::Udp,
        }
    }
}

impl FromStr for FlowProtocol {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "http" => Ok(Self::Http),
            _ => Err("a protocol is TCP, UDP or HTTP"),
        }
    }
}

impl Statuses {
    fn contain(self, status: u16) -> bool {
        match self {
            Self::One(one) => one == status,
            Self::Class(digit) => status / 100 == digit,
        }
    }
}

impl FromStr for Statuses {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "write a status like 404, or a class like 5xx";
        match text.to_ascii_lowercase().strip_suffix("xx") {
            Some(digit) => match digit.parse() {
                Ok(digit @ 1..=5) => Ok(Self::Class(digit)),
                _ => Err(wrong),
            },
            None => text.parse().map(Self::One).map_err(|_| wrong),
        }
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(status) => write!(f, "{status}"),
            Self::Class(digit) => write!(f, "{digit}xx"),
        }
    }
}

impl Serialize for Statuses {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::sample;

    #[test]
    fn a_filter_looks_at_both_ends() {
        let flow = sample("web", "api");
        let keeps = |filter: FlowFilter| filter.keeps(&flow);
        assert!(keeps(FlowFilter::default()));
        for (namespace, kept) in [("shop", true), ("shop-2", false)] {
            assert_eq!(
                keeps(FlowFilter { namespace: Some(namespace.into()), ..FlowFilter::default() }),
                kept
            );
        }
        for (pod, kept) in
            [("web", true), ("api", true), ("shop/api", true), ("other/api", false), ("shop/db", false)]
        {
            assert_eq!(keeps(FlowFilter { pod: Some(pod.into()), ..FlowFilter::default() }), kept, "{pod}");
        }
    }

    #[test]
    fn every_set_part_must_hold() {
        let flow = sample("web", "api");
        let mut filter =
            FlowFilter { pod: Some("web".into()), verdict: Some(flow.verdict), ..FlowFilter::default() };
        assert!(filter.keeps(&flow));
        filter.verdict = Some(Verdict::Denied);
        assert!(!filter.keeps(&flow));
    }

    #[test]
    fn requests_are_told_by_method_path_and_status() {
        let request = crate::observer::sample_request().flow();
        let connection = sample("web", "api");
        let filter = |protocol: &str| FlowFilter {
            protocol: Some(protocol.parse().unwrap()),
            ..FlowFilter::default()
        };
        for (protocol, of_request, of_connection) in
            [("http", true, false), ("TCP", false, true), ("udp", false, false)]
        {
            assert_eq!(filter(protocol).keeps(&request), of_request, "{protocol}");
            assert_eq!(filter(protocol).keeps(&connection), of_connection, "{protocol}");
        }
        let method = |method: &str| FlowFilter { method: Some(method.into()), ..FlowFilter::default() };
        assert!(method("get").keeps(&request) && !method("POST").keeps(&request));
        let path = |path: &str| FlowFilter { http_path: Some(path.into()), ..FlowFilter::default() };
        assert!(path("/v1").keeps(&request) && !path("/v2").keeps(&request));
        for (status, kept) in [("200", true), ("2xx", true), ("5XX", false), ("404", false)] {
            let filter = FlowFilter { status: Some(status.parse().unwrap()), ..FlowFilter::default() };
            assert_eq!(filter.keeps(&request), kept, "{status}");
            assert!(!filter.keeps(&connection), "a connection has no status");
        }
        assert!("7xx".parse::<Statuses>().is_err() && "ok".parse::<Statuses>().is_err());
    }
}
