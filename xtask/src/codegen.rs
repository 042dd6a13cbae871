//! `cargo xtask codegen`: files that are committed, yet made by a program.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{build, screen, shell};

/// Writes every generated file, or with `check` compares it.
pub(crate) fn run(check: bool) -> Result<()> {
    [ABI, CRDS, DEPLOY].iter().try_for_each(|files| update(files, check))
}

/// The same of the chart and the kustomizations alone, which are generated from `deploy/install` and `deploy/crds`.
pub(crate) fn deploy(check: bool) -> Result<()> {
    update(DEPLOY, check)
}

/// The same of `deploy/crds` alone, which are generated from the types in `userspace/kubernetes/src/kinds`.
pub(crate) fn crds(check: bool) -> Result<()> {
    update(CRDS, check)
}

struct Generated {
    path: &'static str,
    /// The example of a crate that prints it.
    example: &'static str,
    /// Which of the files that the example prints.
    which: Option<&'static str>,
}

/// The examples are built as everything is, so that a later step finds what was compiled for them.
fn update(files: &[Generated], check: bool) -> Result<()> {
    let mut examples: Vec<&str> = files.iter().map(|file| file.example).collect();
    examples.dedup();
    let built = build::examples(&examples)?;
    files.iter().try_for_each(|file| file.update(built.binary(file.example)?, check))
}

impl Generated {
    fn update(&self, printer: &Path, check: bool) -> Result<()> {
        let Self { path, example, which } = *self;
        let wanted = shell::capture(Command::new(printer).args(which))?;
        if wanted.trim().is_empty() {
            bail!("example `{example}` printed nothing: {path} would be lost");
        }
        let file = Path::new(path);
        let found = if file.exists() { fs::read_to_string(file) } else { Ok(String::new()) };
        let found = found.with_context(|| format!("read {path}"))?;
        if found == wanted {
            screen::note(format_args!("{path} is up to date"));
            return Ok(());
        }
        if check {
            let place = first_difference(&found, &wanted);
            bail!("{path} is out of date ({place}): run `cargo xtask codegen` and commit it");
        }
        screen::note(format_args!("wrote {path}"));
        let folder = file.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        fs::write(file, wanted).with_context(|| format!("write {path}"))
    }
}

fn first_difference(found: &str, wanted: &str) -> String {
    let (mut found, mut wanted) = (found.lines(), wanted.lines());
    for number in 1.. {
        match (found.next(), wanted.next()) {
            (None, None) => break,
            (old, new) if old == new => {}
            (old, new) => {
                let [old, new] = [old, new].map(|line| line.unwrap_or("(nothing)"));
                return format!("line {number}: has `{old}`, should be `{new}`");
            }
        }
    }
    "line ends only".to_owned()
}

const ABI: &[Generated] = &[
    Generated { path: "ebpf/abi/layout.txt", example: "layout", which: None },
    Generated { path: "docs/reasons.md", example: "reasons", which: None },
];

macro_rules! crd {
    ($plural:literal) => {
        Generated {
            path: concat!("deploy/crds/weft.dev_", $plural, ".yaml"),
            example: "crds",
            which: Some(concat!($plural, ".weft.dev")),
        }
    };
}

macro_rules! deploy {
    ($path:literal) => {
        Generated {
            path: concat!("deploy/", $path),
            example: "deploy",
            which: Some(concat!("deploy/", $path)),
        }
    };
}

/// One file for each `CustomResourceDefinition`, printed by an example of the crate that has the types.
const CRDS: &[Generated] = &[
    crd!("meshconfigs"),
    crd!("trafficpolicies"),
    crd!("authorizationpolicies"),
    crd!("authenticationpolicies"),
    crd!("telemetrypolicies"),
];

/// Of the texts that `weft install` prints. After [`CRDS`], which are a part of it.
const DEPLOY: &[Generated] = &[
    deploy!("crds/kustomization.yaml"),
    deploy!("kustomize/default/kustomization.yaml"),
    deploy!("kustomize/default/weft.yaml"),
    deploy!("chart/Chart.yaml"),
    deploy!("chart/values.yaml"),
    deploy!("chart/crds/weft.dev_meshconfigs.yaml"),
    deploy!("chart/crds/weft.dev_trafficpolicies.yaml"),
    deploy!("chart/crds/weft.dev_authorizationpolicies.yaml"),
    deploy!("chart/crds/weft.dev_authenticationpolicies.yaml"),
    deploy!("chart/crds/weft.dev_telemetrypolicies.yaml"),
    deploy!("chart/templates/namespace.yaml"),
    deploy!("chart/templates/access.yaml"),
    deploy!("chart/templates/controller.yaml"),
    deploy!("chart/templates/agent.yaml"),
    deploy!("chart/templates/monitoring.yaml"),
];

#[cfg(test)]
mod tests {
    use super::first_difference;

    #[test]
    fn a_changed_line_is_named_with_both_sides() {
        assert_eq!(
            first_difference("a 0 4\nb 4 4\n", "a 0 4\nb 4 8\n"),
            "line 2: has `b 4 4`, should be `b 4 8`"
        );
    }

    #[test]
    fn a_missing_line_is_named() {
        assert_eq!(first_difference("a\n", "a\nb\n"), "line 2: has `(nothing)`, should be `b`");
    }
}
