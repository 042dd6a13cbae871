//! Requests that are alike. Most of what a proxy tells of a request is what it told of the one before: a group has that
//! once, and of each request only what is its own. Written, read and counted like this, a request costs a fifth.

use serde::{Deserialize, Serialize};

use super::{
    RequestRecord, Text,
    columns::{Column, Texts},
};

/// Requests that differ in what [`Own`] has, and in nothing else. There is at least one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alike {
    /// The first of them.
    #[serde(rename = "a")]
    like: RequestRecord,
    #[serde(rename = "t")]
    ended: Column<u64>,
    #[serde(rename = "p")]
    port: Column<u16>,
    #[serde(rename = "l")]
    lasted: Column<u64>,
    #[serde(rename = "u", default, skip_serializing_if = "Texts::is_plain")]
    path: Texts,
    #[serde(rename = "i", default, skip_serializing_if = "Texts::is_plain")]
    id: Texts,
    #[serde(rename = "w", default, skip_serializing_if = "Texts::is_plain")]
    trace: Texts,
    #[serde(rename = "v", default, skip_serializing_if = "Column::is_plain")]
    upstream: Column<u64>,
    #[serde(rename = "f", default, skip_serializing_if = "Column::is_plain")]
    received: Column<u64>,
    #[serde(rename = "o", default, skip_serializing_if = "Column::is_plain")]
    sent: Column<u64>,
    #[serde(rename = "j", default, skip_serializing_if = "Column::is_plain")]
    messages: Column<(u64, u64)>,
}

/// What a request has of its own, as the fields of [`RequestRecord`] with the same names say it. Texts are as they came:
/// they may be longer than a record's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "see `RequestRecord`")]
pub struct Own<'a> {
    pub ended: u64,
    /// Of the client's address.
    pub port: u16,
    pub lasted: u64,
    pub path: &'a str,
    pub id: &'a str,
    pub trace: &'a str,
    pub upstream: u64,
    pub received: u64,
    pub sent: u64,
    pub messages: (u64, u64),
}

impl Own<'_> {
    /// The path, as a record has it.
    pub(crate) fn path(&self) -> Text<512> {
        Text::again(self.path)
    }
}

impl Alike {
    /// One request.
    pub fn of(record: &RequestRecord) -> Self {
        let mut alike = Self {
            ended: Column::default(),
            port: Column::default(),
            lasted: Column::default(),
            path: Texts::default(),
            id: Texts::default(),
            trace: Texts::default(),
            upstream: Column::default(),
            received: Column::default(),
            sent: Column::default(),
            messages: Column::default(),
            like: record.clone(),
        };
        alike.push(record);
        alike
    }

    /// Takes a request, if it is like those that are here. Whether it did.
    pub fn takes(&mut self, record: &RequestRecord) -> bool {
        let takes = self.is_like(record);
        if takes {
            self.push(record);
        }
        takes
    }

    /// One of them, for what they all have.
    pub fn like(&self) -> &RequestRecord {
        &self.like
    }

    /// How many they are.
    pub fn count(&self) -> usize {
        self.ended.len()
    }

    /// What each has of its own, in the order they were told.
    pub fn each(&self) -> impl Iterator<Item = Own<'_>> {
        let texts = self.path.iter().zip(self.id.iter()).zip(self.trace.iter());
        (0..self.count()).zip(texts).map(|(at, ((path, id), trace))| Own {
            ended: self.ended.at(at),
            port: self.port.at(at),
            lasted: self.lasted.at(at),
            path,
            id,
            trace,
            upstream: self.upstream.at(at),
            received: self.received.at(at),
            sent: self.sent.at(at),
            messages: self.messages.at(at),
        })
    }

    /// Each of them, whole.
    pub fn records(&self) -> impl Iterator<Item = RequestRecord> {
        self.each().map(|own| self.record(&own))
    }

    /// The request that has this of its own, whole.
    pub fn record(&self, own: &Own<'_>) -> RequestRecord {
        let mut client = self.like.client;
        client.set_port(own.port);
        RequestRecord {
            ended: own.ended,
            client,
            lasted: own.lasted,
            path: own.path(),
            id: own.id.into(),
            trace: own.trace.into(),
            upstream: own.upstream,
            received: own.received,
            sent: own.sent,
            messages: own.messages,
            ..self.like.clone()
        }
    }

    /// Whether each column tells of each request or, by its absence, of none.
    pub(super) fn is_whole(&self) -> bool {
        let count = self.count();
        let told = [self.port.len(), self.lasted.len()];
        let numbers = [self.upstream.len(), self.received.len(), self.sent.len(), self.messages.len()];
        let texts = [self.path.len(), self.id.len(), self.trace.len()];
        count > 0
            && told.into_iter().all(|len| len == count)
            && numbers.into_iter().chain(texts).all(|len| len == 0 || len == count)
    }

    fn push(&mut self, record: &RequestRecord) {
        self.ended.push(record.ended);
        self.port.push(record.client.port());
        self.lasted.push(record.lasted);
        self.path.push(&record.path);
        self.id.push(&record.id);
        self.trace.push(&record.trace);
        self.upstream.push(record.upstream);
        self.received.push(record.received);
        self.sent.push(record.sent);
        self.messages.push(record.messages);
    }

    fn is_like(&self, record: &RequestRecord) -> bool {
        // Whole, so that a field that is added is either compared or has its column.
        let RequestRecord {
            ended: _,
            pod,
            client,
            spoken,
            grpc,
            service,
            rule,
            backend,
            endpoint,
            method,
            authority,
            path: _,
            id: _,
            trace: _,
            agent,
            status,
            grpc_status,
            reason,
            audit,
            inbound,
            delayed,
            exhausted,
            tries,
            lasted: _,
            upstream: _,
            received: _,
            sent: _,
            messages: _,
            security,
        } = record;
        let like = &self.like;
        // What differs most often comes first.
        like.endpoint == *endpoint
            && like.client.ip() == client.ip()
            && like.status == *status
            && like.pod == *pod
            && like.service == *service
            && like.rule == *rule
            && like.backend == *backend
            && like.method == *method
            && like.authority == *authority
            && like.agent == *agent
            && like.tries == *tries
            && like.reason == *reason
            && like.audit == *audit
            && like.grpc == *grpc
            && like.grpc_status == *grpc_status
            && like.spoken == *spoken
            && like.security == *security
            && like.inbound == *inbound
            && like.delayed == *delayed
            && like.exhausted == *exhausted
    }
}

#[cfg(test)]
mod tests;
