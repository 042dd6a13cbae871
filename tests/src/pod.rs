//! A pod: a network namespace on the fabric, a cgroup, and the manifest that says so.

mod builder;
mod manifest;
mod request;
mod sockets;

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, OnceLock};

use nix::mount::{MntFlags, umount2};
use weft_transport::Netns;

pub use builder::PodBuilder;
pub use manifest::PodManifest;
pub use request::SocketRequest;

use crate::fabric::{GATEWAY, GATEWAY6};
use crate::helper::Helper;
use crate::{Node, cgroup, command, sweep};

/// A running pod, or a process on a node's host network. It goes with its world.
pub struct Pod {
    node: Node,
    netns: String,
    cgroup: PathBuf,
    ip: Ipv4Addr,
    ip6: Ipv6Addr,
    manifest: Mutex<Option<PodManifest>>,
    helper: OnceLock<Helper>,
}

/// A command inside a pod, killed when dropped.
pub struct Running(Child);

impl Pod {
    pub(crate) fn on_host(node: &Node, group: &str) -> Self {
        Self::place(node.clone(), node.world.fabric.netns().into(), group, GATEWAY, GATEWAY6, None)
    }

    fn place(
        node: Node,
        netns: String,
        group: &str,
        ip: Ipv4Addr,
        ip6: Ipv6Addr,
        manifest: Option<PodManifest>,
    ) -> Self {
        let cgroup = node.cgroup().join(group);
        fs::create_dir_all(&cgroup)
            .unwrap_or_else(|error| panic!("cannot make {}: {error}", cgroup.display()));
        Self { node, netns, cgroup, ip, ip6, manifest: Mutex::new(manifest), helper: OnceLock::new() }
    }

    /// Its IPv4 address.
    pub fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    /// Its IPv6 address.
    pub fn ip6(&self) -> Ipv6Addr {
        self.ip6
    }

    /// A port of its IPv4 address.
    pub fn addr(&self, port: u16) -> SocketAddr {
        (self.ip, port).into()
    }

    /// A port of its IPv6 address.
    pub fn addr6(&self, port: u16) -> SocketAddr {
        (self.ip6, port).into()
    }

    /// The path of its network namespace.
    pub fn netns_path(&self) -> PathBuf {
        Path::new(sweep::NAMESPACES).join(&self.netns)
    }

    /// Its network namespace, opened.
    pub fn netns(&self) -> Netns {
        Netns::open(self.netns_path()).expect("the pod's namespace is there")
    }

    /// The group of its processes.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// Writes its manifest anew, after `change`, for every node.
    pub fn update(&self, change: impl FnOnce(&mut PodManifest)) {
        let mut manifest = self.manifest.lock().expect("no holder of this lock panics");
        let manifest = manifest.as_mut().expect("an outsider has no manifest");
        change(manifest);
        self.node.world.apply(&manifest.file(), &manifest.yaml());
    }

    /// Takes its manifest away from every node; the pod goes on running.
    pub fn forget(&self) {
        if let Some(manifest) = self.manifest.lock().expect("no holder of this lock panics").take() {
            self.node.world.remove(&manifest.file());
        }
    }

    /// Ends its processes and takes away its namespace's path; its manifest stays.
    pub fn vanish(self) {
        assert_ne!(self.netns, self.node.world.fabric.netns(), "the host network stays");
        drop(self.helper);
        cgroup::remove(&self.cgroup);
        let path = Path::new(sweep::NAMESPACES).join(&self.netns);
        umount2(&path, MntFlags::MNT_DETACH)
            .map_err(Into::into)
            .and_then(|()| fs::remove_file(&path))
            .unwrap_or_else(|error| panic!("cannot remove {}: {error}", path.display()));
    }

    /// Deletes the pod as Kubernetes does: manifest, processes, namespace.
    pub fn delete(self) {
        self.forget();
        self.vanish();
    }

    /// Runs a command inside the pod to its end.
    pub fn exec(&self, command: &[&str]) -> Output {
        let child = self.child(command, Stdio::piped(), Stdio::piped());
        child.wait_with_output().expect("a child can be waited for")
    }

    /// Starts a command inside the pod; its output goes to the test's.
    pub fn spawn(&self, command: &[&str]) -> Running {
        Running(self.child(command, Stdio::inherit(), Stdio::inherit()))
    }

    /// Starts the helper that [`crate::Rush`] reads.
    pub(crate) fn rush(&self, to: SocketAddr) -> Child {
        let helper = command::helper(["rush"]).get_program().to_string_lossy().into_owned();
        self.child(&[&helper, "rush", &to.to_string()], Stdio::piped(), Stdio::inherit())
    }

    fn child(&self, command: &[&str], stdout: Stdio, stderr: Stdio) -> Child {
        let mut helper: Command = command::helper(["exec".as_ref(), self.cgroup.as_os_str()]);
        helper.args(command).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        // A child begins in the network namespace of the thread that makes it.
        let child = self.netns().run(|| helper.spawn()).expect("root can enter a namespace");
        child.expect("the helper can be started")
    }
}

impl Running {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
