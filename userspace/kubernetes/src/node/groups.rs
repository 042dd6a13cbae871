//! The names that kubelets and container runtimes give to control groups.

/// The UID of the pod whose control group is called `name`, by either of the kubelet's cgroup drivers:
/// `kubepods-burstable-pod<uid, '_' for '-'>.slice` (systemd) or `pod<uid>` (cgroupfs). A containerd whose own driver is
/// the other one makes a folder of all that systemd would have made units of: `kubepods-...-pod<uid>.slice:cri-containerd:<id>`.
pub(super) fn pod(name: &str) -> Option<String> {
    let unit = name.split_once(".slice:").map(|(unit, _)| unit);
    let uid = match unit.or_else(|| name.strip_suffix(".slice")) {
        Some(slice) => {
            slice.rsplit_once("-pod").filter(|(parent, _)| is_of_pods(parent))?.1.replace('_', "-")
        }
        None => name.strip_prefix("pod")?.to_owned(),
    };
    // That of a static pod is a hash, without dashes.
    let plain = uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    (plain && (uid.len() == 36 || uid.len() == 32)).then_some(uid)
}

/// Whether the kubelet keeps pods somewhere below this control group: `kubepods`, `kubepods.slice`, and with a
/// `--cgroup-root` of the kubelet's `kubelet-kubepods.slice`.
pub(super) fn is_of_pods(name: &str) -> bool {
    name.contains("kubepods")
}

/// Whether what runs in there is no part of its pod: CRI-O's monitors are in the pod's group and in the host's namespaces.
pub(super) fn is_of_a_monitor(name: &str) -> bool {
    name.starts_with("crio-conmon-")
}

/// The UID of the pod that a process is in, by its `/proc/<pid>/cgroup`.
pub(super) fn pod_of(proc_cgroup: &str) -> Option<String> {
    let path = v2(proc_cgroup)?;
    let mut below = path.split('/').skip_while(|name| !is_of_pods(name));
    if below.clone().any(is_of_a_monitor) {
        return None;
    }
    below.find_map(pod)
}

/// The control group of a process in the v2 tree, by its `/proc/<pid>/cgroup`.
pub(super) fn v2(proc_cgroup: &str) -> Option<&str> {
    proc_cgroup.lines().find_map(|line| line.strip_prefix("0::"))
}

/// The control group of this process' node: what is above the kubelet's pods in the agent's own `/proc/self/cgroup`. `None` where
/// that does not show, as in a cgroup namespace of its own.
///
/// On one machine there may be several nodes, each with a tree of its own.
pub fn subtree(own_cgroup: &str) -> Option<&str> {
    above_pods(v2(own_cgroup)?)
}

