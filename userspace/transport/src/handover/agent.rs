//! The agent's end of a connection to one proxy.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::channel::{Channel, Received};
use super::message::Body;
use super::pod::{Unfit, exactly};
use super::{Error, Hello, LARGEST_RECORDS, MOST_PODS, Nack, Peer, Pod, Report};
use crate::memfd::Sealed;
use crate::seqpacket::Connection;

/// The agent's end. Each call that sends returns the id that the answer names.
#[derive(Debug)]
pub struct AgentEnd {
    channel: Channel,
}

/// What a proxy says once it has handed back what it holds.
#[derive(Debug)]
pub enum FromProxy {
    /// The message with this id is in force.
    Ack {
        /// Its id.
        of: u64,
    },
    /// A message was not taken.
    Nack(Nack),
    /// How the proxy is.
    Report(Report),
    /// What ended. [`AgentEnd::ack`] it once it is counted: the next ones come then.
    Records {
        /// The id of the message.
        id: u64,
        /// At most [`LARGEST_RECORDS`] bytes.
        bytes: Sealed,
    },
    /// A message that this end cannot take: [`AgentEnd::answer`] with what is inside.
    Unfit(Nack),
}

impl AgentEnd {
    /// Greets the proxy behind an accepted connection.
    pub async fn greet(connection: Connection, hello: &Hello) -> Result<Self, Error> {
        Ok(Self { channel: Channel::open(connection, Peer::Proxy, hello).await? })
    }

    /// What the proxy said about itself.
    pub fn peer(&self) -> &Hello {
        &self.channel.hello
    }

    /// The version that both speak.
    pub fn version(&self) -> u32 {
        self.channel.version
    }

    /// The pods that the proxy holds: none for a new one. Comes first, once, on every connection.
    ///
    /// A pod that cannot be taken back, such as one whose fields a later version changed, is answered and
    /// left out: the agent sends it anew.
    pub async fn take_back(&self) -> Result<Vec<Pod>, Error> {
        let (mut pods, mut unfit) = (Vec::new(), Vec::new());
        let (peer, expected) = (Peer::Proxy, "held or held-all");
        let said = loop {
            let came = pods.len() + unfit.len();
            let Received { id, kind, body, fds } = self.channel.due(expected).await?;
            let pod = match body {
                Ok(Body::HeldAll { pods }) => break pods,
                _ if kind != "held" => return Err(Error::Unexpected { peer, kind, expected }),
                _ if came == MOST_PODS => return Err(Error::TooManyPods),
                Ok(Body::Held(fields)) => Pod::read(fields, fds),
                Ok(_) => return Err(Error::Unexpected { peer, kind, expected }),
                Err(unfit) => Err(unfit),
            };
            match pod {
                Ok(pod) => pods.push(pod),
                Err(why) => unfit.push(Received::nack(id, &why)),
            }
        };
        let came = pods.len() + unfit.len();
        // Not before: the proxy reads nothing until it has handed back all.
        for nack in unfit {
            self.answer(nack).await?;
        }
        if said == came { Ok(pods) } else { Err(Error::PodsLost { came, said }) }
    }

    /// Gives a pod to the proxy, or replaces the one with the same cookie.
    pub async fn pod(&self, pod: &Pod) -> Result<u64, Error> {
        self.channel.send(Body::Pod(pod.fields()), &pod.fds()).await
    }

    /// Lets the proxy let go of a pod: its descriptors and its connections.
    pub async fn pod_gone(&self, cookie: u64) -> Result<u64, Error> {
        self.channel.send(Body::PodGone { cookie }, &[]).await
    }

    /// Gives the snapshot of this version to the proxy.
    pub async fn snapshot(&self, version: u64, snapshot: &Sealed) -> Result<u64, Error> {
        self.channel.send(Body::Snapshot { version }, &[snapshot.as_fd()]).await
    }

    /// Gives the eBPF maps to the proxy: the one it takes origins from, the one where it renews its lease.
    pub async fn maps(&self, origins: BorrowedFd<'_>, lease: BorrowedFd<'_>) -> Result<u64, Error> {
        self.channel.send(Body::Maps {}, &[origins, lease]).await
    }

    /// Gives the eBPF maps of older layouts to the proxy, as pairs of those in [`AgentEnd::maps`]; none where nobody needs
    /// them any more.
    pub async fn older_maps(&self, pairs: &[[BorrowedFd<'_>; 2]]) -> Result<u64, Error> {
        self.channel.send(Body::OlderMaps {}, pairs.as_flattened()).await
    }

    /// Whether the proxy is of a version that takes identities.
    pub fn takes_identities(&self) -> bool {
        self.version() >= IDENTITIES
    }

    /// Gives the certificates of the node's pods, and whom to trust, to the proxy.
    pub async fn identities(&self, version: u64, identities: &Sealed) -> Result<u64, Error> {
        self.channel.send(Body::Identities { version }, &[identities.as_fd()]).await
    }

    /// Lets the proxy accept nothing more, finish, and exit `within` this time.
    pub async fn drain(&self, within: Duration) -> Result<u64, Error> {
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        self.channel.send(Body::Drain { within_ms }, &[]).await
    }

    /// Records with this id were taken.
    pub async fn ack(&self, of: u64) -> Result<(), Error> {
        self.channel.send(Body::Ack { of }, &[]).await.map(drop)
    }

    /// Answers a message that came as [`FromProxy::Unfit`].
    pub async fn answer(&self, nack: Nack) -> Result<(), Error> {
        self.channel.send(Body::Nack(nack), &[]).await.map(drop)
    }

    /// The next message; `None` once the proxy is gone. Dropping the call loses nothing.
    pub async fn receive(&self) -> Result<Option<FromProxy>, Error> {
        let Some(Received { id, kind, body, fds }) = self.channel.receive().await? else { return Ok(None) };
        Ok(Some(match body {
            Ok(Body::Ack { of }) => FromProxy::Ack { of },
            Ok(Body::Nack(nack)) => FromProxy::Nack(nack),
            Ok(Body::Report(report)) => FromProxy::Report(report),
            Ok(Body::Records {}) => match records(fds) {
                Ok(bytes) => FromProxy::Records { id, bytes },
                Err(unfit) => FromProxy::Unfit(Received::nack(id, &unfit)),
            },
            Ok(_) => FromProxy::Unfit(Received::nack(id, &Unfit::Kind { kind })),
            Err(unfit) => FromProxy::Unfit(Received::nack(id, &unfit)),
        }))
    }
}

fn records(fds: Vec<OwnedFd>) -> Result<Sealed, Unfit> {
    let [memfd] = exactly(fds)?;
    Ok(Sealed::verify(memfd, LARGEST_RECORDS)?)
}

/// The version of the protocol that has `identities`.
const IDENTITIES: u32 = 3;
