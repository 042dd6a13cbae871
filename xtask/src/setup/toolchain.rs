//! The BPF toolchain: a Rust compiler with core's source, and bpf-linker for that compiler's LLVM.
//!
//! Two routes. A rustup nightly that has `rust-src` (and whose LLVM is installed) is the usual one; else Debian's
//! `rustc-web` and `rust-web-src`, which need nothing from rustup. The source is looked for by path: a nightly
//! without it is common, and rustup may be told to download nothing.

use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::CargoTool;
use super::packages::{self, Package};
use crate::{repo, screen, shell};

/// What `target/tools/route` says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Route {
    name: String,
    rustc: PathBuf,
    /// The compiler's own cargo; none: the cargo that builds the workspace.
    cargo: Option<PathBuf>,
    llvm: u32,
}

/// Finds or installs a route, its LLVM and bpf-linker, and records it.
pub(crate) fn provide() -> Result<Route> {
    let recorded = match Route::read() {
        Some(route) if route.is_ready() => return Ok(route),
        recorded => recorded,
    };
    let nightlies = nightlies();
    let way = decide(&nightlies, || packages::can_provide(DEBIAN))?;
    for lack in nightlies.iter().rev().map_while(Nightly::lacks) {
        screen::note(lack);
    }
    let route = match way {
        Way::Nightly(route) => route,
        Way::Debian => debian()?,
    };
    let prefix = route.llvm_prefix();
    // A linker of another LLVM has the same version number: only the recorded route tells them apart.
    let anew = recorded.is_none_or(|recorded| recorded.llvm != route.llvm);
    route.linker(&prefix).provide(anew)?;
    route.record()?;
    Ok(route)
}

/// A rustup nightly of this host.
struct Nightly {
    name: String,
    rustc: PathBuf,
    cargo: Option<PathBuf>,
    /// The LLVM that it was built with, where it says.
    llvm: Option<u32>,
    has_source: bool,
    /// The development files of that LLVM are installed.
    has_llvm: bool,
}

/// Where the compiler comes from.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    Nightly(Route),
    Debian,
}

/// The newest nightly, the last of them, that lacks nothing; else Debian's packages, if this host has them or can get them.
/// The error says what either way would take.
fn decide(nightlies: &[Nightly], debian: impl FnOnce() -> Result<()>) -> Result<Way> {
    if let Some(route) = nightlies.iter().rev().find_map(Nightly::route) {
        return Ok(Way::Nightly(route));
    }
    let lacks: Vec<String> = nightlies.iter().filter_map(Nightly::lacks).collect();
    let no_toolchain = || [&[NO_TOOLCHAIN.to_owned()], &lacks[..]].concat().join("\n  ");
    debian().map(|()| Way::Debian).with_context(no_toolchain)
}

impl Nightly {
    /// The route by it, if it lacks nothing.
    fn route(&self) -> Option<Route> {
        let usable = self.lacks().is_none();
        let Self { name, rustc, cargo, llvm, .. } = self;
        usable.then(|| Route {
            name: name.clone(),
            rustc: rustc.clone(),
            cargo: cargo.clone(),
            llvm: llvm.unwrap_or(0),
        })
    }

    /// What it lacks to build eBPF programs, and how to get that.
    fn lacks(&self) -> Option<String> {
        let name = &self.name;
        match self.llvm {
            _ if !self.has_source => {
                Some(format!("{name} has no rust-src: `rustup component add rust-src --toolchain {name}`"))
            }
            None => Some(format!("{name} does not say its LLVM: `rustup toolchain install {name} --force`")),
            Some(llvm) if !LLVMS.contains(&llvm) => Some(unknown_llvm(name, llvm)),
            Some(llvm) if !self.has_llvm => {
                Some(format!("{name} has rust-src, but no llvm-{llvm}-dev is installed for it"))
            }
            Some(_) => None,
        }
    }
}

impl Route {
    fn read() -> Option<Self> {
        let text = fs::read_to_string(repo::ROUTE).ok()?;
        let field = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        Some(Self {
            name: field("route")?.to_owned(),
            rustc: field("rustc")?.into(),
            cargo: field("cargo").map(PathBuf::from),
            llvm: field("llvm")?.parse().ok()?,
        })
    }

    fn is_ready(&self) -> bool {
        self.rustc.is_file() && self.linker(&self.llvm_prefix()).is_installed()
    }

    /// Leaves an equal file alone: the build script watches its time.
    fn record(&self) -> Result<()> {
        let Self { name, rustc, llvm, .. } = self;
        let cargo =
            self.cargo.as_ref().map(|cargo| format!("cargo={}\n", cargo.display())).unwrap_or_default();
        let text = format!("route={name}\nrustc={}\nllvm={llvm}\n{cargo}", rustc.display());
        if fs::read_to_string(repo::ROUTE).is_ok_and(|old| old == text) {
            return Ok(());
        }
        fs::write(repo::ROUTE, text).with_context(|| format!("write {}", repo::ROUTE))
    }

