//! The crates of the workspace as `cargo metadata` sees them, and their source files.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::shell;

/// A crate of the workspace.
#[derive(Clone)]
pub(crate) struct Crate {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    /// `[lints] workspace = true`
    pub(crate) inherits_lints: bool,
    pub(crate) dependencies: Vec<Dependency>,
}

/// One line of a `[dependencies]` table.
#[derive(Clone, Deserialize)]
pub(crate) struct Dependency {
    /// The package's name, also where the crate renames it.
    pub(crate) name: String,
    pub(crate) optional: bool,
}

/// Asks cargo.
pub(crate) fn read() -> Result<Vec<Crate>> {
    let text = shell::capture(shell::cargo().args(["metadata", "--format-version=1", "--no-deps"]))?;
    let metadata: Metadata = serde_json::from_str(&text).context("parse the output of cargo metadata")?;
    metadata.packages.into_iter().map(Package::into_crate).collect()
}

impl Crate {
    /// Every Rust file below the crate's folder, without those of crates within.
    pub(crate) fn sources(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let mut folders = vec![self.folder.clone()];
        while let Some(next) = folders.pop() {
            for entry in fs::read_dir(&next).with_context(|| format!("list {}", next.display()))? {
                let path = entry.with_context(|| format!("list {}", next.display()))?.path();
                if path.is_dir() && !path.ends_with("target") && !path.join("Cargo.toml").exists() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    found.push(path);
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

impl Package {
    fn into_crate(self) -> Result<Crate> {
        let manifest = fs::read_to_string(&self.manifest_path)
            .with_context(|| format!("read {}", self.manifest_path.display()))?;
        Ok(Crate {
            name: self.name,
            folder: self.manifest_path.parent().unwrap_or(Path::new("")).to_path_buf(),
            inherits_lints: inherits_lints(&manifest),
            dependencies: self.dependencies,
        })
    }
}

/// cargo metadata does not tell, so the manifest's own lines do.
fn inherits_lints(manifest: &str) -> bool {
    let mut section = "";
    manifest.lines().map(str::trim).any(|line| {
        if line.starts_with('[') {
            section = line;
        }
        let inherits = |text: &str| text.split_whitespace().collect::<String>().starts_with("workspace=true");
        (section == "[lints]" && inherits(line)) || line.strip_prefix("lints.").is_some_and(inherits)
    })
}

#[cfg(test)]
mod tests {
    use super::inherits_lints;

    #[test]
    fn only_the_lints_table_can_inherit_lints() {
        assert!(inherits_lints("[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n"));
        assert!(inherits_lints("lints.workspace = true\n"));
        assert!(!inherits_lints("[lints]\n\n[dependencies.serde]\nworkspace = true\n"));
        assert!(!inherits_lints("[package]\nversion.workspace = true\n"));
    }
}
