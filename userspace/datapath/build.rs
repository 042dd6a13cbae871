//! Builds the eBPF object that this crate carries, `$OUT_DIR/weft.bpf.o`.
//!
//! `WEFT_EBPF=build` compiles package `weft-ebpf` for the BPF target with the toolchain that `cargo xtask setup`
//! recorded; `WEFT_EBPF=stub` writes an empty object, which the loader refuses by name, so that check, clippy and unit
//! tests need no BPF toolchain. Unset means build once the toolchain is recorded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

fn main() -> ExitCode {
    let root = Path::new(&variable("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the workspace exists");
    let object = Path::new(&variable("OUT_DIR")).join("weft.bpf.o");
    println!("cargo::rerun-if-env-changed=WEFT_EBPF");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", root.join(ROUTE).display());

    let route = read_route(&root.join(ROUTE));
    let wish = env::var_os("WEFT_EBPF").map(|wish| wish.to_string_lossy().into_owned());
    let result = match (wish.as_deref(), route) {
        (Some("stub"), _) | (None, None) => {
            fs::write(&object, []).map_err(|error| format!("write the stub: {error}"))
        }
        (Some("build") | None, Some(route)) => build(&root, &route, &object),
        (Some("build"), None) => {
            Err("WEFT_EBPF=build needs a BPF toolchain: run `cargo xtask setup`".to_owned())
        }
        (Some(other), _) => Err(format!("WEFT_EBPF={other}: expected `build` or `stub`")),
    };
    let Err(error) = result else { return ExitCode::SUCCESS };
    eprintln!("{error}");
    ExitCode::FAILURE
}

/// What `cargo xtask setup` found: `rustc`, and the `cargo` that belongs to it if not ours.
///
/// Without a toolchain the file is made, empty: cargo would run this script before every build to watch for a file
/// that does not exist.
fn read_route(path: &Path) -> Option<BTreeMap<String, String>> {
    let Ok(text) = fs::read_to_string(path) else {
        fs::create_dir_all(path.parent().expect("ROUTE has a folder")).expect("target is ours to write");
        fs::write(path, "").expect("target is ours to write");
        return None;
    };
    let fields = text.lines().filter_map(|line| line.split_once('='));
    let fields: BTreeMap<_, _> = fields.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    fields.contains_key("rustc").then_some(fields)
}

fn build(root: &Path, route: &BTreeMap<String, String>, object: &Path) -> Result<(), String> {
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    let endian = if variable("CARGO_CFG_TARGET_ENDIAN") == "big" { "eb" } else { "el" };
    let target = format!("bpf{endian}-unknown-none");
    // A target directory of its own: the outer cargo holds the lock of the usual one while this script runs.
    let target_dir = root.join("target/ebpf");
    let output = inner_cargo(root, route)
        .args(["build", "--package", "weft-ebpf", "--profile", "bpf"])
        .args(["-Z", "build-std=core", "--target", &target])
        .arg("--target-dir")
        .arg(&target_dir)
        .output()
        .map_err(|error| {
            format!("start the recorded cargo: {error}; `cargo xtask setup` looks for it anew")
        })?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("weft-ebpf did not build (`WEFT_EBPF=stub` goes without it)\n\n{said}"));
    }
    for warning in said.lines().filter(|line| line.starts_with("warning: ")) {
        println!("cargo::warning=weft-ebpf: {warning}");
    }
    let built = target_dir.join(&target).join("bpf/weft-ebpf");
    fs::copy(&built, object).map(drop).map_err(|error| format!("copy {}: {error}", built.display()))
}

/// A cargo that knows nothing of the build it runs in, but shares its job slots.
fn inner_cargo(root: &Path, route: &BTreeMap<String, String>) -> Command {
    let cargo = route.get("cargo").map_or_else(|| PathBuf::from(variable("CARGO")), PathBuf::from);
    let tools = root.join("target/tools/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(std::iter::once(tools).chain(env::split_paths(&path)))
        .expect("PATH was valid before");
    let flags = [
        format!("--cfg=bpf_target_arch=\"{}\"", variable("CARGO_CFG_TARGET_ARCH")),
        "-Ctarget-cpu=v3".to_owned(), // atomics that return a value (kernel 5.12), 32-bit registers
        "-Cdebuginfo=2".to_owned(),   // BTF is made from it: field names in `bpftool map dump`
        "-Clink-arg=--btf".to_owned(),
        // Or every memset and memcpy is a call of a loop over bytes, and a word read from them waits for its bytes.
        "-Clink-arg=--disable-expand-memcpy-in-order".to_owned(),
    ];
    let mut command = Command::new(cargo);
    for name in OUTER {
        command.env_remove(name);
    }
    command
        .current_dir(root)
        .env("PATH", path)
        .env("RUSTC", &route["rustc"])
        .env("RUSTC_BOOTSTRAP", "1") // `-Z build-std` on a stable compiler
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    command
}

fn variable(name: &str) -> String {
    let value = env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name} for build scripts"));
    value.into_string().unwrap_or_else(|_| panic!("{name} is not UTF-8"))
}

const ROUTE: &str = "target/tools/route";
const SOURCES: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "ebpf/abi/Cargo.toml",
    "ebpf/abi/src",
    "ebpf/logic/Cargo.toml",
    "ebpf/logic/src",
    "ebpf/programs",
];
/// What the outer cargo, rustup's proxy or clippy set for this build and would mislead the inner one.
const OUTER: &[&str] = &[
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_TARGET",
    "LD_LIBRARY_PATH",
    "RUSTC_LINKER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOC",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
    "TARGET",
];
