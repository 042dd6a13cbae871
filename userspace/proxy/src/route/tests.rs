//! Which set of routes a client is under.

use std::{collections::BTreeMap, sync::Arc};

use weft_model::{PortRouting, RouteSet};

use super::{
    Asked, PortRoutes, Routes,
    fixture::{prefix, request, route, rule},
};

fn set(to: &str, on: &str) -> RouteSet {
    RouteSet::Http(vec![route(to, vec![rule(to, vec![prefix(on)])])])
}

fn found<'a>(routes: &'a PortRoutes, namespace: &str, uri: &str) -> Option<&'a str> {
    let Routes::Http(table) = routes.for_client(namespace) else { panic!("no HTTPRoutes") };
    let parts = request(uri, &[]);
    table.find(&Asked::of(&parts).unwrap()).map(|rule| &*rule.route.name.name)
}

#[test]
fn mesh_consumer_route() {
    let routing = PortRouting {
        producer: set("producer", ""),
        consumers: BTreeMap::from([(Arc::from("web"), set("consumer", "/a"))]),
        ..PortRouting::default()
    };
    let routes = PortRoutes::compile(&routing).unwrap();
    assert_eq!(found(&routes, "other", "/a"), Some("producer"));
    assert_eq!(found(&routes, "web", "/a"), Some("consumer"));
    // Never merged: what the consumer's routes do not match is 404, not the producer's.
    assert_eq!(found(&routes, "web", "/b"), None);
}

#[test]
fn a_port_without_routes_is_plain() {
    let routes = PortRoutes::compile(&PortRouting::default()).unwrap();
    assert!(matches!(routes.for_client("web"), Routes::Plain));
}
