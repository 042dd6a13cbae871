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
use clap::ValueEnum;

use crate::{build, profile, screen, setup, shell};

pub(crate) use archive::Image;

/// What an image is made of.
#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Of {
    /// Optimised and static, as it is released; takes minutes
    #[default]
    Release,
    /// What the tests are built with, and the libraries that it is linked to
    Dev,
    /// What the image that is there was made of
    Built,
}

/// Makes the image.
pub(crate) fn run(of: Of) -> Result<()> {
    match of {
        Of::Release => release(),
        Of::Dev => dev(),
        Of::Built if Path::new(ARCHIVE).exists() => Ok(()),
        Of::Built => bail!("there is no {ARCHIVE}: `cargo xtask image`"),
    }
}

/// Builds the binary and packs it; says where the archive is, under which name it is imported, and how large it is.
fn release() -> Result<()> {
    setup::bpf_toolchain()?;
    let host = shell::host()?;
    screen::title("build weft (release, static)");
    let started = Instant::now();
    let mut cargo = shell::cargo();
    // Named explicitly, so that the flag is the binary's and not that of build scripts and macros; and a folder of its
    // own, since another flag would have the workspace's own build start again.
    cargo.args(["build", "--release", "--package", "weft", "--bin", "weft", "--target", &host]);
    cargo.args(["--target-dir", BUILT]);
    profile::apply(&mut cargo, &FLAGS)?;
    shell::run(cargo.env_remove("WEFT_EBPF"))?;
    screen::done("built weft (release, static)", started.elapsed());
    let size = pack(&Path::new(BUILT).join(host).join("release/weft"), &[])?;
    if size > MOST_BYTES {
        bail!("{ARCHIVE} has {size} bytes, of {MOST_BYTES} that a node should have to pull");
    }
    screen::note(format_args!("{NAME}, {} MB", size.div_ceil(1_000_000)));
    screen::note(format_args!("`cargo xtask cluster load {ARCHIVE}` brings it to the test cluster's nodes"));
    Ok(())
}

/// Another build than the release's would have every dependency compiled once more.
fn dev() -> Result<()> {
    let built = build::dev(&["weft"])?;
    let weft = built.binary("weft")?;
    let said = shell::capture(Command::new("ldd").arg(weft))?;
    let libraries: Vec<&str> = said.lines().filter_map(library).collect();
    pack(weft, &libraries).map(drop)
}

/// Of `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x...)`; of what the kernel maps by itself, none.
fn library(line: &str) -> Option<&str> {
    line.split_whitespace().find(|word| word.starts_with('/'))
}

/// Packs the binary, with files that are in the image where they are here. The archive's size.
fn pack(weft: &Path, beside: &[&str]) -> Result<u64> {
    fs::create_dir_all(Path::new(BINARY).parent().unwrap_or(Path::new("")))
        .with_context(|| format!("create the folder of {BINARY}"))?;
    // Without symbols, which are half of the binary.
    shell::run(Command::new("strip").args(["--strip-all", "-o", BINARY]).arg(weft))?;
    let mut programs = vec![("/weft", Path::new(BINARY))];
    programs.extend(beside.iter().map(|path| (*path, Path::new(*path))));
    let image = Image { name: NAME, programs: &programs, entrypoint: &["/weft"] };
    let archive = Path::new(ARCHIVE);
    screen::step(format_args!("pack {ARCHIVE}"), || image.write(archive))?;
    Ok(fs::metadata(archive).with_context(|| format!("look at {ARCHIVE}"))?.len())
}

/// What the image is called. `weft install` prints the same name.
pub(crate) const NAME: &str = concat!("ghcr.io/weft-mesh/weft:v", env!("CARGO_PKG_VERSION"));
pub(crate) const BINARY: &str = "target/image/weft";
pub(crate) const ARCHIVE: &str = "target/image/weft.tar";
const BUILT: &str = "target/image/build";
/// Packed relocations are a megabyte less.
const FLAGS: [&str; 2] = ["-Ctarget-feature=+crt-static", "-Clink-arg=-Wl,-z,pack-relative-relocs"];
const MOST_BYTES: u64 = 40_000_000;

#[cfg(test)]
mod tests {
    use super::{BINARY, NAME, library};

    #[test]
    fn the_container_file_makes_the_same_image() {
        let file = include_str!("../../deploy/Containerfile");
        assert!(file.contains(&format!("-t {NAME} ")), "it names another image than {NAME}");
        assert!(file.contains(&format!("/weft/{BINARY} /weft\n")), "it copies another file than {BINARY}");
        assert!(file.ends_with("ENTRYPOINT [\"/weft\"]\n"));
    }

    #[test]
    fn libraries_are_where_the_linker_finds_them() {
        assert_eq!(
            library("\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)"),
            Some("/lib/x86_64-linux-gnu/libc.so.6")
        );
        assert_eq!(library("\t/lib64/ld-linux-x86-64.so.2 (0x00007f)"), Some("/lib64/ld-linux-x86-64.so.2"));
        assert_eq!(library("\tlinux-vdso.so.1 (0x00007f)"), None);
    }

    #[test]
    fn what_is_installed_names_the_same_image() {
        let source = include_str!("../../userspace/cli/src/install.rs");
        let name = NAME.replace(env!("CARGO_PKG_VERSION"), "\", env!(\"CARGO_PKG_VERSION\"))");
        assert!(source.contains(&format!("concat!(\"{name}")), "it names another image than {NAME}");
    }
}
