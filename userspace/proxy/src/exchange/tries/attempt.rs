//! One try: a connection, the request on it, the head of the answer.

use std::{cell::Cell, error::Error as _, io, ops::ControlFlow, pin::pin};

use http::{HeaderValue, Request, request::Parts};
use hyper::client::conn::TrySendError;
use tokio::time::{Instant, sleep_until};
use weft_model::{AppProtocol, Timeouts};

use super::{Answer, Failed, Progress, Target, Tried, Tries};
use crate::{
    Reason,
    balance::Serving,
    exchange::{
        RequestBody,
        answered::{Carrier, Permits},
        head,
    },
    http1::Malformed,
    http2::is_calmed,
    limits::{Limit, Observed, retry::Outcome},
    observe::Protocol,
    outbound::limit,
    pool::Want,
    route::{filters::Ended, grpc},
    serve::Client,
    tables::Upstream,
};

impl Tries<'_> {
    /// Makes a try and tells everybody who counts how it ended.
    pub(super) async fn attempt(&self, target: &Target<'_>, progress: &mut Progress) -> Tried {
        let Target { upstream, endpoint, .. } = target;
        let request = match &upstream.traffic.circuit_breaker {
            None => None,
            Some(limits) => match upstream.breaker.hold(Limit::Requests, limits) {
                Ok(held) => Some(held),
                Err(_) => return Tried::Refused(Reason::BREAKER_REQUESTS.into()),
            },
        };
        let now = self.client.served.worker.now();
        if let Some(affinity) = &upstream.affinity {
            affinity.used(self.client.address.ip(), endpoint.id(), now);
        }
        let permits =
            Permits { serving: endpoint.serve(now), _request: request, _retry: progress.retry.take() };
        let time = self.routed.try_time();
        let deadline = [self.deadline, time.and_then(|time| Instant::now().checked_add(time))];
        let deadline = deadline.into_iter().flatten().min();
        let queued = Cell::new(false);
        let sending = pin!(self.send(target, progress, &queued));
        // The request's own time as well: who drops this future does not say how the endpoint did.
        // One for the head and the body of the answer.
        let mut timer = deadline.map(|at| Box::pin(sleep_until(at)));
        let sent = match &mut timer {
            None => sending.await,
            Some(timer) => tokio::select! {
                biased;
                sent = sending => sent,
                () = timer.as_mut() => Err(self.timed_out(timer.deadline())),
            },
        };
        let tried = match sent {
            Ok((response, carrier)) => {
                self.observe(target, &permits.serving, observed(&response, self.asked.is_grpc));
                return Tried::Answered(Answer { response, carrier, permits, timer });
            }
            Err(tried) => tried,
        };
        let silent = !queued.get() && !self.body.is_awaited();
        if self.body.failed().is_none() && blames_endpoint(&tried, silent) {
            self.observe(target, &permits.serving, Observed::LocalFailure);
        }
        tried
    }

    async fn send(
        &self,
        target: &Target<'_>,
        progress: &Progress,
        queued: &Cell<bool>,
    ) -> Result<(http::Response<hyper::body::Incoming>, Carrier), Tried> {
        let filtered = self.filtered(target)?;
        let version = version(self.client, &target.upstream, self.asked.is_grpc);
        let tunnel = self.asked.is_tunnel;
        let want = Want {
            client: self.client,
            upstream: &target.upstream,
            endpoint: &target.endpoint,
            connect: limit(
                target.upstream.traffic.timeouts.connect.or(self.routed.timeouts.connect),
                Timeouts::CONNECT,
            ),
            fresh: progress.fresh,
            early: true,
            queued,
        };
        let pools = self.client.pools();
        if version == Protocol::Http2 {
            let mut connection = pools.http2(&want).await.map_err(unconnected)?;
            if tunnel && !Box::pin(connection.takes_tunnels(want.connect)).await.map_err(unconnected)? {
                return Err(Tried::Refused(Reason::UPGRADE_UNSUPPORTED.into()));
            }
            let sent = connection.send(self.request(target, filtered, version)).await;
            match sent {
                Ok(response) => Ok((response, Carrier::Http2(connection))),
                Err(_) if connection.is_flooded() => Err(Tried::Failed(flooded())),
                Err(error) => Err(Tried::Failed(broken(error, connection.reused, progress))),
            }
        } else {
            let mut connection = pools.http1(&want).await.map_err(unconnected)?;
            let sent = connection.send(self.request(target, filtered, version)).await;
            match sent {
                Ok(response) => Ok((response, Carrier::Http1(connection))),
                Err(error) => Err(Tried::Failed(broken(error, connection.reused, progress))),
            }
        }
    }

    /// The head as the backendRef's filters leave it, where there are any; they may have an answer of their own.
    fn filtered(&self, target: &Target<'_>) -> Result<Option<Box<Parts>>, Ended> {
        let Some(backend) = target.backend.filter(|backend| backend.filters.concern_requests()) else {
            return Ok(None);
        };
        let mut parts = Box::new(Parts::clone(&self.parts));
        match backend.filters.on_request(&mut parts, self.port.number) {
            ControlFlow::Continue(()) => Ok(Some(parts)),
            ControlFlow::Break(ended) => Err(ended),
        }
    }

    /// What the server is sent, once there is a connection: nothing of it is kept while one is waited for.
    fn request(
        &self,
        target: &Target<'_>,
        filtered: Option<Box<Parts>>,
        version: Protocol,
    ) -> Request<RequestBody> {
        let mut parts = filtered.map_or_else(|| Parts::clone(&self.parts), |parts| *parts);
        self.tell_time_left(&mut parts);
        head::for_server(&mut parts, self.client, version, self.asked.is_tunnel);
        head::tell(&mut parts, self.client, target.endpoint.address());
        Request::from_parts(parts, self.body.turn())
    }

    /// Has a call that says how long it may take say what is left: no server works for a call that is over.
    fn tell_time_left(&self, parts: &mut Parts) {
        if self.asked.grpc_timeout.is_some()
            && let Some(at) = self.deadline
        {
            let left = grpc::format_timeout(at.saturating_duration_since(Instant::now()));
            let left = HeaderValue::try_from(left).expect("digits and a unit");
            parts.headers.insert(grpc::TIMEOUT, left);
        }
    }

    /// The try's time is over, or the request's.
    fn timed_out(&self, at: Instant) -> Tried {
        if self.deadline == Some(at) {
            return Tried::Refused(Reason::REQUEST_TIMEOUT.into());
        }
        Tried::Failed(Failed { outcome: Outcome::TimedOut, reason: Reason::BACKEND_TIMEOUT })
    }

    fn observe(&self, target: &Target<'_>, serving: &Serving, how: Observed) {
        let now = self.client.served.worker.now();
        if how == Observed::Success {
            serving.answered(now);
        } else {
            serving.failed(now);
        }
        target.upstream.observe(self.client.dialled, &target.endpoint, how, now);
    }
}

