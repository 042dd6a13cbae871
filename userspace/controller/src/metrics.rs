//! What `/metrics` of a controller shows.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, text},
    metrics::{MetricType, counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::Registry,
};
use weft_identity::{Signer, ca::SecretIssuer};
use weft_model::Progress;

use crate::{authority::AuthorityError, refused::Refused};

/// All metrics of a controller.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    issued: Counter,
    refused: Family<Reason, Counter>,
    reviews: Family<Answered, Counter>,
    authority: AuthorityMetrics,
    leads: Gauge,
    desired: Gauge,
    ready: Gauge,
    unread: Family<OfKind, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    answered: &'static str,
}

/// What follows from how the authority was seen last.
#[derive(Clone, Debug, Default)]
struct AuthorityMetrics(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    issuer: Option<Signer>,
    roots: usize,
    failing: bool,
    why: Option<String>,
}

impl Metrics {
    /// The metrics of a controller of this version.
    pub(crate) fn new(version: &str) -> Self {
        let mut registry = Registry::default();
        let build = Info::new(vec![("version", version.to_owned())]);
        registry.register("weft_controller_build", "The controller's version", build);
        let (issued, refused, reviews) = (Counter::default(), Family::default(), Family::default());
        let help = "Certificates that this controller has signed for workloads";
        registry.register("weft_controller_certificates", help, issued.clone());
        let help = "Questions of agents that were refused, by reason";
        registry.register("weft_controller_refusals", help, refused.clone());
        let help = "Tokens that the API server was asked about";
        registry.register("weft_controller_token_reviews", help, reviews.clone());
        let authority = AuthorityMetrics::default();
        registry.register_collector(Box::new(authority.clone()));
        let (leads, desired, ready) = (Gauge::default(), Gauge::default(), Gauge::default());
        let help = "1 where this controller leads: it writes the statuses of objects";
        registry.register("weft_controller_leads", help, leads.clone());
        let help = "Nodes that an agent should run on";
        registry.register("weft_controller_nodes_desired", help, desired.clone());
        let help = "Nodes whose agents this controller hears";
        registry.register("weft_controller_nodes_ready", help, ready.clone());
        let unread = Family::default();
        let help =
            "1 for each kind that the API server refuses to tell of: until it does, no statuses are written";
        registry.register("weft_controller_unread_kinds", help, unread.clone());
        Self { registry, issued, refused, reviews, authority, leads, desired, ready, unread }
    }

    /// Whether this controller leads, and how many nodes there are.
    pub(crate) fn stands(&self, leads: bool, nodes: &Progress) {
        self.leads.set(leads.into());
        let number = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        self.desired.set(number(nodes.desired.len()));
        self.ready.set(number(nodes.ready.len()));
    }

    /// The API server refuses to tell of these kinds.
    pub(crate) fn does_not_read(&self, kinds: impl Iterator<Item = &'static str>) {
        self.unread.clear();
        for kind in kinds {
            self.unread.get_or_create(&OfKind { kind }).set(1);
        }
    }

    /// A certificate was signed.
    pub(crate) fn issued(&self) {
        self.issued.inc();
    }

    /// A question was refused.
    pub(crate) fn refused(&self, refused: &Refused) {
        self.refused.get_or_create(&Reason { reason: refused.reason() }).inc();
    }

    /// The API server was asked about a token, and had an answer or none.
    pub(crate) fn reviewed(&self, answered: bool) {
        self.reviews.get_or_create(&Answered { answered: if answered { "true" } else { "false" } }).inc();
    }

    /// The authority was looked at. The log is told when something begins to fail, and not each time.
    pub(crate) fn looked(&self, issuer: Option<&SecretIssuer>, error: Option<&AuthorityError>) {
        let authority = issuer.and_then(|issuer| issuer.authority().ok());
        let why = error.map(ToString::to_string);
        let mut seen = self.authority.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = why.as_ref().filter(|why| seen.why.as_ref() != Some(why)) {
            tracing::warn!(error = %why, "the certificate authority is not as it should be; it is looked at again");
        }
        if let Some(authority) = authority {
            (seen.issuer, seen.roots) = (Some(authority.issuer), authority.roots.len());
        }
        (seen.failing, seen.why) = (why.is_some(), why);
    }

    /// OpenMetrics text.
    pub(crate) fn encode(&self) -> String {
        let mut text = String::new();
        text::encode(&mut text, &self.registry).expect("writing to a String cannot fail");
        text
    }
}

impl Collector for AuthorityMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = seen.issuer.as_ref().map(|issuer| issuer.left(SystemTime::now()).as_secs());
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let values = [
            (
                "weft_controller_issuer_expiry_seconds",
                "Time until the issuer's own certificate ends",
                left.map(number),
            ),
            (
                "weft_controller_trusted_roots",
                "Roots that are trusted; two during a rotation",
                seen.issuer.as_ref().map(|_| number(seen.roots as u64)),
            ),
            (
                "weft_controller_authority_failing",
                "1 where the authority cannot be read, renewed or published",
                Some(seen.failing.into()),
            ),
        ];
        for (name, help, value) in values {
            let Some(value) = value else { continue };
            encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use weft_identity::{Clock, ca::SecretAuthority};

    use super::*;

    #[test]
    fn a_controller_counts_what_it_does_and_says_how_the_authority_is() {
        let metrics = Metrics::new("1.2.3");
        metrics.issued();
        metrics.refused(&Refused::TokenMissing);
        metrics.reviewed(true);
        metrics.does_not_read(["Service", "HTTPRoute"].into_iter());
        metrics.does_not_read(["HTTPRoute"].into_iter());
        metrics.stands(true, &Progress { desired: ["n1".into()].into(), ..Progress::default() });
        let made =
            SecretAuthority::make("weft-system/weft-ca", "cluster.local", &[], &Clock::system()).unwrap();
        metrics.looked(Some(&made.issuer().unwrap()), Some(&AuthorityError::NotListed));
        let text = metrics.encode();
        for line in [
            "weft_controller_build_info{version=\"1.2.3\"} 1",
            "weft_controller_certificates_total 1",
            "weft_controller_refusals_total{reason=\"TokenMissing\"} 1",
            "weft_controller_token_reviews_total{answered=\"true\"} 1",
            "weft_controller_leads 1",
            "weft_controller_nodes_desired 1",
            "weft_controller_nodes_ready 0",
            "weft_controller_trusted_roots 1",
            "weft_controller_authority_failing 1",
            "weft_controller_issuer_expiry_seconds 315",
        ] {
            assert!(text.lines().any(|it| it.starts_with(line)), "{line}\n{text}");
        }
        // Alerts of `weft install --monitoring` ask for these.
        let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let labels = |family: &str| match family.split(' ').next() {
            Some("weft_controller_build") => " version",
            Some("weft_controller_refusals") => " reason",
            Some("weft_controller_token_reviews") => " answered",
            Some("weft_controller_unread_kinds") => " kind",
            _ => "",
        };
        let told: Vec<_> = families.map(|family| format!("{family}{}", labels(family))).collect();
        assert_eq!(told.join("\n"), include_str!("metrics/names.txt").trim_end());
        let unread: Vec<_> =
            text.lines().filter(|line| line.starts_with("weft_controller_unread_kinds")).collect();
        assert_eq!(unread, ["weft_controller_unread_kinds{kind=\"HTTPRoute\"} 1"]);
    }
}
