//! `weft authz check`: what the policies say to a connection that nobody has made.

use std::collections::BTreeMap;

use clap::Subcommand;
use weft_telemetry::api::{AuthzAnswer, AuthzQuery, ServiceDescription, Verdict};

use crate::{
    Error, Exit, Screen,
    agents::Agents,
    ask::{Ask, Name, ServicePort},
    table::{Column, Table},
};

/// What is asked of the policies.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(subcommand)]
    question: Question,
}

#[derive(Clone, Debug, Subcommand)]
enum Question {
    /// May this ServiceAccount reach this port of this Service, and ask this of it?
    Check(Check),
}

/// Judged for each pod of the client and each endpoint of the Service, as the kernel and the server's proxy would.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Of a cluster, each server's own node answers for it.

Exit code: 0 allowed, 1 denied, 2 could not ask.

Examples:
  weft authz check --from shop/web --to shop/api:80
  weft authz check --from shop/web --to shop/api:80 --method POST \\
    --path /admin/users -H 'x-env: prod'")]
struct Check {
    /// The client's ServiceAccount
    #[arg(long, value_name = "NAMESPACE/NAME")]
    from: Name,
    /// The Service and its port
    #[arg(long, value_name = "NAMESPACE/NAME:PORT")]
    to: ServicePort,
    /// The request's method (GET where a path, host or header is given)
    #[arg(long)]
    method: Option<String>,
    /// Its path, as it is sent
    #[arg(long)]
    path: Option<String>,
    /// Its host (the Service's name)
    #[arg(long)]
    host: Option<String>,
    /// A header of it; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    #[command(flatten)]
    ask: Ask,
}

pub(crate) async fn run(args: Args, screen: &mut Screen) -> Result<Exit, Error> {
    let Question::Check(check) = args.question;
    let query = AuthzQuery {
        from: check.from.0.to_string(),
        to: check.to.service.0.to_string(),
        port: check.to.port,
        method: check.method,
        path: check.path,
        host: check.host,
        headers: check.headers.join("\n"),
    };
    let agents = check.ask.agents().await?;
    let answer = match agents.alone() {
        Some(client) => client.query("/v1/authz", &query).await?,
        None => of_nodes(&agents, &query, screen).await?,
    };
    check.ask.output.write(screen, &answer, |answer, screen| table(&query, answer, screen.width()))?;
    Ok(if answer.verdict == Verdict::Denied { Exit::No } else { Exit::Yes })
}

/// Each server's answer is that of its own node, which decides.
async fn of_nodes(agents: &Agents, query: &AuthzQuery, screen: &mut Screen) -> Result<AuthzAnswer, Error> {
    let path = format!("/v1/services/{}", query.to);
    let asked = agents.each(screen, async |client| {
        let answer: AuthzAnswer = client.query("/v1/authz", query).await?;
        Ok((answer, client.get::<ServiceDescription>(&path).await?.endpoints))
    });
    let (mut answers, mut nodes) = (BTreeMap::new(), BTreeMap::new());
    for (node, (answer, endpoints)) in asked.await? {
        nodes.extend(endpoints.into_iter().filter_map(|endpoint| Some((endpoint.pod?, endpoint.node?))));
        answers.insert(node.to_string(), answer);
    }
    Ok(by_deciders(&answers, |pod| nodes.get(pod).map(String::as_str)))
}

/// One answer of all nodes' `answers`: for each server that of its node, which `node_of` knows; where that was not asked, another's.
fn by_deciders<'a>(
    answers: &BTreeMap<String, AuthzAnswer>,
    node_of: impl Fn(&str) -> Option<&'a str>,
) -> AuthzAnswer {
    let mut pods = BTreeMap::new();
    for (node, answer) in answers {
        for pod in &answer.pods {
            let decides = node_of(&pod.pod) == Some(node);
            let key = (pod.pod.clone(), pod.client.clone(), pod.port);
            if decides || !pods.contains_key(&key) {
                pods.insert(key, pod.clone());
            }
        }
    }
    // A node whose connections go elsewhere knows of no server.
    let some = answers.values().find(|answer| !answer.pods.is_empty()).or(answers.values().next());
    let some = some.expect("somebody answered").clone();
    let pods: Vec<_> = pods.into_values().collect();
    let denied = pods.iter().find(|pod| pod.verdict == Verdict::Denied);
    match denied.or(pods.first()).cloned() {
        Some(pod) => AuthzAnswer { verdict: pod.verdict, reason: pod.reason, rule: pod.rule, pods, ..some },
        None => some,
    }
}

