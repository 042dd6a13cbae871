//! One request, from its head to the end of its answer.
//!
//! ```text
//! answer ──► forward: routes ──► tokens ──► policies ──► rate limit ──► fault ──► filters ──► tries ──► answer's filters ──► client
//!    │                                                                 │ backend, endpoint, connection, send
//!    └── a refusal becomes an answer with its Reason                   └─ retry decision, wait, again
//! ```
//! The client's leaving drops the future, and with it what is under way upstream.
//!
//! What is awaited is pinned first, all the way down: `f().await` makes the future of `f` on the stack and copies it to where it
//! is polled, the whole room that it may ever need, kilobytes at each of these steps.

mod answered;
mod asked;
mod authorize;
mod body;
mod failed;
mod head;
mod ledger;
mod messages;
mod mirror;
mod routed;
mod tries;
mod upgrade;
mod websocket;

use std::{convert::Infallible, ops::ControlFlow, pin::pin, rc::Rc};

use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{CONNECTION, ORIGIN},
    request::Parts,
};
use http_body::Body as _;
use hyper::body::Incoming;
use weft_policy::Claims;

use crate::{
    Reason, forwarded,
    limits::{fault, rate::Source},
    observe::Protocol,
    route::{answer::Form, filters::Ended},
    serve::Client,
    short,
    tables::Tables,
    worker::delivery,
};
pub(crate) use answered::AnswerBody;
use asked::Asked;
pub(crate) use authorize::Guard;
use authorize::{Question, Unless};
pub(crate) use body::RequestBody;
use failed::Refused;
use ledger::Ledger;
use routed::Routed;
use tries::Tries;

