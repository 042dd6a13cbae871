//! `filters`: what is done to requests and answers.

use std::sync::Arc;

use serde::{Deserialize, de::IgnoredAny};
use weft_model::Filter as Ready;

use super::{
    Context,
    backend::Reference,
    check,
    cors::CorsSpec,
    headers::HeaderFilter,
    rewrite::{RedirectSpec, RewriteSpec},
};
use crate::{
    finding::Report,
    kinds::check::Fraction,
    object::{Filter, Kind},
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::kinds) struct FilterSpec {
    r#type: FilterType,
    request_header_modifier: Option<HeaderFilter>,
    response_header_modifier: Option<HeaderFilter>,
    request_mirror: Option<MirrorSpec>,
    request_redirect: Option<RedirectSpec>,
    url_rewrite: Option<RewriteSpec>,
    cors: Option<CorsSpec>,
    external_auth: Option<IgnoredAny>,
    extension_ref: Option<IgnoredAny>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
enum FilterType {
    RequestHeaderModifier,
    ResponseHeaderModifier,
    RequestMirror,
    RequestRedirect,
    #[serde(rename = "URLRewrite")]
    UrlRewrite,
    #[serde(rename = "CORS")]
    Cors,
    ExternalAuth,
    ExtensionRef,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct MirrorSpec {
    backend_ref: Reference,
    percent: Option<i64>,
    fraction: Option<Fraction>,
}

/// Where filters stand; `prefix` is what the rule matches on where it has one `PathPrefix` and nothing else.
#[derive(Debug)]
pub(in crate::kinds) enum Place {
    Rule { prefix: Option<Arc<str>>, has_backends: bool },
    Backend { prefix: Option<Arc<str>> },
}

const MAX_FILTERS: usize = 16;

/// The filters meant by `specs`.
pub(in crate::kinds) fn check(
    specs: &[FilterSpec],
    field: &str,
    place: &Place,
    context: &mut Context<'_, '_>,
) -> Vec<Filter> {
    check::at_most(specs.len(), MAX_FILTERS, "filters", field, context.report);
    let mut filters = Vec::new();
    for (i, spec) in specs.iter().enumerate() {
        let field = format!("{field}[{i}]");
        let kind = spec.r#type;
        if kind != FilterType::RequestMirror && specs[..i].iter().any(|other| other.r#type == kind) {
            let message = format!("{} is there twice", kind.name());
            context.report.error(&field, message, "put it all into one filter");
        }
        spec.check_union(&field, context.report);
        if !spec.fits(&field, place, context) {
            continue;
        }
        filters.extend(spec.check(&field, place, context));
    }
    let at = |kind| specs.iter().position(|spec| spec.r#type == kind);
    if let (Some(_), Some(rewrite)) = (at(FilterType::RequestRedirect), at(FilterType::UrlRewrite)) {
        let message = "URLRewrite beside RequestRedirect: nothing is forwarded that could be rewritten";
        context.report.incompatible(&format!("{field}[{rewrite}]"), message, "remove one of the two");
    }
    filters
}

impl FilterSpec {
    /// The member that goes with the type is there, and no other.
    fn check_union(&self, field: &str, report: &mut Report<'_>) {
        let members = [
            (
                "requestHeaderModifier",
                FilterType::RequestHeaderModifier,
                self.request_header_modifier.is_some(),
            ),
            (
                "responseHeaderModifier",
                FilterType::ResponseHeaderModifier,
                self.response_header_modifier.is_some(),
            ),
            ("requestMirror", FilterType::RequestMirror, self.request_mirror.is_some()),
            ("requestRedirect", FilterType::RequestRedirect, self.request_redirect.is_some()),
            ("urlRewrite", FilterType::UrlRewrite, self.url_rewrite.is_some()),
            ("cors", FilterType::Cors, self.cors.is_some()),
            ("externalAuth", FilterType::ExternalAuth, self.external_auth.is_some()),
            ("extensionRef", FilterType::ExtensionRef, self.extension_ref.is_some()),
        ];
        for (member, kind, there) in members {
            let wanted = kind == self.r#type;
            check::member(there, wanted, &format!("{field}.{member}"), self.r#type.name(), report);
        }
    }

    /// Whether a filter of this type can stand here.
    fn fits(&self, field: &str, place: &Place, context: &mut Context<'_, '_>) -> bool {
        let kind = self.r#type;
        let http_only = matches!(
            kind,
            FilterType::RequestRedirect
                | FilterType::UrlRewrite
                | FilterType::Cors
                | FilterType::ExternalAuth
        );
        let field = format!("{field}.type");
        if http_only && context.key.kind == Kind::GrpcRoute {
            let message = format!("a GRPCRoute has no {} filters", kind.name());
            context.report.error(&field, message, "remove it, or write an HTTPRoute");
            return false;
        }
        match place {
            Place::Backend { .. } if matches!(kind, FilterType::RequestRedirect | FilterType::Cors) => {
                let message = format!("{} comes before a backend is chosen", kind.name());
                context.report.incompatible(&field, message, "put it into the filters of the rule");
                false
            }
            Place::Rule { has_backends: true, .. } if kind == FilterType::RequestRedirect => {
                let message = "a redirect beside backendRefs: nothing is forwarded";
                context.report.incompatible(&field, message, "remove the backendRefs, or the redirect");
                false
            }
            _ => true,
        }
    }

    /// `None` where it is wrong.
    fn check(&self, field: &str, place: &Place, context: &mut Context<'_, '_>) -> Option<Filter> {
        let (Place::Rule { prefix, .. } | Place::Backend { prefix }) = place;
        let prefix = prefix.as_ref();
        let headers = |filter: &HeaderFilter, member: &str, context: &mut Context<'_, '_>| {
            filter.check(&format!("{field}.{member}"), context)
        };
        Some(match self.r#type {
            FilterType::RequestHeaderModifier => {
                let filter = self.request_header_modifier.as_ref()?;
                Filter::Ready(Ready::RequestHeaders(headers(filter, "requestHeaderModifier", context)))
            }
            FilterType::ResponseHeaderModifier => {
                let filter = self.response_header_modifier.as_ref()?;
                Filter::Ready(Ready::ResponseHeaders(headers(filter, "responseHeaderModifier", context)))
            }
            FilterType::RequestMirror => {
                self.request_mirror.as_ref()?.check(&format!("{field}.requestMirror"), context)?
            }
            FilterType::RequestRedirect => {
                let redirect = self.request_redirect.as_ref()?;
                let field = format!("{field}.requestRedirect");
                Filter::Ready(Ready::Redirect(redirect.check(&field, prefix, context.report)))
            }
            FilterType::UrlRewrite => {
                let rewrite = self.url_rewrite.as_ref()?;
                let field = format!("{field}.urlRewrite");
                Filter::Ready(Ready::Rewrite(rewrite.check(&field, prefix, context.report)))
            }
            FilterType::Cors => {
                let cors = self.cors.as_ref()?;
                Filter::Ready(Ready::Cors(cors.check(&format!("{field}.cors"), context)))
            }
            FilterType::ExternalAuth | FilterType::ExtensionRef => self.unsupported(field, place, context),
        })
    }

    /// A filter that must not be skipped, because it may keep somebody out.
    fn unsupported(&self, field: &str, place: &Place, context: &mut Context<'_, '_>) -> Filter {
        let name = self.r#type.name();
        let whose = match place {
            Place::Rule { .. } => "requests that match the rule",
            Place::Backend { .. } => "the backend's share of requests",
        };
        let answer =
            if context.key.kind == Kind::GrpcRoute { "UNAVAILABLE" } else { "500 Internal Server Error" };
        let message =
            format!("UnsupportedValue: weft has no {name} filters: {whose} are answered with {answer}");
        context.report.warning(&format!("{field}.type"), message, "remove the filter");
        Filter::Unsupported(name)
    }
}

impl MirrorSpec {
    fn check(&self, field: &str, context: &mut Context<'_, '_>) -> Option<Filter> {
        let share = check::share(self.percent, self.fraction.as_ref(), field, context.report);
        let to = self.backend_ref.check(&format!("{field}.backendRef"), context)?;
        Some(Filter::Mirror { to, share })
    }
}

impl FilterType {
    fn name(self) -> &'static str {
        match self {
            Self::RequestHeaderModifier => "RequestHeaderModifier",
            Self::ResponseHeaderModifier => "ResponseHeaderModifier",
            Self::RequestMirror => "RequestMirror",
            Self::RequestRedirect => "RequestRedirect",
            Self::UrlRewrite => "URLRewrite",
            Self::Cors => "CORS",
            Self::ExternalAuth => "ExternalAuth",
            Self::ExtensionRef => "ExtensionRef",
        }
    }
}
