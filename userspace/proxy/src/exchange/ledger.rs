//! What is written down of a request. Dropped before its end, the client has left.

use std::{net::SocketAddr, time::SystemTime};

use http::{HeaderMap, HeaderValue, Response, header::HOST, request::Parts};

use super::{AnswerBody, Routed, head::REQUEST_ID};
use crate::{
    Reason,
    clock::{Clock, Moment},
    observe::{Record, Records, RequestRecord},
    route::grpc,
    serve::{Client, UnderWay},
    tables::{Port, Upstream},
};

/// See the module.
pub(super) struct Ledger {
    /// `None` where nobody reads records, or the record has been put.
    record: Option<Box<RequestRecord>>,
    records: Records,
    clock: Clock,
    began: Moment,
    under_way: Option<UnderWay>,
}

impl Ledger {
    pub(super) fn open(client: &Client, parts: &Parts) -> Self {
        let shared = &client.served.worker.shared;
        let record = shared.records.wanted().then(|| {
            Box::new(RequestRecord {
                ended: SystemTime::UNIX_EPOCH,
                pod: client.served.pod.name.clone(),
                client: client.address,
                service: None,
                route: None,
                backend: None,
                endpoint: None,
                spoken: client.spoken,
                method: parts.method.clone(),
                host: host(parts),
                path: parts.uri.path().into(),
                id: None,
                status: 0,
                grpc: None,
                tries: 0,
                to_head: std::time::Duration::ZERO,
                lasted: std::time::Duration::ZERO,
                received: 0,
                sent: 0,
                reason: None,
            })
        });
        let (records, clock, began) = (shared.records.clone(), shared.clock, shared.clock.now());
        Self { record, records, clock, began, under_way: None }
    }

    pub(super) fn holds(&mut self, under_way: UnderWay) {
        self.under_way = Some(under_way);
    }

    pub(super) fn asked(&mut self, port: &Port, parts: &Parts) {
        if let Some(record) = &mut self.record {
            record.service = Some((port.service.clone(), port.number));
            record.path = parts.uri.path().into();
        }
    }

    pub(super) fn identified(&mut self, parts: &Parts) {
        if let Some(record) = &mut self.record {
            record.id = parts.headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).map(Into::into);
        }
    }

    pub(super) fn routed(&mut self, routed: &Routed<'_>) {
        if let Some((record, rule)) = self.record.as_mut().zip(routed.rule) {
            record.route = Some((rule.route.name.clone(), rule.index));
        }
    }

    pub(super) fn tried(&mut self, upstream: &Upstream, endpoint: SocketAddr) {
        if let Some(record) = &mut self.record {
            record.backend = Some((upstream.service.clone(), upstream.port));
            record.endpoint = Some(endpoint);
            record.tries += 1;
        }
    }

    pub(super) fn refused(&mut self, why: Reason) {
        if let Some(record) = &mut self.record {
            record.reason.get_or_insert(why);
        }
    }

    pub(super) fn head(&mut self, answer: &Response<AnswerBody>) {
        let to_head = self.clock.now().since(self.began);
        if let Some(record) = &mut self.record {
            record.status = answer.status().as_u16();
            record.to_head = to_head;
        }
        self.trailers(answer.headers());
    }

    pub(super) fn trailers(&mut self, trailers: &HeaderMap) {
        if let Some(record) = &mut self.record
            && let Some(code) = grpc::Code::of(trailers)
        {
            record.grpc = Some(code.0);
        }
    }

    /// Bytes of the answer's body.
    pub(super) fn sent(&mut self, bytes: usize) {
        if let Some(record) = &mut self.record {
            record.sent += bytes as u64;
        }
    }

    /// Bytes of the request's body, all together.
    pub(super) fn received(&mut self, bytes: u64) {
        if let Some(record) = &mut self.record {
            record.received = bytes;
        }
    }

    /// The exchange is over.
    pub(super) fn close(mut self) {
        self.put();
    }

    fn put(&mut self) {
        let Some(mut record) = self.record.take() else { return };
        record.ended = SystemTime::now();
        record.lasted = self.clock.now().since(self.began);
        self.records.put(Record::Request(record));
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        let cut = self.under_way.as_ref().and_then(UnderWay::cut);
        self.refused(cut.unwrap_or(Reason::CLIENT_GONE));
        self.put();
    }
}

fn host(parts: &Parts) -> Option<Box<str>> {
    let header =
        || parts.headers.get(HOST).map(HeaderValue::as_bytes).and_then(|host| str::from_utf8(host).ok());
    parts.uri.authority().map(http::uri::Authority::as_str).or_else(header).map(Into::into)
}
