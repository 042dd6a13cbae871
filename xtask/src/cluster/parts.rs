//! What the cluster consists of, built once into `target/cluster/bin` from Go modules that are pinned beside this file.
//!
//! Each part has a folder with a `go.mod`, which says which release, and a `go.sum`, which says what that and everything
//! below it contain. A part is built again when its folder or its flags change, and only then is Go asked for.

mod module;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{BIN, host};
use crate::{repo, screen};
use module::{Module, Stamp};

/// Builds what is missing or has other pins than those it was built of.
pub(super) fn provide() -> Result<()> {
    for module in &[KUBERNETES, CONTAINERD, RUNC, CNI, COREDNS, ECHO] {
        once(module, || module.build())?;
    }
    for name in COMPONENTS {
        link(name)?;
    }
    once(&GATEWAY_API, || GATEWAY_API.copy("sigs.k8s.io/gateway-api", CRDS, &bin(GATEWAY_CRDS)?))
}

/// Builds the Gateway API project's own conformance suite, and returns where the program is.
pub(super) fn conformance() -> Result<PathBuf> {
    once(&CONFORMANCE, || CONFORMANCE.build_test(&bin(CONFORMANCE_TEST)?))?;
    bin(CONFORMANCE_TEST)
}

/// Builds Helm, which users may install by, and returns where it is.
pub(super) fn helm() -> Result<PathBuf> {
    once(&HELM, || HELM.build())?;
    bin("helm")
}

/// The absolute path of what is called `name` among the parts.
pub(super) fn bin(name: &str) -> Result<PathBuf> {
    repo::absolute(Path::new(BIN).join(name))
}

/// One value for all that the running cluster may have been started from.
pub(super) fn version() -> Result<String> {
    let stamps = [KUBERNETES, CONTAINERD, RUNC, CNI, COREDNS, ECHO, GATEWAY_API].map(|module| module.stamp());
    let stamps: Result<Vec<Stamp>> = stamps.into_iter().collect();
    Ok(Stamp::of_all(&stamps?).to_string())
}

/// Runs `build` unless it was run for the same pins.
fn once(module: &Module, build: impl FnOnce() -> Result<()>) -> Result<()> {
    let stamp = module.stamp()?;
    if stamp.is_set(module)? {
        return Ok(());
    }
    host::check_compiler()?;
    screen::note(format_args!("building {} ({}) ...", module.what, module.takes));
    Stamp::clear(module)?;
    screen::step(module.what, build)?;
    stamp.set(module)
}

/// `components` is every component: which one, its name says.
fn link(name: &str) -> Result<()> {
    let link = bin(name)?;
    if fs::read_link(&link).is_ok_and(|target| target == Path::new("components")) {
        return Ok(());
    }
    let _ = fs::remove_file(&link);
    symlink("components", &link).with_context(|| format!("link {}", link.display()))
}

const COMPONENTS: [&str; 6] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"];
/// The folder of the Gateway API's CRDs among the parts.
pub(super) const GATEWAY_CRDS: &str = "gateway-api";
const CRDS: &str = "config/crd/experimental";
const CONFORMANCE_TEST: &str = "conformance.test";

