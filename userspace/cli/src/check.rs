//! How a preflight reads.

use std::fmt::Write as _;

use weft_telemetry::api::{Check, Outcome};

use crate::{Error, Exit, Screen, output::Format};

/// Shows `lines`; no where weft cannot work.
pub fn show(lines: &[Check], format: Format, screen: &mut Screen) -> Result<Exit, Error> {
    format.write(screen, &lines, |lines, _| page(lines))?;
    let worst = lines.iter().map(|line| line.outcome).max();
    Ok(if worst == Some(Outcome::Failed) { Exit::No } else { Exit::Yes })
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
