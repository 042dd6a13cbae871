//! How a status reads.

use std::{fmt::Write, time::Duration};

use weft_telemetry::api::{
    CertificatesView, GenerationStatus, JwksView, PodStatus, ProxyState, ProxyStatus, SourceView, Status,
};

use crate::{
    describe::fields,
    get::{self, bare, joined},
    peers, problem,
    table::{Column, Table},
    units,
};

/// The whole page. Sections that have nothing to say are left out.
pub(crate) fn show(status: &Status, width: Option<u16>) -> String {
    let mut sections = vec![head(status)];
    if !status.pods.is_empty() {
        sections.push(pods(status).render(width));
    }
    if let Some(proxy) = status.proxy.as_ref().filter(|proxy| !proxy.generations.is_empty()) {
        sections.push(generations(&proxy.generations).render(width));
    }
    if !status.jwks.is_empty() {
        sections.push(jwks(&status.jwks).render(width));
    }
    if !status.programs.is_empty() {
        sections.push(programs(status).render(width));
    }
    if !status.maps.is_empty() {
        sections.push(maps(status).render(width));
    }
    if !status.degradations.is_empty() {
        sections.push(degradations(status).render(width));
    }
    if !status.problems.is_empty() {
        sections.push(problem::list(&status.problems));
    }
    sections.join("\n")
}

fn head(status: &Status) -> String {
    let enforced = if status.enforced_version == status.snapshot_version {
        format!("version {} is enforced", status.enforced_version)
    } else {
        format!("version {} was read, {} is enforced", status.snapshot_version, status.enforced_version)
    };
    let mut lines = vec![
        ("Agent", format!("weft {} (schema {})", status.version, status.schema)),
        ("Node", status.node.clone()),
        ("Cgroup", status.cgroup.clone()),
        ("Configuration", enforced),
    ];
    if let Some(view) = &status.source {
        lines.push(("Source", source(view)));
    }
    if let Some(failure) = &status.failure {
        lines.push(("Failure", failure.to_string()));
    }
    if let Some(proxy) = &status.proxy {
        lines.push(("Proxy", in_words(proxy)));
        lines.extend(proxy.failure.iter().map(|failure| ("Proxy failure", failure.to_string())));
    }
    if let Some(view) = &status.certificates {
        lines.push(("Certificates", certificates(view)));
        lines.extend(view.failure.as_ref().map(|why| ("Issuer failure", get::in_words(why))));
    }
    let failing = status.jwks.iter().filter(|jwks| jwks.failure.is_some()).count();
    if failing > 0 {
        let what = format!("of {failing} of {} places they cannot be fetched, see below", status.jwks.len());
        lines.push(("Token keys", what));
    }
    if !status.problems.is_empty() {
        lines.push(("Problems", format!("{}, see below", problem::count(&status.problems))));
    }
    fields(&lines)
}

/// `Active`, `Failing, none in force since 2026-11-21T12:00:00.000Z, ended 3 times unasked, 7 records lost`.
pub(super) fn in_words(proxy: &ProxyStatus) -> String {
    let mut words = proxy.state.to_string();
    if let Some(since) = proxy.without_since.filter(|_| proxy.state != ProxyState::Idle) {
        let _ = write!(words, ", none in force since {since}");
    }
    match proxy.restarts {
        0 => {}
        1 => words += ", ended once unasked",
        times => {
            let _ = write!(words, ", ended {times} times unasked");
        }
    }
    if proxy.records_lost > 0 {
        let _ = write!(words, ", {} records lost", proxy.records_lost);
    }
    words
}

/// `3 of 4 valid, the first ends in 11h; weft issuer 77aa01bc ends in 59d: rotate it`.
fn certificates(view: &CertificatesView) -> String {
    let mut words = format!("{} of {} valid", view.valid(), view.certificates.len());
    if let Some(seconds) = view.first_ends_in_seconds() {
        let _ = write!(words, ", the first ends in {}", units::span(Duration::from_secs(seconds)));
    }
    if let Some(warning) = view.issuer.as_ref().and_then(|issuer| issuer.warning.as_ref()) {
        let _ = write!(words, "; {warning}");
    }
    words
}

