//! How a preflight reads.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use serde::Serialize;
use weft_telemetry::api::{Check, Outcome};

use crate::{
    Error, Exit, Screen,
    agents::{Agents, Told},
    ask::Whom,
    output::Format,
};

/// What each of `agents`' nodes says to `weft check`, asked in the agent's pod; `pre` as the flag.
async fn asked(agents: &Agents, pre: bool, screen: &mut Screen) -> Result<Vec<NodeCheck>, Error> {
    let words: &[&str] = if pre { &["check", "--pre", "-o=json"] } else { &["check", "-o=json"] };
    let told: Told<Vec<Check>> = agents.told(async |client| client.run(words).await).await;
    let answers = told.some(screen)?.into_iter();
    Ok(answers.flat_map(|(node, lines)| lines.into_iter().map(move |line| of_node(&node, line))).collect())
}

/// Looks at a cluster: `found` is what its API server tells, before there is any agent; of nodes that have one, what that sees.
pub async fn cluster(
    whom: &Whom,
    found: Option<Vec<Check>>,
    format: Format,
    screen: &mut Screen,
) -> Result<Exit, Error> {
    let pre = found.is_some();
    let mut lines: Vec<_> = found.into_iter().flatten().map(|line| of_node(&"-".into(), line)).collect();
    match Agents::of(whom).await {
        Ok(agents) => lines.extend(asked(&agents, pre, screen).await?),
        Err(Error::NoAgents { .. }) if pre => {}
        Err(error) => return Err(error),
    }
    format.write(screen, &lines, |lines, _| by_node(lines))?;
    Ok(exit(lines.iter().map(|line| line.check.outcome).max()))
}

/// A line of one node; `-` is the cluster as a whole.
#[derive(Serialize)]
struct NodeCheck {
    node: Arc<str>,
    #[serde(flatten)]
    check: Check,
}

fn of_node(node: &Arc<str>, check: Check) -> NodeCheck {
    NodeCheck { node: Arc::clone(node), check }
}

/// A page for each node; nodes that say the same have one.
fn by_node(lines: &[NodeCheck]) -> String {
    let mut nodes = BTreeMap::<&str, Vec<Check>>::new();
    for line in lines {
        nodes.entry(&line.node).or_default().push(line.check.clone());
    }
    let mut pages = Vec::<(Vec<&str>, String)>::new();
    for (node, lines) in nodes {
        let page = page(&lines);
        match pages.iter_mut().find(|(_, other)| *other == page) {
            Some((nodes, _)) => nodes.push(node),
            None => pages.push((vec![node], page)),
        }
    }
    let title = |nodes: &[&str]| match nodes {
        ["-"] => "Cluster".to_owned(),
        nodes => format!("Node {}", nodes.join(", ")),
    };
    let pages: Vec<_> = pages.iter().map(|(nodes, page)| format!("{}:\n{page}", title(nodes))).collect();
    pages.join("\n")
}

/// Shows `lines`; no where weft cannot work.
pub fn show(lines: &[Check], format: Format, screen: &mut Screen) -> Result<Exit, Error> {
    format.write(screen, &lines, |lines, _| page(lines))?;
    Ok(exit(lines.iter().map(|line| line.outcome).max()))
}

fn exit(worst: Option<Outcome>) -> Exit {
    if worst == Some(Outcome::Failed) { Exit::No } else { Exit::Yes }
}

fn page(lines: &[Check]) -> String {
    let width = lines.iter().map(|line| line.name.chars().count()).max().unwrap_or(0);
    let mut page = String::new();
    for line in lines {
        let sign = match line.outcome {
            Outcome::Ok => "ok  ",
            Outcome::Warning => "warn",
            Outcome::Failed => "FAIL",
        };
        let _ = writeln!(page, "{sign}  {:<width$}  {}", line.name, line.detail);
        if !line.remedy.is_empty() {
            let _ = writeln!(page, "      {:<width$}  → {}", "", line.remedy);
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_that_say_the_same_have_one_page() {
        let line = |node: &str, detail: &str| {
            let (name, detail, remedy) = ("kernel".to_owned(), detail.to_owned(), String::new());
            of_node(&node.into(), Check { name, outcome: Outcome::Ok, detail, remedy })
        };
        let lines = [line("n1", "6.1"), line("n2", "6.1"), line("n3", "6.6"), line("-", "1.36")];
        let page = by_node(&lines);
        let expected = "\
Cluster:
ok    kernel  1.36

Node n1, n2:
ok    kernel  6.1

Node n3:
ok    kernel  6.6
";
        assert_eq!(page, expected);
    }

    #[test]
    fn each_line_that_is_not_right_says_what_to_do() {
        let line = |name: &str, outcome, detail: &str, remedy: &str| Check {
            name: name.into(),
            outcome,
            detail: detail.into(),
            remedy: remedy.into(),
        };
        let lines = [
            line("kernel", Outcome::Ok, "6.18.44", ""),
            line("BPF filesystem", Outcome::Warning, "not mounted", "mount it"),
            line("cgroup v2", Outcome::Failed, "not usable", "mount one"),
        ];
        let expected = "\
ok    kernel          6.18.44
warn  BPF filesystem  not mounted
                      → mount it
FAIL  cgroup v2       not usable
                      → mount one
";
        assert_eq!(page(&lines), expected);
    }
}
