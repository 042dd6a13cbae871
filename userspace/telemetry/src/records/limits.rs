//! Names that a proxy may say. The agent keeps them for a while, in flows and series: one of a megabyte would add up.

use weft_model::ObjectName;

use super::{Alike, ConnectionRecord, LiveRecord, RecordBatch, RequestRecord};

/// Why records of a proxy cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// They are of another form.
    #[error("the records cannot be understood: {0}; agent and proxy are of different versions")]
    Form(#[from] rmp_serde::decode::Error),
    /// No object can have such a name.
    #[error("the records name an object of {bytes} bytes or of other signs than DNS has; restart the proxy")]
    Name {
        /// How long the name is.
        bytes: usize,
    },
    /// No proxy tells as much at once.
    #[error("the records tell of {requests} requests, of {MOST_REQUESTS} at most; restart the proxy")]
    TooMany {
        /// How many.
        requests: usize,
    },
    /// A group of requests that are alike does not tell of each of them.
    #[error("the records tell of some requests by half; restart the proxy")]
    Half,
}

pub(super) fn check(batch: &RecordBatch) -> Result<(), Unreadable> {
    if !batch.alike.iter().all(Alike::is_whole) {
        return Err(Unreadable::Half);
    }
    // A byte for each may be all that a message has of it, and the agent keeps a hundred.
    let requests = batch.requests.len() + batch.alike.iter().map(Alike::count).sum::<usize>();
    if requests > MOST_REQUESTS {
        return Err(Unreadable::TooMany { requests });
    }
    let requests = batch.requests.iter().chain(batch.alike.iter().map(Alike::like)).flat_map(of_request);
    let connections = batch.connections.iter().flat_map(of_connection);
    let live = batch.live.iter().flat_map(of_live);
    let pods = batch.usage.iter().map(|usage| &usage.pod);
    let inbound = batch.connections.iter().map(|record| &record.inbound);
    let inbound = inbound.chain(batch.live.iter().map(|record| &record.inbound)).flatten();
    let mut accounts = inbound.filter_map(|inbound| inbound.account.as_ref());
    if let Some(account) = accounts.find(|account| !are_names(&account.namespace, &account.name)) {
        return Err(Unreadable::Name { bytes: account.namespace.len() + account.name.len() });
    }
    match requests.chain(connections).chain(live).chain(pods).find(|name| !is_name(name)) {
        None => Ok(()),
        Some(name) => Err(Unreadable::Name { bytes: name.namespace.len() + name.name.len() }),
    }
}

fn of_request(record: &RequestRecord) -> impl Iterator<Item = &ObjectName> {
    let others = [&record.service, &record.backend].into_iter().flatten().map(|destination| &destination.0);
    [&record.pod].into_iter().chain(others).chain(record.rule.as_ref().map(|rule| &rule.0.name))
}

fn of_connection(record: &ConnectionRecord) -> impl Iterator<Item = &ObjectName> {
    let service = record.service.as_ref().map(|destination| &destination.0);
    [&record.pod].into_iter().chain(service).chain(record.rule.as_ref().map(|rule| &rule.0.name))
}

fn of_live(record: &LiveRecord) -> impl Iterator<Item = &ObjectName> {
    [&record.pod].into_iter().chain(record.service.as_ref().map(|destination| &destination.0))
}

fn is_name(name: &ObjectName) -> bool {
    are_names(&name.namespace, &name.name)
}

/// RFC 1123: a label for the namespace, a subdomain for the name.
fn are_names(namespace: &str, name: &str) -> bool {
    let is = |text: &str, most| {
        let sign =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
        !text.is_empty() && text.len() <= most && text.bytes().all(sign)
    };
    is(namespace, NAMESPACE) && is(name, NAME)
}

/// Eight times what a proxy of today tells at once.
const MOST_REQUESTS: usize = 4_096;
const NAMESPACE: usize = 63;
const NAME: usize = 253;
