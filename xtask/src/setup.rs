//! `cargo xtask setup`: the BPF toolchain, and the packages and tools that tests and benches need.
//!
//! Idempotent, and quick when nothing is to do: everything is looked for by path, and apt, rustup's
//! toolchains and cargo are asked only for what is missing. It never asks rustup to download.

mod envoy;
mod h2spec;
pub(crate) mod packages;
mod toolchain;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{repo, screen, shell};

/// Provides everything; says what it does, or why this host cannot be served and what to do about it.
pub(crate) fn run() -> Result<()> {
    let started = Instant::now();
    check_host()?;
    packages::provide(packages::NEEDED)?;
    h2spec::provide()?;
    let route = toolchain::provide()?;
    screen::done(format_args!("tools and packages are in place ({route})"), started.elapsed());
    Ok(())
}

/// Provides what building `weft` takes, without what tests and benches call.
pub(crate) fn bpf_toolchain() -> Result<()> {
    toolchain::provide().map(drop)
}

pub(crate) use envoy::provide as envoy;

/// Installs a cargo subcommand into `target/tools` for the command that needs it. Not optimised: that takes minutes, and what
/// it does itself takes seconds.
pub(crate) fn cargo_tool(name: &str, version: &str) -> Result<()> {
    let spec = CargoTool { name, version, args: &["--debug"], env: None };
    spec.provide(false)
}

/// A program from crates.io, built once into `target/tools`.
struct CargoTool<'a> {
    name: &'a str,
    version: &'a str,
    args: &'a [&'a str],
    env: Option<(&'a str, &'a Path)>,
}

impl CargoTool<'_> {
    /// Installs the tool unless this version is there; `anew` replaces it all the same.
    fn provide(&self, anew: bool) -> Result<()> {
        if !anew && self.is_installed() {
            return Ok(());
        }
        screen::note(format_args!("building {} {} (a minute or two) ...", self.name, self.version));
        let mut install = shell::cargo();
        // Its own target directory: the install must not wait for, or replace, the workspace's builds.
        install
            .args(["install", self.name, "--version", self.version, "--locked", "--force"])
            .args(["--root", repo::TOOLS, "--target-dir", BUILD])
            .args(self.args);
        if let Some((key, value)) = self.env {
            install.env(key, value);
        }
        let what = format!("{} {} ({}/bin)", self.name, self.version, repo::TOOLS);
        let log = format!("{}/log/{}.log", repo::TOOLS, self.name);
        screen::step(what, || shell::logged(&mut install, Path::new(&log)))?;
        fs::remove_dir_all(BUILD).with_context(|| format!("remove {BUILD}"))
    }

    /// Cargo notes what it installed as `"name version (source)"`.
    fn is_installed(&self) -> bool {
        let root = Path::new(repo::TOOLS);
        let notes = fs::read_to_string(root.join(".crates.toml")).unwrap_or_default();
        notes.contains(&format!("\"{} {} (", self.name, self.version))
            && root.join("bin").join(self.name).is_file()
    }
}

/// Refuses a host on which no later step can succeed.
fn check_host() -> Result<()> {
    match obstacle(cfg!(target_os = "linux"), Path::new("/sys/kernel/btf/vmlinux").exists()) {
        Some(obstacle) => bail!(obstacle),
        None => Ok(()),
    }
}

/// What no step can do anything about, and what its owner can.
fn obstacle(is_linux: bool, has_btf: bool) -> Option<&'static str> {
    if !is_linux {
        return Some(
            "eBPF needs Linux; use a Linux machine or VM (a container of Docker Desktop's VM will do)",
        );
    }
    (!has_btf).then_some(
        "this kernel has no BTF (/sys/kernel/btf/vmlinux), so eBPF programs cannot be loaded; boot one built with \
         CONFIG_DEBUG_INFO_BTF=y (every Debian kernel from 5.10 on), or mount sysfs in this container",
    )
}

/// A path for tools: ours first, then the caller's.
pub(crate) fn with_tools(command: &mut Command) -> Result<&mut Command> {
    let ours = repo::absolute(Path::new(repo::TOOLS).join("bin"))?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = std::env::join_paths(std::iter::once(ours).chain(std::env::split_paths(&path)))?;
    Ok(command.env("PATH", all))
}

const BUILD: &str = "target/tools/build";

#[cfg(test)]
mod tests {
    use super::obstacle;

    #[test]
    fn a_host_that_cannot_be_served_is_told_what_it_lacks_and_what_will_do() {
        assert_eq!(obstacle(true, true), None);
        let said = obstacle(true, false).unwrap();
        assert!(said.contains("no BTF") && said.contains("CONFIG_DEBUG_INFO_BTF=y"), "{said}");
        for has_btf in [true, false] {
            assert!(obstacle(false, has_btf).unwrap().contains("use a Linux machine or VM"));
        }
    }
}