impl From<Ended> for Tried {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Answered(answer) => Self::Own(answer),
            Ended::Refused(why) => Self::Refused(why.into()),
        }
    }
}

/// What a server is spoken to in.
///
/// A port that nobody says anything of is spoken to as the client speaks: it dialled the server, after all.
pub(in crate::exchange) fn version(client: &Client, upstream: &Upstream, is_grpc: bool) -> Protocol {
    match upstream.protocol {
        AppProtocol::Http2 => Protocol::Http2,
        AppProtocol::Detect => client.spoken,
        _ if is_grpc => Protocol::Http2,
        AppProtocol::Http | AppProtocol::Tls | AppProtocol::Tcp => Protocol::Http1,
    }
}

fn observed(response: &http::Response<hyper::body::Incoming>, is_grpc: bool) -> Observed {
    let code = if is_grpc { grpc::Code::of(response.headers()) } else { None };
    match code {
        Some(code) => Observed::grpc(code.0),
        None => Observed::status(response.status().as_u16()),
    }
}

/// Whether the endpoint is to blame: not for the proxy's own connections and descriptors, nor where it is there and says
/// no, nor for a time that is over while it was not silent: while the request waited for a connection or for its client.
fn blames_endpoint(tried: &Tried, silent: bool) -> bool {
    match tried {
        Tried::Failed(failed) => match failed.outcome {
            Outcome::TimedOut => silent,
            Outcome::RefusedStream => false,
            outcome => failed.reason != Reason::PROXY_FAILED && !outcome.is_of_kept_connection(),
        },
        Tried::Refused(refused) => refused.reason() == Reason::REQUEST_TIMEOUT && silent,
        Tried::Answered(_) | Tried::Own(_) => false,
    }
}

