//! Which way is taken, by what a host has.

use std::path::PathBuf;

use anyhow::{Result, anyhow};

use super::{DEBIAN_RUSTC, Nightly, Route, Way, decide, of_debian};
use crate::setup::packages::{Installer, check_can_install};

/// One that lacks nothing.
fn nightly(name: &str) -> Nightly {
    Nightly {
        name: name.to_owned(),
        rustc: PathBuf::from(format!("/rustup/{name}/bin/rustc")),
        cargo: None,
        llvm: Some(22),
        has_source: true,
        has_llvm: true,
    }
}

fn taken(nightlies: &[Nightly], debian: Result<()>) -> String {
    match decide(nightlies, || debian) {
        Ok(Way::Nightly(Route { name, .. })) => name,
        Ok(Way::Debian) => "debian".to_owned(),
        Err(error) => format!("{error:#}"),
    }
}

#[test]
fn the_newest_nightly_that_lacks_nothing_is_taken_and_debian_is_not_even_asked() {
    let both = [nightly("nightly-2026-10-01"), nightly("nightly-2026-11-01")];
    let asked = || -> Result<()> { panic!("a nightly will do") };
    let Ok(Way::Nightly(route)) = decide(&both, asked) else { panic!("there are two") };
    assert_eq!((route.name.as_str(), route.llvm), ("nightly-2026-11-01", 22));
    assert_eq!(route.rustc, PathBuf::from("/rustup/nightly-2026-11-01/bin/rustc"));
}

#[test]
fn a_nightly_that_lacks_something_gives_way_and_says_what_it_lacks() {
    let lacking: [(Nightly, &str); 4] = [
        (
            Nightly { has_source: false, ..nightly("nightly-2026-11-01") },
            "nightly-2026-11-01 has no rust-src: `rustup component add rust-src --toolchain nightly-2026-11-01`",
        ),
        (Nightly { has_llvm: false, ..nightly("nightly-2026-11-01") }, "no llvm-22-dev is installed for it"),
        (
            Nightly { llvm: Some(19), ..nightly("nightly-2026-11-01") },
            "nightly-2026-11-01 uses LLVM 19; bpf-linker 0.13.0 knows [21, 22, 23]",
        ),
        (Nightly { llvm: None, ..nightly("nightly-2026-11-01") }, "does not say its LLVM"),
    ];
    for (newest, lack) in lacking {
        assert!(newest.lacks().is_some_and(|said| said.contains(lack)), "{lack}: {:?}", newest.lacks());
        let both = [nightly("nightly-2026-10-01"), newest];
        assert_eq!(taken(&both, Err(anyhow!("not asked"))), "nightly-2026-10-01", "{lack}");
        assert_eq!(taken(&both[1..], Ok(())), "debian", "{lack}");
    }
    assert_eq!(taken(&[], Ok(())), "debian");
}

#[test]
fn a_host_that_neither_way_can_serve_is_told_both_and_what_is_in_the_way() {
    let sourceless = Nightly { has_source: false, ..nightly("nightly-2026-11-01") };
    for (installer, obstacle) in [
        (Installer::None, "this host has no apt-get: install their equals with its own package manager"),
        (Installer::NotOurs, "run `sudo apt-get install rustc-web rust-web-src`, or this command as root"),
    ] {
        let said = taken(
            std::slice::from_ref(&sourceless),
            check_can_install(&["rustc-web", "rust-web-src"], installer),
        );
        for part in [
            "no BPF toolchain",
            "rustup toolchain install nightly -c rust-src",
            "the llvm-N-dev that `rustc +nightly -vV` names",
            "a Debian with bookworm-security's rustc-web",
            "nightly-2026-11-01 has no rust-src",
            "missing: rustc-web rust-web-src",
            obstacle,
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}

#[test]
fn debians_compiler_is_taken_unless_bpf_linker_knows_nothing_of_its_llvm() {
    let route = of_debian(DEBIAN_RUSTC.into(), 21).unwrap();
    assert_eq!((route.name.as_str(), route.llvm, route.cargo), ("debian", 21, None));
    let error = of_debian(DEBIAN_RUSTC.into(), 14).unwrap_err().to_string();
    assert!(error.contains("uses LLVM 14") && error.contains("upgrade rustc-web"), "{error}");
}
