//! `cargo xtask profile`: tells the compiler how often which code runs (profile-guided optimisation).
//!
//! ```text
//! instrumented weft ──► the short benches are its load ──► counters ──► deploy/profile/<rustc>.profdata ──► every release build
//! ```
//! What a request costs is mostly code that the CPU has to fetch: a fifth of it goes when what runs lies together. The profile is
//! committed, so that a release is built without root and without load, and twice the same. It is of one compiler, by whose
//! names it knows functions; a function that has changed since is compiled as without. Make it anew with each compiler, before
//! a release, and whenever `bench l7` shows less.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{build, repo, screen, setup, shell};

/// Has a release build of `cargo`, which names its target, use the profile of this compiler, if there is one; `more` are other
/// flags of rustc.
pub(crate) fn apply(cargo: &mut Command, more: &[&str]) -> Result<()> {
    let profile = file()?;
    let mut flags: Vec<String> = more.iter().map(|flag| (*flag).to_owned()).collect();
    if profile.is_file() {
        flags.push(format!("-Cprofile-use={}", repo::absolute(&profile)?.display()));
        // A line for each function that has changed since would be most of what a build says.
        flags.push("-Cllvm-args=-no-pgo-warn-mismatch".to_owned());
    } else {
        screen::note(format_args!(
            "there is no {}: what is built is slower (`cargo xtask profile`)",
            profile.display()
        ));
    }
    with_flags(cargo, &flags);
    Ok(())
}

/// Makes the profile of this compiler.
pub(crate) fn run() -> Result<()> {
    setup::run()?;
    let merge = llvm_profdata()?;
    let raw = repo::absolute(RAW)?;
    // Counters of another build would be added to.
    let _ = fs::remove_dir_all(&raw);
    fs::create_dir_all(&raw).with_context(|| format!("create {RAW}"))?;
    let weft = instrumented(&raw)?;
    load(&weft)?;
    let profile = file()?;
    fs::create_dir_all(FOLDER).with_context(|| format!("create {FOLDER}"))?;
    let mut merging = Command::new(merge);
    merging.args(["merge", "--sparse", "-o"]).arg(&profile).arg(&raw);
    shell::run(&mut merging)?;
    screen::note(format_args!("{} is to be committed; those of other compilers may go", profile.display()));
    Ok(())
}

fn instrumented(raw: &Path) -> Result<PathBuf> {
    screen::title("build weft (release, instrumented)");
    let (started, host) = (Instant::now(), shell::host()?);
    let mut cargo = shell::cargo();
    cargo.args(["build", "--release", "--package", "weft", "--bin", "weft", "--target", &host]);
    cargo.args(["--target-dir", BUILT]).env_remove("WEFT_EBPF");
    with_flags(&mut cargo, &[format!("-Cprofile-generate={}", raw.display())]);
    shell::run(&mut cargo)?;
    screen::done("built weft (release, instrumented)", started.elapsed());
    repo::absolute(Path::new(BUILT).join(host).join("release/weft"))
}

/// All that weft is fast at: what is not called here is taken for what is never called, and made small.
fn load(weft: &Path) -> Result<()> {
    let loads: [(&str, &[&str]); 3] =
        [("l7", &["--quick", "--paths", "weft"]), ("mtls", &["--quick"]), ("l4", &["--quick"])];
    let names = loads.map(|(name, _)| name);
    let built = build::release(&[&["weft-test-helper"], &names[..]].concat())?;
    for (name, args) in loads {
        screen::title(format_args!("load: bench {name} {}", args.join(" ")));
        shell::run(Command::new(built.binary(name)?).args(args).env("WEFT_BIN", weft))?;
    }
    Ok(())
}

/// The profile of this compiler.
fn file() -> Result<PathBuf> {
    Ok(Path::new(FOLDER).join(format!("rustc-{}.profdata", shell::rustc("release")?)))
}

/// One of the compiler's LLVM: rustup's, or Debian's.
fn llvm_profdata() -> Result<PathBuf> {
    let version = shell::rustc("LLVM version")?;
    let major = version.split('.').next().unwrap_or(&version);
    let root = shell::capture(Command::new("rustc").args(["--print", "sysroot"]))?;
    let of_rustup = Path::new(root.trim()).join("lib/rustlib").join(shell::host()?).join("bin/llvm-profdata");
    let of_debian = PathBuf::from(format!("/usr/lib/llvm-{major}/bin/llvm-profdata"));
    match [of_rustup, of_debian].into_iter().find(|path| path.is_file()) {
        Some(found) => Ok(found),
        None => bail!("there is no llvm-profdata of LLVM {major}: `rustup component add llvm-tools`"),
    }
}

/// Behind those that the caller has in RUSTFLAGS, which this takes the place of.
fn with_flags(cargo: &mut Command, flags: &[String]) {
    let before = env::var_os("RUSTFLAGS").unwrap_or_default().to_string_lossy().into_owned();
    let all: Vec<&str> = before.split_whitespace().chain(flags.iter().map(String::as_str)).collect();
    cargo.env("CARGO_ENCODED_RUSTFLAGS", all.join("\x1f"));
}

const FOLDER: &str = "deploy/profile";
const BUILT: &str = "target/profile/build";
const RAW: &str = "target/profile/raw";
