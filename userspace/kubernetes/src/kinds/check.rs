//! Rules that many fields share.

use std::{fmt::Display, ops::RangeInclusive, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;
use weft_model::REGEX_SIZE;

use super::schema;
use crate::{finding::Report, object::traffic::RetryFields, syntax};

/// A share of requests, where it is no percentage.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = [schema::fraction()]))]
pub(super) struct Fraction {
    /// So many requests.
    #[schemars(range(min = 0, max = LARGEST))]
    numerator: i64,
    /// Of so many.
    #[schemars(range(min = 1, max = LARGEST), extend("default" = 100))]
    denominator: Option<i64>,
}

/// The largest number that the CRDs' integers hold.
pub(super) const LARGEST: i64 = i32::MAX as i64;
const RETRY_CODES: RangeInclusive<i64> = 400..=599;

/// A duration, where the field is there and is one.
pub(super) fn duration(text: Option<&String>, field: &str, report: &mut Report<'_>) -> Option<Duration> {
    let text = text?;
    let duration = syntax::duration(text);
    if duration.is_none() {
        let remedy = "write one to four numbers with h, m, s or ms, like 1h30m or 250ms";
        report.error(field, format!("\"{text}\" is no duration"), remedy);
    }
    duration
}

/// A number within its bounds.
pub(super) fn range<T: PartialOrd + Display + Copy>(
    number: Option<T>,
    bounds: &RangeInclusive<T>,
    field: &str,
    report: &mut Report<'_>,
) {
    if let Some(number) = number.filter(|number| !bounds.contains(number)) {
        let remedy = format!("write a number from {} to {}", bounds.start(), bounds.end());
        report.error(field, format!("{number} is out of range"), remedy);
    }
}

/// A number within its bounds, where it is there and is within them.
pub(super) fn count(
    number: Option<i64>,
    bounds: &RangeInclusive<i64>,
    field: &str,
    report: &mut Report<'_>,
) -> Option<u32> {
    range(number, bounds, field, report);
    number.filter(|number| bounds.contains(number)).and_then(|number| number.try_into().ok())
}

/// A list that is not too long.
pub(super) fn at_most(there: usize, most: usize, what: &str, field: &str, report: &mut Report<'_>) {
    if there > most {
        report.error(
            field,
            format!("{there} {what}; there may be {most}"),
            "remove some, or split it in two",
        );
    }
}

/// A try that may not take longer than the request it is part of. A request timeout of 0s is none at all.
pub(super) fn try_within_request(
    request: Option<Duration>,
    backend_request: Option<Duration>,
    field: &str,
    report: &mut Report<'_>,
) {
    let longer = |(request, backend): (Duration, _)| !request.is_zero() && backend > request;
    if request.zip(backend_request).is_some_and(longer) {
        report.error(
            field,
            "a try may take longer than the whole request",
            "make it at most timeouts.request",
        );
    }
}

/// Which requests are tried again, as far as it is said.
pub(super) fn retry(
    attempts: Option<i64>,
    codes: Option<&[i64]>,
    backoff: Option<&String>,
    field: &str,
    report: &mut Report<'_>,
) -> RetryFields {
    let attempts = count(attempts, &(1..=LARGEST), &format!("{field}.attempts"), report);
    let backoff = duration(backoff, &format!("{field}.backoff"), report);
    for (i, code) in codes.unwrap_or_default().iter().enumerate() {
        let field = format!("{field}.codes[{i}]");
        range(Some(*code), &RETRY_CODES, &field, report);
        if codes.unwrap_or_default()[..i].contains(code) {
            report.error(&field, format!("{code} is there twice"), "remove one of the two");
        }
    }
    let codes = codes.map(|codes| codes.iter().filter_map(|code| u16::try_from(*code).ok()).collect());
    RetryFields { attempts, codes, grpc_codes: None, backoff }
}

/// `percent` or `fraction`; neither is all.
pub(super) fn share(
    percent: Option<i64>,
    fraction: Option<&Fraction>,
    field: &str,
    report: &mut Report<'_>,
) -> weft_model::Fraction {
    if percent.is_some() && fraction.is_some() {
        report.error(field, "percent and fraction both say how often", "keep one of the two");
    }
    if let Some(numerator) = count(percent, &(0..=100), &format!("{field}.percent"), report) {
        return weft_model::Fraction { numerator, denominator: 100 };
    }
    let Some(Fraction { numerator, denominator }) = fraction else { return weft_model::Fraction::ALL };
    let denominator = denominator.unwrap_or(100);
    let parts = u32::try_from(*numerator).ok().zip(u32::try_from(denominator).ok());
    let Some((numerator, denominator)) = parts.filter(|(part, whole)| *whole > 0 && part <= whole) else {
        let message = format!("{numerator}/{denominator} is no fraction of 1");
        report.error(&format!("{field}.fraction"), message, "write numerator <= denominator");
        return weft_model::Fraction::ALL;
    };
    weft_model::Fraction { numerator, denominator }
}

/// A regular expression for the whole of something, not too large once it is compiled: read as the proxy
/// reads it, where `\d`, `\w` and `\s` are ASCII unless the expression needs Unicode.
pub(super) fn regex(pattern: &str, field: &str, report: &mut Report<'_>) {
    let build = |text: &str| {
        let with = |unicode| {
            let mut builder = regex::bytes::RegexBuilder::new(text);
            builder.unicode(unicode).size_limit(REGEX_SIZE).dfa_size_limit(REGEX_SIZE).build()
        };
        with(false).or_else(|_| with(true))
    };
    // Alone too: in `a)(b` the parentheses only match around the group.
    match build(pattern).and_then(|_| build(&format!(r"\A(?:{pattern})\z"))) {
        Ok(_) => {}
        Err(regex::Error::CompiledTooBig(_)) => {
            let message = format!("\"{pattern}\" is larger than {REGEX_SIZE} bytes once it is compiled");
            report.error(field, message, "repeat less in it, or match less exactly");
        }
        Err(error) => {
            // The last line says what is wrong; those above draw where.
            let text = error.to_string();
            let cause = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            let remedy = "write it in RE2 syntax, which has no look-around and no back-references";
            report.error(field, format!("\"{pattern}\" is no regular expression: {cause}"), remedy);
        }
    }
}

/// A host's name; `wildcard` allows `*.` in front.
pub(super) fn hostname(name: &str, wildcard: bool, field: &str, report: &mut Report<'_>) {
    let bare = if wildcard { name.strip_prefix("*.").unwrap_or(name) } else { name };
    if name.parse::<std::net::IpAddr>().is_ok() {
        report.error(field, format!("{name} is an address, not a host's name"), "write a DNS name");
    } else if let Err(why) = syntax::dns_subdomain(bare) {
        let remedy = if wildcard { "write a DNS name, or *. and one" } else { "write a DNS name" };
        report.error(field, format!("\"{name}\" {why}"), remedy);
    }
}

/// A header's value.
pub(super) fn header_value(value: &str, longest: usize, field: &str, report: &mut Report<'_>) {
    if value.is_empty() || value.len() > longest {
        let message = format!("{} characters; a value has 1 to {longest}", value.len());
        report.error(field, message, "write a value of that length");
    } else if !syntax::header_value(value) {
        report.error(field, "a control character in a header's value", "write printable characters only");
    }
}

/// A member of a union: there exactly when `type` says so.
pub(super) fn member(there: bool, wanted: bool, field: &str, kind: &str, report: &mut Report<'_>) {
    if wanted && !there {
        report.error(
            field,
            format!("type {kind} needs it, and it is not there"),
            "add it, or change the type",
        );
    } else if there && !wanted {
        report.error(field, format!("does not go with type {kind}"), "remove it, or change the type");
    }
}

/// A header's name.
pub(super) fn header(name: &str, field: &str, report: &mut Report<'_>) {
    if !syntax::header_name(name) {
        report.error(field, format!("\"{name}\" is no header name"), "write a name like x-user");
    }
}

/// A port from 1 to 65535.
pub(super) fn port(number: i64, field: &str, report: &mut Report<'_>) -> Option<u16> {
    let port = u16::try_from(number).ok().filter(|port| *port != 0);
    if port.is_none() {
        report.error(field, format!("{number} is no port"), "write a number from 1 to 65535");
    }
    port
}