/// `https://10.96.0.1/, not heard for 3m20s: Connection refused (os error 111)`.
fn source(view: &SourceView) -> String {
    let mut words = view.location.clone();
    let age = || units::span(Duration::from_secs(view.age_seconds.unwrap_or_default()));
    match (&view.failure, view.synced) {
        (Some(why), true) => {
            let _ = write!(words, ", not heard for {}: {why}", age());
        }
        (Some(why), false) => {
            let _ = write!(words, ", not heard: {why}");
        }
        (None, true) => {}
        (None, false) => {
            let _ = write!(words, ", not all read yet: {} missing", view.unlisted.join(", "));
        }
    }
    if !view.synced {
        let _ = match view.as_of {
            Some(_) => write!(words, "; what is in force was kept {} ago", age()),
            None => write!(words, "; nothing is in force yet"),
        };
    }
    words
}

fn generations(generations: &[GenerationStatus]) -> Table {
    let mut table = Table::new([
        Column::number("PROXY-PID"),
        Column::whole("STATE"),
        Column::number("PODS"),
        Column::number("CONFIGURATION"),
        Column::number("CONNECTIONS"),
        Column::extra("CERTIFICATES"),
        Column::extra("BUILD"),
        Column::extra("SINCE"),
        Column::folding("DETAIL"),
    ]);
    let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
    for generation in generations {
        table.row([
            generation.pid.to_string(),
            generation.state.to_string(),
            generation.pods.to_string(),
            number(generation.snapshot_version),
            number(generation.connections),
            number(generation.certificates),
            generation.build.clone(),
            generation.since.to_string(),
            generation.detail.clone().unwrap_or_default(),
        ]);
    }
    table
}

fn jwks(places: &[JwksView]) -> Table {
    let mut table = Table::new([
        Column::folding("KEYS-FROM"),
        Column::number("KEYS"),
        Column::number("AGE"),
        Column::folding("FAILURE"),
    ]);
    for place in places {
        let age = place.age_seconds.map(|seconds| units::span(Duration::from_secs(seconds)));
        table.row([
            place.location.clone(),
            place.keys.to_string(),
            age.unwrap_or_else(|| "never".to_owned()),
            place.failure.as_ref().map(get::in_words).unwrap_or_default(),
        ]);
    }
    table
}

fn pods(status: &Status) -> Table {
    let mut table = Table::new([
        Column::whole("POD"),
        Column::whole("STATE"),
        Column::folding("IPS"),
        Column::folding("POLICIES"),
        Column::extra("NETNS"),
        Column::folding("DETAIL"),
    ]);
    for pod in &status.pods {
        table.row([
            pod.name.clone(),
            pod.state.to_string(),
            joined(&pod.ips),
            policies(pod),
            pod.netns.clone(),
            pod.detail.clone().unwrap_or_else(|| detail(pod)),
        ]);
    }
    table
}

fn detail(pod: &PodStatus) -> String {
    peers::own(pod).map(|own| format!("apps see {own}")).unwrap_or_default()
}

/// Names without the namespace that stands in the pod's.
fn policies(pod: &PodStatus) -> String {
    let namespace = pod.name.split('/').next().unwrap_or_default();
    joined(&pod.policies.iter().map(|policy| bare(Some(policy), namespace)).collect::<Vec<_>>())
}

fn programs(status: &Status) -> Table {
    let mut table = Table::new([
        Column::whole("PROGRAM"),
        Column::number("ID"),
        Column::whole("ATTACHED-TO"),
        Column::folding("STATE"),
    ]);
    for program in &status.programs {
        table.row([
            program.name.clone(),
            program.id.to_string(),
            program.attach.clone(),
            program.state.clone(),
        ]);
    }
    table
}

fn maps(status: &Status) -> Table {
    let mut table = Table::new([
        Column::whole("MAP"),
        Column::number("ENTRIES"),
        Column::number("CAPACITY"),
        Column::number("USED"),
    ]);
    for map in &status.maps {
        table.row([
            map.name.clone(),
            map.entries.map(|entries| entries.to_string()).unwrap_or_default(),
            map.max.to_string(),
            map.entries.map(|entries| percent(entries, map.max)).unwrap_or_default(),
        ]);
    }
    table
}

fn degradations(status: &Status) -> Table {
    let mut table =
        Table::new([Column::whole("DEGRADED"), Column::folding("REASON"), Column::folding("REMEDY")]);
    for degradation in &status.degradations {
        table.row([degradation.feature.clone(), degradation.reason.clone(), degradation.remedy.clone()]);
    }
    table
}

/// Rounded up, so that 100% is full and 0% is empty.
fn percent(part: u64, whole: u64) -> String {
    format!("{}%", (part.saturating_mul(100)).div_ceil(whole.max(1)))
}
