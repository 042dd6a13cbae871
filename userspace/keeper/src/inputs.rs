//! What the keeper is given and follows, and whom it tells about ports.

use std::ffi::OsString;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use weft_model::{ObjectName, ServiceAccount};
use weft_telemetry::records::RecordBatch;
use weft_transport::Netns;
use weft_transport::memfd::Sealed;

/// Settings of the keeper.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The agent's run directory.
    pub run_dir: PathBuf,
    /// The cgroup v2 whose sockets the agent sees; the proxy lives in `weft-proxy` below it.
    pub cgroup: PathBuf,
    /// How a proxy is started. It begins with [`crate::enter`].
    pub program: Program,
    /// Whether connections that are made to pods may come to the proxy, too.
    pub inbound: bool,
    /// How long a proxy that was replaced may finish what it carries, and what it carries of a pod that has left the mesh.
    pub drain: Duration,
    /// The agent's build, for people.
    pub build: String,
}

/// A program and what it is told.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its file. Looked up by path at each start, so that an upgrade starts what is there by then.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// What the keeper follows.
pub struct Inputs {
    /// The pods of this node whose connections are ours; `None` until that is known. An agent that was
    /// restarted must not say "none" before it knows.
    pub pods: watch::Receiver<Option<Arc<[LocalPod]>>>,
    /// What the proxy decides by; `None` while nothing needs a proxy. The first one starts it, and it is kept
    /// from then on: ending it would cut connections, and a route that comes and goes would do so each time.
    pub configuration: watch::Receiver<Option<Configuration>>,
    /// Whose certificates the proxy shows, and whom it trusts; `None` until that is known.
    pub identities: watch::Receiver<Option<Identities>>,
    /// The eBPF maps that the proxy works with.
    pub maps: Maps,
    /// Those of older layouts, as long as a proxy may need what is in them.
    pub older: watch::Receiver<Arc<[Maps]>>,
    /// Who is told about ports.
    pub ports: Arc<dyn Ports>,
    /// Who is told what ended.
    pub records: Arc<dyn Records>,
}

/// A pod of this node.
#[derive(Debug, Clone)]
pub struct LocalPod {
    /// Its name.
    pub name: ObjectName,
    /// The cookie of its network namespace.
    pub cookie: u64,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Whose certificate it shows.
    pub service_account: ServiceAccount,
    /// Where its network namespace is found.
    pub path: PathBuf,
    /// Its network namespace. The keeper lets go of it when the pod is no longer among those that it follows.
    pub netns: Arc<Netns>,
}

/// What the proxy decides by, in the form that it reads.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// Grows with each change.
    pub version: u64,
    /// Its bytes.
    pub bytes: Arc<[u8]>,
}

/// Certificates with their private keys, and whom to trust, in the form that the proxy reads: in memory only.
#[derive(Debug, Clone)]
pub struct Identities {
    /// Grows with each change.
    pub version: u64,
    /// Their bytes.
    pub bytes: Arc<Sealed>,
    /// Nobody's is missing: a proxy that has no others can show them.
    pub complete: bool,
}

/// Descriptors of eBPF maps.
#[derive(Debug)]
pub struct Maps {
    /// Who was dialled.
    pub origins: OwnedFd,
    /// Where the proxy says that it lives.
    pub lease: OwnedFd,
}

/// Whoever sends pods' connections to their listeners: the data path.
pub trait Ports: Send + Sync + 'static {
    /// Connections of the pod with this cookie may be sent to `port` of its own addresses from now on; with
    /// `None`, no more. They wait there for as long as no proxy accepts them.
    ///
    /// Until the first call for a cookie what an earlier agent wrote for it holds. May block for the instant
    /// of writing a row. A row that cannot be written is the data path's to report.
    fn outbound(&self, cookie: u64, port: Option<u16>);

    /// Connections that others make to the pod with this cookie may be handed to this listener, which has this port, from
    /// now on; with `None`, no more. As for [`Ports::outbound`].
    fn inbound(&self, cookie: u64, listener: Option<(u16, BorrowedFd<'_>)>);
}

/// Whoever makes flows, metrics and logs of what proxies tell.
pub trait Records: Send + Sync + 'static {
    /// A proxy tells of requests and connections that ended, and what its pods have used. `generation` is what the
    /// proxy said when it was met, whatever stands in its batches. May block for the instant of counting.
    fn take(&self, batch: RecordBatch);

    /// The proxy of this generation has ended, and everything that it told was taken.
    fn ended(&self, generation: u64);
}