/// No connection came about.
fn unconnected(reason: Reason) -> Tried {
    match reason {
        Reason::CONNECT_FAILED | Reason::CONNECT_TIMEOUT | Reason::PROXY_FAILED | Reason::UPSTREAM_RESET => {
            Tried::Failed(Failed { outcome: Outcome::ConnectFailed, reason })
        }
        // The policy's word, or the circuit breaker's: not this endpoint's.
        reason => Tried::Refused(reason.into()),
    }
}

/// Sending failed, or the head of the answer did not come. `reused` is a connection that was there before, used because it
/// looked alive; also one that others have just opened, and have used up.
fn broken(mut error: TrySendError<Request<RequestBody>>, reused: bool, progress: &Progress) -> Failed {
    // It comes back unsent: nobody has seen it.
    let unsent = error.take_message().is_some();
    let error = error.into_error();
    let failed = |outcome| Failed { outcome, reason: Reason::UPSTREAM_RESET };
    if unsent || is_beyond_goaway(&error) {
        let again = reused && progress.unsent < MOST_UNSENT;
        return failed(if again { Outcome::Unsent } else { Outcome::ConnectFailed });
    }
    if is_refused_stream(&error) {
        return failed(Outcome::RefusedStream);
    }
    // By a bound of h2's own: too many CONTINUATION, or DATA without bytes.
    if is_calmed(&error) {
        return flooded();
    }
    if Malformed::of(&error).is_some() || error.is_parse() {
        return Failed { outcome: Outcome::ResetBeforeHead, reason: Reason::UPSTREAM_MALFORMED };
    }
    let closed =
        error.is_incomplete_message() || error.is_closed() || error.is_canceled() || is_reset(&error);
    let kept = reused && !progress.fresh;
    failed(if kept && closed { Outcome::StaleConnection } else { Outcome::ResetBeforeHead })
}

/// The server sends too much that answers nothing.
fn flooded() -> Failed {
    Failed { outcome: Outcome::ResetBeforeHead, reason: Reason::FLOOD }
}

/// A stream beyond the last that a GOAWAY names: the server did nothing.
fn is_beyond_goaway(error: &hyper::Error) -> bool {
    http2(error).is_some_and(|error| {
        error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR)
    })
}

/// `REFUSED_STREAM`: the server did nothing.
fn is_refused_stream(error: &hyper::Error) -> bool {
    http2(error).is_some_and(|error| error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM))
}

fn http2(error: &hyper::Error) -> Option<&h2::Error> {
    error.source()?.downcast_ref()
}

fn is_reset(error: &hyper::Error) -> bool {
    let error = error.source().and_then(|error| error.downcast_ref::<io::Error>());
    error.is_some_and(|error| {
        matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
    })
}

/// So often a request that no server has seen is sent again. A server that ends its connections after a hundred requests
/// takes a hundred of those that wait for each new one.
const MOST_UNSENT: u32 = 16;
