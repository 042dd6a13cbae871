//! `loadBalancer`: which endpoint is next.

use serde::Deserialize;
use weft_model::LoadBalancer;

use super::check;
use crate::{finding::Report, syntax};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LoadBalancerSpec {
    r#type: Option<Algorithm>,
    consistent_hash: Option<ConsistentHash>,
    slow_start: Option<SlowStart>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
enum Algorithm {
    RoundRobin,
    LeastRequest,
    Random,
    #[serde(rename = "PeakEWMA")]
    PeakEwma,
    ConsistentHash,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConsistentHash {
    r#type: HashKey,
    header: Option<Named>,
    cookie: Option<Cookie>,
    query_param: Option<Named>,
    algorithm: Option<HashAlgorithm>,
    table_size: Option<i64>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
enum HashKey {
    #[serde(rename = "SourceIP")]
    SourceIp,
    Header,
    Cookie,
    QueryParam,
}

#[derive(Debug, Deserialize, PartialEq)]
enum HashAlgorithm {
    Maglev,
    RingHash,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Cookie {
    #[serde(rename = "name")]
    _name: String,
    #[serde(default, rename = "path")]
    _path: Option<String>,
    ttl: Option<String>,
}

#[derive(Debug, Deserialize)]
struct SlowStart {
    window: String,
}

const DEFAULT_TABLE_SIZE: u32 = 65_537;
/// Envoy's limit too: a larger table costs memory and evens out nothing more.
const MAX_TABLE_SIZE: i64 = 5_000_011;

impl LoadBalancerSpec {
    /// The algorithm of the kernel path.
    pub(super) fn check(&self, field: &str, report: &mut Report<'_>) -> LoadBalancer {
        let hash_field = format!("{field}.consistentHash");
        let hashes = self.r#type == Some(Algorithm::ConsistentHash);
        let kind = self.r#type.map_or_else(|| "(none)".into(), |kind| format!("{kind:?}"));
        check::member(self.consistent_hash.is_some(), hashes, &hash_field, &kind, report);
        if let Some(slow_start) = &self.slow_start {
            let field = format!("{field}.slowStart");
            check::duration(Some(&slow_start.window), &format!("{field}.window"), report);
            let message = "slowStart is not enforced yet: it needs the http path";
            report.warning(&field, message, "a new endpoint gets its full share at once");
        }
        let hash = self.consistent_hash.as_ref().map(|hash| hash.check(&hash_field, report));
        match self.r#type {
            None | Some(Algorithm::Random) => LoadBalancer::Random,
            Some(Algorithm::RoundRobin) => LoadBalancer::RoundRobin,
            Some(Algorithm::LeastRequest) => LoadBalancer::LeastRequest,
            Some(Algorithm::ConsistentHash) => hash.unwrap_or_default(),
            Some(Algorithm::PeakEwma) => {
                let message = "PeakEWMA needs the http path, which is not there yet";
                report.warning(
                    &format!("{field}.type"),
                    message,
                    "connections are spread at random meanwhile",
                );
                LoadBalancer::Random
            }
        }
    }
}

impl ConsistentHash {
    fn check(&self, field: &str, report: &mut Report<'_>) -> LoadBalancer {
        let kind = format!("{:?}", self.r#type);
        let is = |key| self.r#type == key;
        check::member(self.header.is_some(), is(HashKey::Header), &format!("{field}.header"), &kind, report);
        check::member(self.cookie.is_some(), is(HashKey::Cookie), &format!("{field}.cookie"), &kind, report);
        let query = format!("{field}.queryParam");
        check::member(self.query_param.is_some(), is(HashKey::QueryParam), &query, &kind, report);
        if let Some(header) = &self.header {
            check::header(&header.name, &format!("{field}.header.name"), report);
        }
        if self.query_param.as_ref().is_some_and(|query| query.name.is_empty()) {
            report.error(&format!("{query}.name"), "is empty", "name the parameter");
        }
        let ttl = self.cookie.as_ref().and_then(|cookie| cookie.ttl.as_ref());
        check::duration(ttl, &format!("{field}.cookie.ttl"), report);
        if self.algorithm == Some(HashAlgorithm::RingHash) {
            report.error(
                &format!("{field}.algorithm"),
                "there is no RingHash in weft",
                "write Maglev, which spreads better",
            );
        }
        let table_size = self.table_size(field, report);
        if self.r#type == HashKey::SourceIp {
            return LoadBalancer::SourceIpHash { table_size };
        }
        let message = format!("a hash by {kind} needs the http path, which is not there yet");
        report.warning(&format!("{field}.type"), message, "connections are spread at random meanwhile");
        LoadBalancer::Random
    }

    fn table_size(&self, field: &str, report: &mut Report<'_>) -> u32 {
        let Some(size) = self.table_size else { return DEFAULT_TABLE_SIZE };
        let field = format!("{field}.tableSize");
        check::range(Some(size), &(2..=MAX_TABLE_SIZE), &field, report);
        let size = u32::try_from(size).unwrap_or_default();
        let in_range = i64::from(size) <= MAX_TABLE_SIZE;
        if size >= 2 && in_range && !syntax::is_prime(size) {
            let next = (size..=u32::MAX).find(|n| syntax::is_prime(*n)).unwrap_or(DEFAULT_TABLE_SIZE);
            report.error(
                &field,
                format!("{size} is no prime"),
                format!("write {next}, or leave it out for 65537"),
            );
        }
        size
    }
}
