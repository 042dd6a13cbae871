//! Network namespaces entered for a moment, and the kernel's list of the sockets inside.
//!
//! Owns: opening a namespace, running code in it, listing its sockets and ending one of them.
//! Must not know: pods, services, policies, eBPF programs.
//!
//! ```text
//! Netns::open(path) ──► run(|| ...)            a thread of its own, gone afterwards
//!        │
//!        └──► Diag::open ──► sockets(&Query) ──► Vec<Socket> ──► destroy(&Socket)
//! ```

mod error;
mod netns;
mod sock_diag;
mod socket;

pub use error::Error;
pub use netns::{Netns, NetnsId};
pub use sock_diag::{Diag, Protocol, Query, Socket, State, States, TcpInfo};
pub use socket::{netns_cookie, socket_cookie};
