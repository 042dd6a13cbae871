//! What became of a route, in the Gateway API's terms, for people.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{ObjectName, name::as_one};

/// The kinds of routes, in the order in which they win where two meet on a port (GEP-1294).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteKind {
    /// GRPCRoute.
    Grpc,
    /// HTTPRoute.
    Http,
    /// TLSRoute.
    Tls,
    /// TCPRoute.
    Tcp,
}

/// A route's kind and name; written `HTTPRoute shop/web`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteName {
    /// Its kind.
    pub kind: RouteKind,
    /// Its name.
    pub name: ObjectName,
}

/// What became of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteStatus {
    /// One for each Service that it names as a parent, in the object's order. Empty where it names none.
    pub parents: Vec<ParentStatus>,
    /// Names of servers that it is for: a TLSRoute's. In the mesh the others' do not count.
    #[serde(default)]
    pub hostnames: Vec<Arc<str>>,
    /// Its rules, in short.
    pub rules: Vec<RuleSummary>,
}

/// What became of a route at one parentRef.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentStatus {
    /// The Service; `None` where a refused route cannot say.
    pub service: Option<ObjectName>,
    /// `port` of the parentRef.
    pub port: Option<u16>,
    /// `sectionName` of the parentRef.
    pub section: Option<Arc<str>>,
    /// Whether the route holds there.
    pub accepted: Condition,
    /// Whether all that the route leads to is there.
    pub resolved: Condition,
}

/// A condition of the Gateway API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// True or False.
    pub status: bool,
    /// Why, in one word.
    pub reason: RouteReason,
    /// Why, in a sentence; empty where all is well.
    pub message: String,
}

/// The Gateway API's reasons, as it spells them. A backendRef to another namespace needs no grant in the
/// mesh, so `RefNotPermitted` is not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RouteReason {
    /// The route holds.
    Accepted,
    /// The parent is not there, has no such port, or cannot have routes.
    NoMatchingParent,
    /// The object says something that nobody can do.
    UnsupportedValue,
    /// Two filters of a rule exclude each other.
    IncompatibleFilters,
    /// Another route has the port.
    Conflicted,
    /// Everything the route leads to is there.
    ResolvedRefs,
    /// A backendRef's Service or its port is not there.
    BackendNotFound,
    /// A reference names a kind that is no backend, or no filter.
    InvalidKind,
    /// A backend speaks another protocol than the route.
    UnsupportedProtocol,
}

/// A rule in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleSummary {
    /// Its name.
    pub name: Option<Arc<str>>,
    /// How many matches it has; 0 is every request.
    pub matches: usize,
    /// How many filters it has.
    pub filters: usize,
    /// Where it leads.
    pub backends: Vec<BackendShare>,
}

/// A backendRef in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendShare {
    /// `namespace/service:port`, or the kind that is no backend.
    pub to: Arc<str>,
    /// Its weight.
    pub weight: u32,
}

impl RouteKind {
    /// All of them, the one that wins first.
    pub const ALL: [Self; 4] = [Self::Grpc, Self::Http, Self::Tls, Self::Tcp];
}

impl Condition {
    /// Everything is as the object says.
    pub fn good(reason: RouteReason) -> Self {
        Self { status: true, reason, message: String::new() }
    }

    /// It is not, and why.
    pub fn bad(reason: RouteReason, message: impl Into<String>) -> Self {
        Self { status: false, reason, message: message.into() }
    }
}

impl RouteKind {
    fn word(self) -> &'static str {
        match self {
            Self::Grpc => "GRPCRoute",
            Self::Http => "HTTPRoute",
            Self::Tls => "TLSRoute",
            Self::Tcp => "TCPRoute",
        }
    }
}

impl fmt::Display for RouteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl fmt::Display for RouteReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::Display for RouteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

impl fmt::Debug for RouteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for RouteName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ObjectName { namespace, name } = &self.name;
        as_one(&[self.kind.word(), " ", namespace, "/", name], serializer)
    }
}

impl<'de> Deserialize<'de> for RouteName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let read = || {
            let (word, name) = text.split_once(' ')?;
            let kind = RouteKind::ALL.into_iter().find(|kind| kind.to_string() == word)?;
            Some(Self { kind, name: ObjectName::parse(name)? })
        };
        read().ok_or_else(|| D::Error::custom("a route is written `HTTPRoute namespace/name`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_name_reads_back_as_it_is_written() {
        for kind in RouteKind::ALL {
            let name = RouteName { kind, name: ObjectName::new("shop", "web") };
            let text = serde_json::to_string(&name).unwrap();
            assert_eq!(text, format!("\"{kind} shop/web\""));
            assert_eq!(serde_json::from_str::<RouteName>(&text).unwrap(), name);
        }
        assert!(serde_json::from_str::<RouteName>("\"Pod shop/web\"").is_err());
    }
}
