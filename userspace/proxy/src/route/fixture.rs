//! What the tests build routes and requests from.

use std::sync::Arc;

use http::{Request, request};
use weft_model::{
    Backend, BackendTarget, HeaderModifier, NameMatch, ObjectName, PathMatch, Route, RouteMatch, RouteRule,
    Timeouts, ValueMatch,
};

pub(crate) fn backend(name: &str, weight: u32) -> Backend {
    let target = BackendTarget::Service { name: object(name), port: 8080 };
    Backend { target, weight, filters: Vec::new() }
}

pub(crate) fn invalid_backend(weight: u32) -> Backend {
    let target = BackendTarget::Invalid { why: "Service gone does not exist".into() };
    Backend { target, weight, filters: Vec::new() }
}

pub(crate) fn route(name: &str, rules: Vec<RouteRule>) -> Arc<Route> {
    Arc::new(Route { name: object(name), rules })
}

/// A rule that sends what matches to one Service.
pub(crate) fn rule(to: &str, matches: Vec<RouteMatch>) -> RouteRule {
    RouteRule {
        name: None,
        matches,
        filters: Vec::new(),
        backends: vec![backend(to, 1)],
        timeouts: Timeouts::default(),
        retry: None,
        session: None,
        traffic: Arc::default(),
    }
}

pub(crate) fn exact(path: &str) -> RouteMatch {
    on(PathMatch::Exact(path.into()))
}

pub(crate) fn prefix(path: &str) -> RouteMatch {
    on(PathMatch::Prefix(path.into()))
}

pub(crate) fn regex(path: &str) -> RouteMatch {
    on(PathMatch::Regex(path.into()))
}

pub(crate) fn on(path: PathMatch) -> RouteMatch {
    RouteMatch { path, ..RouteMatch::any() }
}

pub(crate) fn header(mut to: RouteMatch, name: &str, value: &str) -> RouteMatch {
    to.headers.push(is(name, value));
    to
}

pub(crate) fn query(mut to: RouteMatch, name: &str, value: &str) -> RouteMatch {
    to.query.push(is(name, value));
    to
}

pub(crate) fn method(mut to: RouteMatch, method: &str) -> RouteMatch {
    to.method = Some(method.into());
    to
}

pub(crate) fn is(name: &str, value: &str) -> ValueMatch {
    ValueMatch { name: name.into(), value: NameMatch::Exact(value.into()) }
}

pub(crate) fn request(uri: &str, headers: &[(&str, &str)]) -> request::Parts {
    let request = Request::builder().uri(uri);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.body(()).unwrap().into_parts().0
}

/// `set`, `add` and `remove` in the order of the object.
pub(crate) fn modifier(set: &[(&str, &str)], add: &[(&str, &str)], remove: &[&str]) -> HeaderModifier {
    let pairs = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, value)| (Arc::from(*name), Arc::from(*value))).collect()
    };
    let remove = remove.iter().map(|name| Arc::from(*name)).collect();
    HeaderModifier { set: pairs(set), add: pairs(add), remove }
}

/// Splitmix64: the same numbers for the same seed.
pub(crate) fn random_numbers(mut seed: u64) -> impl Iterator<Item = u64> {
    std::iter::repeat_with(move || {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}

pub(crate) fn object(name: &str) -> ObjectName {
    ObjectName::new("shop", name)
}