fn table(query: &AuthzQuery, answer: &AuthzAnswer, width: Option<u16>) -> String {
    let reason = answer.reason.as_ref().map(|reason| format!("  {reason}"));
    let rule = answer.rule.as_ref().map(|rule| format!("  by {rule}"));
    let note = answer.note.as_ref().map(|note| format!("note: {note}\n"));
    let asks = query.method.is_some() || query.path.is_some();
    let (method, path) = (query.method.as_deref().unwrap_or("GET"), query.path.as_deref().unwrap_or("/"));
    let text = format!(
        "{} -> {}:{}{}  {}{}{}\n{}",
        query.from,
        query.to,
        query.port,
        if asks { format!("  {method} {path}") } else { String::new() },
        answer.verdict,
        reason.unwrap_or_default(),
        rule.unwrap_or_default(),
        note.unwrap_or_default(),
    );
    if answer.pods.is_empty() {
        return text;
    }
    let mut table = Table::new([
        Column::whole("CLIENT"),
        Column::whole("SERVER"),
        Column::number("PORT"),
        Column::whole("VERDICT"),
        Column::whole("REASON"),
        Column::folding("RULE"),
    ]);
    for pod in &answer.pods {
        table.row([
            pod.client.clone().unwrap_or_default(),
            pod.pod.clone(),
            pod.port.to_string(),
            pod.verdict.to_string(),
            pod.reason.clone().unwrap_or_default(),
            pod.rule.clone().unwrap_or_default(),
        ]);
    }
    format!("{text}\n{}", table.render(width))
}

#[cfg(test)]
mod tests {
    use weft_telemetry::api::PodAnswer;

    use super::*;

    fn server(name: &str, verdict: Verdict) -> PodAnswer {
        PodAnswer { pod: name.into(), client: None, port: 80, verdict, reason: None, rule: None }
    }

    fn answer(pods: Vec<PodAnswer>) -> AuthzAnswer {
        AuthzAnswer { verdict: Verdict::Denied, reason: None, rule: None, pods, note: None }
    }

    #[test]
    fn a_servers_own_node_answers_for_it() {
        let (one, two) = ("shop/api-1", "shop/api-2");
        let answers: BTreeMap<_, _> = [
            ("n1".to_owned(), answer(vec![server(one, Verdict::Forwarded), server(two, Verdict::Denied)])),
            ("n2".to_owned(), answer(vec![server(one, Verdict::Denied), server(two, Verdict::Forwarded)])),
        ]
        .into();
        let at_home = by_deciders(&answers, |pod| Some(if pod == one { "n1" } else { "n2" }));
        assert_eq!((at_home.verdict, at_home.pods.len()), (Verdict::Forwarded, 2));
        let swapped = by_deciders(&answers, |pod| Some(if pod == one { "n2" } else { "n1" }));
        assert_eq!(swapped.verdict, Verdict::Denied);
        let silent = by_deciders(&answers, |_| Some("n3"));
        assert_eq!(silent.verdict, Verdict::Denied, "what is known holds where the node is not heard");
    }

    #[test]
    fn a_node_that_knows_of_no_server_does_not_decide() {
        let known = answer(vec![server("shop/api-1", Verdict::Forwarded)]);
        let answers = [("n1".to_owned(), answer(Vec::new())), ("n2".to_owned(), known)].into();
        assert_eq!(by_deciders(&answers, |_| Some("n2")).verdict, Verdict::Forwarded);
    }
}
