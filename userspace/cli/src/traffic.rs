//! How the requests of the last seconds read: `weft stat` and `weft top`.

use std::time::Duration;

use serde::Serialize;
use weft_telemetry::api::{TrafficQuery, TrafficView};

use crate::{
    Client, Error, Screen,
    agents::Agents,
    get::bare,
    table::{Column, Table},
    units,
};

/// A line of the answer: what the agent has counted, and what follows from it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Line {
    #[serde(flatten)]
    pub(crate) view: TrafficView,
    rps: f64,
    success: f64,
    p50_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
}

impl From<TrafficView> for Line {
    fn from(view: TrafficView) -> Self {
        let quantile = |share| Duration::from_micros(view.latency.quantile(share)).as_secs_f64() * 1e3;
        let [p50_ms, p95_ms, p99_ms] = QUANTILES.map(quantile);
        Self { rps: view.rps(), success: view.success(), p50_ms, p95_ms, p99_ms, view }
    }
}

/// The requests of the last `seconds`, of one namespace or of all, the busiest first; those of all nodes together.
pub(crate) async fn of_last(
    agents: &Agents,
    seconds: u64,
    namespace: Option<&str>,
    screen: &mut Screen,
) -> Result<Vec<Line>, Error> {
    let read = async |client: &Client| client.query("/v1/traffic", &TrafficQuery { seconds }).await;
    let mut list: Vec<TrafficView> = match agents.alone() {
        Some(client) => read(client).await?,
        None => added(agents.each(screen, read).await?.into_iter().flat_map(|(_, list)| list)),
    };
    list.retain(|view| namespace.is_none_or(|wanted| view.namespace.as_deref() == Some(wanted)));
    Ok(list.into_iter().map(Line::from).collect())
}

/// What went to one Service by one route, whichever node it came from.
fn added(views: impl Iterator<Item = TrafficView>) -> Vec<TrafficView> {
    let mut sums = Vec::<TrafficView>::new();
    for view in views {
        match sums.iter_mut().find(|sum| sum.name() == view.name()) {
            Some(sum) => {
                sum.requests += view.requests;
                sum.successes += view.successes;
                sum.seconds = sum.seconds.max(view.seconds);
                sum.latency.merge(&view.latency);
            }
            None => sums.push(view),
        }
    }
    sums.sort_by(|a, b| b.requests.cmp(&a.requests).then_with(|| a.name().cmp(&b.name())));
    sums
}

pub(crate) fn table(list: &[Line], width: Option<u16>) -> String {
    let mut table = Table::new([
        Column::whole("NAMESPACE"),
        Column::whole("SERVICE"),
        Column::folding("ROUTE"),
        Column::extra("REQUESTS"),
        Column::number("RPS"),
        Column::number("SUCCESS"),
        Column::number("P50"),
        Column::number("P95"),
        Column::number("P99"),
    ]);
    for Line { view, .. } in list {
        let quantile = |share| units::span(Duration::from_micros(view.latency.quantile(share)));
        let [p50, p95, p99] = QUANTILES.map(quantile);
        table.row([
            view.namespace.clone().unwrap_or_default(),
            view.service.clone().unwrap_or_else(|| "(others)".to_owned()),
            route(view),
            view.requests.to_string(),
            format!("{:.1}", view.rps()),
            percent(view),
            p50,
            p95,
            p99,
        ]);
    }
    table.render(width)
}

/// Without the namespace where that is the Service's.
fn route(view: &TrafficView) -> String {
    let Some((kind, name)) = view.route.as_deref().and_then(|route| route.split_once(' ')) else {
        return String::new();
    };
    format!("{kind} {}", bare(Some(name), view.namespace.as_deref().unwrap_or_default()))
}

/// Cut, not rounded: not all succeeded where less than 100 % is shown.
fn percent(view: &TrafficView) -> String {
    format!("{:.2}%", (view.success() * 1e4).floor() / 1e2)
}

const QUANTILES: [f64; 3] = [0.5, 0.95, 0.99];

#[cfg(test)]
mod tests {
    use weft_telemetry::window::Latency;

    use super::*;

    #[test]
    fn requests_of_all_nodes_add_up_by_service_and_route() {
        let view = |service: &str, requests, micros| {
            let mut latency = Latency::default();
            latency.add(micros);
            let (namespace, service) = (Some("shop".to_owned()), Some(service.to_owned()));
            TrafficView { namespace, service, route: None, requests, successes: 1, seconds: 10.0, latency }
        };
        let all = added([view("api", 3, 1_000), view("web", 5, 10), view("api", 4, 9_000)].into_iter());
        let counts: Vec<_> = all.iter().map(|view| (view.requests, view.successes, view.seconds)).collect();
        assert_eq!(counts, [(7, 2, 10.0), (5, 1, 10.0)]);
        assert!(all[0].latency.quantile(0.99) > 8_000 && all[0].latency.quantile(0.1) < 2_000);
    }
}
