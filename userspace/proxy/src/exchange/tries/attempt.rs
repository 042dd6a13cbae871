//! One try: a connection, the request on it, the head of the answer.

use std::{error::Error as _, io, ops::ControlFlow};

use http::Request;
use hyper::client::conn::TrySendError;
use tokio::time::{Instant, timeout};
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
    limits::{Limit, Observed, retry::Outcome},
    observe::Protocol,
    outbound::limit,
    pool::Want,
    route::grpc,
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
        let sending = self.send(target, progress.fresh);
        let sent = match time {
            None => sending.await,
            Some(time) => timeout(time, sending).await.unwrap_or(Err(timed_out())),
        };
        let tried = match sent {
            Ok((response, carrier)) => {
                self.observe(target, &permits.serving, observed(&response, self.asked.is_grpc));
                return Tried::Answered(Answer { response, carrier, permits, deadline });
            }
            Err(tried) => tried,
        };
        if let Tried::Failed(_) = tried
            && self.body.failed().is_none()
        {
            self.observe(target, &permits.serving, Observed::LocalFailure);
        }
        tried
    }

    async fn send(
        &self,
        target: &Target<'_>,
        fresh: bool,
    ) -> Result<(http::Response<hyper::body::Incoming>, Carrier), Tried> {
        let mut parts = self.parts.clone();
        if let Some(backend) = target.backend
            && let ControlFlow::Break(answer) = backend.filters.on_request(&mut parts, self.port.number)
        {
            return Err(Tried::Own(answer));
        }
        let version = version(self.client, &target.upstream, self.asked.is_grpc);
        let tunnel = self.asked.is_tunnel;
        head::for_server(&mut parts, self.client, version, tunnel);
        let want = Want {
            client: self.client,
            upstream: &target.upstream,
            endpoint: &target.endpoint,
            connect: limit(
                target.upstream.traffic.timeouts.connect.or(self.routed.timeouts.connect),
                Timeouts::CONNECT,
            ),
            fresh,
            early: true,
        };
        let pools = &self.client.served.pools;
        if version == Protocol::Http2 {
            let mut connection = pools.http2(&want).await.map_err(unconnected)?;
            let sent = connection.send(Request::from_parts(parts, self.body.turn())).await;
            match sent {
                Ok(response) => Ok((response, Carrier::Http2(connection))),
                Err(error) => Err(Tried::Failed(broken(error, connection.reused))),
            }
        } else {
            let mut connection = pools.http1(&want).await.map_err(unconnected)?;
            let sent = connection.send(Request::from_parts(parts, self.body.turn())).await;
            match sent {
                Ok(response) => Ok((response, Carrier::Http1(connection))),
                Err(error) => Err(Tried::Failed(broken(error, connection.reused))),
            }
        }
    }

    fn observe(&self, target: &Target<'_>, serving: &Serving, how: Observed) {
        let now = self.client.served.worker.now();
        if how == Observed::Success {
            serving.answered(now);
        } else {
            serving.failed(now);
        }
        let endpoints = target.upstream.endpoints(self.client.dialled).endpoints();
        if let Some(ejected) = endpoints.observe(&target.endpoint, how, now) {
            let endpoint = target.endpoint.address();
            tracing::info!(service = %target.upstream.service, %endpoint, ?ejected, "an endpoint is ejected");
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
    match grpc::Code::of(response.headers()).filter(|_| is_grpc) {
        Some(code) => Observed::grpc(code.0),
        None => Observed::status(response.status().as_u16()),
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

fn timed_out() -> Tried {
    Tried::Failed(Failed { outcome: Outcome::TimedOut, reason: Reason::BACKEND_TIMEOUT })
}

/// Sending failed, or the head of the answer did not come.
fn broken(mut error: TrySendError<Request<RequestBody>>, reused: bool) -> Failed {
    // It comes back unsent: nobody has seen it.
    let unsent = error.take_message().is_some();
    let error = error.into_error();
    let failed = |outcome| Failed { outcome, reason: Reason::UPSTREAM_RESET };
    if unsent || is_refused_stream(&error) {
        return failed(Outcome::RefusedStream);
    }
    if Malformed::of(&error).is_some() || error.is_parse() {
        return Failed { outcome: Outcome::ResetBeforeHead, reason: Reason::UPSTREAM_MALFORMED };
    }
    let closed =
        error.is_incomplete_message() || error.is_closed() || error.is_canceled() || is_reset(&error);
    failed(if reused && closed { Outcome::StaleConnection } else { Outcome::ResetBeforeHead })
}

/// `REFUSED_STREAM`, or a stream beyond the last that a GOAWAY names: the server did nothing.
fn is_refused_stream(error: &hyper::Error) -> bool {
    let Some(error) = error.source().and_then(|error| error.downcast_ref::<h2::Error>()) else {
        return false;
    };
    let reason = error.reason();
    let refused = error.is_reset() && reason == Some(h2::Reason::REFUSED_STREAM);
    refused || error.is_go_away() && error.is_remote() && reason == Some(h2::Reason::NO_ERROR)
}

fn is_reset(error: &hyper::Error) -> bool {
    let error = error.source().and_then(|error| error.downcast_ref::<io::Error>());
    error.is_some_and(|error| {
        matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
    })
}
