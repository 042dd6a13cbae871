//! Images on the nodes: those that every cluster needs, packed of the parts, and what a developer brings.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result};

use super::node::Node;
use super::{IMAGES, parts};
use crate::image::Image;
use crate::{screen, shell};

/// Packs the images that every cluster needs, where the program is newer, and brings them to nodes that lack one.
pub(super) fn provide(nodes: &[Node]) -> Result<()> {
    for (name, program) in [(PAUSE, "pause"), (COREDNS, "coredns"), (HELLO, "hello")] {
        let archive = Path::new(IMAGES).join(format!("{program}.tar"));
        let (source, place) = (parts::bin(program)?, format!("/{program}"));
        if modified(&archive)? <= modified(&source)? {
            Image { name, programs: &[(&place, &source)], entrypoint: &[&place] }.write(&archive)?;
        }
        for node in nodes {
            if !images_on(node)?.lines().any(|image| image == name) {
                import(node, &archive)?;
            }
        }
    }
    Ok(())
}

/// Imports archives on every node.
pub(super) fn load(nodes: &[Node], archives: &[PathBuf]) -> Result<()> {
    for archive in archives {
        screen::step(format_args!("load {}", archive.display()), || {
            nodes.iter().try_for_each(|node| import(node, archive))
        })?;
    }
    Ok(())
}

/// None, which is before any time, where there is no such file.
fn modified(path: &Path) -> Result<Option<SystemTime>> {
    match fs::metadata(path).and_then(|metadata| metadata.modified()) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        time => time.with_context(|| format!("look at {}", path.display())).map(Some),
    }
}

/// By its standard input: the node may not see where the archive lies.
fn import(node: &Node, archive: &Path) -> Result<()> {
    let file = File::open(archive).with_context(|| format!("open {}", archive.display()))?;
    let mut ctr = ctr(node)?;
    ctr.args(["images", "import", "-"]).stdin(file);
    shell::capture(&mut ctr)
        .map(drop)
        .with_context(|| format!("import {} on {}", archive.display(), node.name()))
}

fn images_on(node: &Node) -> Result<String> {
    shell::capture(ctr(node)?.args(["images", "list", "--quiet"]))
}

fn ctr(node: &Node) -> Result<Command> {
    let mut ctr = node.running()?.enter(parts::bin("ctr")?);
    ctr.args(["--namespace", "k8s.io"]);
    Ok(ctr)
}

/// What kubelets know as the program that holds a pod's namespaces.
pub(super) const PAUSE: &str = "registry.k8s.io/pause:3.10.1";
pub(super) const COREDNS: &str = "registry.k8s.io/coredns/coredns:v1.12.4";
/// What two pods need to try the network between them.
pub(super) const HELLO: &str = "weft.dev/cluster/hello:v1";
