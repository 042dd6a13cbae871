//! Certificates, a line for each; above them who issues them, and below what is wrong with them, where a sentence has
//! room.

use std::time::Duration;

use weft_telemetry::api::{CertificateFailure, CertificateView, CertificatesView, IssuerView};

use crate::{
    describe::fields,
    table::{Column, Table},
    units,
};

pub(crate) fn certificates(view: &CertificatesView, width: Option<u16>) -> String {
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
    format!("{head}\n{}{below}", table(&view.certificates, width))
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

fn table(certificates: &[CertificateView], width: Option<u16>) -> String {
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
    table.render(width)
}

fn left(seconds: u64) -> String {
    if seconds == 0 { "ended".to_owned() } else { span(seconds) }
}

fn span(seconds: u64) -> String {
    units::span(Duration::from_secs(seconds))
}
