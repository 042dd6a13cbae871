//! What agent and proxy say to each other, so that either can die or be replaced without a refused
//! connection.
//!
//! # Who connects
//! The agent listens on `<run-dir>/proxy.sock`, proxies connect, and connect again for as long as they
//! live. So there is one well-known name and no socket file that a dead process leaves; an agent that was
//! restarted is found by every living generation by itself; a proxy in a container of its own needs to
//! know nothing but the run directory. Every living proxy holds a shared lock beside the socket
//! ([`Presence`]): by it an agent knows whether to wait for a proxy or to start one.
//!
//! # Messages
//! One packet is one message: a JSON object with `id` (counted by its sender), `kind` and the fields of
//! that kind; descriptors come with the packet in the order that is given here.
//!
//! | kind | from | fields | descriptors | answer |
//! |---|---|---|---|---|
//! | `hello` | both | [`Hello`] | | the other's `hello` |
//! | `held` | proxy | a pod, as in `pod` | as in `pod` | |
//! | `held-all` | proxy | `pods`: how many | | |
//! | `pod` | agent | `name`, `cookie`, `addresses`, `service_account` (3), `listeners` (a role each: `outbound`, `inbound`), `transparent` (`v4`, `v6`) | namespace, one for each listener | yes |
//! | `pod-gone` | agent | `cookie` | | yes |
//! | `snapshot` | agent | `version` | sealed memfd | yes |
//! | `maps` | agent | | map of origins, map of the lease | yes |
//! | `older-maps` | agent | | map of origins, map of the lease, of each older layout | yes |
//! | `identities` (3) | agent | `version` | sealed memfd | yes |
//! | `drain` | agent | `within_ms` | | yes |
//! | `ack` | both | `of`: the id | | |
//! | `nack` | both | `of`, `reason`, `error` | | |
//! | `report` | proxy | [`Report`] | | |
//! | `records` | proxy | | sealed memfd | yes |
//!
//! - Each side names the versions that it speaks in its `hello`; the highest that both speak is used.
//!   Every build speaks its own version and the one before, so proxy N works with agent N+1 and N-1; today's
//!   two before, as that costs nothing. If
//!   there is none in common, both ends say so with both ranges and what to do ([`Error::Versions`]).
//!   Version 3 has `identities`, which is said to nobody of version 2. In version 4 `records` tell of requests in groups
//!   of those that are alike, which an agent of version 3 would pass over: it is told of each alone.
//! - A new version may add fields, kinds, roles and reasons. An unknown field is passed over. A kind that
//!   is not known, or cannot be taken, arrives as `Unfit`; whoever receives it sends the [`Nack`] that it
//!   holds, and the sender does without that kind on this connection. Nobody answers an `ack` or `nack`.
//!   So a kind may be added within a version, too, where its sender has another way: `older-maps` was.
//! - An `ack` says that the thing is in force, not that it arrived: connections of that pod are accepted,
//!   that snapshot decides, nothing of that pod is held any more. After a `nack` the state is that before.
//! - Everything may be said again: a `pod` with a known cookie replaces that pod, a `snapshot` the last
//!   one, `maps` and `identities` the last ones. The cookie is the pod's name between the two: it is never used again. The
//!   version of a snapshot is no order: an agent that was restarted counts anew, and what it said last holds.
//! - `older-maps` are those that programs of another layout still write and read, beside `maps`: a connection's origin
//!   may be in any of them, and the lease is renewed in all. Each such message names all that there are; none of them lets
//!   go of the last. They come before the `maps` that they are older than, so that at no time a proxy is without those of
//!   the programs that send connections to it. A proxy that refuses them keeps the `maps` that it has, and another is
//!   started beside it.
//! - `identities` are the certificates of all pods of the node, with their private keys, and whom to trust. They come
//!   before the pods. A pod says which of them is its own.
//! - `records` tell of what ended: flows, metrics and logs are made of them, and nothing depends on them. One is
//!   under way at a time; the next is said once it is answered. What is not acknowledged is lost, and counted.
//! - Each side reads while it writes. Whoever stops reading until its own message has gone out may wait
//!   for a peer that does the same.
//!
//! # States
//! ```text
//! proxy    CONNECTING ──hello──► HANDING BACK ──held*, held-all──► SERVING ──drain──► DRAINING ──► exit
//!              ▲  (backoff)                                           │                   │
//!              └─────────────── the agent is gone: go on as before ◄──┴───────────────────┘
//!
//! agent,   GREETED ──hello──► TAKING BACK ──held-all──► FILLING ──every ack──► ACTIVE ──► RETIRED
//! for each                       maps, identities, snapshot, then every pod ┘         ▲       │ drain
//! proxy                    one that came later is ACTIVE: the one before is retired ─┘       └─► gone
//! ```
//! A proxy accepts on a pod's listeners once it has maps, a snapshot and that pod, and not before: until
//! then connections wait in the listener. The proxy with the highest `generation` (when it was started)
//! is the one to fill; one that says `draining` is given no pod. Maps, identities, snapshots and `pod-gone` go to
//! every living proxy: a policy that tightens concerns the connections of a draining one too.
//!
//! # What happens when
//! - **The agent is killed.** The proxy has its own descriptors of listeners, namespaces, maps and
//!   snapshot: it goes on accepting and keeps the lease. It lets go of a pod whose namespace is not at
//!   the snapshot's path any more; where it cannot see that path (a container of its own), when an agent
//!   is back and says `pod-gone`.
//! - **The agent comes back.** It finds the lock held and waits for the proxies to connect instead of
//!   starting one. Each hands back all pods with namespace and listeners before the agent says anything.
//!   The agent keeps those listeners as its own: same socket, same port, nothing refused. It sends
//!   `pod-gone` for those that are not there any more, and maps, snapshot and pods as to a new one.
//! - **The proxy is killed.** The agent's descriptors keep the listeners open: connections wait there,
//!   up to the backlog. The bytes that the proxy carried are reset. The agent starts the next one, which
//!   hands back nothing and is filled.
//! - **Both are killed.** Nobody holds the listeners: redirected connections are refused until an agent
//!   has made new ones, or, once the lease has run out, do what the connect hook does without a proxy.
//! - **Upgrade.** The agent starts the next generation beside the old one and fills it. Both accept from
//!   the same sockets for a moment, so there is no moment without. When every pod is acknowledged, the
//!   agent sends `drain` to the old one: it closes its descriptors of the listeners (the sockets stay,
//!   others hold them) and renews the lease no more, finishes its connections and exits when they have
//!   ended, at the latest after `within_ms`. A second `drain` can bring the end forward, never back.
//! - **The agent is killed during an upgrade.** Both proxies serve and connect again. Descriptors of the
//!   same socket have the same socket cookie: the agent keeps one of each, fills the younger proxy and
//!   drains the older.

mod agent;
mod channel;
mod error;
mod hello;
mod message;
mod pod;
mod presence;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod property;
mod proxy;

pub use agent::{AgentEnd, FromProxy};
pub use error::{Error, Peer};
pub use hello::{Hello, OURS, Versions, generation};
pub use message::{MOST_UNHEARD, Nack, NackReason, Report, Unheard};
pub use pod::{Listening, Pod, Role};
pub use presence::Presence;
pub use proxy::{FromAgent, ProxyEnd};

/// Name of the agent's socket in the run directory.
pub const SOCKET: &str = "proxy.sock";

/// Bytes that a snapshot may have unless the proxy is told otherwise.
pub const LARGEST_SNAPSHOT: usize = 256 << 20;

/// Bytes that the identities of a node may have.
pub const LARGEST_IDENTITIES: usize = 32 << 20;

/// Bytes that one batch of records may have.
pub const LARGEST_RECORDS: usize = 4 << 20;

/// Pods that one proxy may hand back.
pub const MOST_PODS: usize = 4096;
