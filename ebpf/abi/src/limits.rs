//! How many entries each map holds at most. Hashes are not preallocated: what is not used costs
//! nothing. LRU maps are.

/// Enrolled pods of one node.
pub const PODS: usize = 4_096;
/// Addresses of pods of the whole mesh.
pub const POD_IPS: usize = 262_144;
/// Ports that have modes of mutual TLS of their own, by address.
pub const POD_PORTS: usize = 65_536;
/// Frontends: Services × ports × families.
pub const SERVICES: usize = 131_072;
/// Slots, those of a generation being replaced included.
pub const SLOTS: usize = 1_048_576;
/// Backends.
pub const BACKENDS: usize = 1_048_576;
/// Maglev chunks.
pub const MAGLEV_CHUNKS: usize = 262_144;
/// Policy rows.
pub const POLICY_ROWS: usize = 262_144;
/// CIDR rows.
pub const CIDR_ROWS: usize = 262_144;
/// Flows that the kernel attests, least recently used first out.
pub const FLOWS: usize = 65_536;
/// Places of attested TCP connections, a power of two: who finds his taken goes among [`FLOWS`].
pub const ATTESTED: usize = 16_384;
/// Peers of unconnected UDP sockets, least recently used first out.
pub const UDP_PEERS: usize = 65_536;
/// UDP sockets that are connected through a Service.
pub const UDP_SOCKETS: usize = 262_144;
/// Clients with session affinity, least recently used first out.
pub const AFFINITIES: usize = 65_536;
/// Frontends that take turns, least recently used first out.
pub const TURNS: usize = 16_384;
/// Sockets under same-node acceleration, two for each connection.
pub const PAIRS: usize = 65_536;
/// Bytes, with what it takes to hold them, that a direction may redirect ahead of its reader.
pub const ACCELERATE_BUDGET: u32 = 1 << 20;
/// Largest write that is worth redirecting, in bytes.
pub const ACCELERATE_WRITE: u32 = 32 << 10;
/// Connections on their way to the proxy, least recently used first out.
pub const ORIGINS: usize = 65_536;
/// Bytes of the event ring, a power of two.
pub const EVENT_BYTES: usize = 4 << 20;
/// Counters.
pub const STATS: usize = 32;
