//! The flows of several nodes, by their time.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt as _, future::join_all, stream};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use weft_telemetry::api::{Flow, FlowLine, Time};

use super::{Page, Query};
use crate::{
    Client, Error, Screen,
    agents::{Agents, PATIENCE, Told},
    client::Lines,
};

/// Writes the last flows of all nodes.
pub(super) async fn past(
    agents: &Agents,
    query: &Query,
    page: &mut Page,
    screen: &mut Screen,
) -> Result<(), Error> {
    let read = async |client: &Client| {
        let (mut lines, mut flows) = (client.lines("/v1/flows", query).await?, Vec::<Arc<Flow>>::new());
        while let Some(line) = lines.next().await? {
            flows.extend(match line {
                FlowLine::Flow(flow) => Some(flow),
                FlowLine::Missed { .. } => None, // what is past is whole
            });
        }
        Ok(flows)
    };
    let answers = agents.each(screen, read).await?;
    let mut flows: Vec<_> = answers
        .into_iter()
        .flat_map(|(node, flows)| flows.into_iter().map(move |flow| (flow.time, Arc::clone(&node), flow)))
        .collect();
    flows.sort_by_key(|(time, ..)| *time);
    for (_, node, flow) in flows.split_off(flows.len().saturating_sub(query.last)) {
        page.write(Some(&node), &FlowLine::Flow(flow), screen)?;
    }
    Ok(())
}

/// Writes flows as they come, until every agent has ended. Each is held for [`HOLD`], in case another node tells of an earlier
/// one meanwhile.
pub(super) async fn coming(
    agents: &Agents,
    query: &Query,
    page: &mut Page,
    screen: &mut Screen,
) -> Result<(), Error> {
    let begun = join_all(agents.list.iter().map(async |agent| {
        let lines = timeout(PATIENCE, agent.client.lines("/v1/flows", query)).await;
        let agent_name = || agent.client.way().to_string();
        let late = |_| Error::Late { agent: agent_name(), seconds: PATIENCE.as_secs() };
        (Arc::clone(&agent.node), lines.map_err(late).flatten())
    }));
    let begun = Told::of(begun.await).some(screen)?;
    let mut all = stream::select_all(begun.into_iter().map(|(node, lines)| Box::pin(each(node, lines))));
    let mut held = Held::default();
    let mut tick = interval(HOLD / 2);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            line = all.next() => match line {
                Some((node, Ok(FlowLine::Flow(flow)))) => held.add(node, flow),
                Some((node, Ok(missed))) => page.write(Some(&node), &missed, screen)?,
                Some((node, Err(error))) => screen.note(&format!("weft: {node}: {error}"))?,
                None => break,
            },
            now = tick.tick() => held.write(now.checked_sub(HOLD), page, screen)?,
        }
    }
    held.write(Some(Instant::now()), page, screen)
}

type Line = (Arc<str>, Result<FlowLine, Error>);

/// The lines of one node, and why they end before their time.
fn each(node: Arc<str>, lines: Lines<'_>) -> impl Stream<Item = Line> {
    stream::unfold(Some(lines), move |lines| {
        let node = Arc::clone(&node);
        async move {
            let mut lines = lines?;
            match lines.next().await {
                Ok(line) => Some(((node, Ok(line?)), Some(lines))),
                Err(error) => Some(((node, Err(error)), None)),
            }
        }
    })
}

/// When a flow came, from which node.
type Came = (Instant, Arc<str>, Arc<Flow>);

/// Flows that wait for earlier ones, by their time and then as they came.
#[derive(Default)]
struct Held {
    flows: BTreeMap<(Time, u64), Came>,
    count: u64,
}

impl Held {
    fn add(&mut self, node: Arc<str>, flow: Arc<Flow>) {
        self.count += 1;
        self.flows.insert((flow.time, self.count), (Instant::now(), node, flow));
    }

    /// Writes those that came until then, and what was before them.
    fn write(&mut self, came: Option<Instant>, page: &mut Page, screen: &mut Screen) -> Result<(), Error> {
        let ripe = |(at, ..): &Came| came.is_some_and(|came| *at <= came);
        while self.flows.first_key_value().is_some_and(|(_, flow)| ripe(flow)) {
            let (_, (_, node, flow)) = self.flows.pop_first().expect("it was looked at");
            page.write(Some(&node), &FlowLine::Flow(flow), screen)?;
        }
        Ok(())
    }
}

/// How long a flow waits for an earlier one: agents tell theirs ten times a second.
const HOLD: Duration = Duration::from_millis(300);
