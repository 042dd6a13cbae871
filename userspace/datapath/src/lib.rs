//! Loads, pins and feeds the eBPF data path.
//!
//! Owns: everything that touches aya, the pins, and the way from a Snapshot to rows in the kernel and
//! from kernel events to flows. Must not know: Kubernetes' wire forms, TLS, HTTP.
//!
//! ```text
//! Snapshot ─► rows ─► apply (add before remove) ─► maps ─► programs
//!                └──► sweep: connections that policy now forbids end
//! events ring ─► flows ─► FlowLog, metrics
//! ```

mod accelerate;
mod apply;
mod attach;
mod btf;
mod check;
mod container;
mod enforcer;
mod flows;
mod host;
mod kernel_log;
mod layout;
mod link;
mod load;
mod maps;
mod netns;
mod object;
mod pins;
mod proxy;
mod report;
pub mod rows;
mod settings;
mod state;
mod sweep;
mod tenancy;
mod uncharged;

pub use check::{check, preflight};
pub use container::enter_control_groups;
pub use enforcer::Enforcer;
pub use host::cgroup_mount;
pub use layout::{Error as LayoutError, check_layout};
pub use load::MapSizes;
pub use maps::Error as MapError;
pub use proxy::{LeaseMap, LocalPod, OriginMap, ProxyMaps};
pub use settings::{Acceleration, Settings};
pub use state::Error;
pub use tenancy::{Error as TenancyError, Tenancy, cleanup, last_good, last_good_jwks};
pub use uncharged::{Error as StorageError, make_socket_storage};
