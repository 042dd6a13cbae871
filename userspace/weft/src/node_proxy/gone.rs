//! What becomes of whose connections while there is no proxy.

use weft_model::{ProxyFailure, Service, Snapshot};
use weft_telemetry::api::{Degradation, ProxyState, ProxyStatus};

/// Says which Services wait for a proxy that has been away for longer than its lease: then the connect hook
/// refuses their connections, or leaves them to the kernel, as each asks for.
pub(crate) fn degradation(snapshot: &Snapshot, proxy: &ProxyStatus) -> Option<Degradation> {
    let away = match (proxy.state, proxy.lease_age_ms) {
        (ProxyState::Active | ProxyState::Idle, _) => return None,
        (_, Some(age)) if age >= LEASE_MS => format!("for {} s", age / 1000),
        (ProxyState::Failing, None) => "yet".to_owned(),
        _ => return None,
    };
    let named = |failure| {
        let asks = |service: &&Service| service.proxy_failure == failure;
        let routed = snapshot.routed().filter_map(|name| snapshot.services.get(name)).map(AsRef::as_ref);
        let names: Vec<_> = routed.filter(asks).map(|service| service.name.to_string()).collect();
        let more = names.len().saturating_sub(MOST);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        (!names.is_empty()).then(|| names[..names.len().min(MOST)].join(", ") + &more)
    };
    let refused = named(ProxyFailure::Closed).map(|names| format!("connections to {names} are refused"));
    let open = named(ProxyFailure::Open).map(|names| format!("those to {names} take the kernel path"));
    let what: Vec<_> = refused.into_iter().chain(open).collect();
    (!what.is_empty()).then(|| Degradation {
        feature: "http path".to_owned(),
        reason: format!("no proxy {away}: {}", what.join("; ")),
        remedy: "see why it does not start (proxy.log in the run directory); annotation weft.dev/proxy-failure: open \
                 leaves a Service to the kernel meanwhile"
            .to_owned(),
    })
}

/// contract: the proxy's lease, in milliseconds.
const LEASE_MS: u64 = 5_000;
/// So many Services are named.
const MOST: usize = 10;

#[cfg(test)]
mod tests;
