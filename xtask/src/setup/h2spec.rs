//! h2spec, which asks an HTTP/2 server for every sentence of its RFCs: a Go program.
//!
//! `h2spec/go.mod` pins it with all that it is built from, and `h2spec/go.sum` their content. Newer releases than this
//! one are no valid Go modules (their `go.mod` lacks the `/v2`), so that Go's module proxy does not have them.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::packages::{self, Package};
use crate::{repo, screen, shell};

/// Builds the tool unless it is there, of the very sources that are pinned.
pub(super) fn provide() -> Result<()> {
    let pins = fs::read_to_string(PINS).with_context(|| format!("read {PINS}"))?;
    if Path::new(BINARY).is_file() && fs::read_to_string(BUILT_OF).is_ok_and(|built| built == pins) {
        return Ok(());
    }
    packages::provide(GO)?;
    let mut build = Command::new("go");
    build
        .args(["build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-o"])
        .arg(repo::absolute(BINARY)?)
        .arg("github.com/summerwind/h2spec/cmd/h2spec")
        .current_dir(MODULE)
        // The compiler that is here: it may be told to download no other.
        .env("GOTOOLCHAIN", "local");
    screen::step(format_args!("h2spec ({BINARY})"), || shell::logged(&mut build, Path::new(LOG)))?;
    fs::write(BUILT_OF, pins).with_context(|| format!("write {BUILT_OF}"))
}

const MODULE: &str = "xtask/src/setup/h2spec";
const PINS: &str = "xtask/src/setup/h2spec/go.sum";
const BINARY: &str = "target/tools/bin/h2spec";
const BUILT_OF: &str = "target/tools/h2spec.sum";
const LOG: &str = "target/tools/log/h2spec.log";
/// Any from 1.19 on, Debian 12's.
const GO: &[Package] =
    &[Package { name: "golang-go", provides: "go", what_for: "building h2spec, which tests HTTP/2" }];
