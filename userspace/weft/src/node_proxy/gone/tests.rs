use std::sync::Arc;

use weft_model::Mtls;

use super::*;
use crate::node_proxy::tests::service;

fn said(state: ProxyState, lease_age_ms: Option<u64>) -> Option<String> {
    let (front, web) = (service("front", true), service("web", false));
    let (name, mut open) = service("open", true);
    Arc::get_mut(&mut open).unwrap().proxy_failure = ProxyFailure::Open;
    let snapshot = Snapshot {
        services: Arc::new([front, web, (name, open)].into_iter().collect()),
        ..Snapshot::default()
    };
    let proxy = ProxyStatus { state, lease_age_ms, ..ProxyStatus::default() };
    degradations(&snapshot, Some(&proxy)).pop().map(|degradation| degradation.reason)
}

#[test]
fn who_waits_for_a_proxy_is_named_once_its_lease_is_over() {
    let wanted =
        "no proxy for 7 s: connections to shop/front are refused; those to shop/open take the kernel path";
    assert_eq!(said(ProxyState::Failing, Some(7_300)).as_deref(), Some(wanted));
    assert_eq!(said(ProxyState::Starting, Some(4_999)), None, "they wait in the pods' listeners");
    assert_eq!(said(ProxyState::Active, Some(9_000)), None);
    assert!(said(ProxyState::Failing, None).unwrap().starts_with("no proxy yet"));
}

#[test]
fn many_are_counted() {
    let services = (0..12).map(|number| service(&format!("s{number:02}"), true)).collect();
    let snapshot = Snapshot { services: Arc::new(services), ..Snapshot::default() };
    let proxy =
        ProxyStatus { state: ProxyState::Failing, lease_age_ms: Some(6_000), ..ProxyStatus::default() };
    let reason = degradations(&snapshot, Some(&proxy)).remove(0).reason;
    assert!(reason.contains("shop/s09 and 2 more are refused"), "{reason}");
}

#[test]
fn mutual_tls_waits_too_and_without_a_proxy_that_is_to_be_services_do_not() {
    let mtls = Arc::new(Mtls { on: true, ..Mtls::default() });
    let services = Arc::new([service("front", true)].into_iter().collect());
    let snapshot = Snapshot { mtls, services, ..Snapshot::default() };
    let features = |proxy: Option<&ProxyStatus>| -> Vec<_> {
        degradations(&snapshot, proxy).into_iter().map(|one| one.feature).collect()
    };
    let failing =
        ProxyStatus { state: ProxyState::Failing, lease_age_ms: Some(6_000), ..ProxyStatus::default() };
    assert_eq!(features(Some(&failing)), ["http path", "mutual TLS"]);
    assert_eq!(features(None), ["mutual TLS"], "the kernel has the Services");
}
