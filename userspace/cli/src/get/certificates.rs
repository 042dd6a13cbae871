//! Certificates, a line for each; above them who issues them, and below what is wrong with them, where a sentence has
//! room.

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use weft_telemetry::api::{CertificateFailure, CertificateView, CertificatesView, IssuerView};

use crate::{
    Error, Screen,
    agents::Agents,
    describe::fields,
    output::Format,
    table::{Column, Table},
    units,
};

/// Shows the certificates of `wanted` namespaces.
pub(super) async fn show(
    agents: &Agents,
    wanted: impl Fn(&str) -> bool,
    format: Format,
    screen: &mut Screen,
) -> Result<(), Error> {
    let read = async |client: &crate::Client| -> Result<CertificatesView, Error> {
        let mut view: CertificatesView = client.get("/v1/certificates").await?;
        view.certificates.retain(|certificate| wanted(&certificate.namespace));
        Ok(view)
    };
    if let Some(client) = agents.alone() {
        let view = read(client).await?;
        return format.write(screen, &view, |view, screen| certificates(view, screen.width()));
    }
    let answers = agents.each(screen, read).await?;
    let views: Vec<_> = answers.into_iter().map(|(node, view)| OfNode { node, view }).collect();
    format.write(screen, &views, |views, screen| of_nodes(views, screen.width()))
}

/// What one node has.
#[derive(Debug, Serialize)]
struct OfNode {
    node: Arc<str>,
    #[serde(flatten)]
    view: CertificatesView,
}

/// Who issues on each node, and whose certificates are where.
fn of_nodes(views: &[OfNode], width: Option<u16>) -> String {
    let mut issuers = Table::new([
        Column::whole("NODE"),
        Column::whole("TRUST-DOMAIN"),
        Column::number("ROOTS"),
        Column::number("VALID"),
        Column::folding("ISSUER"),
        Column::folding("FAILURE"),
    ]);
    for OfNode { node, view } in views {
        let failures = [
            view.issuer.as_ref().and_then(|issuer| issuer.warning.clone()),
            view.failure.as_ref().map(in_words),
        ];
        issuers.row([
            node.to_string(),
            view.trust_domain.clone(),
            view.roots.to_string(),
            format!("{}/{}", view.valid(), view.certificates.len()),
            view.issuer.as_ref().map_or_else(|| "not seen yet".to_owned(), issuer),
            failures.into_iter().flatten().collect::<Vec<_>>().join("; "),
        ]);
    }
    let all = views.iter().flat_map(|of| of.view.certificates.iter().map(|it| (of.node.to_string(), it)));
    let mut certificates = table(all.clone().map(|(_, certificate)| certificate));
    certificates.lead("NODE", all.map(|(node, _)| node));
    format!("{}\n{}", issuers.render(width), certificates.render(width))
}

fn certificates(view: &CertificatesView, width: Option<u16>) -> String {
    let mut lines = vec![("Trust domain", view.trust_domain.clone())];
    lines.push(("Issuer", view.issuer.as_ref().map_or_else(|| "not seen yet".to_owned(), issuer)));
    lines.push(("Trusted roots", view.roots.to_string()));
    let warning = view.issuer.as_ref().and_then(|issuer| issuer.warning.clone());
    lines.extend(warning.map(|warning| ("Warning", warning)));
    lines.extend(view.failure.as_ref().map(|failure| ("Failure", in_words(failure))));
    let head = fields(&lines);
    if view.certificates.is_empty() {
        return head;
    }
    let failures = view.certificates.iter().filter_map(|certificate| {
        let failure = certificate.failure.as_ref()?;
        Some(format!("{}: {}\n", certificate.identity, in_words(failure)))
    });
    let failures: String = failures.collect();
    let below = if failures.is_empty() { failures } else { format!("\n{failures}") };
    format!("{head}\n{}{below}", table(view.certificates.iter()).render(width))
}

/// `weft issuer 77aa01bc, 30d old, until 2027-10-26T12:00:00.000Z (335d)`.
fn issuer(issuer: &IssuerView) -> String {
    let IssuerView { name, age_seconds, not_after, expires_in_seconds, .. } = issuer;
    let (age, left) = (span(*age_seconds), left(*expires_in_seconds));
    format!("{name}, {age} old, until {not_after} ({left})")
}

/// `the error; since 2026-11-26T12:00:00.000Z, tried 3 times`.
pub(crate) fn in_words(failure: &CertificateFailure) -> String {
    let CertificateFailure { error, since, tries } = failure;
    let tried = match tries {
        0 => String::new(),
        1 => ", tried once".to_owned(),
        tries => format!(", tried {tries} times"),
    };
    format!("{error}; since {since}{tried}")
}

fn table<'a>(certificates: impl Iterator<Item = &'a CertificateView>) -> Table {
    let mut table = Table::new([
        Column::whole("IDENTITY"),
        Column::extra("SERIAL"),
        Column::whole("NOT-AFTER"),
        Column::number("LEFT"),
        Column::number("RENEWALS"),
    ]);
    for certificate in certificates {
        table.row([
            certificate.identity.clone(),
            certificate.serial.clone().unwrap_or_default(),
            certificate.not_after.map(|end| end.to_string()).unwrap_or_default(),
            certificate.expires_in_seconds.map(left).unwrap_or_default(),
            certificate.renewals.to_string(),
        ]);
    }
    table
}

fn left(seconds: u64) -> String {
    if seconds == 0 { "ended".to_owned() } else { span(seconds) }
}

fn span(seconds: u64) -> String {
    units::span(Duration::from_secs(seconds))
}
