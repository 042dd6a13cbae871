//! A container image as `docker save` writes one: a tar of the manifest, the configuration and the only layer.
//!
//! containerd, CRI-O's skopeo, docker and podman all read it. The same files make the same bytes: nothing in it tells of
//! when, where or by whom it was built.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

/// An image from scratch: programs that need no other file.
pub(crate) struct Image<'a> {
    /// Repository and tag, e.g. `ghcr.io/weft-mesh/weft:v0.1.0`.
    pub(crate) name: &'a str,
    /// Where each program is in the image, and where it is now.
    pub(crate) programs: &'a [(&'a str, &'a Path)],
    pub(crate) entrypoint: &'a [&'a str],
}

impl Image<'_> {
    /// Writes the archive, whole or not at all.
    pub(crate) fn write(&self, to: &Path) -> Result<()> {
        let layer = self.layer().with_context(|| format!("pack the layer of {}", self.name))?;
        let layer_digest = hex(&layer);
        let config = self.config(&layer_digest).to_string();
        let (config_name, layer_name) =
            (format!("{}.json", hex(config.as_bytes())), format!("{layer_digest}.tar"));
        let manifest =
            json!([{ "Config": config_name, "RepoTags": [self.name], "Layers": [layer_name] }]).to_string();
        if let Some(dir) = to.parent() {
            fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        }
        let draft = to.with_extension("draft");
        let file = File::create(&draft).with_context(|| format!("create {}", draft.display()))?;
        let mut tar = Builder::new(BufWriter::new(file));
        append(&mut tar, "manifest.json", 0o644, manifest.as_bytes())?;
        append(&mut tar, &config_name, 0o644, config.as_bytes())?;
        append(&mut tar, &layer_name, 0o644, &layer)?;
        let written = tar.into_inner().and_then(|mut file| file.flush());
        written.with_context(|| format!("write {}", draft.display()))?;
        fs::rename(&draft, to).with_context(|| format!("put {} in place", to.display()))
    }

    fn layer(&self) -> Result<Vec<u8>> {
        let mut tar = Builder::new(Vec::new());
        for (name, source) in self.programs {
            let program = fs::read(source).with_context(|| format!("read {}", source.display()))?;
            append(&mut tar, name.trim_start_matches('/'), 0o755, &program)?;
        }
        tar.into_inner().context("end the layer")
    }

    fn config(&self, layer_digest: &str) -> Value {
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        json!({
            "architecture": architecture,
            "os": "linux",
            "config": { "Entrypoint": self.entrypoint, "Env": ["PATH=/"], "WorkingDir": "/" },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer_digest}")] },
        })
    }
}

fn append<W: std::io::Write>(tar: &mut Builder<W>, name: &str, mode: u32, content: &[u8]) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(mode);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, name, content).with_context(|| format!("pack {name}"))
}

fn hex(content: &[u8]) -> String {
    format!("{:x}", Sha256::digest(content))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read as _;
    use std::path::{Path, PathBuf};

    use serde_json::Value;
    use tar::Archive;

    use super::{Image, hex};

    /// A folder of this test's own, removed with it.
    struct Folder(PathBuf);

    impl Folder {
        fn make(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("weft-xtask-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn write(folder: &Folder, program: &[u8]) -> Vec<u8> {
        let (source, archive) = (folder.0.join("program"), folder.0.join("image.tar"));
        fs::write(&source, program).unwrap();
        let image = Image {
            name: "example.com/pause:1",
            programs: &[("/bin/pause", &source)],
            entrypoint: &["/bin/pause"],
        };
        image.write(&archive).unwrap();
        fs::read(archive).unwrap()
    }

    fn entry(archive: &[u8], name: &str) -> Vec<u8> {
        let mut archive = Archive::new(archive);
        let mut entries = archive.entries().unwrap().map(Result::unwrap);
        let mut found = entries.find(|entry| entry.path().unwrap() == Path::new(name)).unwrap();
        let mut content = Vec::new();
        found.read_to_end(&mut content).unwrap();
        content
    }

    #[test]
    fn the_manifest_names_a_configuration_that_names_the_layer_by_its_digest() {
        let archive = write(&Folder::make("digests"), b"pauses");
        let manifest: Value = serde_json::from_slice(&entry(&archive, "manifest.json")).unwrap();
        assert_eq!(manifest[0]["RepoTags"][0], "example.com/pause:1");
        let config: Value =
            serde_json::from_slice(&entry(&archive, manifest[0]["Config"].as_str().unwrap())).unwrap();
        assert_eq!(config["config"]["Entrypoint"][0], "/bin/pause");
        let layer = entry(&archive, manifest[0]["Layers"][0].as_str().unwrap());
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", hex(&layer)));
        assert_eq!(entry(&layer, "bin/pause"), b"pauses");
    }

    #[test]
    fn programs_can_be_executed_and_carry_no_time() {
        let archive = write(&Folder::make("modes"), b"pauses");
        let manifest: Value = serde_json::from_slice(&entry(&archive, "manifest.json")).unwrap();
        let layer = entry(&archive, manifest[0]["Layers"][0].as_str().unwrap());
        let mut layer = Archive::new(layer.as_slice());
        let program = layer.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(program.header().mode().unwrap(), 0o755);
        assert_eq!(program.header().mtime().unwrap(), 0);
    }

    #[test]
    fn the_same_program_makes_the_same_archive_and_another_one_another() {
        let folder = Folder::make("same");
        let first = write(&folder, b"pauses");
        assert_eq!(first, write(&folder, b"pauses"));
        assert_ne!(first, write(&folder, b"sleeps"));
    }
}
