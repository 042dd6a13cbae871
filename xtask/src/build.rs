//! `cargo xtask build`: setup, then every object, binary and test.
//!
//! One invocation with one set of packages builds all that tests need. Cargo unites the features of the packages it is
//! asked for, so a second set would compile most dependencies a second time. `WEFT_EBPF` is removed rather than set: unset
//! means build once the toolchain is recorded, and a plain `cargo build` afterwards finds everything fresh.

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Deserializer, Value};

use crate::{profile, repo, screen, setup, shell};

/// What a build made that something may run.
pub(crate) struct Built {
    binaries: Vec<Executable>,
    /// One per test target.
    pub(crate) tests: Vec<Executable>,
}

/// A program made from one target of one package.
pub(crate) struct Executable {
    /// The package's folder in the repository, e.g. `userspace/policy`.
    pub(crate) package: PathBuf,
    pub(crate) target: String,
    /// `lib`, `bin`, `test` ...
    pub(crate) kind: String,
    pub(crate) path: PathBuf,
}

/// The packages that all steps build and test together; `weft-ebpf` only builds for the BPF target, and `weft-fuzz` has
/// the crates that it asks show more than others see.
pub(crate) const PACKAGES: [&str; 5] = ["--workspace", "--exclude", "weft-ebpf", "--exclude", "weft-fuzz"];

/// Builds everything in the dev profile, tests included.
pub(crate) fn workspace() -> Result<Built> {
    setup::run()?;
    build(shell::cargo().arg("build").args(PACKAGES).arg("--all-targets"), "binaries and tests (dev)")
}

/// Builds the named binaries as they are released, in one go.
pub(crate) fn release(binaries: &[&str]) -> Result<Built> {
    setup::run()?;
    let mut cargo = shell::cargo();
    // Named explicitly, so that flags are those of the binaries and not of build scripts and macros.
    cargo.args(["build", "--release", "--target", &shell::host()?]).args(PACKAGES);
    profile::apply(&mut cargo, &[])?;
    for binary in binaries {
        cargo.args(["--bin", binary]);
    }
    build(&mut cargo, &format!("{} (release)", binaries.join(", ")))
}

/// Builds the named binaries in the dev profile, as [`workspace`] does, so that either finds what the other has built.
pub(crate) fn dev(binaries: &[&str]) -> Result<Built> {
    setup::run()?;
    let mut cargo = shell::cargo();
    cargo.arg("build").args(PACKAGES);
    for binary in binaries {
        cargo.args(["--bin", binary]);
    }
    build(&mut cargo, &format!("{} (dev)", binaries.join(", ")))
}

/// Builds the named examples in the dev profile, as [`workspace`] does; none of them needs what setup installs.
pub(crate) fn examples(names: &[&str]) -> Result<Built> {
    let mut cargo = shell::cargo();
    cargo.arg("build").args(PACKAGES);
    for name in names {
        cargo.args(["--example", name]);
    }
    build(&mut cargo, &format!("{} (dev)", names.join(", ")))
}

impl Built {
    /// Where the binary `name` is.
    pub(crate) fn binary(&self, name: &str) -> Result<&Path> {
        let found = self.binaries.iter().find(|binary| binary.target == name);
        Ok(&found.with_context(|| format!("no package of the workspace has a binary `{name}`"))?.path)
    }
}

fn build(cargo: &mut Command, what: &str) -> Result<Built> {
    screen::title(format_args!("build {what}"));
    let started = Instant::now();
    let mut child = cargo
        .arg("--message-format=json-render-diagnostics")
        .env_remove("WEFT_EBPF")
        .stdout(Stdio::piped())
        .spawn()
        .context("start cargo build")?;
    let stdout = child.stdout.take().expect("stdout was piped above");
    let mut built = Built { binaries: Vec::new(), tests: Vec::new() };
    for message in Deserializer::from_reader(BufReader::new(stdout)).into_iter::<Value>() {
        let message = message.context("read cargo's messages")?;
        if let Some((executable, is_test)) = executable(&message)? {
            if is_test { &mut built.tests } else { &mut built.binaries }.push(executable);
        }
    }
    if !child.wait().context("wait for cargo build")?.success() {
        bail!("the build failed: what the compiler said is above");
    }
    built.tests.sort_by(|a, b| (&a.package, &a.kind, &a.target).cmp(&(&b.package, &b.kind, &b.target)));
    screen::done(format_args!("built {what}"), started.elapsed());
    Ok(built)
}

/// The executable that a message of cargo announces, and whether it is a test harness.
fn executable(message: &Value) -> Result<Option<(Executable, bool)>> {
    let Some(path) = message["executable"].as_str() else { return Ok(None) };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let manifest = PathBuf::from(text(&message["manifest_path"]));
    let root = repo::absolute("")?;
    let package = manifest.parent().and_then(|dir| dir.strip_prefix(&root).ok());
    let package = package.with_context(|| format!("{} is not in this repository", manifest.display()))?;
    let executable = Executable {
        package: package.to_path_buf(),
        target: text(&message["target"]["name"]),
        kind: text(&message["target"]["kind"][0]),
        path: path.into(),
    };
    Ok(Some((executable, message["profile"]["test"] == true)))
}
