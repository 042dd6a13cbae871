//! An HTTPRoute: whose it is, what became of it, and who takes it.

use serde::Serialize;
use weft_telemetry::{
    api::{Failure, RouteView},
    window::Window,
};

use super::{fields, section};
use crate::{
    Client, Error, Screen,
    agents::Agents,
    ask::Name,
    get,
    merge::Merged,
    table::{Column, Table},
    traffic::{self, Line},
};

/// A route with all that touches it.
#[derive(Debug, Serialize)]
pub(super) struct Described {
    route: RouteView,
    /// The nodes that have it otherwise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    otherwise: Vec<String>,
    /// Requests of the last minute.
    traffic: Vec<Line>,
}

/// Asks all nodes.
pub(super) async fn find(agents: &Agents, name: &Name, screen: &mut Screen) -> Result<Described, Error> {
    let read = async |client: &Client| -> Result<Vec<RouteView>, Error> {
        let mut list: Vec<RouteView> = client.get("/v1/routes").await?;
        list.retain(|route| {
            route.kind == KIND && (&*route.namespace, &*route.name) == (&*name.0.namespace, &*name.0.name)
        });
        Ok(list)
    };
    let mut rows = Merged::of(agents.each(screen, read).await?, |_| ()).rows.into_iter();
    let missing = || {
        let message = format!("there is no {KIND} {}", name.0);
        Error::Refused(Failure::new(message, "see: weft get httproutes"))
    };
    let route = rows.next().ok_or_else(missing)?.item;
    let otherwise = rows.flat_map(|row| row.nodes).map(|node| node.to_string()).collect();
    let mut traffic = traffic::of_last(agents, Window::LONGEST.as_secs(), None, screen).await?;
    let full = format!("{KIND} {}", name.0);
    traffic.retain(|line| line.view.route.as_ref() == Some(&full));
    Ok(Described { route, otherwise, traffic })
}

pub(super) fn page(found: &Described, screen: &Screen) -> String {
    let (route, width) = (&found.route, screen.width());
    let mut lines = vec![
        ("Name", format!("{}/{}", route.namespace, route.name)),
        ("Hostnames", if route.hostnames.is_empty() { "any".to_owned() } else { route.hostnames.join(", ") }),
    ];
    if !found.otherwise.is_empty() {
        lines.push(("Otherwise on", found.otherwise.join(", ")));
    }
    let mut text = fields(&lines);
    section(&mut text, "Parents", route.parents.is_empty(), || parents(route).render(width));
    section(&mut text, "Rules", route.rules.is_empty(), || rules(route).render(width));
    section(&mut text, "Requests of the last minute", found.traffic.is_empty(), || {
        traffic::table(&found.traffic, width)
    });
    text + &get::complaints([route].into_iter())
}

fn parents(route: &RouteView) -> Table {
    let headings = [Column::whole("PARENT"), Column::whole("ACCEPTED"), Column::whole("RESOLVED-REFS")];
    let mut table = Table::new(headings);
    for parent in &route.parents {
        table.row([
            get::place(parent, &route.namespace),
            get::condition(&parent.accepted),
            get::condition(&parent.resolved_refs),
        ]);
    }
    table
}

fn rules(route: &RouteView) -> Table {
    let headings = [Column::number("RULE"), Column::number("FILTERS"), Column::folding("TO")];
    let mut table = Table::new(headings);
    for (index, rule) in route.rules.iter().enumerate() {
        let to = get::rules(std::slice::from_ref(rule), &route.namespace);
        table.row([index.to_string(), rule.filters.to_string(), to]);
    }
    table
}

const KIND: &str = "HTTPRoute";
