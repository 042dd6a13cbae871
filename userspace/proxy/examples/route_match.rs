//! Nanoseconds for each match, by number of rules: `cargo run --release -p weft-proxy --example route_match`.

use std::{hint::black_box, io::Write, sync::Arc, time::Instant};

use http::Request;
use weft_model::{
    Backend, BackendTarget, NameMatch, ObjectName, PathMatch, Route, RouteMatch, RouteRule, Timeouts,
    ValueMatch,
};
use weft_proxy::route::{Asked, table::Table};

const TURNS: u32 = 1_000_000;

fn main() -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "rules    exact   prefix   header  no rule   (ns per match, the head's reading included)")?;
    for rules in [1, 16, 1000] {
        let last = rules - 1;
        let table = Table::compile(&[Arc::new(route(rules))]).expect("the routes below are valid");
        let timed = |uri: String, header: Option<String>| time(&table, &uri, header.as_deref());
        let exact = timed(format!("/exact/{last}"), None);
        let prefix = timed(format!("/prefix/{last}/a/b?c=d"), None);
        let header = timed("/header".to_owned(), Some(last.to_string()));
        let none = timed("/none/at/all".to_owned(), None);
        writeln!(out, "{rules:5} {exact:8.0} {prefix:8.0} {header:8.0} {none:8.0}")?;
    }
    Ok(())
}

/// The same number of rules for an exact path, a prefix, and a header on one path.
fn route(rules: usize) -> Route {
    let matches = (0..rules).flat_map(|number| {
        let value = NameMatch::Exact(number.to_string().into());
        let by_header = ValueMatch { name: "x-tenant".into(), value };
        [
            on(PathMatch::Exact(format!("/exact/{number}").into())),
            on(PathMatch::Prefix(format!("/prefix/{number}").into())),
            RouteMatch { headers: vec![by_header], ..on(PathMatch::Exact("/header".into())) },
        ]
    });
    Route { name: ObjectName::new("bench", "route"), rules: matches.map(rule).collect() }
}

fn on(path: PathMatch) -> RouteMatch {
    RouteMatch { path, ..RouteMatch::any() }
}

fn rule(wanted: RouteMatch) -> RouteRule {
    let target = BackendTarget::Service { name: ObjectName::new("bench", "echo"), port: 80 };
    RouteRule {
        name: None,
        matches: vec![wanted],
        filters: Vec::new(),
        backends: vec![Backend { target, weight: 1, filters: Vec::new() }],
        timeouts: Timeouts::default(),
        retry: None,
        session: None,
        traffic: Arc::default(),
    }
}

fn time(table: &Table, uri: &str, tenant: Option<&str>) -> f64 {
    let request = Request::builder().uri(uri).header("host", "echo").header("accept", "*/*");
    let request = tenant.iter().fold(request, |request, tenant| request.header("x-tenant", *tenant));
    let parts = request.body(()).expect("a valid request").into_parts().0;
    let started = Instant::now();
    for _ in 0..TURNS {
        let asked = Asked::of(black_box(&parts)).expect("a valid path");
        black_box(table.find(&asked));
    }
    started.elapsed().as_secs_f64() * 1e9 / f64::from(TURNS)
}
