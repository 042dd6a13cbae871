//! Problems of the configuration, as compilers show theirs.

use std::fmt::Write;

use weft_model::{Problem, Severity};

/// One problem after the other, each ended by its remedy.
pub(crate) fn list(problems: &[Problem]) -> String {
    let mut text = String::new();
    for problem in problems {
        let word = match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let line = if problem.line > 0 { format!(":{}", problem.line) } else { String::new() };
        let place = format!("{}{line}", problem.file);
        let subject = [&place, &problem.object, &problem.field].map(String::as_str);
        let subject: Vec<_> = subject.into_iter().filter(|part| !part.is_empty()).collect();
        let _ = writeln!(text, "{word}: {}: {}", subject.join(": "), problem.message);
        if !problem.remedy.is_empty() {
            let _ = writeln!(text, "  {}", problem.remedy);
        }
    }
    text
}

/// `2 errors, 1 warning`.
pub(crate) fn count(problems: &[Problem]) -> String {
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    let plural = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    match (errors, problems.len() - errors) {
        (errors, 0) => plural(errors, "error"),
        (0, warnings) => plural(warnings, "warning"),
        (errors, warnings) => format!("{}, {}", plural(errors, "error"), plural(warnings, "warning")),
    }
}
