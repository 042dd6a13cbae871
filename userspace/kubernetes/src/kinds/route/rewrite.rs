//! Redirects and rewrites: another host, another path.

use std::sync::Arc;

use serde::Deserialize;
use weft_model::{PathRewrite, Redirect, Rewrite};

use super::check;
use crate::{finding::Report, syntax};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RedirectSpec {
    scheme: Option<Scheme>,
    hostname: Option<String>,
    path: Option<PathModifier>,
    port: Option<i64>,
    status_code: Option<i64>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Scheme {
    Http,
    Https,
}

#[derive(Debug, Deserialize)]
pub(super) struct RewriteSpec {
    hostname: Option<String>,
    path: Option<PathModifier>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PathModifier {
    r#type: PathModifierType,
    replace_full_path: Option<String>,
    replace_prefix_match: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
enum PathModifierType {
    ReplaceFullPath,
    ReplacePrefixMatch,
}

const STATUS_CODES: [i64; 5] = [301, 302, 303, 307, 308];
const DEFAULT_STATUS: u16 = 302;
const MAX_PATH: usize = 1024;

impl RedirectSpec {
    pub(super) fn check(&self, field: &str, prefix: Option<&Arc<str>>, report: &mut Report<'_>) -> Redirect {
        if let Some(code) = self.status_code.filter(|code| !STATUS_CODES.contains(code)) {
            let message = format!("{code} is no redirect");
            report.error(&format!("{field}.statusCode"), message, "write 301, 302, 303, 307 or 308");
        }
        Redirect {
            scheme: self.scheme.map(|scheme| match scheme {
                Scheme::Http => "http".into(),
                Scheme::Https => "https".into(),
            }),
            hostname: hostname(self.hostname.as_ref(), field, report),
            port: self.port.and_then(|port| check::port(port, &format!("{field}.port"), report)),
            path: self.path.as_ref().and_then(|path| path.check(&format!("{field}.path"), prefix, report)),
            status: self.status_code.and_then(|code| u16::try_from(code).ok()).unwrap_or(DEFAULT_STATUS),
        }
    }
}

impl RewriteSpec {
    pub(super) fn check(&self, field: &str, prefix: Option<&Arc<str>>, report: &mut Report<'_>) -> Rewrite {
        if self.hostname.is_none() && self.path.is_none() {
            report.warning(field, "rewrites nothing", "add hostname or path, or remove the filter");
        }
        Rewrite {
            hostname: hostname(self.hostname.as_ref(), field, report),
            path: self.path.as_ref().and_then(|path| path.check(&format!("{field}.path"), prefix, report)),
        }
    }
}

impl PathModifier {
    fn check(&self, field: &str, prefix: Option<&Arc<str>>, report: &mut Report<'_>) -> Option<PathRewrite> {
        let kind = format!("{:?}", self.r#type);
        let full = self.r#type == PathModifierType::ReplaceFullPath;
        let (full_field, prefix_field) =
            (format!("{field}.replaceFullPath"), format!("{field}.replacePrefixMatch"));
        check::member(self.replace_full_path.is_some(), full, &full_field, &kind, report);
        check::member(self.replace_prefix_match.is_some(), !full, &prefix_field, &kind, report);
        if full {
            let path = self.replace_full_path.as_deref()?;
            check_replacement(path, false, &full_field, report);
            return Some(PathRewrite::Full(path.into()));
        }
        let replacement = self.replace_prefix_match.as_deref()?;
        check_replacement(replacement, true, &prefix_field, report);
        let Some(prefix) = prefix else {
            let message = "ReplacePrefixMatch needs a rule with exactly one match, of type PathPrefix";
            let remedy = "split the rule into one for each match, or write ReplaceFullPath";
            report.error(&format!("{field}.type"), message, remedy);
            return None;
        };
        Some(PathRewrite::Prefix { matched: Arc::clone(prefix), replacement: replacement.into() })
    }
}

fn hostname(name: Option<&String>, field: &str, report: &mut Report<'_>) -> Option<Arc<str>> {
    let name = name?;
    check::hostname(name, false, &format!("{field}.hostname"), report);
    Some(name.as_str().into())
}

fn check_replacement(path: &str, may_be_empty: bool, field: &str, report: &mut Report<'_>) {
    if path.is_empty() && may_be_empty {
        return;
    }
    if path.len() > MAX_PATH {
        let message = format!("{} characters; a path has at most {MAX_PATH}", path.len());
        report.error(field, message, "write a shorter path");
    } else if !path.starts_with('/') {
        report.error(field, format!("\"{path}\" does not begin with /"), format!("write /{path}"));
    } else if !syntax::path_characters(path) {
        let remedy = "percent-encode what is no letter, digit or one of /-._~!$&'()*+,;=:@";
        report.error(field, format!("\"{path}\" is no path"), remedy);
    }
}
