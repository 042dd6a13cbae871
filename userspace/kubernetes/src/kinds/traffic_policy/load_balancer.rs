//! `loadBalancer`: which endpoint is next.

use std::{sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;
use weft_model::{HttpLoadBalancer, LoadBalancer};

use super::{check, schema};
use crate::{finding::Report, syntax};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [schema::rule_at(
    ".consistentHash",
    "(has(self.type) && self.type == 'ConsistentHash') == has(self.consistentHash)",
    "type ConsistentHash and consistentHash go together: add the one, or remove the other",
)]))]
pub(super) struct LoadBalancerSpec {
    /// How an endpoint is chosen. Default: `LeastRequest` for requests, Random for connections that stay in the kernel.
    r#type: Option<Algorithm>,
    /// For type `ConsistentHash`: what is hashed, and how.
    consistent_hash: Option<ConsistentHash>,
    /// Endpoints that are new get less at first.
    slow_start: Option<SlowStart>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
enum Algorithm {
    RoundRobin,
    LeastRequest,
    Random,
    #[serde(rename = "PeakEWMA")]
    PeakEwma,
    ConsistentHash,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    schema::member("Header", "header"),
    schema::member("Cookie", "cookie"),
    schema::member("QueryParam", "queryParam"),
]))]
struct ConsistentHash {
    /// What is hashed. `SourceIP` is the client's address.
    r#type: HashKey,
    /// For type Header: which.
    header: Option<Named>,
    /// For type Cookie: which. A client without it is given one.
    cookie: Option<Cookie>,
    /// For type `QueryParam`: which.
    query_param: Option<Parameter>,
    /// How the hash finds an endpoint. Default: Maglev.
    algorithm: Option<HashAlgorithm>,
    /// The size of Maglev's table, a prime. Default: 65537.
    #[schemars(range(min = 2, max = MAX_TABLE_SIZE))]
    table_size: Option<i64>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
enum HashKey {
    #[serde(rename = "SourceIP")]
    SourceIp,
    Header,
    Cookie,
    QueryParam,
}

#[derive(Debug, Deserialize, JsonSchema, PartialEq)]
enum HashAlgorithm {
    Maglev,
    #[schemars(skip)]
    RingHash,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Named {
    /// The header's name, in whatever case.
    #[schemars(with = "schema::HeaderName")]
    name: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Parameter {
    /// The parameter's name.
    #[schemars(length(min = 1, max = 256))]
    name: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Cookie {
    /// The cookie's name.
    #[schemars(with = "schema::HeaderName")]
    name: String,
    /// The path that the cookie is for. Absent: the request's.
    #[schemars(with = "Option<schema::CookiePath>")]
    path: Option<String>,
    /// How long a client keeps the cookie. Absent: as long as its session.
    #[schemars(with = "Option<schema::Duration>")]
    ttl: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct SlowStart {
    /// How long an endpoint is new.
    #[schemars(with = "schema::Duration")]
    window: String,
}

const DEFAULT_TABLE_SIZE: u32 = 65_537;
/// Envoy's limit too: a larger table costs memory and evens out nothing more.
const MAX_TABLE_SIZE: i64 = 5_000_011;

impl LoadBalancerSpec {
    /// The algorithm of the kernel path, that of the http path, and how long an endpoint takes to start.
    pub(super) fn check(
        &self,
        field: &str,
        report: &mut Report<'_>,
    ) -> (LoadBalancer, Option<HttpLoadBalancer>, Option<Duration>) {
        let hash_field = format!("{field}.consistentHash");
        let hashes = self.r#type == Some(Algorithm::ConsistentHash);
        let kind = self.r#type.map_or_else(|| "(none)".into(), |kind| format!("{kind:?}"));
        check::member(self.consistent_hash.is_some(), hashes, &hash_field, &kind, report);
        let window = self.slow_start.as_ref().map(|slow_start| &slow_start.window);
        let slow_start = check::duration(window, &format!("{field}.slowStart.window"), report);
        let hash = self.consistent_hash.as_ref().map(|hash| hash.check(&hash_field, report));
        let (in_kernel, by_request) = match self.r#type {
            None => (LoadBalancer::Random, None),
            Some(Algorithm::Random) => (LoadBalancer::Random, Some(HttpLoadBalancer::Random)),
            Some(Algorithm::RoundRobin) => (LoadBalancer::RoundRobin, Some(HttpLoadBalancer::RoundRobin)),
            Some(Algorithm::LeastRequest) => {
                (LoadBalancer::LeastRequest, Some(HttpLoadBalancer::LeastRequest))
            }
            Some(Algorithm::ConsistentHash) => hash.unwrap_or_default(),
            // Nothing of the kernel path: its connections leave it.
            Some(Algorithm::PeakEwma) => (LoadBalancer::Random, Some(HttpLoadBalancer::PeakEwma)),
        };
        (in_kernel, by_request, slow_start)
    }
}

impl ConsistentHash {
    fn check(&self, field: &str, report: &mut Report<'_>) -> (LoadBalancer, Option<HttpLoadBalancer>) {
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
        let cookie = self.cookie.as_ref().map(|cookie| cookie.check(&format!("{field}.cookie"), report));
        if self.algorithm == Some(HashAlgorithm::RingHash) {
            report.error(
                &format!("{field}.algorithm"),
                "there is no RingHash in weft",
                "write Maglev, which spreads better",
            );
        }
        let table_size = self.table_size(field, report);
        let key = match self.r#type {
            HashKey::SourceIp => weft_model::HashKey::SourceIp,
            HashKey::Header => {
                let name = self.header.as_ref().map(|header| header.name.to_ascii_lowercase());
                weft_model::HashKey::Header(name.unwrap_or_default().into())
            }
            HashKey::QueryParam => {
                let name = self.query_param.as_ref().map(|query| query.name.as_str()).unwrap_or_default();
                weft_model::HashKey::Query(name.into())
            }
            HashKey::Cookie => cookie.unwrap_or(weft_model::HashKey::SourceIp),
        };
        let in_kernel = match self.r#type {
            HashKey::SourceIp => LoadBalancer::SourceIpHash { table_size },
            // Nothing of the kernel path: its connections leave it.
            _ => LoadBalancer::Random,
        };
        (in_kernel, Some(HttpLoadBalancer::ConsistentHash { key, table_size }))
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

impl Cookie {
    fn check(&self, field: &str, report: &mut Report<'_>) -> weft_model::HashKey {
        check::header(&self.name, &format!("{field}.name"), report);
        let ttl = check::duration(self.ttl.as_ref(), &format!("{field}.ttl"), report);
        if self.path.as_ref().is_some_and(|path| !path.starts_with('/') || path.contains(';')) {
            report.error(&format!("{field}.path"), "no path that a cookie can have", "write a path like /");
        }
        weft_model::HashKey::Cookie {
            name: Arc::from(self.name.as_str()),
            path: self.path.as_deref().map(Into::into),
            ttl,
        }
    }
}
