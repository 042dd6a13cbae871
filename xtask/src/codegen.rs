//! `cargo xtask codegen`: files that are committed, yet made by a program.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::{screen, shell};

/// Writes every generated file, or with `check` compares it.
pub(crate) fn run(check: bool) -> Result<()> {
    GENERATED.iter().chain(CRDS).chain(DEPLOY).try_for_each(|file| file.update(check))
}

/// The same of the chart and the kustomizations alone, which are generated from `deploy/install` and `deploy/crds`.
pub(crate) fn deploy(check: bool) -> Result<()> {
    DEPLOY.iter().try_for_each(|file| file.update(check))
}

/// The same of `deploy/crds` alone, which are generated from the types in `userspace/kubernetes/src/kinds`.
pub(crate) fn crds(check: bool) -> Result<()> {
    CRDS.iter().try_for_each(|file| file.update(check))
}

macro_rules! crd {
    ($plural:literal) => {
        Generated {
            path: concat!("deploy/crds/weft.dev_", $plural, ".yaml"),
            made_by: &[
                "run",
                "--quiet",
                "--package",
                "weft-kubernetes",
                "--example",
                "crds",
                "--",
                concat!($plural, ".weft.dev"),
            ],
        }
    };
}

macro_rules! deploy {
    ($path:literal) => {
        Generated {
            path: concat!("deploy/", $path),
            made_by: &[
                "run",
                "--quiet",
                "--package",
                "weft-cli",
                "--example",
                "deploy",
                "--",
                concat!("deploy/", $path),
            ],
        }
    };
}

struct Generated {
    path: &'static str,
    /// Arguments of the cargo that prints the file.
    made_by: &'static [&'static str],
}

impl Generated {
    fn update(&self, check: bool) -> Result<()> {
        let wanted = screen::step(format_args!("cargo {}", self.made_by.join(" ")), || {
            shell::capture(shell::cargo().args(self.made_by))
        })?;
        if wanted.trim().is_empty() {
            bail!("`cargo {}` printed nothing: {} would be lost", self.made_by.join(" "), self.path);
        }
        let path = Path::new(self.path);
        let found = if path.exists() { fs::read_to_string(path) } else { Ok(String::new()) };
        let found = found.with_context(|| format!("read {}", self.path))?;
        if found == wanted {
            screen::note(format_args!("{} is up to date", self.path));
            return Ok(());
        }
        if check {
            let place = first_difference(&found, &wanted);
            bail!("{} is out of date ({place}): run `cargo xtask codegen` and commit it", self.path);
        }
        screen::note(format_args!("wrote {}", self.path));
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        fs::write(path, wanted).with_context(|| format!("write {}", self.path))
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

const GENERATED: &[Generated] = &[
    Generated {
        path: "ebpf/abi/layout.txt",
        made_by: &["run", "--quiet", "--package", "weft-abi", "--features", "user", "--example", "layout"],
    },
    Generated {
        path: "docs/reasons.md",
        made_by: &["run", "--quiet", "--package", "weft-abi", "--features", "user", "--example", "reasons"],
    },
];

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