    fn llvm_prefix(&self) -> PathBuf {
        llvm_prefix(self.llvm)
    }

    fn linker<'a>(&self, prefix: &'a Path) -> CargoTool<'a> {
        let args: &[&str] = match self.llvm {
            21 => &["--no-default-features", "--features", "llvm-21"],
            22 => &["--no-default-features", "--features", "llvm-22"],
            _ => &["--no-default-features", "--features", "llvm-23"],
        };
        // Without LLVM_PREFIX the build would take whichever llvm-config comes first in PATH.
        CargoTool { name: "bpf-linker", version: BPF_LINKER, args, env: Some(("LLVM_PREFIX", prefix)) }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, llvm, .. } = self;
        write!(f, "eBPF: {name}, LLVM {llvm}, bpf-linker {BPF_LINKER}")
    }
}

/// The nightlies of this host, the newest last.
fn nightlies() -> Vec<Nightly> {
    let home = env::var_os("RUSTUP_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".rustup")));
    let folders = home.and_then(|home| fs::read_dir(home.join("toolchains")).ok());
    let mut folders: Vec<PathBuf> =
        folders.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    folders.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("nightly")));
    folders.sort();
    folders.iter().map(|folder| nightly(folder)).collect()
}

fn nightly(folder: &Path) -> Nightly {
    let rustc = folder.join("bin/rustc");
    let llvm = llvm_of(&rustc).ok();
    Nightly {
        name: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        cargo: Some(folder.join("bin/cargo")).filter(|cargo| cargo.is_file()),
        has_source: folder.join("lib/rustlib/src/rust/library/core").is_dir(),
        has_llvm: llvm.is_some_and(|llvm| llvm_prefix(llvm).join("bin/llvm-config").is_file()),
        rustc,
        llvm,
    }
}

/// Debian's compiler and core's source, and the LLVM that this compiler names.
fn debian() -> Result<Route> {
    packages::provide(DEBIAN).context(NO_TOOLCHAIN)?;
    let rustc = PathBuf::from(DEBIAN_RUSTC);
    let llvm = llvm_of(&rustc)?;
    let route = of_debian(rustc, llvm)?;
    if !route.llvm_prefix().join("bin/llvm-config").is_file() {
        packages::install(&[&format!("llvm-{llvm}-dev")])?;
    }
    Ok(route)
}

/// The route by Debian's compiler, if bpf-linker can be built for the LLVM that it names.
fn of_debian(rustc: PathBuf, llvm: u32) -> Result<Route> {
    if !LLVMS.contains(&llvm) {
        bail!("{}: upgrade rustc-web (bookworm-security)", unknown_llvm(DEBIAN_RUSTC, llvm));
    }
    Ok(Route { name: "debian".to_owned(), rustc, cargo: None, llvm })
}

fn unknown_llvm(compiler: &str, llvm: u32) -> String {
    format!("{compiler} uses LLVM {llvm}; bpf-linker {BPF_LINKER} knows {LLVMS:?}")
}

/// Where LLVM's headers and libraries are: `LLVM_PREFIX`, else Debian's place.
fn llvm_prefix(llvm: u32) -> PathBuf {
    env::var_os("LLVM_PREFIX").map_or_else(|| format!("/usr/lib/llvm-{llvm}").into(), PathBuf::from)
}

/// The LLVM major version that a compiler was built with.
fn llvm_of(rustc: &Path) -> Result<u32> {
    let said = shell::capture(Command::new(rustc).arg("-vV"))?;
    let version = said.lines().find_map(|line| line.strip_prefix("LLVM version: "));
    let major = version.and_then(|version| version.split('.').next()?.parse().ok());
    major.with_context(|| format!("{} -vV names no LLVM version", rustc.display()))
}

const NO_TOOLCHAIN: &str = "no BPF toolchain: either give a rustup nightly its source (`rustup toolchain install nightly \
    -c rust-src`, and the llvm-N-dev that `rustc +nightly -vV` names), or use a Debian with bookworm-security's rustc-web";
const BPF_LINKER: &str = "0.13.0";
/// The LLVMs that this bpf-linker can be built for.
const LLVMS: [u32; 3] = [21, 22, 23];
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN: &[Package] = &[
    Package { name: "rustc-web", provides: DEBIAN_RUSTC, what_for: "compiler of the eBPF programs" },
    Package {
        name: "rust-web-src",
        provides: "/usr/lib/rustlib/src/rust/library/core",
        what_for: "core for the BPF target",
    },
];

#[cfg(test)]
mod tests;
