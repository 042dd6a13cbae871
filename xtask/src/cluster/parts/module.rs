//! A Go module of ours that pins what it builds, and the stamp that says of which pins the result was made.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest as _, Sha256};

use super::super::BIN;
use crate::{repo, shell};

/// One part.
pub(super) struct Module {
    /// Below `xtask/src/cluster`.
    pub(super) folder: &'static str,
    pub(super) what: &'static str,
    /// How long, for who waits for it.
    pub(super) takes: &'static str,
    /// The programs, as Go names packages.
    pub(super) packages: &'static [&'static str],
    /// What lies in the folder of the parts afterwards.
    pub(super) makes: &'static [&'static str],
    pub(super) ldflags: &'static [&'static str],
    /// Build tags of a program that is partly written in C; else it is built without C, and static.
    pub(super) c_with_tags: Option<&'static str>,
}

impl Module {
    /// Builds the programs into the folder of the parts.
    pub(super) fn build(&self) -> Result<()> {
        let mut go = self.go();
        go.args(["build", "-mod=readonly", "-trimpath", "-buildvcs=false"]);
        go.arg("-ldflags").arg(self.linked()).args(self.c_with_tags.map(|tags| format!("-tags={tags}")));
        // A folder, for Go: the programs keep their packages' names.
        go.arg("-o").arg(repo::absolute(BIN)?.join("")).args(self.packages);
        self.logged(&mut go)
    }

    /// Builds the tests of the only package as a program.
    pub(super) fn build_test(&self, to: &Path) -> Result<()> {
        let mut go = self.go();
        go.args(["test", "-c", "-mod=readonly", "-trimpath", "-buildvcs=false"]);
        self.logged(go.arg("-ldflags").arg(self.linked()).arg("-o").arg(to).args(self.packages))
    }

    /// Copies the YAML files of `folder` in the module `module`, which is among what is pinned.
    pub(super) fn copy(&self, module: &str, folder: &str, to: &Path) -> Result<()> {
        self.logged(self.go().args(["mod", "download", module]))?;
        let source = shell::capture(self.go().args(["list", "-m", "-f", "{{.Dir}}", module]))?;
        let source = Path::new(source.trim()).join(folder);
        let _ = fs::remove_dir_all(to);
        fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
        for entry in fs::read_dir(&source).with_context(|| format!("list {}", source.display()))? {
            let file = entry.with_context(|| format!("list {}", source.display()))?.path();
            if let (Some("yaml"), Some(name)) =
                (file.extension().and_then(|word| word.to_str()), file.file_name())
            {
                // The module cache is read-only, and a copy would be, too.
                let content = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
                fs::write(to.join(name), content).with_context(|| format!("copy {}", file.display()))?;
            }
        }
        Ok(())
    }

    /// The digest of everything that decides what the build makes.
    pub(super) fn stamp(&self) -> Result<Stamp> {
        self.stamp_below(Path::new(MODULES))
    }

    fn stamp_below(&self, modules: &Path) -> Result<Stamp> {
        let mut digest = Sha256::new();
        for file in files_below(&modules.join(self.folder))? {
            digest.update(file.file_name().unwrap_or_default().as_encoded_bytes());
            digest.update(fs::read(&file).with_context(|| format!("read {}", file.display()))?);
        }
        let words = [self.packages, self.makes, self.ldflags].concat();
        digest.update(format!("{words:?} {:?}", self.c_with_tags));
        Ok(Stamp(format!("{:x}", digest.finalize())))
    }

    fn path(&self) -> PathBuf {
        Path::new(MODULES).join(self.folder)
    }

    fn linked(&self) -> String {
        ["-s", "-w"].iter().chain(self.ldflags).copied().collect::<Vec<_>>().join(" ")
    }

    fn go(&self) -> Command {
        let mut go = Command::new("go");
        go.current_dir(self.path());
        // The compiler that is here: it may be told to download no other.
        go.env("GOTOOLCHAIN", "local").env("CGO_ENABLED", if self.c_with_tags.is_some() { "1" } else { "0" });
        go
    }

    fn logged(&self, go: &mut Command) -> Result<()> {
        fs::create_dir_all(BIN).with_context(|| format!("create {BIN}"))?;
        shell::logged(go, &repo::absolute(BIN)?.join(format!("log/{}.log", self.folder)))
    }
}

/// Of what something was built.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stamp(String);

impl Stamp {
    /// One for several parts.
    pub(super) fn of_all(stamps: &[Self]) -> Self {
        let all: String = stamps.iter().map(|stamp| stamp.0.as_str()).collect();
        Self(format!("{:x}", Sha256::digest(all)))
    }

    /// Whether all that the module makes is there, and of these pins.
    pub(super) fn is_set(&self, module: &Module) -> Result<bool> {
        let all_there = module.makes.iter().all(|name| Path::new(BIN).join(name).exists());
        Ok(all_there && fs::read_to_string(Self::path(module)?).is_ok_and(|built| built == self.0))
    }

    /// Notes that the module was built of these pins.
    pub(super) fn set(&self, module: &Module) -> Result<()> {
        let path = Self::path(module)?;
        fs::write(&path, &self.0).with_context(|| format!("write {}", path.display()))
    }

    /// Before a build: what is interrupted must not pass for what was there before.
    pub(super) fn clear(module: &Module) -> Result<()> {
        let path = Self::path(module)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    fn path(module: &Module) -> Result<PathBuf> {
        let first = module.makes.first().context("every module makes something")?;
        Ok(Path::new(BIN).join(format!(".{first}.stamp")))
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// In one order on every machine.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).with_context(|| format!("list {}", next.display()))? {
            let path = entry.with_context(|| format!("list {}", next.display()))?.path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    Ok(found)
}

const MODULES: &str = "xtask/src/cluster";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Module, Stamp};

    const RUNC: Module = Module {
        folder: "runc",
        what: "",
        takes: "",
        packages: &["github.com/opencontainers/runc"],
        makes: &["runc"],
        ldflags: &[],
        c_with_tags: None,
    };

    fn stamp(module: &Module) -> Stamp {
        module.stamp_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cluster")).unwrap()
    }

    #[test]
    fn a_stamp_changes_with_the_pins_and_with_the_flags() {
        let stamps = [
            stamp(&RUNC),
            stamp(&Module { folder: "coredns", ..RUNC }),
            stamp(&Module { c_with_tags: Some("seccomp"), ..RUNC }),
            stamp(&Module { ldflags: &["-X main.version=1"], ..RUNC }),
        ];
        for (number, one) in stamps.iter().enumerate() {
            assert!(stamps[number + 1..].iter().all(|other| one != other));
        }
    }

    #[test]
    fn a_stamp_does_not_change_by_itself() {
        assert_eq!(stamp(&RUNC), stamp(&Module { what: "shown to people", takes: "a while", ..RUNC }));
    }
}
