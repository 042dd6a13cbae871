//! Whether policies let a request be answered: those of the pod that it comes to, or of the route that it takes.
//!
//! Register, then decide, then hold a guard: whoever asks for the change that a decision has not seen is told of it.

use std::{
    cell::OnceCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header::HOST, request::Parts};
use pin_project_lite::pin_project;
use tokio::sync::watch;
use weft_model::RouteName;
use weft_policy::{
    Claims, Decision, Headers, HttpRequest,
    path::{PathError, Readings},
};

use super::{Ledger, Refused, Routed};
use crate::{
    Reason,
    serve::{Client, Guard},
    tables::Caller,
};

/// What policies are asked about a request, for as long as it lasts. There may be none yet: the first one is asked, too.
pub(super) struct Question {
    client: Rc<Client>,
    caller: Caller,
    /// Of a request that the pod makes; one that is made to it takes none.
    route: Option<RouteName>,
    method: http::Method,
    uri: Uri,
    /// Of the path, once somebody asks.
    path: OnceCell<Result<Readings, PathError>>,
    headers: HeaderMap,
    /// What its verified tokens say; `None` where nobody verifies any.
    claims: Option<Rc<dyn Claims>>,
    /// As of before anything is decided.
    changes: watch::Receiver<u64>,
}

impl Question {
    /// The question about a request whose path is normal already. `None` where nobody could ever ask: it takes no route, and
    /// is not made to the pod.
    pub(super) fn of(
        client: &Rc<Client>,
        parts: &Parts,
        routed: &Routed<'_>,
        claims: Option<Rc<dyn Claims>>,
    ) -> Option<Rc<Self>> {
        let changes = client.served.worker.shared.changes.subscribe();
        let (caller, route) = if let Some(incoming) = &client.caller {
            (incoming.caller.clone(), None)
        } else {
            let route = RouteName { kind: routed.kind, name: routed.rule?.route.name.clone() };
            let proven = client.served.pod.service_account.clone();
            (Caller { ip: client.address.ip(), proven }, Some(route))
        };
        Some(Rc::new(Self {
            client: Rc::clone(client),
            caller,
            route,
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            path: OnceCell::new(),
            headers: parts.headers.clone(),
            claims,
            changes,
        }))
    }

    /// Decides.
    pub(super) fn admit(&self, ledger: &mut Ledger) -> Result<(), Refused> {
        let Some(decision) = self.judge()? else { return Ok(()) };
        if let Some(audit) = &decision.audit {
            ledger.audited(audit.reason);
        }
        if decision.allowed() {
            return Ok(());
        }
        if let Some(rule) = &decision.rule {
            let pod = &self.client.served.pod.name;
            tracing::debug!(%pod, client = %self.caller.ip, %rule, "a policy refuses a request");
        }
        Err(decision.reason.into())
    }

    /// Says so once the request is forbidden.
    pub(super) fn guard(self: &Rc<Self>) -> Guard {
        let (question, mut changes) = (Rc::clone(self), self.changes.clone());
        Box::pin(async move {
            loop {
                if changes.changed().await.is_err() {
                    return std::future::pending().await;
                }
                match question.judge() {
                    Ok(Some(decision)) if !decision.allowed() => return decision.reason,
                    Ok(_) => {}
                    Err(why) => return why,
                }
            }
        })
    }

    /// What the policies of now say; `None` where there are none.
    fn judge(&self) -> Result<Option<Decision>, Reason> {
        let tables = self.client.served.worker.shared.tables.load();
        if self.route.as_ref().is_some_and(|route| !tables.judges_by_route(route)) {
            return Ok(None);
        }
        let path = self.path.get_or_init(|| Readings::of(self.uri.path()));
        let path = path.as_ref().map_err(|_| Reason::PATH_INVALID)?;
        let host = self.uri.authority().map(http::uri::Authority::as_str);
        let host = host.or_else(|| str::from_utf8(self.headers.get(HOST)?.as_bytes()).ok());
        let headers = Fields(&self.headers);
        let claims = self.claims.as_deref();
        let http = HttpRequest { method: self.method.as_str(), path, host, headers: &headers, claims };
        Ok(match &self.route {
            None => tables.judge(self.client.dialled, &self.caller, http),
            Some(route) => tables.judge_by_route(route, self.client.dialled, &self.caller, http),
        })
    }
}

pin_project! {
    /// Work on a request that ends when the request is forbidden.
    pub(super) struct Unless<'a, F> {
        guard: Option<&'a mut Guard>,
        #[pin]
        work: F,
    }
}

impl<'a, F> Unless<'a, F> {
    pub(super) fn forbidden(guard: Option<&'a mut Guard>, work: F) -> Self {
        Self { guard, work }
    }
}

impl<T, F: Future<Output = Result<T, Refused>>> Future for Unless<'_, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        if let Some(guard) = this.guard
            && let Poll::Ready(why) = guard.as_mut().poll(cx)
        {
            return Poll::Ready(Err(why.into()));
        }
        this.work.poll(cx)
    }
}

/// Headers as policies read them.
struct Fields<'a>(&'a HeaderMap);

impl Headers for Fields<'_> {
    fn each(&self, name: &str, line: &mut dyn FnMut(&[u8])) {
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { return };
        self.0.get_all(name).iter().map(HeaderValue::as_bytes).for_each(line);
    }
}
