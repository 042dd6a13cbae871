//! Kernel events as flows and metrics.

mod names;
mod track;

pub(crate) use names::Names;
pub(crate) use track::Tracker;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use aya::maps::{MapData, RingBuf};
use weft_runtime::Stop;
use weft_telemetry::{flows::FlowLog, metrics::Metrics};

use crate::maps::event;

/// Reads the ring until `stop`. Events wait in it for at most [`INTERVAL`]: waking for each would cost
/// the connections more than the event itself.
pub(crate) async fn read(
    mut ring: RingBuf<MapData>,
    names: Arc<ArcSwap<Names>>,
    log: Arc<FlowLog>,
    metrics: Arc<Metrics>,
    tracker: Arc<Tracker>,
    stop: Stop,
) -> Result<(), std::convert::Infallible> {
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let stopping = tokio::select! {
            _ = tick.tick() => false,
            () = stop.cancelled() => true,
        };
        let names = names.load_full();
        // What waited in the ring for this agent to start has to wait until it knows the names.
        if !names.are_known() && !stopping {
            continue;
        }
        // Bounded: a flood of refusals must not keep this thread from everything else.
        for _ in 0..AT_ONCE {
            let Some(item) = ring.next() else { break };
            let Some(event) = event(&item) else { continue };
            tracker.count(&event, &names, &metrics);
            log.push(names.flow(&event));
        }
        if stopping {
            return Ok(());
        }
    }
}

const INTERVAL: Duration = Duration::from_millis(20);
/// More than the ring holds of what comes in a busy interval.
const AT_ONCE: usize = 16_384;
