//! Whose addresses apps see, in words.

use std::collections::BTreeSet;

use weft_telemetry::api::{PodStatus, Shown};

/// `their clients' addresses`, `the pod's own address (IPv6: cannot add a route ...)`; `None` where the proxy connects to none.
pub(crate) fn in_words(pod: &PodStatus) -> Option<String> {
    if pod.peers.is_empty() {
        return None;
    }
    Some(own(pod).unwrap_or_else(|| "their clients' addresses".to_owned()))
}

/// As [`in_words`], where it is not their clients'.
pub(crate) fn own(pod: &PodStatus) -> Option<String> {
    let own = pod.peers.iter().filter(|peer| peer.shown == Shown::Pod);
    let why = own.map(|peer| format!("{}: {}", peer.family, peer.why.as_deref().unwrap_or("unknown")));
    let except: BTreeSet<_> = pod.peers.iter().flat_map(|peer| &peer.except).collect();
    let unheard = except.iter().map(|port| format!("port {port}: its answers go elsewhere"));
    let why: Vec<_> = why.chain(unheard).collect();
    (!why.is_empty()).then(|| format!("the pod's own address ({})", why.join("; ")))
}

#[cfg(test)]
mod tests {
    use weft_telemetry::api::{PeerAddress, PodState};

    use super::*;

    #[test]
    fn a_family_without_the_clients_address_is_named_with_its_reason() {
        let peer = |family: &str, why: Option<&str>| PeerAddress {
            family: family.to_owned(),
            shown: if why.is_some() { Shown::Pod } else { Shown::Client },
            why: why.map(str::to_owned),
            except: Vec::new(),
        };
        let pod = |peers| PodStatus {
            name: "shop/api".to_owned(),
            netns: String::new(),
            state: PodState::Enforced,
            detail: None,
            ips: Vec::new(),
            policies: Vec::new(),
            peers,
        };
        assert_eq!(in_words(&pod(vec![])), None);
        let both = pod(vec![peer("IPv4", None), peer("IPv6", None)]);
        assert_eq!(in_words(&both).as_deref(), Some("their clients' addresses"));
        assert_eq!(own(&both), None);
        let one = pod(vec![peer("IPv4", None), peer("IPv6", Some("no route"))]);
        assert_eq!(in_words(&one).as_deref(), Some("the pod's own address (IPv6: no route)"));
        let unheard = PeerAddress { except: vec![80], ..peer("IPv4", None) };
        let words = in_words(&pod(vec![unheard.clone(), unheard]));
        assert_eq!(words.as_deref(), Some("the pod's own address (port 80: its answers go elsewhere)"));
    }
}
