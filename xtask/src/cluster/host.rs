//! Whether this host can carry the cluster, and what to do if not.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::setup::packages::{self, Package};
use crate::{repo, shell};

/// Refuses a host on which a cluster cannot run; installs what it can.
pub(super) fn check() -> Result<()> {
    check_all().context(ELSEWHERE)
}

/// Refuses a host that cannot build what a part is built of.
pub(super) fn check_compiler() -> Result<()> {
    compiler().context(ELSEWHERE)
}

/// Network namespaces, mounts and cgroups are the superuser's.
pub(super) fn check_root() -> Result<()> {
    let user = shell::capture(Command::new("id").arg("-u"))?;
    if user.trim() != "0" {
        bail!("the cluster's nodes are namespaces and cgroups of this machine: run this as root");
    }
    Ok(())
}

fn check_all() -> Result<()> {
    check_root()?;
    if !Path::new("/sys/fs/cgroup").is_dir() {
        bail!("no cgroups at /sys/fs/cgroup: mount cgroup2 there, or give this container the host's");
    }
    let here = repo::absolute("")?;
    if let Some(hidden) = HIDDEN.iter().find(|folder| here.starts_with(folder)) {
        bail!(
            "nodes have a {hidden} of their own and do not see {} there: move the repository",
            here.display()
        );
    }
    packages::provide(NEEDED)
}

fn compiler() -> Result<()> {
    let said = shell::capture(Command::new("go").arg("version").env("GOTOOLCHAIN", "local"));
    let said = said.context("building Kubernetes needs Go: install 1.26 or later, and have it in PATH")?;
    if minor_of(&said).is_none_or(|minor| minor < MIN_GO) {
        bail!("building Kubernetes needs Go 1.{MIN_GO} or later in PATH; there is {}", said.trim());
    }
    packages::provide(TO_BUILD)
}

/// Of `go version go1.26.8 linux/amd64`.
fn minor_of(said: &str) -> Option<u32> {
    let version = said.split_whitespace().find_map(|word| word.strip_prefix("go1."))?;
    version.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

const ELSEWHERE: &str =
    "a cluster cannot be had on this host (tests of the cluster tier take any other: KUBECONFIG=FILE)";
const MIN_GO: u32 = 26;
/// What a node has of its own, in place of the host's.
const HIDDEN: [&str; 4] = ["/run", "/var/run", "/var/lib", "/var/log"];

const NEEDED: &[Package] = &[
    Package { name: "iproute2", provides: "ip", what_for: "the nodes' network" },
    Package { name: "util-linux", provides: "nsenter", what_for: "the nodes' namespaces" },
    Package { name: "nftables", provides: "nft", what_for: "kube-proxy" },
    Package { name: "iptables", provides: "iptables", what_for: "kube-proxy's other mode, and kubelets" },
    Package { name: "openssl", provides: "openssl", what_for: "the cluster's certificates" },
];
const TO_BUILD: &[Package] = &[
    Package { name: "gcc", provides: "gcc", what_for: "building runc" },
    Package { name: "pkg-config", provides: "pkg-config", what_for: "building runc" },
    Package { name: "libseccomp-dev", provides: "/usr/include/seccomp.h", what_for: "building runc" },
];

#[cfg(test)]
mod tests {
    use super::minor_of;

    #[test]
    fn the_release_of_go_is_read_also_where_it_has_no_patch() {
        assert_eq!(minor_of("go version go1.26.8 linux/amd64\n"), Some(26));
        assert_eq!(minor_of("go version go1.27rc1 linux/amd64"), Some(27));
        assert_eq!(minor_of("go version go1.19 linux/arm64"), Some(19));
        assert_eq!(minor_of("go version devel"), None);
    }
}
