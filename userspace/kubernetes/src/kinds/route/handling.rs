//! How a rule's requests are handled: timeouts, retries, sessions.

use serde::Deserialize;
use weft_model::{SessionCarrier, SessionPersistence};

use super::{Context, check};
use crate::{finding::Report, object::traffic::RetryFields};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::kinds) struct Timeouts {
    request: Option<String>,
    backend_request: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(in crate::kinds) struct Retry {
    codes: Option<Vec<i64>>,
    attempts: Option<i64>,
    backoff: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::kinds) struct SessionSpec {
    session_name: Option<String>,
    absolute_timeout: Option<String>,
    r#type: Option<SessionType>,
    cookie_config: Option<CookieConfig>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
enum SessionType {
    Cookie,
    Header,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CookieConfig {
    lifetime_type: Option<LifetimeType>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
enum LifetimeType {
    Permanent,
    Session,
}

const MAX_SESSION_NAME: usize = 128;
const SESSION_HEADER: &str = "x-weft-session";

impl Timeouts {
    pub(in crate::kinds) fn check(&self, field: &str, report: &mut Report<'_>) -> weft_model::Timeouts {
        let request = check::duration(self.request.as_ref(), &format!("{field}.request"), report);
        let backend_field = format!("{field}.backendRequest");
        let backend_request = check::duration(self.backend_request.as_ref(), &backend_field, report);
        check::try_within_request(request, backend_request, &backend_field, report);
        weft_model::Timeouts { request, backend_request, ..weft_model::Timeouts::default() }
    }
}

impl Retry {
    pub(in crate::kinds) fn check(&self, field: &str, report: &mut Report<'_>) -> RetryFields {
        check::retry(self.attempts, self.codes.as_deref(), self.backoff.as_ref(), field, report)
    }
}

impl SessionSpec {
    pub(in crate::kinds) fn check(&self, field: &str, context: &mut Context<'_, '_>) -> SessionPersistence {
        let report = &mut *context.report;
        let timeout =
            check::duration(self.absolute_timeout.as_ref(), &format!("{field}.absoluteTimeout"), report);
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            let message = "a session that ends at once keeps nothing together";
            report.error(
                &format!("{field}.absoluteTimeout"),
                message,
                "write a longer time, or leave it out",
            );
        }
        let by_header = self.r#type == Some(SessionType::Header);
        if by_header && self.cookie_config.is_some() {
            let message = "does not go with type Header";
            report.error(&format!("{field}.cookieConfig"), message, "remove it, or write type: Cookie");
        }
        let lifetime = self.cookie_config.as_ref().and_then(|config| config.lifetime_type);
        let carrier = match lifetime {
            _ if by_header => SessionCarrier::Header,
            Some(LifetimeType::Permanent) => SessionCarrier::PermanentCookie,
            _ => SessionCarrier::SessionCookie,
        };
        if carrier == SessionCarrier::PermanentCookie && self.absolute_timeout.is_none() {
            let message = "a Permanent cookie needs it, and it is not there";
            report.error(&format!("{field}.absoluteTimeout"), message, "add absoluteTimeout: 24h");
        }
        let name = self.name(field, carrier, context);
        SessionPersistence { name: context.names.share(&name), carrier, absolute_timeout: timeout }
    }

    /// The name given, else one of this rule alone: two rules must not read each other's cookies.
    fn name(&self, field: &str, carrier: SessionCarrier, context: &mut Context<'_, '_>) -> String {
        let Some(name) = &self.session_name else {
            if carrier == SessionCarrier::Header {
                return SESSION_HEADER.into();
            }
            return format!("weft-session-{:08x}", fnv1a(&format!("{} {field}", context.key)));
        };
        let field = format!("{field}.sessionName");
        if name.len() > MAX_SESSION_NAME {
            let message =
                format!("{} characters; a session's name has at most {MAX_SESSION_NAME}", name.len());
            context.report.error(&field, message, "write a shorter name");
        } else {
            check::header(name, &field, context.report);
        }
        if carrier == SessionCarrier::Header { name.to_ascii_lowercase() } else { name.clone() }
    }
}

/// FNV-1a, which every version of every node's agent computes alike.
fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