const KUBERNETES: Module = Module {
    folder: "kubernetes",
    what: "Kubernetes 1.36.3: etcd, API server, controllers, scheduler, kubelet, kube-proxy, kubectl",
    takes: "5 minutes",
    packages: &["./..."],
    makes: &["components", "kubectl", "pause", "hello"],
    ldflags: &[
        "-X k8s.io/component-base/version.gitVersion=v1.36.3",
        "-X k8s.io/component-base/version.gitMajor=1",
        "-X k8s.io/component-base/version.gitMinor=36",
    ],
    c_with_tags: None,
};
const CONTAINERD: Module = Module {
    folder: "containerd",
    what: "containerd 2.2.7",
    takes: "a minute or two",
    packages: &[
        "github.com/containerd/containerd/v2/cmd/containerd",
        "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
        "github.com/containerd/containerd/v2/cmd/ctr",
    ],
    makes: &["containerd", "containerd-shim-runc-v2", "ctr"],
    ldflags: &[],
    c_with_tags: None,
};
const RUNC: Module = Module {
    folder: "runc",
    what: "runc 1.3.6",
    takes: "half a minute",
    packages: &["github.com/opencontainers/runc"],
    makes: &["runc"],
    ldflags: &[],
    c_with_tags: Some("seccomp"),
};
const CNI: Module = Module {
    folder: "cni",
    what: "CNI plugins 1.9.1",
    takes: "half a minute",
    packages: &[
        "github.com/containernetworking/plugins/plugins/ipam/host-local",
        "github.com/containernetworking/plugins/plugins/main/bridge",
        "github.com/containernetworking/plugins/plugins/main/loopback",
        "github.com/containernetworking/plugins/plugins/meta/portmap",
    ],
    makes: CNI_PLUGINS,
    ldflags: &[],
    c_with_tags: None,
};
/// What a node's `/opt/cni/bin` has to begin with.
pub(super) const CNI_PLUGINS: &[&str] = &["bridge", "host-local", "loopback", "portmap"];
const COREDNS: Module = Module {
    folder: "coredns",
    what: "CoreDNS 1.12.4",
    takes: "a minute or two",
    packages: &["github.com/coredns/coredns"],
    makes: &["coredns"],
    ldflags: &[],
    c_with_tags: None,
};
const ECHO: Module = Module {
    folder: "echo",
    what: "echo, both ends of requests, of Gateway API 1.6.3's calls",
    takes: "half a minute",
    packages: &["."],
    makes: &["echo"],
    ldflags: &[],
    c_with_tags: None,
};
const HELM: Module = Module {
    folder: "helm",
    what: "Helm 3.22.0",
    takes: "a minute or two",
    packages: &["helm.sh/helm/v3/cmd/helm"],
    makes: &["helm"],
    ldflags: &[],
    c_with_tags: None,
};
const GATEWAY_API: Module = Module {
    folder: "conformance",
    what: "CRDs of Gateway API 1.6.3",
    takes: "seconds",
    packages: &[],
    makes: &[GATEWAY_CRDS],
    ldflags: &[],
    c_with_tags: None,
};
const CONFORMANCE: Module = Module {
    what: "conformance suite of Gateway API 1.6.3",
    takes: "a minute or two",
    packages: &["."],
    makes: &[CONFORMANCE_TEST],
    ..GATEWAY_API
};

#[cfg(test)]
mod tests {
    use super::{CNI, CONTAINERD, COREDNS, ECHO, GATEWAY_API, HELM, KUBERNETES, RUNC};

    #[test]
    fn what_is_shown_is_what_is_pinned() {
        for (module, pins, path) in [
            (KUBERNETES, include_str!("kubernetes/go.mod"), "k8s.io/kubernetes"),
            (CONTAINERD, include_str!("containerd/go.mod"), "github.com/containerd/containerd/v2"),
            (RUNC, include_str!("runc/go.mod"), "github.com/opencontainers/runc"),
            (CNI, include_str!("cni/go.mod"), "github.com/containernetworking/plugins"),
            (COREDNS, include_str!("coredns/go.mod"), "github.com/coredns/coredns"),
            (HELM, include_str!("helm/go.mod"), "helm.sh/helm/v3"),
            (ECHO, include_str!("echo/go.mod"), "sigs.k8s.io/gateway-api/conformance"),
            (GATEWAY_API, include_str!("conformance/go.mod"), "sigs.k8s.io/gateway-api/conformance"),
        ] {
            let version = pins.lines().find_map(|line| line.split_once(&format!("{path} v"))).unwrap().1;
            assert!(module.what.contains(version), "{path} is {version}: {}", module.what);
            assert!(
                module.ldflags.first().is_none_or(|flag| flag.ends_with(version)),
                "{:?}",
                module.ldflags
            );
        }
    }
}
