//! The controllers of a mesh, beside what its agents say.

use std::fmt::Write as _;

use weft_kubernetes::{Cluster, Replicas};
use weft_model::ROOT_NAMESPACE;

use crate::{
    Error, Screen,
    table::{Column, Table},
    units,
};

/// The controllers of a cluster, for `weft describe controller`.
pub(crate) async fn of(cluster: &Cluster) -> Result<Replicas, Error> {
    Ok(cluster.controllers(ROOT_NAMESPACE).await?)
}

/// What of them is shown beside something else; whoever may not ask is told so there.
pub(crate) async fn beside(cluster: &Cluster, screen: &mut Screen) -> Result<Option<Replicas>, Error> {
    match of(cluster).await {
        Ok(replicas) => Ok(Some(replicas)),
        Err(error) => {
            screen.note(&format!("weft: which controller leads is not known: {error}"))?;
            Ok(None)
        }
    }
}

/// A line for each, and who leads.
pub(crate) fn page(replicas: &Replicas, width: Option<u16>) -> String {
    let mut table = Table::new([
        Column::whole("CONTROLLER"),
        Column::whole("NODE"),
        Column::whole("READY"),
        Column::whole("LEADS"),
    ]);
    for replica in &replicas.pods {
        let since = replicas.leads_seconds.map(std::time::Duration::from_secs);
        let leads = if replica.leads {
            since.map_or("yes".to_owned(), |time| format!("for {}", units::span(time)))
        } else {
            "no".to_owned()
        };
        let ready = if replica.ready { "yes" } else { "no" };
        table.row([replica.pod.clone(), replica.node.clone().unwrap_or_default(), ready.to_owned(), leads]);
    }
    let mut text = table.render(width);
    match &replicas.leader {
        None => text.push_str("No controller leads: statuses of objects stay as they are.\n"),
        Some(leader) if !replicas.pods.iter().any(|replica| replica.leads) => {
            // A String takes whatever is written.
            let _ = writeln!(text, "{leader} leads, which is none of these pods.");
        }
        Some(_) => {}
    }
    text
}

#[cfg(test)]
mod tests {
    use weft_kubernetes::Replica;

    use super::*;

    fn replica(pod: &str, leads: bool) -> Replica {
        Replica { pod: pod.to_owned(), node: Some("n1".to_owned()), ready: true, leads }
    }

    #[test]
    fn who_leads_is_said_by_name_and_also_that_nobody_does() {
        let pods = vec![replica("weft-controller-a", true), replica("weft-controller-b", false)];
        let leads = Replicas { pods, leader: Some("weft-controller-a_01".into()), leads_seconds: Some(300) };
        let text = page(&leads, None);
        let rows: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[1], ["weft-controller-a", "n1", "yes", "for", "5m"], "{text}");
        assert_eq!(rows[2][3], "no", "{text}");
        let none = Replicas { pods: Vec::new(), leader: None, leads_seconds: None };
        assert!(page(&none, None).contains("No controller leads"));
        let stranger = Replicas { leader: Some("elsewhere_02".into()), ..none };
        assert!(page(&stranger, None).contains("elsewhere_02 leads, which is none"));
    }
}
