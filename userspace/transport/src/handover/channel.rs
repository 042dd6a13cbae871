//! Messages over the connection: numbered, with descriptors, and tolerant of what a later version adds.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::timeout;

use super::message::{Body, Envelope, Header};
use super::pod::Unfit;
use super::{Error, Hello, Nack, NackReason, Peer};
use crate::seqpacket::{Connection, Message};

#[derive(Debug)]
pub(super) struct Channel {
    connection: Connection,
    last_id: AtomicU64,
    /// Who the other end is.
    pub peer: Peer,
    /// What it said.
    pub hello: Hello,
    /// The version that both speak.
    pub version: u32,
}

/// A message of a known envelope.
pub(super) struct Received {
    pub id: u64,
    pub kind: String,
    pub body: Result<Body, Unfit>,
    pub fds: Vec<OwnedFd>,
}

impl Channel {
    /// Says hello, hears it, and settles the version. Both sides speak at once.
    pub(super) async fn open(connection: Connection, peer: Peer, ours: &Hello) -> Result<Self, Error> {
        send(&connection, 0, Body::Hello(ours.clone()), &[]).await?;
        let expected = "hello";
        let received = due(&connection, peer, expected).await?;
        let Ok(Body::Hello(mut hello)) = received.body else {
            return Err(Error::Unexpected { peer, kind: received.kind, expected });
        };
        if let Some(pid) = connection.peer_process() {
            hello.pid = pid;
        }
        let version = ours.negotiate(peer, &hello)?;
        Ok(Self { connection, last_id: AtomicU64::new(0), peer, hello, version })
    }

    /// Sends under the next id and tells it.
    pub(super) async fn send(&self, body: Body, fds: &[BorrowedFd<'_>]) -> Result<u64, Error> {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        send(&self.connection, id, body, fds).await?;
        Ok(id)
    }

    /// A message that has to come now.
    pub(super) async fn due(&self, expected: &'static str) -> Result<Received, Error> {
        due(&self.connection, self.peer, expected).await
    }

    pub(super) async fn receive(&self) -> Result<Option<Received>, Error> {
        receive(&self.connection, self.peer).await
    }
}

impl Received {
    /// A message of `peer`'s; only what has no envelope is an error, after which nothing more can be understood.
    pub(super) fn read(peer: Peer, message: Message) -> Result<Self, Error> {
        let header = serde_json::from_slice::<Header>(&message.bytes);
        let Header { id, kind } = header.map_err(|source| Error::Malformed { peer, source })?;
        let body = match serde_json::from_slice::<Envelope>(&message.bytes) {
            Ok(Envelope { body: Body::Unknown, .. }) => Err(Unfit::Kind { kind: kind.clone() }),
            Ok(envelope) => Ok(envelope.body),
            Err(source) => Err(Unfit::Fields { kind: kind.clone(), source }),
        };
        Ok(Self { id, kind, body, fds: message.fds })
    }

    /// The answer to a message that cannot be taken.
    pub(super) fn nack(id: u64, unfit: &Unfit) -> Nack {
        let reason = match unfit {
            Unfit::Kind { .. } => NackReason::UnknownKind,
            _ => NackReason::Malformed,
        };
        Nack { of: id, reason, error: unfit.to_string() }
    }
}

async fn send(connection: &Connection, id: u64, body: Body, fds: &[BorrowedFd<'_>]) -> Result<(), Error> {
    Ok(connection.send(&Envelope { id, body }.write(), fds).await?)
}

async fn due(connection: &Connection, peer: Peer, expected: &'static str) -> Result<Received, Error> {
    match timeout(PATIENCE, receive(connection, peer)).await {
        Ok(received) => received?.ok_or(Error::Closed { peer, expected }),
        Err(_) => Err(Error::Silent { peer, expected, within: PATIENCE }),
    }
}

async fn receive(connection: &Connection, peer: Peer) -> Result<Option<Received>, Error> {
    connection.receive().await?.map(|message| Received::read(peer, message)).transpose()
}

/// Both ends are on one machine, and what they have to say first needs no work.
const PATIENCE: Duration = Duration::from_secs(5);
