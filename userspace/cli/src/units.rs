//! Amounts as people read them.

use std::time::Duration;

/// `34 KiB`, `1.2 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut left = bytes;
    let mut tenths = 0;
    let mut unit = "B";
    for next in units {
        if left < 1024 {
            break;
        }
        (left, tenths, unit) = (left / 1024, left % 1024 * 10 / 1024, next);
    }
    if left < 10 && unit != "B" { format!("{left}.{tenths} {unit}") } else { format!("{left} {unit}") }
}

/// `80us`, `12ms`, `1.5s`, `3m20s`, `2h5m`, `4d3h`.
pub(crate) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 if span.as_micros() < 1_000 => format!("{}us", span.as_micros()),
        0 => format!("{}ms", span.as_millis()),
        1..10 => format!("{seconds}.{}s", span.subsec_millis() / 100),
        10..60 => format!("{seconds}s"),
        60..3_600 => two(seconds, 60, "m", 1, "s"),
        3_600..86_400 => two(seconds, 3_600, "h", 60, "m"),
        _ => two(seconds, 86_400, "d", 3_600, "h"),
    }
}

fn two(seconds: u64, large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    match seconds % large / small {
        0 => format!("{}{large_unit}", seconds / large),
        rest => format!("{}{large_unit}{rest}{small_unit}", seconds / large),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_two_digits_at_least_and_four_at_most() {
        let table = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (10 * 1024 - 1, "9.9 KiB"),
            (34 * 1024, "34 KiB"),
            (3 * 1024 * 1024 / 2, "1.5 MiB"),
            (u64::MAX, "15 EiB"),
        ];
        for (amount, text) in table {
            assert_eq!(bytes(amount), text);
        }
    }

    #[test]
    fn spans_have_their_two_largest_units() {
        let table = [
            (Duration::from_micros(80), "80us"),
            (Duration::from_millis(12), "12ms"),
            (Duration::from_millis(1_560), "1.5s"),
            (Duration::from_secs(59), "59s"),
            (Duration::from_secs(200), "3m20s"),
            (Duration::from_hours(2), "2h"),
            (Duration::from_mins(125), "2h5m"),
            (Duration::from_hours(99), "4d3h"),
        ];
        for (amount, text) in table {
            assert_eq!(span(amount), text);
        }
    }
}
