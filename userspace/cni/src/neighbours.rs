//! Other plugins that want what weft wants: pods' connections, or the network's configuration for themselves.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{Refused, conflist, install::networks};

/// A plugin beside which something is to be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The type that it has in the list.
    pub plugin: String,
    /// Where it stands.
    pub file: PathBuf,
    /// What it does.
    pub what: What,
}

/// What a plugin does that concerns weft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It redirects pods' connections to the mesh of this name.
    Redirects(&'static str),
    /// It may take others out of the configuration.
    WritesAlone,
}

/// Those of the networks in `conf_dir`.
pub fn neighbours(conf_dir: &Path) -> Result<Vec<Neighbour>, Refused> {
    let mut found = Vec::new();
    for file in networks(conf_dir)? {
        let text = fs::read_to_string(&file).unwrap_or_default();
        for plugin in conflist::plugins(&text).unwrap_or_default() {
            if let Some((_, what)) = KNOWN.iter().find(|(name, _)| *name == plugin) {
                found.push(Neighbour { plugin, file: file.clone(), what: *what });
            }
        }
    }
    Ok(found)
}

const KNOWN: [(&str, What); 5] = [
    ("istio-cni", What::Redirects("Istio")),
    ("linkerd-cni", What::Redirects("Linkerd")),
    ("kuma-cni", What::Redirects("Kuma")),
    ("kmesh-cni", What::Redirects("Kmesh")),
    ("cilium-cni", What::WritesAlone),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_of_other_meshes_are_told_from_those_that_make_the_network() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write(
            "05-cilium.conflist",
            r#"{"name": "c", "plugins": [{"type": "cilium-cni"}, {"type": "istio-cni"}]}"#,
        );
        write(
            "10-flannel.conflist",
            r#"{"name": "f", "plugins": [{"type": "flannel"}, {"type": "weft-cni"}]}"#,
        );
        write("99-broken.conflist", "{");
        let found = neighbours(folder.path()).unwrap();
        let found: Vec<_> = found.iter().map(|one| (one.plugin.as_str(), one.what)).collect();
        assert_eq!(found, [("cilium-cni", What::WritesAlone), ("istio-cni", What::Redirects("Istio"))]);
        assert_eq!(neighbours(&folder.path().join("nothing")).unwrap(), []);
    }
}
