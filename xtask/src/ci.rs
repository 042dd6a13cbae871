//! `cargo xtask ci`: everything a change has to pass; stops at the first step that fails.
//!
//! How it stays short on a cold machine with two cores: every step names the same packages in the same profile
//! (`build::PACKAGES`, dev; clippy the fuzz targets beside them), so a dependency is compiled once for clippy (metadata
//! only) and once for all tests, and the eBPF object is built once: its build script runs before clippy already, and the one
//! step that changes `WEFT_EBPF` has a target directory of its own. The kernels run the test binary of the test step as it
//! is. The tests are run from one build, not by one `cargo test` per tier.

use std::time::Instant;

use anyhow::{Context, Result};

use crate::{codegen, deny, layers, screen, setup, shell, sizes, test};

/// Runs all steps.
pub(crate) fn run() -> Result<()> {
    let started = Instant::now();
    for (name, step) in STEPS {
        screen::title(name);
        screen::step(name, step).with_context(|| format!("ci stopped at step `{name}`"))?;
    }
    screen::done("ci", started.elapsed());
    Ok(())
}

type Step = (&'static str, fn() -> Result<()>);

/// Cheap ones first; `setup` before the first that runs a build script.
const STEPS: &[Step] = &[
    ("fmt", || shell::run(shell::cargo().args(["fmt", "--all", "--check"]))),
    ("layers", layers::run),
    ("sizes", sizes::run),
    ("setup", setup::run),
    ("deny", deny::run),
    ("clippy", clippy),
    ("stub", stub),
    ("codegen", || codegen::run(true)),
    ("test", || test::run(&test::Args::everything_and(KERNELS))),
];

/// Debian's own two; the others live in suites that come and go.
const KERNELS: &[&str] = &["6.1", "6.12"];

/// Fuzz targets, too, and the tests that need an API server, which are no part of all targets: nothing else of CI would
/// notice that one does not compile any more.
fn clippy() -> Result<()> {
    for targets in [&["--all-targets"][..], NEED_A_CLUSTER] {
        let mut cargo = shell::cargo();
        cargo.args(["clippy", "--workspace", "--exclude", "weft-ebpf"]).args(targets);
        shell::run(cargo.args(["--", "-D", "warnings"]).env_remove("WEFT_EBPF"))?;
    }
    Ok(())
}

/// Of `cargo xtask test --tier cluster`.
const NEED_A_CLUSTER: &[&str] = &[
    "--test",
    "admission",
    "--test",
    "cluster",
    "--test",
    "controller",
    "--test",
    "enrolment",
    "--test",
    "kubernetes",
];

/// What a developer without a BPF toolchain has: the crate that carries the object builds, and passes its tests, without one.
/// The others do not know the difference. A minute of one CPU on a cold machine, seconds on a warm one.
fn stub() -> Result<()> {
    let mut cargo = shell::cargo();
    cargo.args([
        "test",
        "--quiet",
        "--package",
        "weft-datapath",
        "--lib",
        "--tests",
        "--target-dir",
        "target/stub",
    ]);
    // Nobody debugs it, and half of its size would be what debuggers read.
    cargo.env("WEFT_EBPF", "stub").env("CARGO_PROFILE_DEV_DEBUG", "0");
    shell::run(&mut cargo)
}
