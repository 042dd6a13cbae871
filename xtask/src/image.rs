//! `cargo xtask image`: `weft` as a container image, one static binary and nothing else.
//!
//! It is linked statically against glibc, as pods' images are from scratch: `deploy/Containerfile` does the same for who
//! has a container engine.

mod archive;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{screen, setup, shell};

pub(crate) use archive::Image;

/// Builds the binary and packs it; says where the archive is, under which name it is imported, and how large it is.
pub(crate) fn run() -> Result<()> {
    setup::bpf_toolchain()?;
    let host = shell::host()?;
    screen::title("build weft (release, static)");
    let started = Instant::now();
    let mut cargo = shell::cargo();
    // Named explicitly, so that the flag is the binary's and not that of build scripts and macros; and a folder of its
    // own, since another flag would have the workspace's own build start again.
    cargo.args(["build", "--release", "--package", "weft", "--bin", "weft", "--target", &host]);
    cargo.args(["--target-dir", BUILT]).env("RUSTFLAGS", "-Ctarget-feature=+crt-static");
    shell::run(cargo.env_remove("WEFT_EBPF"))?;
    screen::done("built weft (release, static)", started.elapsed());
    let built = Path::new(BUILT).join(host).join("release/weft");
    // Without symbols, which are half of the binary.
    shell::run(Command::new("strip").args(["--strip-all", "-o", BINARY]).arg(built))?;
    let (binary, archive) = (Path::new(BINARY), Path::new(ARCHIVE));
    let image = Image { name: NAME, programs: &[("/weft", binary)], entrypoint: &["/weft"] };
    screen::step(format_args!("pack {ARCHIVE}"), || image.write(archive))?;
    let size = fs::metadata(archive).with_context(|| format!("look at {ARCHIVE}"))?.len();
    if size > MOST_BYTES {
        bail!("{ARCHIVE} has {size} bytes, of {MOST_BYTES} that a node should have to pull");
    }
    screen::note(format_args!("{NAME}, {} MB", size.div_ceil(1_000_000)));
    screen::note(format_args!("`cargo xtask cluster load {ARCHIVE}` brings it to the test cluster's nodes"));
    Ok(())
}

/// What the image is called. `weft install` prints the same name.
pub(crate) const NAME: &str = concat!("ghcr.io/weft-mesh/weft:v", env!("CARGO_PKG_VERSION"));
const BINARY: &str = "target/image/weft";
const ARCHIVE: &str = "target/image/weft.tar";
const BUILT: &str = "target/image/build";
const MOST_BYTES: u64 = 40_000_000;

#[cfg(test)]
mod tests {
    use super::{BINARY, NAME};

    #[test]
    fn the_container_file_makes_the_same_image() {
        let file = include_str!("../../deploy/Containerfile");
        assert!(file.contains(&format!("-t {NAME} ")), "it names another image than {NAME}");
        assert!(file.contains(&format!("/weft/{BINARY} /weft\n")), "it copies another file than {BINARY}");
        assert!(file.ends_with("ENTRYPOINT [\"/weft\"]\n"));
    }

    #[test]
    fn what_is_installed_names_the_same_image() {
        let source = include_str!("../../userspace/cli/src/install.rs");
        let name = NAME.replace(env!("CARGO_PKG_VERSION"), "\", env!(\"CARGO_PKG_VERSION\"))");
        assert!(source.contains(&format!("concat!(\"{name}")), "it names another image than {NAME}");
    }
}
