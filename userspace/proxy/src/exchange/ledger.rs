//! What is written down of a request. Dropped before its end, the client has left.

use std::{net::SocketAddr, rc::Rc, time::SystemTime};

use http::{
    HeaderMap, HeaderName, HeaderValue, Response,
    header::{HOST, USER_AGENT},
    request::Parts,
};
use weft_model::RouteName;
use weft_telemetry::records::{Destination, Inbound, Rule, Text};

use super::{AnswerBody, RequestBody, Routed, head::REQUEST_ID, messages::Messages};
use crate::{
    Reason,
    clock::Moment,
    observe::{RequestRecord, Security, micros, since_1970},
    route::grpc,
    serve::{Client, UnderWay},
    tables::{Port, Tables, Upstream},
    worker::Worker,
};

/// See the module.
pub(super) struct Ledger {
    /// `None` where nobody reads records, or the record has been put.
    record: Option<Box<RequestRecord>>,
    worker: Rc<Worker>,
    began: Moment,
    /// When the last try began.
    tried: Moment,
    /// Of the answer to a gRPC call.
    messages: Messages,
    under_way: Option<UnderWay>,
}

impl Ledger {
    pub(super) fn open(client: &Client, parts: &Parts) -> Self {
        let worker = &client.served.worker;
        let record = worker.records.wanted().then(|| {
            Box::new(RequestRecord {
                ended: 0,
                pod: client.served.pod.name.clone(),
                client: client.address,
                spoken: client.spoken.into(),
                grpc: false,
                service: None,
                rule: None,
                backend: None,
                // One that is made to the pod goes there or nowhere.
                endpoint: client.caller.as_ref().map(|_| client.dialled),
                method: Text::again(parts.method.as_str()),
                authority: Text::again(host(parts)),
                path: Text::again(parts.uri.path()),
                id: Text::default(),
                trace: trace(&parts.headers).map(Text::from).unwrap_or_default(),
                agent: Text::again(text(&parts.headers, &USER_AGENT)),
                status: 0,
                grpc_status: None,
                reason: None,
                audit: None,
                inbound: client
                    .caller
                    .as_ref()
                    .map(|incoming| Inbound { account: incoming.caller.proven.clone(), told: incoming.told }),
                delayed: false,
                exhausted: false,
                tries: 0,
                lasted: 0,
                upstream: 0,
                received: 0,
                sent: 0,
                messages: (0, 0),
                security: client.caller.as_ref().map_or(Security::None, |incoming| incoming.security),
            })
        });
        let (worker, began) = (Rc::clone(worker), worker.now());
        Self { record, worker, began, tried: began, messages: Messages::default(), under_way: None }
    }

    pub(super) fn holds(&mut self, under_way: UnderWay) {
        self.under_way = Some(under_way);
    }

    pub(super) fn asked(&mut self, port: &Port, parts: &Parts, is_grpc: bool) {
        if let Some(record) = &mut self.record {
            if record.inbound.is_none() {
                record.service = Some(Destination(port.service.clone(), port.number));
            }
            record.grpc = is_grpc;
            if *record.path != *parts.uri.path() {
                record.path = Text::again(parts.uri.path());
            }
        }
    }

    pub(super) fn identified(&mut self, parts: &Parts) {
        if let Some(record) = &mut self.record {
            record.id = text(&parts.headers, &REQUEST_ID).into();
        }
    }

    pub(super) fn routed(&mut self, routed: &Routed<'_>) {
        if let Some((record, rule)) = self.record.as_mut().zip(routed.rule) {
            let name = RouteName { kind: routed.kind, name: rule.route.name.clone() };
            record.rule = Some(Rule(name, u16::try_from(rule.index).unwrap_or(u16::MAX)));
        }
    }

    /// Audited policies would have refused it.
    pub(super) fn audited(&mut self, why: Reason) {
        if let Some(record) = &mut self.record {
            record.audit = Some(why);
        }
    }

    /// A delay was injected.
    pub(super) fn delayed(&mut self) {
        if let Some(record) = &mut self.record {
            record.delayed = true;
        }
    }

    /// A try begins.
    pub(super) fn tried(&mut self, upstream: &Upstream, endpoint: SocketAddr, tables: &Tables) {
        if let Some(record) = &mut self.record {
            self.tried = self.worker.now();
            if record.inbound.is_none() {
                record.backend = Some(Destination(upstream.service.clone(), upstream.port));
            }
            record.endpoint = Some(endpoint);
            if tables.sealed(&record.pod, endpoint).is_some() {
                record.security = Security::MutualTls;
            }
            record.tries += 1;
        }
    }

    /// The try did not come about: no server has seen it.
    pub(super) fn untried(&mut self) {
        if let Some(record) = &mut self.record {
            record.tries -= 1;
        }
    }

    /// The policy gives no more tries.
    pub(super) fn exhausted(&mut self) {
        if let Some(record) = &mut self.record {
            record.exhausted = true;
        }
    }

    /// The head of a server's answer is here.
    pub(super) fn answered(&mut self) {
        if let Some(record) = &mut self.record {
            record.upstream = micros(self.worker.now().since(self.tried));
        }
    }

    pub(super) fn refused(&mut self, why: Reason) {
        if let Some(record) = &mut self.record {
            record.reason.get_or_insert(why);
        }
    }

    pub(super) fn head(&mut self, answer: &Response<AnswerBody>) {
        if let Some(record) = &mut self.record {
            record.status = answer.status().as_u16();
        }
        self.trailers(answer.headers());
    }

    pub(super) fn trailers(&mut self, trailers: &HeaderMap) {
        if let Some(record) = &mut self.record
            && let Some(code) = grpc::Code::of(trailers)
        {
            record.grpc_status = Some(code.0);
        }
    }

    /// A piece of the answer's body.
    pub(super) fn sent(&mut self, data: &[u8]) {
        if let Some(record) = &mut self.record {
            record.sent += data.len() as u64;
            if record.grpc {
                self.messages.read(data);
                record.messages.1 = self.messages.count();
            }
        }
    }

    /// What has come of the request's body, all together.
    pub(super) fn received(&mut self, body: &RequestBody) {
        if let Some(record) = &mut self.record {
            (record.received, record.messages.0) = (body.received(), body.messages());
        }
    }

    /// The exchange is over.
    pub(super) fn close(mut self) {
        self.put();
    }

    fn put(&mut self) {
        let Some(mut record) = self.record.take() else { return };
        record.ended = since_1970(SystemTime::now());
        record.lasted = micros(self.worker.now().since(self.began));
        self.worker.records.put_request(&record);
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        let cut = self.under_way.as_ref().and_then(UnderWay::cut);
        self.refused(cut.unwrap_or(Reason::CLIENT_GONE));
        self.put();
    }
}

/// The trace id of a W3C `traceparent`: `00-<32 hexadecimal digits>-<span>-<flags>`.
fn trace(headers: &HeaderMap) -> Option<&str> {
    let line = headers.get(TRACEPARENT)?.to_str().ok()?;
    let id = line.split('-').nth(1)?;
    (id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
}

/// A field's value; empty where there is none that is a text.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn host(parts: &Parts) -> &str {
    let header =
        || parts.headers.get(HOST).map(HeaderValue::as_bytes).and_then(|host| str::from_utf8(host).ok());
    parts.uri.authority().map(http::uri::Authority::as_str).or_else(header).unwrap_or_default()
}

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
