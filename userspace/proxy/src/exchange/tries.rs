//! The tries of one request: which endpoint, over which connection, and whether there is another one.

mod attempt;
mod target;

use std::{
    net::SocketAddr,
    pin::{Pin, pin},
    rc::Rc,
    time::Duration,
};

use http::{HeaderValue, Response, request::Parts};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep, timeout_at};

use super::{
    AnswerBody, Asked, Ledger, Question, Refused, RequestBody, Routed,
    answered::{Carried, Carrier, Permits},
    failed::Failed,
    head, mirror, upgrade, websocket,
};
use crate::{
    Reason,
    balance::session::Session,
    limits::{
        Budget, Held, Limit,
        retry::{self, Decision, GiveUp, Outcome},
    },
    route::grpc,
    serve::Client,
    tables::{Port, Tables},
};
pub(super) use attempt::version;
use target::Target;

/// What the tries of a request start from.
pub(super) struct Tries<'a> {
    pub client: &'a Rc<Client>,
    pub tables: &'a Tables,
    pub port: &'a Port,
    pub routed: &'a Routed<'a>,
    pub asked: Asked,
    /// Its head as the rule's filters leave it.
    pub parts: Rc<Parts>,
    pub body: RequestBody,
    pub deadline: Option<Instant>,
    /// The client's own, for CORS.
    pub origin: Option<HeaderValue>,
    /// What policies are asked about it.
    pub question: Option<Rc<Question>>,
}

/// A server's answer, of which the head is here.
struct Answer {
    response: Response<Incoming>,
    carrier: Carrier,
    permits: Permits,
    /// Rings when the try has to be over.
    timer: Option<Pin<Box<Sleep>>>,
}

/// How a try ended.
enum Tried {
    Answered(Answer),
    Failed(Failed),
    /// Nothing another try would change.
    Refused(Refused),
    /// A filter of the backendRef answered.
    Own(Response<()>),
}

/// What follows a try.
enum Next<'a> {
    Try(Target<'a>),
    /// What came is the client's answer.
    Pass,
    Refuse(Reason),
}

/// How far the tries are.
#[derive(Default)]
struct Progress {
    /// Tries that count.
    made: u32,
    tried: Vec<SocketAddr>,
    /// A kept connection failed: the next one is a new one.
    fresh: bool,
    /// How often it came back unseen.
    unsent: u32,
    retry: Option<Held>,
    /// The policy's attempts were used up.
    exhausted: bool,
}

