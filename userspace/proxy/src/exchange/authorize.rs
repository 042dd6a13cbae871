//! Whether policies let a request be answered: those of the pod that it comes to, or of the route that it takes.
//!
//! Register, then decide, then hold a guard: a change that the decision has not seen has it decided again.

use std::{
    cell::{Cell, OnceCell, RefCell},
    pin::Pin,
    rc::{Rc, Weak},
    task::{Context, Poll, Waker},
};

use http::{HeaderMap, HeaderName, HeaderValue, header::HOST, request::Parts};
use pin_project_lite::pin_project;
use weft_model::RouteName;
use weft_policy::{
    Claims, Decision, Headers, HttpRequest,
    path::{PathError, Readings},
};

use super::{Ledger, Refused, Routed};
use crate::{Reason, serve::Client, tables::Caller, worker::Decided};

/// What policies are asked about a request, for as long as it lasts. There may be none yet: the first one is asked, too.
pub(super) struct Question {
    client: Rc<Client>,
    /// Of a request that the pod makes; one that is made to it takes none.
    route: Option<RouteName>,
    asked: Rc<Parts>,
    /// Of the path, once somebody asks.
    path: OnceCell<Result<Readings, PathError>>,
    /// What its verified tokens say; `None` where nobody verifies any.
    claims: Option<Rc<dyn Claims>>,
    /// Why it is forbidden, since some change.
    forbidden: Cell<Option<Reason>>,
    /// Whoever holds the guard.
    waits: RefCell<Option<Waker>>,
    place: Cell<usize>,
}

/// Ready once a request is forbidden that was let in. It is the one of its question: somebody else needs one
/// [of his own](Question::guard_apart).
pub(crate) struct Guard(Rc<Question>);

impl Question {
    /// The question about a request whose path is normal already. `None` where nobody could ever ask: it takes no route, and
    /// is not made to the pod.
    pub(super) fn of(
        client: &Rc<Client>,
        asked: &Rc<Parts>,
        routed: &Routed<'_>,
        claims: Option<Rc<dyn Claims>>,
    ) -> Option<Rc<Self>> {
        let route = match &client.caller {
            Some(_) => None,
            None => Some(RouteName { kind: routed.kind, name: routed.rule?.route.name.clone() }),
        };
        Some(Self::joined(client, asked, route, claims))
    }

    /// A question that is asked again with each change.
    fn joined(
        client: &Rc<Client>,
        asked: &Rc<Parts>,
        route: Option<RouteName>,
        claims: Option<Rc<dyn Claims>>,
    ) -> Rc<Self> {
        let question = Rc::new(Self {
            client: Rc::clone(client),
            route,
            asked: Rc::clone(asked),
            path: OnceCell::new(),
            claims,
            forbidden: Cell::new(None),
            waits: RefCell::default(),
            place: Cell::new(0),
        });
        let weak = Rc::downgrade(&question) as Weak<dyn Decided>;
        question.place.set(question.client.served.worker.rechecks.join(weak));
        question
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
            let client = self.client.address.ip();
            tracing::debug!(%pod, %client, %rule, "a policy refuses a request");
        }
        Err(decision.reason.into())
    }

    /// Says so once the request is forbidden.
    pub(super) fn guard(self: &Rc<Self>) -> Guard {
        Guard(Rc::clone(self))
    }

    /// The same for another task, and for longer.
    pub(super) fn guard_apart(&self) -> Guard {
        let apart = Self::joined(&self.client, &self.asked, self.route.clone(), self.claims.clone());
        apart.forbidden.set(self.forbidden.get());
        Guard(apart)
    }

    /// What the policies of now say; `None` where there are none.
    fn judge(&self) -> Result<Option<Decision>, Reason> {
        let tables = self.client.served.worker.shared.tables.load();
        if self.route.as_ref().is_some_and(|route| !tables.judges_by_route(route)) {
            return Ok(None);
        }
        let Parts { method, uri, headers, .. } = &*self.asked;
        let path = self.path.get_or_init(|| Readings::of(uri.path()));
        let path = path.as_ref().map_err(|_| Reason::PATH_INVALID)?;
        let host = uri.authority().map(http::uri::Authority::as_str);
        let host = host.or_else(|| str::from_utf8(headers.get(HOST)?.as_bytes()).ok());
        let headers = Fields(headers);
        let claims = self.claims.as_deref();
        let http = HttpRequest { method: method.as_str(), path, host, headers: &headers, claims };
        let client = &self.client;
        Ok(match (&client.caller, &self.route) {
            (Some(incoming), _) => tables.judge(client.dialled, &incoming.caller, http),
            (None, Some(route)) => {
                let proven = client.served.pod.service_account.clone();
                let pod = Caller { ip: client.address.ip(), proven };
                tables.judge_by_route(route, client.dialled, &pod, http)
            }
            (None, None) => None,
        })
    }
}

impl Decided for Question {
    fn decide_again(&self) {
        let why = match self.judge() {
            Ok(Some(decision)) if !decision.allowed() => decision.reason,
            Ok(_) => return,
            Err(why) => why,
        };
        // Who was told that it is forbidden is not told of the next policy.
        if self.forbidden.get().is_none() {
            self.forbidden.set(Some(why));
            if let Some(waker) = self.waits.take() {
                waker.wake();
            }
        }
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.client.served.worker.rechecks.leave(self.place.get());
    }
}

impl Future for Guard {
    type Output = Reason;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Reason> {
        if let Some(why) = self.0.forbidden.get() {
            return Poll::Ready(why);
        }
        let mut waits = self.0.waits.borrow_mut();
        if !waits.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waits = Some(cx.waker().clone());
        }
        Poll::Pending
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
            && let Poll::Ready(why) = Pin::new(guard).poll(cx)
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
