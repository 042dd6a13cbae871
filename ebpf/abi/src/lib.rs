//! Every byte that the eBPF programs and user space both read.
//!
//! Owns: map keys and values, flow events, [`Reason`], map and program names, limits. Must not
//! know: aya (but for its `Pod` marker behind feature `user`), the kernel's contexts, any decision.
//!
//! ```text
//! ebpf/programs ──┐                 ┌── userspace/datapath
//!                 ├──► weft-abi ◄───┤
//! ebpf/logic ─────┘   layout.txt    └── policy, telemetry (Reason only)
//! ```
//!
//! Types are declared by `abi_struct!`, which refuses padding; `layout.txt` is their golden layout.
//! A change of it is a change of [`SCHEMA`].
#![no_std]

#[macro_use]
mod macros;
mod addr;
mod config;
mod flow;
pub mod layout;
pub mod limits;
pub mod names;
mod origin;
mod pair;
mod pod;
mod policy;
mod reason;
mod service;
mod socket;

pub use addr::{Addr, BePort};
pub use config::{Config, config_flags};
pub use flow::{
    Attested, CONNECTED_UDP, FlowEvent, FlowKey, FlowRecord, attested_by, event_kind, flow_flags, path,
};
pub use origin::{Lease, Origin, OriginKey};
pub use pair::{Pair, PairEnd, PairKey, SHORT_MESSAGES, latch, side};
pub use pod::{NetnsKey, Pod, PodPort, PodPortKey, PodRow, pod_flags};
pub use policy::{CidrClass, CidrMatch, PolicyKey, PolicyRow, policy_bits, token};
pub use reason::Reason;
pub use service::{
    Affinity, AffinityKey, Backend, BackendKey, Count, MAGLEV_CHUNK, MaglevChunk, MaglevKey, ServiceKey,
    ServiceRow, Slot, SlotKey, algorithm, service_flags,
};
pub use socket::{ReverseKey, ReverseRow, SocketKey, SocketState, socket_flags};

/// Version of the layout in `layout.txt`. It is part of the pin path: an agent of another version
/// builds its own maps and never misreads ours.
pub const SCHEMA: u32 = 6;

/// `IPPROTO_TCP`.
pub const TCP: u8 = 6;
/// `IPPROTO_UDP`.
pub const UDP: u8 = 17;
