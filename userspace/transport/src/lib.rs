//! Sockets inside pods' network namespaces: made there, listed, carried, and passed between processes.
//!
//! Owns: opening a namespace and making sockets in it, listing its sockets and ending one of them, what
//! agent and proxy say to each other, carrying bytes between two connections, and the question who was
//! dialled. Must not know: services, policies, eBPF programs.
//!
//! ```text
//! Netns::open(path) ──► run(|| ...)            a thread of its own, gone afterwards
//!        ├──► listen, outgoing                 the calling thread, for one system call
//!        ├──► make_transparent ──► outgoing_from     from an address that is not the namespace's
//!        └──► Diag::open ──► sockets(&Query) ──► Vec<Socket> ──► destroy(&Socket)
//!
//! agent: AgentEnd ◄── handover over seqpacket, memfd ──► ProxyEnd :proxy
//! proxy: accept ──► Origins::take ──► ... ──► relay(client, upstream)
//!                                        or relay_inside(client, mux::Stream)
//! ```

mod error;
pub mod handover;
pub mod memfd;
pub mod memory;
pub mod mux;
mod netns;
mod origins;
mod read_ahead;
mod relay;
pub mod seqpacket;
mod sock_diag;
mod socket;
mod sysctl;
mod tcp;
pub mod testing;
mod transparent;
mod visit;

pub use error::Error;
pub use netns::{Netns, NetnsId};
pub use origins::{Attested, Origin, Origins};
pub use read_ahead::ReadAhead;
pub use relay::{BUFFER, Buffer, End, Inside, Progress, Relayed, relay, relay_inside};
pub use sock_diag::{Diag, Protocol, Query, Socket, State, States, TcpInfo};
pub use socket::{netns_cookie, socket_cookie};
pub use tcp::{BACKLOG, send_unpaced, set_priority};
pub use transparent::{MadeTransparent, Transparent};

/// What holds of any input, for the fuzz targets.
#[cfg(feature = "fuzz")]
pub mod fuzz {
    /// Reads what may be a message between agent and proxy.
    ///
    /// # Panics
    /// Where it is read otherwise than it should be, or cannot be answered.
    pub fn message(bytes: &[u8]) {
        crate::handover::property::message(bytes);
    }
}
