//! `cargo xtask test --kernel`: the data-path tests, unmodified, on Debian's kernels in qemu.
//!
//! ```text
//! debian.rs: apt-get download + dpkg -x ─▶ initramfs.rs: busybox, tests, weft, modules ─▶ qemu.rs: boot, verdict
//! ```
//! Software emulation boots in seconds and runs 5 to 10 times slower than the host; it needs neither /dev/kvm nor a disk.

mod debian;
mod initramfs;
mod qemu;

use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::build::Built;
use crate::screen;
use crate::test::Counts;
use debian::Suite;

/// A kernel of the matrix.
struct Kernel {
    version: &'static str,
    /// A name, or the pattern of names of which the newest is taken.
    package: &'static str,
    suite: Suite,
    /// Else it may be missing: suites of old and very new kernels come and go.
    required: bool,
}

/// Refuses versions that are not in the matrix, before anything is built.
pub(crate) fn check_names(versions: &[String]) -> Result<()> {
    versions.iter().try_for_each(|version| find(version).map(drop))
}

/// Boots one kernel and runs the data-path tests there; none: Debian no longer has it.
pub(crate) fn run(version: &str, built: &Built, filters: &[&str]) -> Result<Option<Counts>> {
    let kernel = find(version)?;
    let image = debian::provide(kernel).with_context(|| format!("get kernel {version}"))?;
    let Some(image) = image else { return Ok(None) };
    let suite = built.tests.iter().find(|test| test.kind == "test" && test.target == SUITE);
    let suite =
        suite.with_context(|| format!("the tests have no target `{SUITE}` (tests/tests/{SUITE}.rs)"))?;
    let beside =
        [("bin/weft", built.binary("weft")?), ("bin/weft-test-helper", built.binary("weft-test-helper")?)];
    let initrd = initramfs::pack(version, &image, &suite.path, &beside, filters)
        .with_context(|| format!("pack the initramfs of kernel {version}"))?;
    let started = Instant::now();
    let outcome = qemu::boot(&image.vmlinuz, &initrd)?;
    let counts = outcome.counts();
    let boot = outcome
        .boot
        .map_or_else(|| "did not boot".to_owned(), |boot| format!("boot {}", screen::seconds(boot)));
    let what = format!("{}: {boot}, {counts}", image.release);
    if counts.failed == 0 {
        screen::done(what, started.elapsed());
    } else {
        screen::failed(format_args!("{what} ({})", outcome.end), started.elapsed());
    }
    Ok(Some(counts))
}

fn find(version: &str) -> Result<&'static Kernel> {
    if let Some(kernel) = KERNELS.iter().find(|kernel| kernel.version == version) {
        return Ok(kernel);
    }
    let known: Vec<&str> = KERNELS.iter().map(|kernel| kernel.version).collect();
    bail!("no kernel {version} in the matrix: it has {}", known.join(", "))
}

/// The test target that runs on every kernel.
const SUITE: &str = "datapath";

const BACKPORTS: Suite = Suite::Extra("http://deb.debian.org/debian trixie-backports main");
const KERNELS: &[Kernel] = &[
    Kernel {
        version: "5.10",
        package: "linux-image-5.10.0-*-cloud-amd64",
        suite: Suite::Extra("http://deb.debian.org/debian-security bullseye-security main"),
        required: false,
    },
    Kernel { version: "6.1", package: "linux-image-cloud-amd64", suite: Suite::Configured, required: true },
    Kernel {
        version: "6.12",
        package: "linux-image-6.12-cloud-amd64",
        suite: Suite::Configured,
        required: true,
    },
    Kernel { version: "6.18", package: "linux-image-6.18*-cloud-amd64", suite: BACKPORTS, required: false },
    Kernel { version: "7.2", package: "linux-image-7.2*-cloud-amd64", suite: BACKPORTS, required: false },
];

#[cfg(test)]
mod tests {
    use super::check_names;

    #[test]
    fn a_version_outside_the_matrix_is_refused_with_those_in_it() {
        let error = check_names(&["6.1".to_owned(), "5.15".to_owned()]).unwrap_err();
        assert_eq!(error.to_string(), "no kernel 5.15 in the matrix: it has 5.10, 6.1, 6.12, 6.18, 7.2");
    }
}
