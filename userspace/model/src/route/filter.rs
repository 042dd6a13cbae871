//! What a rule does to a request or its answer (Gateway API v1, `filters`).

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::BackendTarget;

/// One filter. They run in the object's order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Filter {
    /// Changes headers of the request.
    RequestHeaders(HeaderModifier),
    /// Changes headers of the answer.
    ResponseHeaders(HeaderModifier),
    /// Answers with a redirect; there is no backend.
    Redirect(Redirect),
    /// Changes where the request asks for.
    Rewrite(Rewrite),
    /// Sends a copy elsewhere; its answer is dropped, and it delays nothing.
    Mirror(Mirror),
    /// Answers preflights, and says whose scripts may read answers.
    Cors(Cors),
}

/// `set`, `add`, `remove`, applied in this order; names are lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderModifier {
    /// Overwrites.
    pub set: Vec<(Arc<str>, Arc<str>)>,
    /// Appends a value to what is there.
    pub add: Vec<(Arc<str>, Arc<str>)>,
    /// Removes every value.
    pub remove: Vec<Arc<str>>,
}

/// What a redirect says instead of what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redirect {
    /// `http` or `https`; `None` keeps it.
    pub scheme: Option<Arc<str>>,
    /// The host; `None` keeps it.
    pub hostname: Option<Arc<str>>,
    /// The port; `None` is the scheme's where a scheme is set, else the Service's port.
    pub port: Option<u16>,
    /// The path; `None` keeps it.
    pub path: Option<PathRewrite>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// What a rewrite changes before the request is forwarded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewrite {
    /// The host.
    pub hostname: Option<Arc<str>>,
    /// The path.
    pub path: Option<PathRewrite>,
}

/// How a path changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathRewrite {
    /// The whole path becomes this; the query stays.
    Full(Arc<str>),
    /// What the rule's prefix matched becomes this.
    Prefix {
        /// The prefix that the rule matches on.
        matched: Arc<str>,
        /// What stands there instead.
        replacement: Arc<str>,
    },
}

/// A copy of requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mirror {
    /// Where copies go, to one endpoint of it.
    pub target: BackendTarget,
    /// Which share of requests is copied.
    pub share: Fraction,
}

/// `numerator` of `denominator`, which is not 0 and not below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fraction {
    /// How many.
    pub numerator: u32,
    /// Of how many.
    pub denominator: u32,
}

impl Fraction {
    /// All.
    pub const ALL: Self = Self { numerator: 1, denominator: 1 };
}

/// Cross-origin requests (Fetch standard, CORS protocol).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cors {
    /// Who may ask.
    pub origins: Vec<OriginPattern>,
    /// Whether with credentials.
    pub credentials: bool,
    /// Methods, upper case; `*` is any.
    pub methods: Vec<Arc<str>>,
    /// Request headers, lower case; `*` is any.
    pub headers: Vec<Arc<str>>,
    /// Answer headers that scripts may read; `*` is any.
    pub expose: Vec<Arc<str>>,
    /// How long a preflight's answer may be kept.
    pub max_age: Duration,
}

/// An origin as `allowOrigins` names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OriginPattern {
    /// `*`.
    Any,
    /// `scheme://host[:port]`, lower case.
    Exact(Arc<str>),
    /// `scheme://*suffix[:port]`: one or more labels stand for the `*`.
    Wildcard {
        /// `http` or `https`.
        scheme: Arc<str>,
        /// What the host ends with, its dot included.
        suffix: Arc<str>,
        /// The port, where one is named; `*` is any port.
        port: Option<Arc<str>>,
    },
}