/// Answers one request. Never an error: a refusal is an answer.
///
/// The head is in a place of its own: it would be copied at each step, and have room in each of their futures.
pub(crate) fn answer(
    client: Rc<Client>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<AnswerBody>, Infallible>> {
    let (parts, body) = request.into_parts();
    exchange(client, Rc::new(parts), body)
}

async fn exchange(
    client: Rc<Client>,
    parts: Rc<Parts>,
    body: Incoming,
) -> Result<Response<AnswerBody>, Infallible> {
    let form = Form::of(&parts);
    let mut ledger = Ledger::open(&client, &parts);
    let answered = match client.request() {
        Some(under_way) => {
            ledger.holds(under_way);
            pin!(forward(&client, parts, body, &mut ledger)).await
        }
        None => Err(Reason::POD_REQUESTS.into()),
    };
    let mut response = match answered {
        Ok(response) => response,
        Err(refused) => {
            ledger.refused(refused.reason());
            refused.into_answer(form)
        }
    };
    ledger.head(&response);
    // Behind the head of a 101 comes a tunnel.
    if response.status() == StatusCode::SWITCHING_PROTOCOLS || !short::is_short(&response.body().size_hint())
    {
        client.becomes_long();
    }
    response.body_mut().enter(ledger, client.spoken);
    if client.last.get() && client.spoken == Protocol::Http1 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

async fn forward(
    client: &Rc<Client>,
    mut parts: Rc<Parts>,
    body: Incoming,
    ledger: &mut Ledger,
) -> Result<Response<AnswerBody>, Refused> {
    let tables = client.served.worker.shared.tables.load_full();
    let port = match &client.caller {
        Some(incoming) => Some(&incoming.port),
        None => tables.port(client.dialled),
    };
    let port = port.ok_or_else(|| {
        // Whoever dials again is told by the kernel, or finds what has taken the address.
        client.end();
        Reason::NO_SERVICE
    })?;
    // Nobody else has it yet.
    let head = Rc::make_mut(&mut parts);
    forwarded::distrust(&mut head.headers);
    let asked = Asked::read(client, head)?;
    ledger.asked(port, head, asked.is_grpc);
    head::identify(head, client);
    ledger.identified(head);
    let routed = Routed::find(port, client, head)?;
    ledger.routed(&routed);
    let claims = authenticate(client, &tables, head)?;
    // From here on it is what the client asks, whatever filters make of it for the server.
    let question = Question::of(client, &parts, &routed, claims);
    if let Some(question) = &question {
        question.admit(ledger)?;
    }
    let deadline = routed.deadline(asked.grpc_timeout);
    // What the client sent: a filter may change it for the server.
    let origin = parts.headers.get(ORIGIN).cloned();
    let patience = client.served.worker.shared.limits.body_time;
    let body = RequestBody::of(body, asked.is_grpc, patience);
    let mut tries = Tries {
        client,
        tables: &tables,
        port,
        routed: &routed,
        asked,
        parts,
        body,
        deadline,
        origin,
        question,
    };
    let mut guard = tries.question.as_ref().map(Question::guard);
    let stages = pin!(stages(&mut tries, ledger));
    let answer = Unless::forbidden(guard.as_mut(), stages).await?;
    // From here on the answer is on its way: it can only be cut.
    if let Some(guard) = guard.and_then(delivery::guard) {
        client.guard(guard);
    }
    Ok(answer)
}

/// What the tokens of a request that is made to the pod prove; `None` where nobody looks at tokens.
fn authenticate(
    client: &Client,
    tables: &Tables,
    parts: &mut Parts,
) -> Result<Option<Rc<dyn Claims>>, Refused> {
    let Some(providers) = client.caller.as_ref().and_then(|_| tables.providers(&client.served.pod.name))
    else {
        return Ok(None);
    };
    Ok(Some(Rc::new(providers.authenticate(&mut parts.headers)?)))
}

/// What a request meets on its way, in this order.
async fn stages(tries: &mut Tries<'_>, ledger: &mut Ledger) -> Result<Response<AnswerBody>, Refused> {
    within_rate(tries)?;
    inject(tries, ledger).await?;
    if let Some(rule) = tries.routed.rule.filter(|rule| rule.filters.concern_requests())
        && let ControlFlow::Break(ended) =
            rule.filters.on_request(Rc::make_mut(&mut tries.parts), tries.port.number)
    {
        return match ended {
            Ended::Answered(answer) => Ok(answer.map(|()| AnswerBody::empty())),
            Ended::Refused(why) => Err(why.into()),
        };
    }
    if let Some(rule) = tries.routed.rule {
        mirror::send_copies(&rule.filters, &tries.parts, tries);
    }
    pin!(tries.run(ledger)).await
}

/// Takes a token of each rule.
fn within_rate(tries: &Tries<'_>) -> Result<(), Refused> {
    let Some(limit) = tries.port.limit(tries.routed.rule) else { return Ok(()) };
    let pod = &tries.client.served.pod.name;
    let (ip, headers) = (tries.client.address.ip(), &tries.parts.headers);
    let source = Source { identity: tries.tables.identity(pod), ip, headers };
    let taken = limit.take(&source, tries.client.served.worker.now());
    taken.map_err(|limited| Refused::limited(limited.retry_after()))
}

/// Waits, refuses, or both.
async fn inject(tries: &Tries<'_>, ledger: &mut Ledger) -> Result<(), Refused> {
    let Some(faults) = &tries.routed.traffic.faults else { return Ok(()) };
    let fault = fault::draw(faults, &mut *tries.client.served.worker.dice.borrow_mut());
    if let Some(delay) = fault.delay {
        ledger.delayed();
        tries.wait(delay).await?;
    }
    fault.abort.map_or(Ok(()), |abort| Err(Refused::injected(abort)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<F>(_: impl Fn(Rc<Client>, Request<Incoming>) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_request_is_not_larger_than_its_budget() {
        let size = size_of_future(answer);
        assert!(size <= BUDGET, "{size} bytes");
    }

    /// Bytes of the future that is a request. hyper keeps the room for one in each connection.
    const BUDGET: usize = 2176;
}
