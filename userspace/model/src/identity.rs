//! Who a workload is: its ServiceAccount, written as a SPIFFE ID.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// The identity of a workload inside the trust domain.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceAccount {
    /// The namespace of the ServiceAccount.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl ServiceAccount {
    /// A ServiceAccount from its two names.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// Parses `namespace/name`.
    pub fn parse(text: &str) -> Option<Self> {
        let name = crate::ObjectName::parse(text)?;
        Some(Self { namespace: name.namespace, name: name.name })
    }

    /// The SPIFFE ID in `trust_domain`: `spiffe://<trust domain>/ns/<namespace>/sa/<name>`.
    pub fn spiffe(&self, trust_domain: &str) -> String {
        format!("spiffe://{trust_domain}/ns/{}/sa/{}", self.namespace, self.name)
    }
}

impl fmt::Display for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Debug for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ServiceAccount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ServiceAccount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("a ServiceAccount is written namespace/name"))
    }
}

/// A SPIFFE ID as a policy names it (SPIFFE-ID standard, section 2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    /// The trust domain, lower case.
    pub trust_domain: Arc<str>,
    /// The path, with its leading `/`; empty when the ID names the trust domain itself.
    pub path: Arc<str>,
}

/// Why a text is no SPIFFE ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeError {
    /// It is longer than [`SpiffeId::LONGEST`], or its trust domain than [`SpiffeId::LONGEST_DOMAIN`].
    #[error("a SPIFFE ID has 2048 bytes at most, 255 of them for the trust domain")]
    TooLong,
    /// The scheme is missing.
    #[error("a SPIFFE ID begins with spiffe://")]
    Scheme,
    /// The trust domain is empty or has a character outside `[a-z0-9._-]`.
    #[error("the trust domain has lower-case letters, digits, '.', '-' and '_' only")]
    TrustDomain,
    /// A path segment is empty, `.` or `..`, or has a character outside `[A-Za-z0-9._-]`.
    #[error(
        "path segments have letters, digits, '.', '-' and '_' only, and are neither empty nor '.' nor '..'"
    )]
    Path,
}

impl SpiffeId {
    /// Bytes that an ID may have (SPIFFE-ID standard, section 2.3).
    pub const LONGEST: usize = 2048;

    /// Bytes that its trust domain may have.
    pub const LONGEST_DOMAIN: usize = 255;

    /// The name of a trust domain.
    pub fn domain(name: &str) -> Result<Arc<str>, SpiffeError> {
        let id = Self::parse(&format!("spiffe://{name}"))?;
        if id.path.is_empty() { Ok(id.trust_domain) } else { Err(SpiffeError::TrustDomain) }
    }

    /// Parses a SPIFFE ID.
    pub fn parse(text: &str) -> Result<Self, SpiffeError> {
        let rest = text.strip_prefix("spiffe://").ok_or(SpiffeError::Scheme)?;
        let (domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if text.len() > Self::LONGEST || domain.len() > Self::LONGEST_DOMAIN {
            return Err(SpiffeError::TooLong);
        }
        let in_domain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(c);
        if domain.is_empty() || !domain.chars().all(in_domain) {
            return Err(SpiffeError::TrustDomain);
        }
        let in_path = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        let good = |s: &str| !s.is_empty() && s != "." && s != ".." && s.chars().all(in_path);
        if !path.is_empty() && !path[1..].split('/').all(good) {
            return Err(SpiffeError::Path);
        }
        Ok(Self { trust_domain: domain.into(), path: path.into() })
    }

    /// The ServiceAccount meant, where the path has weft's form `/ns/<namespace>/sa/<name>`.
    pub fn service_account(&self) -> Option<ServiceAccount> {
        let mut parts = self.path.strip_prefix("/ns/")?.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(namespace), Some("sa"), Some(name), None) => Some(ServiceAccount::new(namespace, name)),
            _ => None,
        }
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}{}", self.trust_domain, self.path)
    }
}

impl Serialize for SpiffeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SpiffeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{ServiceAccount, SpiffeError, SpiffeId};

    proptest! {
        #[test]
        fn whatever_parses_is_written_as_it_was_read(
            text in r"(spiffe://)?[a-zA-Z0-9._/%?#:@-]{0,40}"
        ) {
            if let Ok(id) = SpiffeId::parse(&text) {
                prop_assert_eq!(id.to_string(), text);
            }
        }

        #[test]
        fn every_service_account_reads_back_and_no_other_path_is_taken_for_one(
            domain in "[a-z0-9._-]{1,255}",
            path in r"(/(ns|sa|[A-Za-z0-9_-][A-Za-z0-9._-]{0,8})){0,6}"
        ) {
            let id = SpiffeId::parse(&format!("spiffe://{domain}{path}")).unwrap();
            if let Some(account) = id.service_account() {
                prop_assert_eq!(account.spiffe(&domain), id.to_string());
            } else {
                let parts: Vec<_> = path.split('/').collect();
                prop_assert!(parts.len() != 5 || parts[1] != "ns" || parts[3] != "sa", "{}", path);
            }
        }

        #[test]
        fn a_character_that_no_id_has_is_refused_wherever_it_stands(
            bad in r"[^a-z0-9._/-]".prop_filter("a path may have capitals", |c| !c.chars().all(|c| c.is_ascii_uppercase())),
            place in 0..33_usize
        ) {
            let mut text = "spiffe://cluster.local/ns/shop/sa".to_owned();
            text.insert_str(place, &bad);
            prop_assert!(SpiffeId::parse(&text).is_err(), "{}", text);
        }
    }

    #[test]
    fn an_id_that_is_too_long_is_refused() {
        let domain = "d".repeat(SpiffeId::LONGEST_DOMAIN);
        assert!(SpiffeId::parse(&format!("spiffe://{domain}/a")).is_ok());
        assert_eq!(SpiffeId::parse(&format!("spiffe://{domain}d/a")), Err(SpiffeError::TooLong));
        let path = "p".repeat(SpiffeId::LONGEST - "spiffe://a/".len());
        assert!(SpiffeId::parse(&format!("spiffe://a/{path}")).is_ok());
        assert_eq!(SpiffeId::parse(&format!("spiffe://a/{path}p")), Err(SpiffeError::TooLong));
    }

    #[test]
    fn a_service_account_reads_back_from_its_spiffe_id() {
        let account = ServiceAccount::new("shop", "web");
        let id = SpiffeId::parse(&account.spiffe("cluster.local")).unwrap();
        assert_eq!(id.to_string(), "spiffe://cluster.local/ns/shop/sa/web");
        assert_eq!(id.service_account(), Some(account));
    }

    #[test]
    fn what_is_no_spiffe_id_is_refused_with_its_cause() {
        assert_eq!(SpiffeId::parse("http://a/b"), Err(SpiffeError::Scheme));
        assert_eq!(SpiffeId::parse("spiffe:///b"), Err(SpiffeError::TrustDomain));
        assert_eq!(SpiffeId::parse("spiffe://UPPER/b"), Err(SpiffeError::TrustDomain));
        assert_eq!(SpiffeId::parse("spiffe://a/b/../c"), Err(SpiffeError::Path));
        assert_eq!(SpiffeId::parse("spiffe://a/b/"), Err(SpiffeError::Path));
        assert_eq!(SpiffeId::parse("spiffe://a/ns/x/sa/y/z").unwrap().service_account(), None);
    }
}
