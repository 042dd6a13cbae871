//! `weft stat` and `weft top`: the requests of the last seconds.

use serde::{Deserialize, Serialize};

use crate::window::Latency;

/// The requests to one Service by one route, as this node saw them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficView {
    /// The Service's namespace; `null` for all that there was no room for.
    pub namespace: Option<String>,
    /// The Service.
    pub service: Option<String>,
    /// The route, like `HTTPRoute shop/web`; `null` for plain Service behaviour.
    pub route: Option<String>,
    /// Requests that ended.
    pub requests: u64,
    /// Of these, answered below 500 and, for gRPC calls, with `OK`.
    pub successes: u64,
    /// The time that was looked at, in seconds.
    pub seconds: f64,
    /// Their latencies: pairs of microseconds and count, which add up over nodes.
    pub latency: Latency,
}

/// How much is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficQuery {
    /// The time that is looked back, in seconds.
    pub seconds: u64,
}

impl TrafficView {
    /// Requests a second.
    #[expect(clippy::cast_precision_loss, reason = "no rate needs more than 53 bits")]
    pub fn rps(&self) -> f64 {
        self.requests as f64 / self.seconds
    }

    /// The share of successes, from 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "no count of a minute has more than 53 bits")]
    pub fn success(&self) -> f64 {
        if self.requests == 0 { 1.0 } else { self.successes as f64 / self.requests as f64 }
    }

    /// Its names, in an order for people.
    pub fn name(&self) -> (Option<&str>, Option<&str>, Option<&str>) {
        (self.namespace.as_deref(), self.service.as_deref(), self.route.as_deref())
    }
}
