//! Services, their slots and backends.
//!
//! A frontend (address, port, protocol) has a row that names its generation; the slots of that
//! generation name backends. An update writes the slots of the next generation first and then
//! replaces the row, so a reader sees the old set or the new one, whole.

use crate::{Addr, BePort};

abi_struct! {
    /// Key of `weft_svc`: a frontend.
    pub struct ServiceKey {
        /// The ClusterIP.
        pub addr: Addr,
        /// The port.
        pub port: BePort,
        /// [`crate::TCP`] or [`crate::UDP`].
        pub protocol: u8,
        /// Zero.
        pub _pad: u8,
        /// Zero.
        pub _pad2: u32,
    }
}

abi_struct! {
    /// Value of `weft_svc`.
    pub struct ServiceRow {
        /// Id of the frontend.
        pub id: u64,
        /// Generation of its slots.
        pub generation: u32,
        /// Number of slots; 0 refuses every connection.
        pub slots: u32,
        /// [`service_flags`].
        pub flags: u32,
        /// [`algorithm`].
        pub algorithm: u32,
        /// Session affinity in seconds; 0 for none.
        pub affinity_s: u32,
        /// Entries of the Maglev table; 0 without one.
        pub maglev: u32,
    }
}

abi_struct! {
    /// Key of `weft_slot`.
    pub struct SlotKey {
        /// Id of the frontend.
        pub service: u64,
        /// Generation.
        pub generation: u32,
        /// From 0.
        pub slot: u32,
    }
}

abi_struct! {
    /// Value of `weft_slot`: one column of an alias table (Walker 1974, Vose 1991), with what a connection needs of
    /// its backend.
    pub struct Slot {
        /// The backend's address.
        pub addr: Addr,
        /// Id of the backend; 0 refuses the connection (the share of a backendRef without endpoints).
        pub backend: u64,
        /// Id of the frontend it belongs to.
        pub service: u64,
        /// The slot to take instead when a draw of 16 bits is not below `threshold`.
        pub alias: u32,
        /// 65536 where there is no alias.
        pub threshold: u32,
        /// The backend's port.
        pub port: BePort,
        /// Zero.
        pub _pad: [u8; 6],
    }
}

abi_struct! {
    /// Key of `weft_backend`.
    pub struct BackendKey {
        /// Id of the backend: of this frontend, address and port.
        pub id: u64,
    }
}

abi_struct! {
    /// Value of `weft_backend`.
    pub struct Backend {
        /// Its address.
        pub addr: Addr,
        /// Id of the frontend it belongs to.
        pub service: u64,
        /// Its port.
        pub port: BePort,
        /// 1 once it has left its frontend: the row waits for readers of the old slots, and no client
        /// may stick to it any more.
        pub retired: u8,
        /// Zero.
        pub _pad: u8,
        /// Its weight beside the frontend's other backends, of which the heaviest has 65 536. It counts where open
        /// connections are compared; 0 elsewhere.
        pub weight: u32,
    }
}

abi_struct! {
    /// Key of `weft_affinity`.
    pub struct AffinityKey {
        /// Network namespace of the client.
        pub netns: u64,
        /// Id of the frontend.
        pub service: u64,
    }
}

abi_struct! {
    /// Value of `weft_affinity`.
    pub struct Affinity {
        /// Id of the backend.
        pub backend: u64,
        /// When it was last used, in nanoseconds since boot.
        pub used_ns: u64,
    }
}

abi_struct! {
    /// Value of `weft_open` (open connections of a backend) and `weft_turn` (turns of a frontend).
    pub struct Count {
        /// The count.
        pub n: u64,
    }
}

abi_struct! {
    /// Key of `weft_maglev`.
    pub struct MaglevKey {
        /// Id of the frontend.
        pub service: u64,
        /// Generation.
        pub generation: u32,
        /// Index of the chunk.
        pub chunk: u32,
    }
}

/// Entries of a [`MaglevChunk`].
pub const MAGLEV_CHUNK: u32 = 256;

abi_struct! {
    /// Value of `weft_maglev`: a part of the lookup table.
    pub struct MaglevChunk {
        /// Slots.
        pub slots: [u16; MAGLEV_CHUNK as usize],
    }
}

/// Bits of [`ServiceRow::flags`].
pub mod service_flags {
    /// `weft.dev/accelerate: same-node`.
    pub const ACCELERATE: u32 = 1;
    /// Connections of enrolled pods go through the node's proxy.
    pub const PROXY: u32 = 2;
    /// `weft.dev/proxy-failure: open`: while there is no proxy they take the kernel path.
    pub const PROXY_OPEN: u32 = 4;
}

/// Values of [`ServiceRow::algorithm`].
pub mod algorithm {
    /// At random.
    pub const RANDOM: u32 = 0;
    /// In turn.
    pub const ROUND_ROBIN: u32 = 1;
    /// Fewer open connections of two.
    pub const LEAST_REQUEST: u32 = 2;
    /// By the client's address.
    pub const SOURCE_IP: u32 = 3;
}
