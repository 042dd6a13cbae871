//! Where things are. Commands run in the repository's root, so every path in xtask is relative to it.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Tools that xtask installs for itself, never outside the repository.
pub(crate) const TOOLS: &str = "target/tools";
/// Which BPF toolchain was found: written by `setup`, read by `userspace/datapath/build.rs`.
pub(crate) const ROUTE: &str = "target/tools/route";
/// Debian kernels and the initramfs of each.
pub(crate) const KERNELS: &str = "target/kernels";

/// Makes the repository's root the current directory.
pub(crate) fn enter() -> Result<()> {
    let xtask = env::var_os("CARGO_MANIFEST_DIR").context("run this as `cargo xtask`")?;
    let root = Path::new(&xtask).parent().context("xtask lies in the repository's root")?;
    env::set_current_dir(root).with_context(|| format!("enter {}", root.display()))
}

/// The absolute form of a path relative to the root.
pub(crate) fn absolute(path: impl AsRef<Path>) -> Result<PathBuf> {
    Ok(env::current_dir().context("find the current directory")?.join(path))
}

/// Where a command is, also in the directories that a user's PATH often lacks.
pub(crate) fn find_command(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let admin = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(admin).map(|dir| dir.join(name)).find(|file| file.is_file())
}
