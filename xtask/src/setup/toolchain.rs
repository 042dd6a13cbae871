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
    let route = match nightly() {
        Some(route) => route,
        None => debian()?,
    };
    let prefix = route.llvm_prefix();
    // A linker of another LLVM has the same version number: only the recorded route tells them apart.
    let anew = recorded.is_none_or(|recorded| recorded.llvm != route.llvm);
    route.linker(&prefix).provide(anew)?;
    route.record()?;
    Ok(route)
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

    /// Where LLVM's headers and libraries are: `LLVM_PREFIX`, else Debian's place.
    fn llvm_prefix(&self) -> PathBuf {
        env::var_os("LLVM_PREFIX")
            .map_or_else(|| format!("/usr/lib/llvm-{}", self.llvm).into(), PathBuf::from)
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

/// The newest nightly that has core's source, a known LLVM, and that LLVM's development files.
fn nightly() -> Option<Route> {
    let home = env::var_os("RUSTUP_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".rustup")))?;
    let mut toolchains: Vec<PathBuf> = fs::read_dir(home.join("toolchains"))
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("nightly")))
        .filter(|path| path.join("lib/rustlib/src/rust/library/core").is_dir())
        .collect();
    toolchains.sort();
    toolchains.into_iter().rev().find_map(|toolchain| {
        let rustc = toolchain.join("bin/rustc");
        let cargo = Some(toolchain.join("bin/cargo")).filter(|cargo| cargo.is_file());
        let llvm = llvm_of(&rustc).ok()?;
        let name = toolchain.file_name()?.to_string_lossy().into_owned();
        let route = Route { name, rustc, cargo, llvm };
        let usable = LLVMS.contains(&llvm) && route.llvm_prefix().join("bin/llvm-config").is_file();
        if !usable {
            screen::note(format_args!(
                "{} has rust-src, but no llvm-{llvm}-dev is installed for it",
                route.name
            ));
        }
        usable.then_some(route)
    })
}

/// Debian's compiler and core's source, and the LLVM that this compiler names.
fn debian() -> Result<Route> {
    packages::provide(DEBIAN).context(
        "no BPF toolchain: either give a rustup nightly its source (`rustup toolchain install nightly -c rust-src`, and \
         the llvm-N-dev that `rustc +nightly -vV` names), or use a Debian with bookworm-security's rustc-web",
    )?;
    let rustc = PathBuf::from(DEBIAN_RUSTC);
    let llvm = llvm_of(&rustc)?;
    if !LLVMS.contains(&llvm) {
        bail!(
            "{DEBIAN_RUSTC} uses LLVM {llvm}; bpf-linker {BPF_LINKER} knows {LLVMS:?}: upgrade rustc-web (bookworm-security)"
        );
    }
    let route = Route { name: "debian".to_owned(), rustc, cargo: None, llvm };
    if !route.llvm_prefix().join("bin/llvm-config").is_file() {
        packages::install(&[&format!("llvm-{llvm}-dev")])?;
    }
    Ok(route)
}

/// The LLVM major version that a compiler was built with.
fn llvm_of(rustc: &Path) -> Result<u32> {
    let said = shell::capture(Command::new(rustc).arg("-vV"))?;
    let version = said.lines().find_map(|line| line.strip_prefix("LLVM version: "));
    let major = version.and_then(|version| version.split('.').next()?.parse().ok());
    major.with_context(|| format!("{} -vV names no LLVM version", rustc.display()))
}

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