impl Tries<'_> {
    /// Tries until there is an answer that is passed on.
    pub(super) async fn run(&self, ledger: &mut Ledger) -> Result<Response<AnswerBody>, Refused> {
        let mut progress = Progress::default();
        let mut target = self.first_target()?;
        if let Some(backend) = target.backend {
            mirror::send_copies_of(backend, self);
        }
        self.budget(&target).request(self.client.served.worker.now());
        loop {
            progress.made += 1;
            let tables = &self.client.served.worker.shared.tables;
            ledger.tried(&target.upstream, target.endpoint.address(), &tables.load());
            let tried = pin!(self.attempt(&target, &mut progress)).await;
            let (outcome, reason) = match &tried {
                Tried::Own(_) | Tried::Refused(_) => (None, Reason::UPSTREAM_RESET),
                Tried::Failed(failed) => (Some(failed.outcome), failed.reason),
                Tried::Answered(answer) => (self.judge(&answer.response), Reason::UPSTREAM_RESET),
            };
            let next = match outcome {
                Some(outcome) => self.next(outcome, &target, &mut progress).await,
                None => Next::Pass,
            };
            if let Next::Try(next) = next {
                drop(tried);
                target = next;
                continue;
            }
            if let Some(why) = self.body.failed() {
                return Err(why.into());
            }
            ledger.received(&self.body);
            if progress.exhausted {
                ledger.exhausted();
            }
            if let Next::Refuse(why) = next {
                return Err(why.into());
            }
            return match tried {
                Tried::Answered(answer) => {
                    ledger.answered();
                    self.finish(answer, &target)
                }
                Tried::Own(answer) => {
                    ledger.untried();
                    Ok(answer.map(|()| AnswerBody::empty()))
                }
                Tried::Refused(refused) => {
                    ledger.untried();
                    Err(refused)
                }
                Tried::Failed(_) => Err(reason.into()),
            };
        }
    }

    /// What an answer is to the retry policy, if it is worth another try.
    fn judge(&self, answer: &Response<Incoming>) -> Option<Outcome> {
        let policy = self.routed.retry?;
        if self.asked.is_grpc
            && let Some(code) = grpc::Code::of(answer.headers())
        {
            return policy.grpc_codes.contains(&code.0).then_some(Outcome::Grpc(code.0));
        }
        let status = answer.status().as_u16();
        policy.codes.contains(&status).then_some(Outcome::Status(status))
    }

    /// The retry budget of the rule or of the Service that was asked, else the backend's.
    fn budget<'b>(&'b self, target: &'b Target<'_>) -> &'b Budget {
        self.port.budget(self.routed.rule).unwrap_or(&target.upstream.budget)
    }

    /// Decides on another try, waits for it, and says where it goes.
    async fn next(&self, outcome: Outcome, last: &Target<'_>, progress: &mut Progress) -> Next<'_> {
        let spoilt = outcome.is_of_kept_connection();
        if !spoilt {
            progress.tried.push(last.endpoint.address());
        }
        let Some(next) = self.next_target(last, &progress.tried, outcome) else { return Next::Pass };
        let tries = retry::Tries {
            policy: self.routed.retry,
            made: progress.made,
            replayable: self.body.is_whole(),
            idempotent: is_idempotent(&self.parts.method),
            left: self.deadline.map(|at| at.saturating_duration_since(Instant::now())),
        };
        let worker = &self.client.served.worker;
        let budget = self.budget(last);
        let decision = retry::decide(outcome, &tries, budget, worker.now(), &mut *worker.dice.borrow_mut());
        let wait = match decision {
            Decision::Retry(wait) => wait,
            Decision::GiveUp(GiveUp::Budget) => return self.held_back(Reason::RETRY_BUDGET),
            Decision::GiveUp(why) => {
                let given = self.routed.retry.is_some_and(|policy| policy.attempts > 0);
                progress.exhausted = given && why == GiveUp::Attempts;
                return Next::Pass;
            }
        };
        if let Some(limits) = &next.upstream.traffic.circuit_breaker
            && outcome != Outcome::Unsent
        {
            let Ok(held) = next.upstream.breaker.hold(Limit::Retries, limits) else {
                return self.held_back(Reason::BREAKER_RETRIES);
            };
            progress.retry = Some(held);
        }
        progress.made -= u32::from(spoilt);
        progress.unsent += u32::from(outcome == Outcome::Unsent);
        progress.fresh = spoilt || outcome == Outcome::RefusedStream;
        if !wait.is_zero() && self.wait(wait).await.is_err() {
            return Next::Refuse(Reason::REQUEST_TIMEOUT);
        }
        Next::Try(next)
    }

    /// Waits for `time`, as far as the request has so much left.
    pub(super) async fn wait(&self, time: Duration) -> Result<(), Refused> {
        let Some(deadline) = self.deadline else {
            sleep(time).await;
            return Ok(());
        };
        timeout_at(deadline, sleep(time)).await.map_err(|_| Reason::REQUEST_TIMEOUT.into())
    }

    /// A retry that a policy asks for and that would be one too many is answered with 503 (GEP-3388). One that nobody
    /// asked for leaves the client what came.
    fn held_back(&self, why: Reason) -> Next<'static> {
        if self.routed.retry.is_some() { Next::Refuse(why) } else { Next::Pass }
    }

    /// Makes the client's answer of a server's.
    fn finish(&self, answer: Answer, target: &Target<'_>) -> Result<Response<AnswerBody>, Refused> {
        let Answer { mut response, carrier, permits, timer } = answer;
        self.body.answered();
        let theirs = hyper::upgrade::on(&mut response);
        let (mut parts, incoming) = response.into_parts();
        let switched = self.asked.is_tunnel && websocket::agreed(parts.status, carrier.version());
        if self.asked.is_tunnel
            && !switched
            && websocket::is_taken_for_consent(parts.status, self.client.spoken)
        {
            return Err(Reason::UPGRADE_UNSUPPORTED.into());
        }
        head::for_client(&mut parts, self.client);
        let backend = target.backend.map(|backend| &backend.filters);
        for filters in self.routed.rule.map(|rule| &rule.filters).into_iter().chain(backend) {
            filters.on_response(&mut parts.headers, self.origin.as_ref());
        }
        if let Some(line) = &target.granted {
            parts.headers.append(http::header::SET_COOKIE, line.clone());
        }
        if let Some((name, value)) = self.session(target) {
            parts.headers.append(name, value);
        }
        Ok(match self.asked.tunnel.take() {
            Some(ours) if switched => {
                websocket::agree(&mut parts, self.client.spoken, self.parts.headers.get(websocket::KEY));
                let guard = self.question.as_deref().map(Question::guard_apart);
                upgrade::tunnel(self.client, (ours, theirs), permits, carrier, guard);
                Response::from_parts(parts, AnswerBody::empty())
            }
            _ => {
                let carried = Carried::new(incoming, carrier, permits, self.body.handle(), timer);
                Response::from_parts(parts, AnswerBody::carried(carried))
            }
        })
    }

    /// The token of a session that begins, or goes on elsewhere.
    fn session(&self, target: &Target<'_>) -> Option<(http::HeaderName, HeaderValue)> {
        let rule = self.routed.session.filter(|_| !target.in_session)?;
        let unix = target::unix();
        let session = Session { endpoint: target.endpoint.id(), began: unix.as_secs() };
        session.write(rule, self.routed.matches, unix)
    }
}

/// RFC 9110 9.2.2.
fn is_idempotent(method: &http::Method) -> bool {
    use http::Method;
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE].contains(method)
}
