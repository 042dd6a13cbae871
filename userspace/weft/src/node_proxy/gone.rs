//! What becomes of whose connections while there is no proxy.

use weft_model::{ProxyFailure, Service, Snapshot};
use weft_policy::Policies;
use weft_telemetry::api::{Degradation, ProxyState, ProxyStatus};

/// Says who waits for a proxy that has been away for longer than its lease, or that the agent is to do without (`None`).
pub(crate) fn degradations(snapshot: &Snapshot, proxy: Option<&ProxyStatus>) -> Vec<Degradation> {
    let (away, remedy) = match proxy {
        Some(proxy) => (away(proxy), "see why it does not start (proxy.log in the run directory)"),
        None => (Some("no proxy".to_owned()), "run the agent with --proxy auto"),
    };
    let Some(away) = away else { return Vec::new() };
    let one = |feature: &str, what: String, remedy: String| Degradation {
        feature: feature.to_owned(),
        reason: format!("{away}: {what}"),
        remedy,
    };
    // Where there is not to be one, all Services are the kernel's, and the data path says so.
    let http = proxy.and_then(|_| services(snapshot)).map(|what| {
        let open = "annotation weft.dev/proxy-failure: open leaves a Service to the kernel meanwhile";
        one("http path", what, format!("{remedy}; {open}"))
    });
    let judged = judged(snapshot).map(|what| one("authorization of requests", what, remedy.to_owned()));
    let tls = snapshot.mtls.on.then(|| {
        let what = "TCP connections between this node's pods and enrolled pods of other nodes are refused, where mutual \
                    TLS is due";
        one("mutual TLS", what.to_owned(), remedy.to_owned())
    });
    http.into_iter().chain(judged).chain(tls).collect()
}

/// That the kernel takes the proxy for gone, and for how long.
fn away(proxy: &ProxyStatus) -> Option<String> {
    match (proxy.state, proxy.lease_age_ms) {
        (ProxyState::Active | ProxyState::Idle, _) => None,
        (_, Some(age)) if age >= LEASE_MS => Some(format!("no proxy for {} s", age / 1000)),
        (ProxyState::Failing, None) => Some("no proxy yet".to_owned()),
        _ => None,
    }
}

/// The Services with routes: the connect hook refuses their connections, or leaves them to the kernel, as each asks for.
fn services(snapshot: &Snapshot) -> Option<String> {
    let named = |failure| {
        let asks = |service: &&Service| service.proxy_failure == failure;
        let routed = snapshot.routed().filter_map(|name| snapshot.services.get(name)).map(AsRef::as_ref);
        listed(routed.filter(asks).map(|service| service.name.to_string()))
    };
    let refused = named(ProxyFailure::Closed).map(|names| format!("connections to {names} are refused"));
    let open = named(ProxyFailure::Open).map(|names| format!("those to {names} take the kernel path"));
    let what: Vec<_> = refused.into_iter().chain(open).collect();
    (!what.is_empty()).then(|| what.join("; "))
}

/// This node's pods with requests that somebody has to judge: `sk_lookup` refuses whoever comes to such a port.
fn judged(snapshot: &Snapshot) -> Option<String> {
    let policies = Policies::new(snapshot);
    let here = snapshot.workloads.values().filter(|pod| pod.local && pod.enrolled);
    let judges = here.filter(|pod| policies.protection(pod).judges_requests());
    let names = listed(judges.map(|pod| pod.name.to_string()))?;
    Some(format!("connections to pods {names} are refused, on the ports whose requests policies judge"))
}

/// The first of these names, and how many more there are.
fn listed(names: impl Iterator<Item = String>) -> Option<String> {
    let names: Vec<_> = names.collect();
    let more = names.len().saturating_sub(MOST);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!names.is_empty()).then(|| names[..names.len().min(MOST)].join(", ") + &more)
}

/// contract: the proxy's lease, in milliseconds.
const LEASE_MS: u64 = 5_000;
/// So many Services and pods are named.
const MOST: usize = 10;

#[cfg(test)]
mod tests;
