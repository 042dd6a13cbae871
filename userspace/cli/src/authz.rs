//! `weft authz check`: what the policies say to a connection that nobody has made.

use clap::Subcommand;
use weft_telemetry::api::{AuthzAnswer, AuthzQuery, Verdict};

use crate::{
    Error, Exit, Screen,
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
    let answer: AuthzAnswer = check.ask.client().query("/v1/authz", &query).await?;
    check.ask.output.write(screen, &answer, |answer, screen| table(&query, answer, screen.width()))?;
    Ok(if answer.verdict == Verdict::Denied { Exit::No } else { Exit::Yes })
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
