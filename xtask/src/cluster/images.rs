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
    for Packed { image, program, entrypoint } in ALL {
        let archive = archive(image);
        let source = parts::bin(program)?;
        if modified(&archive)? <= modified(&source)? {
            let programs = &[(entrypoint[0], source.as_path())];
            Image { name: image, programs, entrypoint }.write(&archive)?;
        }
        for node in nodes {
            if !images_on(node)?.lines().any(|there| there == *image) {
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

/// Named like the image, without registry and tag.
fn archive(image: &str) -> PathBuf {
    let name = image.rsplit('/').next().and_then(|name| name.split(':').next()).unwrap_or(image);
    Path::new(IMAGES).join(format!("{name}.tar"))
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

/// An image of one of the parts. The first word of its entry point is where the program lies.
struct Packed {
    image: &'static str,
    program: &'static str,
    entrypoint: &'static [&'static str],
}

const ALL: &[Packed] = &[
    Packed { image: PAUSE, program: "pause", entrypoint: &["/pause"] },
    Packed { image: COREDNS, program: "coredns", entrypoint: &["/coredns"] },
    Packed { image: HELLO, program: "hello", entrypoint: &["/hello"] },
    // The suite calls `client` in the containers that serve.
    Packed { image: ECHO_OF_THE_SUITE, program: "echo", entrypoint: &["/client", "serve"] },
    Packed { image: ECHO, program: "echo", entrypoint: &["/client", "serve"] },
];
/// What kubelets know as the program that holds a pod's namespaces.
pub(super) const PAUSE: &str = "registry.k8s.io/pause:3.10.1";
pub(super) const COREDNS: &str = "registry.k8s.io/coredns/coredns:v1.12.4";
/// What two pods need to try the network between them.
pub(super) const HELLO: &str = "weft.dev/cluster/hello:v1";
/// What the tests of the cluster tier have their pods of.
const ECHO: &str = "weft.dev/cluster/echo:v1";
/// What the Gateway API's conformance suite has its pods of. This one is ours; it does what the suite asks of the other.
const ECHO_OF_THE_SUITE: &str = "registry.k8s.io/gateway-api/echo-advanced:v1.5.1";
