//! Mutual TLS between two nodes against no mesh: the same load over each, in turn.
//!
//! Owns: the two nodes, the cases and their targets. Must not know: how the nodes' proxies carry a connection.
//!
//! ```text
//! no mesh           client ──────────────────────────────────────► server
//! weft              client ──► proxy of a ══ mutual TLS ══► proxy of b ──► server
//! ```
//!
//! Nothing is pinned: client, server, and on weft's side both proxies and both agents share all CPUs of the machine. So a
//! ratio says what is left for the apps where everything that a connection needs is paid for by the same CPUs; on two
//! machines each would pay for one of the proxies. Both sides dial the server's own address.

mod cases;
mod stage;

use std::time::Duration;

use anyhow::Result;

use crate::Report;
use crate::rounds::Series;
use stage::{Side, Stage};

/// How much is measured.
pub struct Plan {
    /// How often each side has its turn.
    pub rounds: usize,
    /// How long a turn lasts: whole seconds, as wrk counts them.
    pub lasts: Duration,
    /// Bytes of a bulk transfer.
    pub bulk_bytes: u64,
    /// Connections to new ports in a turn.
    pub firsts: u16,
}

/// Measures every case whose name has `only` in it.
pub fn run(plan: &Plan, only: Option<&str>, report: &mut Report) -> Result<()> {
    let stage = Stage::open(plan)?;
    for (name, case) in cases::ALL {
        if only.is_none_or(|word| name.contains(word)) {
            case(&Bench { plan, stage: &stage }, name, report)?;
        }
    }
    stage.ensure_secured()
}

/// What cases have in common.
struct Bench<'a> {
    plan: &'a Plan,
    stage: &'a Stage,
}

impl Bench<'_> {
    /// Both sides in turn, as often as the plan says.
    fn interleave<T>(&self, name: &str, turn: impl Fn(Side) -> Result<T>) -> Result<[Vec<T>; 2]> {
        let (plain, weft) = (|| turn(Side::Plain), || turn(Side::Weft));
        let sides: [&dyn Fn() -> Result<T>; 2] = [&plain, &weft];
        let measured = crate::rounds::interleave_all(self.plan.rounds, name, &sides)?;
        Ok(measured.try_into().unwrap_or_else(|_| unreachable!("there are two sides")))
    }

    /// The same of one figure.
    fn series(&self, name: &str, turn: impl Fn(Side) -> Result<f64>) -> Result<[Series; 2]> {
        Ok(self.interleave(name, turn)?.map(Series::new))
    }
}
