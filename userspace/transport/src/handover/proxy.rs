//! The proxy's end of its connection to the agent.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use super::channel::{Channel, Received};
use super::message::Body;
use super::pod::{Unfit, exactly, in_pairs};
use super::{Error, Hello, LARGEST_IDENTITIES, LARGEST_SNAPSHOT, Nack, Peer, Pod, Report};
use crate::memfd::Sealed;
use crate::seqpacket::Connection;

/// The proxy's end.
#[derive(Debug)]
pub struct ProxyEnd {
    channel: Channel,
    largest_snapshot: usize,
}

/// What the agent says. All but `Ack`, `Nack` and `Unfit` are answered by [`ProxyEnd::ack`] once in force, or by
/// [`ProxyEnd::nack`].
#[derive(Debug)]
pub enum FromAgent {
    /// Serve this pod from now on; replaces the one with the same cookie.
    Pod(Pod),
    /// Let go of this pod.
    PodGone {
        /// The cookie of its namespace.
        cookie: u64,
    },
    /// Decide by this snapshot from now on.
    Snapshot {
        /// Its version.
        version: u64,
        /// Its bytes.
        bytes: Sealed,
    },
    /// Use these eBPF maps.
    Maps {
        /// Where origins are.
        origins: OwnedFd,
        /// Where the lease is renewed.
        lease: OwnedFd,
    },
    /// Use these eBPF maps of older layouts, too, and no others that were given as such before.
    OlderMaps {
        /// Of each layout where origins are, and where the lease is renewed.
        pairs: Vec<[OwnedFd; 2]>,
    },
    /// Show these certificates and trust these roots from now on.
    Identities {
        /// Their version.
        version: u64,
        /// Private keys are among these bytes.
        bytes: Sealed,
    },
    /// Accept nothing more, finish, and exit.
    Drain {
        /// At the latest after this time, unless an earlier end was set before.
        within: Duration,
    },
    /// Records with this id were taken.
    Ack {
        /// The id.
        of: u64,
    },
    /// The agent cannot take a message of this proxy: do without its kind.
    Nack(Nack),
    /// A message that this end cannot take: [`ProxyEnd::nack`] with what is inside.
    Unfit(Nack),
}

impl ProxyEnd {
    /// Connects to the agent that listens at `path` and greets it.
    pub async fn connect(path: impl AsRef<Path>, hello: &Hello) -> Result<Self, Error> {
        Self::greet(Connection::connect(path)?, hello).await
    }

    /// Greets the agent at the other end of a connection.
    pub async fn greet(connection: Connection, hello: &Hello) -> Result<Self, Error> {
        let channel = Channel::open(connection, Peer::Agent, hello).await?;
        Ok(Self { channel, largest_snapshot: LARGEST_SNAPSHOT })
    }

    /// Refuses snapshots of more bytes than this instead of [`LARGEST_SNAPSHOT`].
    #[must_use]
    pub fn with_largest_snapshot(self, bytes: usize) -> Self {
        Self { largest_snapshot: bytes, ..self }
    }

    /// What the agent said about itself.
    pub fn peer(&self) -> &Hello {
        &self.channel.hello
    }

    /// The version that both speak.
    pub fn version(&self) -> u32 {
        self.channel.version
    }

    /// Hands the agent everything that this proxy holds. Has to be said first, also with nothing to hand
    /// back, and the agent says nothing before.
    pub async fn hand_back(&self, pods: impl IntoIterator<Item = &Pod>) -> Result<(), Error> {
        let mut said = 0;
        for pod in pods {
            self.channel.send(Body::Held(pod.fields()), &pod.fds()).await?;
            said += 1;
        }
        self.channel.send(Body::HeldAll { pods: said }, &[]).await.map(drop)
    }

    /// The message with this id is in force.
    pub async fn ack(&self, of: u64) -> Result<(), Error> {
        self.channel.send(Body::Ack { of }, &[]).await.map(drop)
    }

    /// A message was not taken; the state is that before it.
    pub async fn nack(&self, nack: Nack) -> Result<(), Error> {
        self.channel.send(Body::Nack(nack), &[]).await.map(drop)
    }

    /// Tells the agent how this proxy is.
    pub async fn report(&self, report: Report) -> Result<(), Error> {
        self.channel.send(Body::Report(report), &[]).await.map(drop)
    }

    /// Whether the agent is of a version that takes requests as groups of those that are alike.
    pub fn takes_alike(&self) -> bool {
        self.version() >= ALIKE
    }

    /// Tells what ended. Returns the id that the answer names.
    pub async fn records(&self, records: &Sealed) -> Result<u64, Error> {
        self.channel.send(Body::Records {}, &[records.as_fd()]).await
    }

    /// The next message and its id; `None` once the agent is gone. Dropping the call loses nothing.
    pub async fn receive(&self) -> Result<Option<(u64, FromAgent)>, Error> {
        let Some(Received { id, kind, body, fds }) = self.channel.receive().await? else { return Ok(None) };
        let taken = body.and_then(|body| self.take(kind, body, fds));
        Ok(Some((id, taken.unwrap_or_else(|unfit| FromAgent::Unfit(Received::nack(id, &unfit))))))
    }

    fn take(&self, kind: String, body: Body, fds: Vec<OwnedFd>) -> Result<FromAgent, Unfit> {
        Ok(match body {
            Body::Pod(fields) => FromAgent::Pod(Pod::read(fields, fds)?),
            Body::PodGone { cookie } => FromAgent::PodGone { cookie },
            Body::Snapshot { version } => {
                let [memfd] = exactly(fds)?;
                FromAgent::Snapshot { version, bytes: Sealed::verify(memfd, self.largest_snapshot)? }
            }
            Body::Maps {} => {
                let [origins, lease] = exactly(fds)?;
                FromAgent::Maps { origins, lease }
            }
            Body::OlderMaps {} => FromAgent::OlderMaps { pairs: in_pairs(fds)? },
            Body::Identities { version } => {
                let [memfd] = exactly(fds)?;
                FromAgent::Identities { version, bytes: Sealed::verify(memfd, LARGEST_IDENTITIES)? }
            }
            Body::Drain { within_ms } => FromAgent::Drain { within: Duration::from_millis(within_ms) },
            Body::Ack { of } => FromAgent::Ack { of },
            Body::Nack(nack) => FromAgent::Nack(nack),
            _ => return Err(Unfit::Kind { kind }),
        })
    }
}

/// The version of the protocol whose `records` may have groups of requests that are alike.
const ALIKE: u32 = 4;
