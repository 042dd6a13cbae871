//! HTTP/1.x on the wire: what may pass, judged on the raw bytes.
//!
//! Parsers are lenient, each in its own way, and what two of them read differently is a smuggled request. So every byte
//! of a head and of a body's framing is judged here before a parser sees it; what RFC 9112 does not clearly allow is
//! refused and never forwarded.

pub mod guard;
pub mod guarded;
pub mod hop_by_hop;
mod malformed;

pub use guard::Limits;
pub use guarded::{Guarded, Holding, Refusal, Resting};
pub use malformed::Malformed;
