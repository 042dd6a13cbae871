//! Debian packages: which, what for, and how they are installed without starting a daemon.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{repo, screen, shell};

/// A package, and the file that shows that it (or another distribution's equal) is there.
pub(crate) struct Package {
    pub(crate) name: &'static str,
    /// A command's name, or an absolute path.
    pub(crate) provides: &'static str,
    pub(crate) what_for: &'static str,
}

/// What tests, benches, demo and the kernel matrix call.
pub(crate) const NEEDED: &[Package] = &[
    package("iproute2", "ip", "namespaces and links of the tests"),
    package("nftables", "nft", "Services of a node that has left the mesh"),
    package("bpftool", "bpftool", "looking at maps and programs from outside"),
    package("curl", "curl", "an HTTP client users know"),
    package("wrk", "wrk", "HTTP load for the benches"),
    package("nghttp2-client", "h2load", "HTTP/2 load for the benches"),
    package("iperf3", "iperf3", "bulk throughput and UDP for the benches"),
    package("openssl", "openssl", "judging certificates and TLS from outside"),
    package("nginx-light", "nginx", "a real HTTP server"),
    package("haproxy", "haproxy", "a proxy to compare ours with"),
    package("redis-server", "redis-server", "a real server that is not HTTP"),
    package("postgresql", "pg_ctlcluster", "one whose clients ask for TLS in clear text"),
    package("postgresql-client", "psql", "their client"),
    package("mariadb-server-core", "mariadbd", "one that speaks before its clients"),
    package("mariadb-client-core", "mariadb", "their client"),
    package("qemu-system-x86", "qemu-system-x86_64", "other kernels"),
    package("cpio", "cpio", "their initramfs"),
    package("busybox-static", "busybox", "their commands"),
    package("dash", "dash", "their shell"),
    package("kmod", "modprobe", "which modules they need"),
    package("xz-utils", "xz", "unpacking those modules"),
    package("libc-bin", "ldd", "which libraries the tests need there"),
];

/// Installs what is missing of `wanted` in one go.
pub(crate) fn provide(wanted: &[Package]) -> Result<()> {
    let missing = missing(wanted);
    if missing.is_empty() {
        return Ok(());
    }
    can_provide(wanted)?;
    for package in &missing {
        screen::note(format_args!("missing: {} ({})", package.name, package.what_for));
    }
    install(&names(&missing))?;
    if let Some(still) = wanted.iter().find(|package| !package.is_there()) {
        bail!("{} is installed, yet {} is not to be found", still.name, still.provides);
    }
    Ok(())
}

/// Whether this host has all that is `wanted`, or can get it; the error is for its owner.
pub(crate) fn can_provide(wanted: &[Package]) -> Result<()> {
    let missing = missing(wanted);
    if missing.is_empty() { Ok(()) } else { check_can_install(&names(&missing), Installer::here()?) }
}

/// Installs packages by name.
pub(crate) fn install(names: &[&str]) -> Result<()> {
    check_can_install(names, Installer::here()?)?;
    // A list that cannot be refreshed may still be good enough; if not, the install says so.
    let mut update = Command::new("apt-get");
    update.args(["-q", "update", "-o", "APT::Update::Error-Mode=any"]);
    let refreshed = shell::logged(&mut update, Path::new(UPDATE_LOG)).is_ok();
    let names = names.join(" ");
    let result = screen::step(format_args!("apt-get install {names}"), || {
        let mut install = Command::new("sh");
        install.arg("xtask/src/setup/install.sh").args(names.split(' '));
        shell::logged(&mut install, Path::new(INSTALL_LOG))
    });
    result.with_context(|| {
        let hint =
            "the package lists could not be refreshed either: is there a network, and a proxy in /etc/apt?";
        if refreshed { format!("install {names}") } else { format!("install {names}; {hint} ({UPDATE_LOG})") }
    })
}

impl Package {
    fn is_there(&self) -> bool {
        if self.provides.starts_with('/') {
            return Path::new(self.provides).exists();
        }
        repo::find_command(self.provides).is_some()
    }
}

const fn package(name: &'static str, provides: &'static str, what_for: &'static str) -> Package {
    Package { name, provides, what_for }
}

fn missing(wanted: &[Package]) -> Vec<&Package> {
    wanted.iter().filter(|package| !package.is_there()).collect()
}

fn names(packages: &[&Package]) -> Vec<&'static str> {
    packages.iter().map(|package| package.name).collect()
}

/// How this process can install packages.
#[derive(Clone, Copy)]
pub(crate) enum Installer {
    /// By apt-get.
    Apt,
    /// Only root may use it.
    NotOurs,
    /// This host has another one.
    None,
}

impl Installer {
    fn here() -> Result<Self> {
        if repo::find_command("apt-get").is_none() {
            return Ok(Self::None);
        }
        let user = shell::capture(Command::new("id").arg("-u"))?;
        Ok(if user.trim() == "0" { Self::Apt } else { Self::NotOurs })
    }
}

/// Whether packages that are missing can be installed; the error says how else to get them.
pub(crate) fn check_can_install(names: &[&str], installer: Installer) -> Result<()> {
    let names = names.join(" ");
    match installer {
        Installer::Apt => Ok(()),
        Installer::NotOurs => {
            bail!("missing: {names}; run `sudo apt-get install {names}`, or this command as root")
        }
        Installer::None => bail!(
            "missing: {names} (Debian's names); this host has no apt-get: install their equals with its own package manager"
        ),
    }
}

const UPDATE_LOG: &str = "target/tools/log/apt-update.log";
const INSTALL_LOG: &str = "target/tools/log/apt-install.log";

#[cfg(test)]
mod tests {
    use super::{Installer, Package, can_provide, check_can_install, package};

    #[test]
    fn what_is_there_needs_no_installer() {
        let there = [package("dash", "/proc/self/exe", "its shell")];
        assert!(can_provide(&there).is_ok());
    }

    #[test]
    fn what_is_missing_is_named_with_how_to_get_it() {
        let missing: [Package; 1] = [package("wrk", "/nowhere/wrk", "HTTP load")];
        assert_eq!(super::names(&super::missing(&missing)), ["wrk"]);
        assert!(check_can_install(&["wrk"], Installer::Apt).is_ok());
        let said = |installer| check_can_install(&["wrk", "curl"], installer).unwrap_err().to_string();
        assert!(said(Installer::NotOurs).contains("run `sudo apt-get install wrk curl`"));
        assert!(said(Installer::None).contains("no apt-get: install their equals"));
    }
}
