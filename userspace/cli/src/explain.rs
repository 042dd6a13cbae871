//! `weft explain`: what would become of a request that nobody has made.

use std::fmt::Write;

use weft_telemetry::api::{
    ExplainQuery, ExplainedRule, Explanation, NearMiss, OwnAnswer, PodAnswer, Verdict,
};

use crate::{
    Error, Exit, Screen,
    ask::{Ask, Name, ServicePort},
    describe::{fields, section},
    table::{Column, Table},
};

/// The request.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Answered by the routing engine of the proxy, from the configuration that the
agent has read; of a cluster, by the node of the client. Nothing is sent.

Exit code: 0 it would pass, 1 it would be refused, 2 could not ask.

Examples:
  weft explain --from shop/web-1 --to shop/api:80
  weft explain --from shop/web-1 --to shop/api:80 --method POST \\
    --path /v1/items?all -H 'x-canary: yes'")]
pub struct Args {
    /// The client pod
    #[arg(long, value_name = "NAMESPACE/POD")]
    from: Name,
    /// The Service and its port
    #[arg(long, value_name = "NAMESPACE/NAME:PORT")]
    to: ServicePort,
    /// The request's method
    #[arg(long, default_value = "GET")]
    method: String,
    /// Its path, with its query
    #[arg(long, default_value = "/")]
    path: String,
    /// A header of it; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The server name of a TLS connection
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,
    #[command(flatten)]
    ask: Ask,
}

pub(crate) async fn run(args: Args, screen: &mut Screen) -> Result<Exit, Error> {
    let query = ExplainQuery {
        from: args.from.0.to_string(),
        to: args.to.service.0.to_string(),
        port: args.to.port,
        method: args.method,
        path: args.path,
        headers: args.headers.join("\n"),
        server_name: args.sni,
    };
    let agents = args.ask.agents().await?;
    let agent = agents.of_pod(&args.from, screen).await?;
    let answer: Explanation = agent.client.query("/v1/explain", &query).await?;
    args.ask.output.write(screen, &answer, |answer, screen| page(&query, answer, screen.width()))?;
    Ok(if answer.verdict == Verdict::Denied { Exit::No } else { Exit::Yes })
}

fn page(query: &ExplainQuery, told: &Explanation, width: Option<u16>) -> String {
    let reason = told.reason.as_ref().map(|reason| format!("  {reason}")).unwrap_or_default();
    let mut text = format!("{} -> {}:{}  {}{reason}\n\n", query.from, query.to, query.port, told.verdict);
    let path = if told.managed { told.path.to_string() } else { "unmanaged".to_owned() };
    let mut lines = vec![("Path", path), ("Because", told.because.join("; "))];
    lines.extend(told.protocol.as_ref().map(|protocol| ("Protocol", protocol.clone())));
    if told.protocol.is_some() && query.server_name.is_none() {
        lines.push(("Request", format!("{} {}", query.method, query.path)));
    }
    lines.extend(told.routes.as_ref().map(|routes| ("Routes", routes.clone())));
    lines.extend(told.rule.iter().flat_map(rule));
    lines.extend(told.answer.as_ref().map(|own| ("Answer", answer(own))));
    text.push_str(&fields(&lines));
    if !told.nearest.is_empty() {
        section(&mut text, "Nearest rules", false, || nearest(&told.nearest, width));
    }
    if told.answer.is_none() || !told.backends.is_empty() {
        section(&mut text, "Backends", told.backends.is_empty(), || backends(told, width));
    }
    if !told.settings.is_empty() {
        section(&mut text, "Settings", false, || settings(told, width));
    }
    if !told.pods.is_empty() {
        section(&mut text, "Policies", false, || policies(&told.pods, width));
    }
    for (index, note) in told.notes.iter().enumerate() {
        let before = if index == 0 { "\n" } else { "" };
        let _ = writeln!(text, "{before}note: {note}");
    }
    text
}

fn rule(rule: &ExplainedRule) -> Vec<(&'static str, String)> {
    let name = rule.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    let mut lines = vec![
        ("Rule", format!("{} rules[{}]{name}", rule.route, rule.index)),
        ("Matched", rule.matched.clone()),
    ];
    if !rule.filters.is_empty() {
        lines.push(("Filters", rule.filters.join("; ")));
    }
    lines.extend(rule.forwarded.as_ref().map(|forwarded| ("Asks for", forwarded.clone())));
    lines
}

/// `404: no rule of the routes matches the request`.
fn answer(own: &OwnAnswer) -> String {
    let status = own.status.map_or_else(|| "reset".to_owned(), |status| status.to_string());
    let location = own.location.as_ref().map(|location| format!(" to {location}")).unwrap_or_default();
    format!("{status}{location}: {}", own.why)
}

fn nearest(misses: &[NearMiss], width: Option<u16>) -> String {
    let mut table =
        Table::new([Column::whole("RULE"), Column::folding("ASKS-FOR"), Column::folding("MISSED")]);
    for miss in misses {
        let rule = format!("{} rules[{}]", miss.route, miss.index);
        table.row([rule, miss.wanted.clone(), miss.missing.join("; ")]);
    }
    table.render(width)
}

fn backends(told: &Explanation, width: Option<u16>) -> String {
    let mut table = Table::new([
        Column::whole("BACKEND"),
        Column::number("WEIGHT"),
        Column::number("SHARE"),
        Column::number("ENDPOINTS"),
        Column::folding("REFUSED"),
    ]);
    for backend in &told.backends {
        table.row([
            backend.name.clone(),
            backend.weight.to_string(),
            format!("{:.1}%", backend.share),
            format!("{}/{}", backend.eligible, backend.endpoints),
            backend.problem.clone().unwrap_or_default(),
        ]);
    }
    table.render(width)
}

fn settings(told: &Explanation, width: Option<u16>) -> String {
    let mut table = Table::new([Column::whole("SETTING"), Column::folding("VALUE"), Column::folding("FROM")]);
    for setting in &told.settings {
        table.row([setting.name.clone(), setting.value.clone(), setting.from.clone()]);
    }
    table.render(width)
}

fn policies(pods: &[PodAnswer], width: Option<u16>) -> String {
    let mut table = Table::new([
        Column::whole("SERVER"),
        Column::number("PORT"),
        Column::whole("VERDICT"),
        Column::whole("REASON"),
        Column::folding("RULE"),
    ]);
    for pod in pods {
        table.row([
            pod.pod.clone(),
            pod.port.to_string(),
            pod.verdict.to_string(),
            pod.reason.clone().unwrap_or_default(),
            pod.rule.clone().unwrap_or_default(),
        ]);
    }
    table.render(width)
}
