//! `cargo xtask sizes`: how long the code is that a reader has to hold in mind.
//!
//! Counted are all lines up to the tests of a file; files that are tests only do not count. The aim is a median of 120 and
//! a 95th percentile of 350 lines a file; what fails is a file over 500 or a function over 100.

mod source;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::{screen, workspace};
use source::Source;

/// Prints the table; fails if a file or a function is too long.
pub(crate) fn run() -> Result<()> {
    let mut too_long = Vec::new();
    let mut table = vec![Row::titles()];
    let mut everything = Vec::new();
    for package in workspace::read()? {
        let mut lengths = Vec::new();
        for path in package.sources()?.iter().filter(|path| !is_test(path, &package.folder)) {
            let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
            let source = Source::read(&text);
            too_long.extend(complaints(path, &source));
            lengths.push(source.lines);
        }
        everything.extend_from_slice(&lengths);
        table.push(Row::of(&package.name, lengths));
    }
    table.push(Row::of("all", everything));
    for row in &table {
        screen::line(row.text());
    }
    for complaint in &too_long {
        screen::line(format_args!("  ✗ {complaint}"));
    }
    if !too_long.is_empty() {
        bail!("{} too long: split it where a reader would, not where a counter says", too_long.len());
    }
    Ok(())
}

/// `tests/*.rs` of a package and the `tests.rs` of a module.
fn is_test(path: &Path, package: &Path) -> bool {
    let inside = path.strip_prefix(package).unwrap_or(path);
    inside.starts_with("tests") || path.file_name().is_some_and(|name| name == "tests.rs")
}

fn complaints(path: &Path, source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    if source.lines > MAX_FILE {
        found.push(format!("{}: {} lines (at most {MAX_FILE})", path.display(), source.lines));
    }
    for function in source.functions.iter().filter(|function| function.lines > MAX_FUNCTION) {
        let source::Function { name, line, lines } = function;
        found
            .push(format!("{}:{line}: fn {name} has {lines} lines (at most {MAX_FUNCTION})", path.display()));
    }
    found
}

struct Row(String, [String; 5]);

impl Row {
    fn titles() -> Self {
        Self("crate".to_owned(), ["files", "lines", "median", "p95", "max"].map(str::to_owned))
    }

    fn of(name: &str, mut lengths: Vec<usize>) -> Self {
        lengths.sort_unstable();
        let at = |percent: usize| {
            lengths.get((lengths.len() * percent / 100).min(lengths.len().max(1) - 1)).copied()
        };
        let columns = [Some(lengths.len()), Some(lengths.iter().sum()), at(50), at(95), at(100)];
        Self(name.to_owned(), columns.map(|column| column.unwrap_or_default().to_string()))
    }

    fn text(&self) -> String {
        let Self(name, columns) = self;
        columns.iter().fold(format!("  {name:<18}"), |line, column| line + &format!("{column:>8}"))
    }
}

const MAX_FILE: usize = 500;
const MAX_FUNCTION: usize = 100;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::source::Source;
    use super::{complaints, is_test};

    #[test]
    fn a_long_file_and_a_long_function_are_named() {
        let body = "    step();\n".repeat(99);
        let fits = format!("fn fits() {{\n{}}}\n", "    step();\n".repeat(98));
        assert_eq!(complaints(Path::new("a.rs"), &Source::read(&fits)), Vec::<String>::new());
        let long = format!("\nfn long() {{\n{body}}}\n");
        let found = complaints(Path::new("a.rs"), &Source::read(&long));
        assert_eq!(found, ["a.rs:2: fn long has 101 lines (at most 100)"]);
        let found = complaints(Path::new("a.rs"), &Source::read(&"const A: u8 = 1;\n".repeat(501)));
        assert_eq!(found, ["a.rs: 501 lines (at most 500)"]);
    }

    #[test]
    fn files_that_are_tests_only_do_not_count() {
        let package = Path::new("userspace/model");
        assert!(is_test(Path::new("userspace/model/tests/names.rs"), package));
        assert!(is_test(Path::new("userspace/model/src/names/tests.rs"), package));
        assert!(!is_test(Path::new("tests/src/world.rs"), Path::new("tests")));
    }
}
