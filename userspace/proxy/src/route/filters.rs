//! What a rule and a backendRef do to a request and its answer.
//!
//! Filters run in the object's order, the rule's before the backendRef's, for requests and for answers alike: where two
//! set the same header, the backendRef's stands.

mod cors;
mod headers;
mod mirror;
mod redirect;
mod rewrite;

use std::{ops::ControlFlow, sync::Arc};

use http::{HeaderMap, HeaderValue, Response, StatusCode, request};
use thiserror::Error;
use weft_model::{BackendTarget, Filter, Mirror};

use super::path::PathError;
use crate::Reason;
use cors::Cors;
use headers::Modifier;
pub use mirror::drawn;
use redirect::Redirect;
use rewrite::Rewrite;

/// The filters of a rule or of a backendRef, ready to be applied.
#[derive(Clone, Debug)]
pub struct Filters(Vec<Step>);

#[derive(Clone, Debug)]
enum Step {
    RequestHeaders(Modifier),
    ResponseHeaders(Modifier),
    Redirect(Redirect),
    Rewrite(Rewrite),
    Mirror(Mirror),
    Cors(Cors),
}

/// How a filter ends a request.
#[derive(Debug)]
pub enum Ended {
    /// With an answer: a redirect, the answer to a CORS preflight. It is complete ([`Filters::on_response`] is in it).
    Answered(Response<()>),
    /// It cannot be applied: a rewrite makes the path too long.
    Refused(Reason),
}

/// A filter cannot be applied. Whoever reads the objects has refused such a route before.
#[derive(Debug, Error)]
pub enum FilterError {
    /// A header that is set, added, removed or named for CORS.
    #[error("filter on header `{name}`: not a header's name, or not a value of it: `{value}`")]
    Header {
        /// Its name.
        name: Arc<str>,
        /// Its value; empty where it has none.
        value: Arc<str>,
    },
    /// The host of a rewrite or redirect.
    #[error("filter sets the host `{0}`: it has to be a DNS name")]
    Host(Arc<str>),
    /// The path of a rewrite or redirect.
    #[error("filter sets the path `{path}`: {source}")]
    Path {
        /// The path.
        path: Arc<str>,
        /// What is wrong with it.
        source: PathError,
    },
    /// The status of a redirect.
    #[error("filter redirects with status {0}: use 301, 302, 303, 307 or 308")]
    Status(u16),
}

impl Filters {
    /// Compiles `filters`.
    ///
    /// # Errors
    /// The first that cannot be applied.
    pub fn compile(filters: &[Filter]) -> Result<Self, FilterError> {
        let compile = |filter: &Filter| {
            Ok(match filter {
                Filter::RequestHeaders(modifier) => Step::RequestHeaders(Modifier::compile(modifier)?),
                Filter::ResponseHeaders(modifier) => Step::ResponseHeaders(Modifier::compile(modifier)?),
                Filter::Redirect(redirect) => Step::Redirect(Redirect::compile(redirect)?),
                Filter::Rewrite(rewrite) => Step::Rewrite(Rewrite::compile(rewrite)?),
                Filter::Mirror(mirror) => Step::Mirror(mirror.clone()),
                Filter::Cors(cors) => Step::Cors(Cors::compile(cors)?),
            })
        };
        filters.iter().map(compile).collect::<Result<_, _>>().map(Self)
    }

    /// Changes a request that came to `service_port`, or breaks with what ends it.
    pub fn on_request(&self, parts: &mut request::Parts, service_port: u16) -> ControlFlow<Ended> {
        for step in &self.0 {
            match step {
                Step::RequestHeaders(modifier) => modifier.change_request(parts),
                Step::Rewrite(rewrite) => {
                    if rewrite.apply(parts).is_err() {
                        return ControlFlow::Break(Ended::Refused(Reason::TARGET_TOO_LONG));
                    }
                }
                Step::Redirect(redirect) => {
                    let mut answer = redirect.answer(parts, service_port);
                    self.on_response(answer.headers_mut(), parts.headers.get(http::header::ORIGIN));
                    return ControlFlow::Break(Ended::Answered(answer));
                }
                Step::Cors(cors) => {
                    if let Some(answer) = cors.preflight(parts) {
                        return ControlFlow::Break(Ended::Answered(answer));
                    }
                }
                Step::ResponseHeaders(_) | Step::Mirror(_) => {}
            }
        }
        ControlFlow::Continue(())
    }

    /// Whether [`Filters::on_request`] may do anything.
    pub fn concern_requests(&self) -> bool {
        self.0.iter().any(|step| !matches!(step, Step::ResponseHeaders(_) | Step::Mirror(_)))
    }

    /// Changes the headers of an answer; `origin` is the request's `Origin` as the client sent it.
    pub fn on_response(&self, headers: &mut HeaderMap, origin: Option<&HeaderValue>) {
        for step in &self.0 {
            match step {
                Step::ResponseHeaders(modifier) => modifier.change(headers),
                Step::Cors(cors) => cors.on_response(headers, origin),
                _ => {}
            }
        }
    }

    /// Where copies of a request go, with a number for each mirror. A copy is made of the request as all of these
    /// left it. A mirror that leads nowhere is left out.
    pub fn mirrors(&self, mut random: impl FnMut() -> u32) -> impl Iterator<Item = &BackendTarget> {
        self.0.iter().filter_map(move |step| match step {
            Step::Mirror(Mirror { target: target @ BackendTarget::Service { .. }, share }) => {
                drawn(*share, random()).then_some(target)
            }
            _ => None,
        })
    }

    /// Whether copies of requests are asked for.
    pub fn has_mirrors(&self) -> bool {
        self.0.iter().any(|step| matches!(step, Step::Mirror(_)))
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// An answer without headers.
fn bare(status: StatusCode) -> Response<()> {
    let mut answer = Response::new(());
    *answer.status_mut() = status;
    answer
}

#[cfg(test)]
mod tests;
