//! What the programs say, as lines of the agent's log under the target `weft_ebpf`.
//!
//! They say little, and only where counters leave a question open: see it by `--log weft_ebpf=debug,info`.

use std::{convert::Infallible, time::Duration};

use aya::Ebpf;
use aya_log::EbpfLogger;
use tracing::Level;
use weft_runtime::Tasks;

/// The level up to which the programs speak, as in `aya_log_ebpf`: what the agent's log would drop costs
/// nothing in the kernel.
pub(crate) fn level() -> u8 {
    if tracing::enabled!(target: "weft_ebpf", Level::DEBUG) { DEBUG } else { SILENT }
}

/// Starts to read what the programs of `ebpf` say.
pub(crate) fn start(ebpf: &mut Ebpf, tasks: &Tasks) {
    let mut logger = match EbpfLogger::init(ebpf) {
        Ok(logger) => logger,
        Err(error) => {
            tracing::warn!(%error, "what the programs say cannot be read");
            return;
        }
    };
    let stop = tasks.stop_signal();
    tasks.spawn("kernel log", async move {
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => logger.flush(),
                () = stop.cancelled() => return Ok::<_, Infallible>(()),
            }
        }
    });
}

const INTERVAL: Duration = Duration::from_millis(200);
const SILENT: u8 = 0;
/// `aya_log_common::Level::Debug`.
const DEBUG: u8 = 4;
