//! `RequestMirror`: copies that nobody waits for.
//!
//! A copy is sent beside the request, from the client pod like the request itself, and its answer is read and thrown
//! away. Its body is what the client sends, as it comes. A mirror that falls behind by more than
//! [`Limits::mirror_behind`](crate::Limits) is cut off in the middle: the request never waits for it. One try, no
//! retries, no rate limit, no part in outlier detection. A mirror among a backendRef's filters gets a copy of what the
//! backendRef is drawn for; a retry that goes elsewhere is not copied again.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, request::Parts};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;
use tokio::time::timeout;
use weft_model::{BackendTarget, Timeouts};

use super::{
    RequestBody, Tries,
    body::{BodyError, Part},
    head,
    tries::version,
};
use crate::{
    balance::Ask,
    draw::Draw as _,
    observe::Protocol,
    outbound::limit,
    pool::Want,
    route::{backend::CompiledBackend, filters::Filters},
    serve::Client,
    tables::Upstream,
    worker::Served,
};

/// A copy of a body that is being sent.
#[derive(Clone)]
pub(crate) struct Copy {
    queue: Rc<RefCell<Queue>>,
}

struct Queue {
    parts: VecDeque<Part>,
    bytes: usize,
    most: usize,
    /// Whether the rest comes, came or never will.
    state: State,
    waiting: Option<Waker>,
    served: Rc<Served>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Ended,
    Cut,
}

/// Sends the copies that a backendRef asks for: of the request as its filters leave it.
pub(super) fn send_copies_of(backend: &CompiledBackend, tries: &Tries<'_>) {
    if !backend.filters.has_mirrors() {
        return;
    }
    let mut parts = Parts::clone(&tries.parts);
    if backend.filters.on_request(&mut parts, tries.port.number).is_continue() {
        send_copies(&backend.filters, &parts, tries);
    }
}

/// Sends a copy to each mirror whose share the request falls into.
pub(super) fn send_copies(filters: &Filters, parts: &Parts, tries: &Tries<'_>) {
    if !filters.has_mirrors() {
        return;
    }
    let Tries { client, tables, body, .. } = tries;
    let served = &client.served;
    let random = || {
        let number = served.worker.dice.borrow_mut().number();
        u32::try_from(number >> 32).expect("the upper half")
    };
    for target in filters.mirrors(random) {
        let BackendTarget::Service { name, port } = target else { continue };
        let Some(upstream) = tables.upstream(name, *port) else { continue };
        let most = served.worker.shared.limits.mirrors;
        if served.mirrors.get() >= most {
            served.pod.account.mirror_dropped();
            continue;
        }
        let copied = if body.is_end_stream() { RequestBody::Empty } else { copy_of(client, body) };
        let copy = send(Rc::clone(client), Arc::clone(upstream), parts.clone(), copied);
        let counted = Counted::new(served);
        served.clients.spawn("mirror", async move {
            let _counted = counted;
            let _ = timeout(LONGEST, copy).await;
        });
    }
}

async fn send(client: Rc<Client>, upstream: Arc<Upstream>, mut parts: Parts, body: RequestBody) {
    let worker = &client.served.worker;
    let endpoint = {
        let ask = Ask { now: worker.now(), hash: None, tried: &[] };
        let endpoints = upstream.endpoints(client.dialled).endpoints();
        endpoints.pick(&ask, &mut *worker.dice.borrow_mut()).cloned()
    };
    let Some(endpoint) = endpoint else { return };
    let is_grpc = crate::route::grpc::is_grpc(&parts.headers);
    let version = version(&client, &upstream, is_grpc);
    head::for_server(&mut parts, &client, version, false);
    head::tell(&mut parts, &client, endpoint.address());
    let connect = limit(upstream.traffic.timeouts.connect, Timeouts::CONNECT);
    let request = Request::from_parts(parts, body);
    // Not the early connection: it is the request's own.
    let want = Want {
        client: &client,
        upstream: &upstream,
        endpoint: &endpoint,
        connect,
        fresh: false,
        early: false,
        queued: &Cell::new(false),
    };
    let pools = client.pools();
    if version == Protocol::Http2 {
        let Ok(mut connection) = pools.http2(&want).await else { return };
        if let Ok(answer) = connection.send(request).await {
            drain(answer.into_body()).await;
        }
    } else {
        let Ok(mut connection) = pools.http1(&want).await else { return };
        if let Ok(answer) = connection.send(request).await
            && drain(answer.into_body()).await
        {
            connection.done();
        }
    }
}

/// Reads an answer to its end. Returns whether it had one.
async fn drain(mut body: hyper::body::Incoming) -> bool {
    while let Some(frame) = body.frame().await {
        if frame.is_err() {
            return false;
        }
    }
    true
}

fn copy_of(client: &Client, body: &RequestBody) -> RequestBody {
    let served = &client.served;
    let queue = Queue {
        parts: VecDeque::new(),
        bytes: 0,
        most: served.worker.shared.limits.mirror_behind,
        state: State::Open,
        waiting: None,
        served: Rc::clone(served),
    };
    let copy = Copy { queue: Rc::new(RefCell::new(queue)) };
    body.copy_to(copy.clone());
    RequestBody::Copied(copy)
}

impl Copy {
    /// Adds a piece. Returns whether the copy goes on.
    pub(super) fn push(&self, part: &Part) -> bool {
        // Nobody reads it any more.
        if Rc::strong_count(&self.queue) == 1 {
            return false;
        }
        let mut queue = self.queue.borrow_mut();
        // Who has read all that there was is not behind, however large the next piece is.
        if !queue.parts.is_empty() && queue.bytes + part.len() > queue.most {
            queue.served.pod.account.mirror_dropped();
            queue.end(State::Cut);
            return false;
        }
        queue.bytes += part.len();
        queue.parts.push_back(part.clone());
        queue.wake();
        true
    }

    /// The body has ended.
    pub(super) fn end(self) {
        self.queue.borrow_mut().end(State::Ended);
    }

    /// The body has broken off.
    pub(super) fn cut(self) {
        self.queue.borrow_mut().end(State::Cut);
    }

    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut queue = self.queue.borrow_mut();
        if let Some(part) = queue.parts.pop_front() {
            queue.bytes -= part.len();
            return Poll::Ready(Some(Ok(part.into_frame())));
        }
        match queue.state {
            State::Ended => Poll::Ready(None),
            State::Cut => Poll::Ready(Some(Err(BodyError::Behind))),
            State::Open => {
                queue.waiting = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Queue {
    fn end(&mut self, how: State) {
        self.state = how;
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }
}

/// A mirror that counts.
struct Counted {
    served: Rc<Served>,
}

impl Counted {
    fn new(served: &Rc<Served>) -> Self {
        served.mirrors.set(served.mirrors.get() + 1);
        Self { served: Rc::clone(served) }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.served.mirrors.set(self.served.mirrors.get() - 1);
    }
}

/// A mirror that does not answer is forgotten.
const LONGEST: Duration = Duration::from_mins(1);
