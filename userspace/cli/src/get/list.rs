//! One list of all nodes that are asked.

use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};
use weft_telemetry::api::{ConnectionView, EndpointView, PolicyView, RouteView, ServiceView, WorkloadView};

use super::{complaints, connections, endpoints, policies, routes, services, workloads};
use crate::{Error, Screen, agents::Agents, merge::Merged, output::Format, table::Table};

/// Who is asked, and where the answer goes.
pub(super) struct List<'a> {
    pub(super) agents: &'a Agents,
    pub(super) format: Format,
    pub(super) screen: &'a mut Screen,
}

/// How a kind is listed.
pub(super) struct Shape<T> {
    /// Of these.
    table: fn(&[&T]) -> Table,
    /// Lines of each.
    lines: fn(&T) -> usize,
    below: fn(&[&T]) -> String,
    /// In which order they are; what has the same place in it is of one object.
    order: fn(&T) -> (String, String),
    /// Over the column of the nodes that say so.
    heading: &'static str,
    /// The node that knows best, where one does.
    home: fn(&T) -> Option<&str>,
}

impl List<'_> {
    /// Shows what is `wanted` of the list at `/v1/<path>`.
    pub(super) async fn show<T: DeserializeOwned + Serialize>(
        self,
        path: &str,
        wanted: impl Fn(&T) -> bool,
        shape: &Shape<T>,
    ) -> Result<(), Error> {
        let Self { agents, format, screen } = self;
        let path = format!("/v1/{path}");
        if let Some(client) = agents.alone() {
            let mut list: Vec<T> = client.get(&path).await?;
            list.retain(wanted);
            return format.write(screen, &list, |list, screen| {
                let list: Vec<_> = list.iter().collect();
                format!("{}{}", (shape.table)(&list).render(screen.width()), (shape.below)(&list))
            });
        }
        let mut answers = agents.each(screen, async |client| client.get::<Vec<T>>(&path).await).await?;
        let nodes: Vec<_> = answers.iter().map(|(node, _)| Arc::clone(node)).collect();
        for (node, list) in &mut answers {
            let elsewhere = |item: &T| {
                (shape.home)(item)
                    .is_some_and(|home| home != &**node && nodes.iter().any(|node| **node == *home))
            };
            list.retain(|item| wanted(item) && !elsewhere(item));
        }
        let merged = Merged::of(answers, shape.order);
        format.write(screen, &merged.rows, |rows, screen| {
            let list: Vec<_> = rows.iter().map(|row| &row.item).collect();
            let mut table = (shape.table)(&list);
            // An object of one node has a column that names it.
            let at_home = list.iter().all(|item| (shape.home)(item).is_some());
            if let Some(tellers) = merged.tellers().filter(|_| !at_home) {
                let lines = tellers.into_iter().zip(&list);
                let cells = lines.flat_map(|(node, item)| std::iter::repeat_n(node, (shape.lines)(item)));
                table.lead(shape.heading, cells);
            }
            format!("{}{}", table.render(screen.width()), (shape.below)(&list))
        })
    }
}

impl<T> Shape<T> {
    const fn new(table: fn(&[&T]) -> Table, order: fn(&T) -> (String, String)) -> Self {
        Self { table, lines: |_| 1, below: |_| String::new(), order, heading: "NODE", home: |_| None }
    }
}

pub(super) const SERVICES: Shape<ServiceView> =
    Shape::new(|list| services(list.iter().copied()), |item| (item.namespace.clone(), item.name.clone()));

/// They have a column for the node of the pod.
pub(super) const ENDPOINTS: Shape<EndpointView> = Shape {
    heading: "SEEN-BY",
    ..Shape::new(
        |list| endpoints(list.iter().copied()),
        |item| (item.namespace.clone(), format!("{} {:5} {}", item.service, item.port, item.address)),
    )
};

/// A pod's own node knows where its network namespace is.
pub(super) const WORKLOADS: Shape<WorkloadView> = Shape {
    heading: "SEEN-BY",
    home: |item| item.node.as_deref(),
    ..Shape::new(|list| workloads(list.iter().copied()), |item| (item.namespace.clone(), item.name.clone()))
};

pub(super) const POLICIES: Shape<PolicyView> =
    Shape::new(|list| policies(list.iter().copied()), |item| (item.namespace.clone(), item.name.clone()));

pub(super) const ROUTES: Shape<RouteView> = Shape {
    lines: |item| item.parents.len(),
    below: |list| complaints(list.iter().copied()),
    ..Shape::new(|list| routes(list.iter().copied()), |item| (item.namespace.clone(), item.name.clone()))
};

/// Each is of one node, in its order.
pub(super) const CONNECTIONS: Shape<ConnectionView> =
    Shape::new(|list| connections(list.iter().copied()), |_| (String::new(), String::new()));
