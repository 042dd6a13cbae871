//! Rules that many fields share.

use std::{fmt::Display, ops::RangeInclusive, time::Duration};

use crate::{finding::Report, syntax};

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
