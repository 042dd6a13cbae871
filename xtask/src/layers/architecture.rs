//! The files and folders that ARCHITECTURE.md names: each has to be there.
//!
//! A name begins with its crate's folder, `proxy/src/serve.rs`, or with that in the repository, `ebpf/abi/src/macros.rs`;
//! braces stand for several. In the pictures (fenced blocks) what follows on the same line may leave the crate out:
//! `proxy/src/serve.rs, http1/`. Elsewhere such short names are left alone: a reader knows which crate is spoken of.

use std::path::Path;

use anyhow::{Context, Result};

/// Every name that leads nowhere, as the sentence that the developer reads.
pub(super) fn violations() -> Result<Vec<String>> {
    let text = std::fs::read_to_string(FILE).with_context(|| format!("read {FILE}"))?;
    Ok(lost(&text, |path| FOLDERS.iter().any(|folder| Path::new(folder).join(path).exists())))
}

fn lost(text: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let is_there = |name: &str| exists(name) || exists(&format!("{name}.rs"));
    let mut found = Vec::new();
    let mut in_picture = false;
    for (number, line) in (1..).zip(text.lines()) {
        if line.starts_with("```") {
            in_picture = !in_picture;
            continue;
        }
        for name in names(line, in_picture).iter().flat_map(|name| spelt_out(name)) {
            if !is_there(&name) {
                found.push(format!("{FILE}:{number}: {name} is not there: name what has taken its place"));
            }
        }
    }
    found
}

/// The names on a line, each from its crate's folder on.
fn names(line: &str, in_picture: bool) -> Vec<String> {
    let mut crate_folder = None;
    let mut names = Vec::new();
    let is_rust = |word: &str| Path::new(word).extension().is_some_and(|extension| extension == "rs");
    for word in words(line) {
        if let Some((folder, _)) = word.split_once("/src/") {
            crate_folder = Some(folder);
            names.push(word.to_owned());
        } else if word.starts_with("tests/") && is_rust(word) {
            names.push(word.to_owned());
        } else if in_picture && (is_rust(word) || word.ends_with('/')) {
            // Without a crate it leads nowhere, and is told.
            names.push(crate_folder.map_or_else(|| word.to_owned(), |folder| format!("{folder}/src/{word}")));
        }
    }
    names
}

/// A line's words, without the signs between them; what is in braces stays together.
fn words(line: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_u8;
    let between = move |c: char| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && (c.is_whitespace() || "`,;:()→".contains(c))
    };
    line.split(between).filter(|word| !word.is_empty())
}

/// `a/{b,c}.rs` is `a/b.rs` and `a/c.rs`.
fn spelt_out(name: &str) -> Vec<String> {
    let Some((before, rest)) = name.split_once('{') else { return vec![name.to_owned()] };
    let Some((choices, after)) = rest.split_once('}') else { return vec![name.to_owned()] };
    choices.split(',').flat_map(|choice| spelt_out(&format!("{before}{}{after}", choice.trim()))).collect()
}

const FILE: &str = "ARCHITECTURE.md";
/// Where crates are.
const FOLDERS: &[&str] = &["", "ebpf", "userspace"];

#[cfg(test)]
mod tests {
    use super::{lost, names, spelt_out};

    #[test]
    fn an_arrow_to_a_file_that_is_gone_is_told_with_its_line() {
        let text = "# weft\n```text\nconnect ──► dial    logic/src/dial.rs\n  └─ gone    logic/src/{policy,gone}.rs\n```\n";
        let there = ["logic/src/dial.rs", "logic/src/policy.rs"];
        let found = lost(text, |path| there.contains(&path));
        assert_eq!(
            found,
            ["ARCHITECTURE.md:4: logic/src/gone.rs is not there: name what has taken its place"]
        );
    }

    #[test]
    fn in_a_picture_a_short_name_is_of_the_crate_before_it_and_a_hook_is_no_file() {
        let line = "├─ cgroup/connect4,6 (sendmsg4)   proxy/src/exchange/tries.rs, route/, tables/{guards,people}.rs";
        let wanted =
            ["proxy/src/exchange/tries.rs", "proxy/src/route/", "proxy/src/tables/{guards,people}.rs"];
        assert_eq!(names(line, true), wanted);
        assert_eq!(names("no crate   serve.rs", true), ["serve.rs"]);
    }

    #[test]
    fn elsewhere_only_whole_names_are_looked_at() {
        let line = "of requests (`proxy/src/{observe,tell}.rs` → `telemetry/src/records/`), `mux/frame.rs`: \
                    `tests/tests/http/life.rs`, `<run-dir>/agent.sock`.";
        let wanted = ["proxy/src/{observe,tell}.rs", "telemetry/src/records/", "tests/tests/http/life.rs"];
        assert_eq!(names(line, false), wanted);
    }

    #[test]
    fn braces_stand_for_each_of_what_is_in_them() {
        let wanted = ["i/src/ca/make.rs", "i/src/issuer.rs"];
        assert_eq!(spelt_out("i/src/{ca/make,issuer}.rs"), wanted);
        assert_eq!(spelt_out("a/{b,c}/{d,e}"), ["a/b/d", "a/b/e", "a/c/d", "a/c/e"]);
    }

    #[test]
    fn a_folder_or_module_without_its_ending_is_found_too() {
        assert_eq!(
            lost("`telemetry/src/flows`", |path| path == "telemetry/src/flows.rs"),
            Vec::<String>::new()
        );
    }
}