/// What is above the kubelet's pods of a control group, of either version: `/n1` of `/n1/kubepods/burstable/pod.../...`. `None` of
/// one that is no pod's.
pub fn above_pods(path: &str) -> Option<&str> {
    if path.split('/').any(|name| name == "..") {
        return None;
    }
    let mut above = path;
    let pods = loop {
        let (parent, name) = above.rsplit_once('/')?;
        if is_of_pods(name) && !parent.split('/').any(is_of_pods) {
            above = parent;
            break name;
        }
        above = parent;
    };
    // systemd puts `a-b.slice` into `a.slice`: that one belongs to the pods, too.
    let mut slice = pods;
    while let Some((parent, _)) = slice.rsplit_once('-') {
        let Some(rest) = above.strip_suffix(&format!("/{parent}.slice")) else { break };
        (above, slice) = (rest, parent);
    }
    Some(if above.is_empty() { "/" } else { above })
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "3d1c5c52-0d5f-4c5e-9c07-6d1d4b6c8c11";
    const HASH: &str = "0b7c2a1d5e6f47788990aabbccddeeff";

    #[test]
    fn both_drivers_and_both_runtimes_name_the_pod() {
        let paths = [
            // containerd, systemd driver: burstable, guaranteed
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod3d1c5c52_0d5f_4c5e_9c07_6d1d4b6c8c11.slice/\
             cri-containerd-2f1e6b7a8c9d.scope",
            "/kubepods.slice/kubepods-pod3d1c5c52_0d5f_4c5e_9c07_6d1d4b6c8c11.slice/cri-containerd-2f1e6b7a8c9d.scope",
            // containerd of the cgroupfs driver, kubelet of the systemd driver
            "/system.slice/containerd.service/\
             kubepods-burstable-pod3d1c5c52_0d5f_4c5e_9c07_6d1d4b6c8c11.slice:cri-containerd:2f1e6b7a8c9d",
            // CRI-O, systemd driver
            "/kubepods.slice/kubepods-besteffort.slice/\
             kubepods-besteffort-pod3d1c5c52_0d5f_4c5e_9c07_6d1d4b6c8c11.slice/crio-9e8d7c.scope/container",
            // cgroupfs driver
            "/kubepods/burstable/pod3d1c5c52-0d5f-4c5e-9c07-6d1d4b6c8c11/2f1e6b7a8c9d",
            "/kubepods/pod3d1c5c52-0d5f-4c5e-9c07-6d1d4b6c8c11/crio-9e8d7c",
            // k3s and RKE2, whose containerd is a part of them
            "/kubepods.slice/kubepods-besteffort.slice/\
             kubepods-besteffort-pod3d1c5c52_0d5f_4c5e_9c07_6d1d4b6c8c11.slice/cri-containerd-2f1e6b7a8c9d.scope/init",
            // kind: a node in a container, --cgroup-root=/kubelet
            "/docker/ab12/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/\
             kubelet-kubepods-besteffort-pod3d1c5c52_0d5f_4c5e_9c07_6d1d4b6c8c11.slice/cri-containerd-2f1e.scope",
            // seen from a cgroup namespace of its own
            "/../../kubepods-burstable.slice/kubepods-burstable-pod3d1c5c52_0d5f_4c5e_9c07_6d1d4b6c8c11.slice/x.scope",
        ];
        for path in paths {
            assert_eq!(pod_of(&format!("0::{path}\n")).as_deref(), Some(UID), "{path}");
        }
        let hash = format!("0::/kubepods/besteffort/pod{HASH}/2f1e\n");
        assert_eq!(pod_of(&hash).as_deref(), Some(HASH), "a static pod");
    }

    #[test]
    fn what_is_no_pod_is_none() {
        let paths = [
            "/system.slice/containerd.service",
            "/kubepods.slice/kubepods-burstable.slice",
            "/user.slice/user-0.slice/pod3d1c5c52-0d5f-4c5e-9c07-6d1d4b6c8c11",
            "/kubepods/pod-of-mine/x",
            "/system.slice/app-pod3d1c5c52_0d5f_4c5e_9c07_6d1d4b6c8c11.slice:mine:2f1e",
            "/machine.slice/libpod-9e8d7c.scope",
            "/kubepods.slice/kubepods-pod3d1c5c52_0d5f_4c5e_9c07_6d1d4b6c8c11.slice/crio-conmon-9e8d7c.scope",
        ];
        for path in paths {
            assert_eq!(pod_of(&format!("0::{path}\n")), None, "{path}");
        }
        assert_eq!(
            pod_of("12:cpu:/kubepods/pod3d1c5c52-0d5f-4c5e-9c07-6d1d4b6c8c11\n"),
            None,
            "not the v2 tree"
        );
    }

    #[test]
    fn a_node_is_what_is_above_its_pods() {
        let cases = [
            ("/kubepods.slice/kubepods-pod3d1c.slice/cri-containerd-2f.scope", Some("/")),
            ("/kubepods/burstable/pod3d1c/2f", Some("/")),
            ("/n1/kubepods/besteffort/pod3d1c/2f", Some("/n1")),
            (
                "/docker/ab12/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod3d.slice/x",
                Some("/docker/ab12"),
            ),
            ("/machine.slice/kubepods.slice/kubepods-pod3d.slice/x", Some("/machine.slice")),
            ("/system.slice/weft.service", None),
            ("/", None),
            ("/../../kubepods.slice/x", None),
        ];
        for (path, node) in cases {
            assert_eq!(subtree(&format!("0::{path}\n")), node, "{path}");
        }
    }
}
