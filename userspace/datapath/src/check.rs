//! `weft check`: whether this machine can run weft, before anything is attached.

use std::{fs, os::fd::AsFd, path::Path};

use aya::{
    programs::ProgramType,
    sys::{BpfHelper, is_helper_supported},
};
use nix::unistd::geteuid;
use weft_telemetry::api::{Check, Outcome};

use crate::{
    attach,
    btf::Btf,
    host,
    load::{self, ON_CGROUP},
    object::object,
    pins::Node,
};

/// Looks at kernel, BTF, cgroup tree, BPF filesystem, capabilities, helpers, programs and at what others
/// have on our hooks. Leaves nothing behind.
pub fn check(cgroup: Option<&Path>) -> Vec<Check> {
    let capabilities = capabilities();
    let may = capabilities.outcome == Outcome::Ok;
    let mut lines = vec![kernel(), btf(), bpffs(), capabilities, return_value()];
    lines.extend(helpers());
    lines.extend(hooks(cgroup));
    lines.push(programs(may));
    lines
}

/// As [`check`], as far as that can be said without loading anything into the kernel.
pub fn preflight(cgroup: Option<&Path>) -> Vec<Check> {
    let mut lines = vec![kernel(), btf(), bpffs(), capabilities(), return_value()];
    lines.extend(hooks(cgroup));
    lines
}

/// The tree, and who is on our hooks of it.
fn hooks(cgroup: Option<&Path>) -> Vec<Check> {
    let mut lines = Vec::new();
    match host::cgroup(cgroup) {
        Ok(path) => {
            let part = if cgroup.is_some() { "as asked" } else { "the root of the tree" };
            lines.push(ok("cgroup v2", format!("{}, {part}", path.display())));
            lines.extend(foreign(&path));
        }
        Err(error) => lines.push(failed("cgroup v2", "not usable", &error.to_string())),
    }
    lines
}

fn kernel() -> Check {
    let (major, minor, patch) = host::kernel();
    let version = format!("{major}.{minor}.{patch}");
    match (major, minor) {
        (0..=4, _) | (5, 0..=14) => {
            failed("kernel", &version, "weft needs 5.15; 6.1 or later is recommended")
        }
        (5, _) | (6, 0) => warning("kernel", &version, "6.1 or later is recommended"),
        _ => ok("kernel", version),
    }
}

fn btf() -> Check {
    match Btf::running().and_then(|btf| btf.offset("tcp_sock", "bytes_sent")) {
        Some(_) => ok("BTF", "/sys/kernel/btf/vmlinux".to_owned()),
        None => warning(
            "BTF",
            "the kernel has none: byte counts may be off by one",
            "use a kernel with CONFIG_DEBUG_INFO_BTF",
        ),
    }
}

fn bpffs() -> Check {
    if host::has_bpffs() {
        ok("BPF filesystem", host::BPFFS.to_owned())
    } else {
        warning("BPF filesystem", "not mounted; the agent will mount it", "mount -t bpf bpf /sys/fs/bpf")
    }
}

/// capabilities(7); numbers from `linux/capability.h`.
fn capabilities() -> Check {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0);
    let needed = [("CAP_NET_ADMIN", 12), ("CAP_SYS_ADMIN", 21), ("CAP_PERFMON", 38), ("CAP_BPF", 39)];
    let missing: Vec<_> =
        needed.iter().filter(|(_, bit)| effective & (1 << bit) == 0).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        ok("capabilities", needed.map(|(name, _)| name).join(", "))
    } else {
        let hint = if geteuid().is_root() { "grant them to the agent's container" } else { "run as root" };
        failed("capabilities", &format!("missing: {}", missing.join(", ")), hint)
    }
}

fn return_value() -> Check {
    if host::kernel() >= (5, 18, 0) {
        ok("errno at connect", "a refused connect(2) returns EACCES".to_owned())
    } else {
        warning("errno at connect", "a refused connect(2) returns EPERM", "kernel 5.18 has bpf_set_retval")
    }
}

fn helpers() -> Vec<Check> {
    let needed = [
        ("bpf_get_netns_cookie in sock_ops", ProgramType::SockOps, BpfHelper::BPF_FUNC_get_netns_cookie),
        ("bpf_sk_storage_get in sock_ops", ProgramType::SockOps, BpfHelper::BPF_FUNC_sk_storage_get),
        ("bpf_ktime_get_ns in sk_lookup", ProgramType::SkLookup, BpfHelper::BPF_FUNC_ktime_get_ns),
    ];
    let look = |(name, program, helper): (&str, ProgramType, BpfHelper)| match is_helper_supported(
        program, helper,
    ) {
        Ok(true) => ok("helper", name.to_owned()),
        Ok(false) => failed("helper", &format!("{name} is missing"), "use a kernel of 5.15 or later"),
        // The probe itself needs rights; the programs' own load is the better witness.
        Err(error) => warning(
            "helper",
            &format!("{name}: could not be probed ({error})"),
            "see the line about programs",
        ),
    };
    needed.map(look).into()
}

fn foreign(cgroup: &Path) -> Vec<Check> {
    let Ok(root) = fs::File::open(cgroup) else { return Vec::new() };
    let mut found = Vec::new();
    for (hook, attach) in ON_CGROUP {
        let hook = format!("{} of {}", hook.trim_start_matches("weft_"), cgroup.display());
        let names = match attach::on_hook(root.as_fd(), *attach) {
            Ok(names) => names,
            // It is the same with every hook.
            Err(error) => {
                let detail = format!("cannot be looked for on {hook} ({error})");
                return vec![warning("foreign programs", &detail, "see the line about capabilities")];
            }
        };
        let names: Vec<_> = names.into_iter().filter(|name| !name.starts_with("weft_")).collect();
        if names.is_empty() {
            continue;
        }
        let names = names.join(", ");
        if attach::is_exclusive(root.as_fd(), *attach).unwrap_or(false) {
            let detail = format!("{names} on {hook}, exclusively: weft cannot join it");
            found.push(failed(
                "foreign program",
                &detail,
                &format!("{SHARE}, or attach it with BPF_F_ALLOW_MULTI"),
            ));
        } else {
            found.push(warning(
                "foreign program",
                &format!("{names} on {hook}, beside which weft can be"),
                SHARE,
            ));
        }
    }
    if found.is_empty() { vec![ok("foreign programs", "none on our hooks".to_owned())] } else { found }
}

/// What whoever balances connections at the socket, as weft does, is to be told.
const SHARE: &str = "let it leave pods' connections alone; of Cilium, set socketLB.hostNamespaceOnly=true, of Calico \
                     bpfConnectTimeLoadBalancing: Disabled";

/// Loads everything once, pinned under a name of its own, and removes it again. The machine `may` lack nothing that it
/// takes.
fn programs(may: bool) -> Check {
    if object().is_none() {
        return failed("programs", &load::Error::Stub.to_string(), "cargo xtask build");
    }
    let was_mounted = host::has_bpffs();
    if let Err(error) = host::own_bpffs() {
        return failed("programs", &error.to_string(), "mount the BPF filesystem");
    }
    let check = load_once(may);
    // A preflight leaves the machine as it was.
    if !was_mounted && let Err(error) = host::no_bpffs() {
        return warning("programs", &format!("{}; {error}", check.detail), "umount /sys/fs/bpf");
    }
    check
}

fn load_once(may: bool) -> Check {
    let node = Node::new(&format!("_check-{}", std::process::id()));
    let loaded = load::load(&node, &load::MapSizes::new(), &[]);
    let removed = node.remove();
    match (loaded, removed) {
        (Ok(_), Ok(())) => ok("programs", "all of them pass this kernel's verifier".to_owned()),
        (Err(error), _) if may => failed("programs", &error.to_string(), "report this with `uname -r`"),
        (Err(error), _) => failed("programs", &error.to_string(), "see the line about capabilities"),
        (_, Err(error)) => warning(
            "programs",
            &format!("loaded, but their pins remain: {error}"),
            "remove /sys/fs/bpf/weft/_check-*",
        ),
    }
}

fn ok(name: &str, detail: String) -> Check {
    Check { name: name.to_owned(), outcome: Outcome::Ok, detail, remedy: String::new() }
}

fn warning(name: &str, detail: &str, remedy: &str) -> Check {
    Check {
        name: name.to_owned(),
        outcome: Outcome::Warning,
        detail: detail.to_owned(),
        remedy: remedy.to_owned(),
    }
}

fn failed(name: &str, detail: &str, remedy: &str) -> Check {
    Check {
        name: name.to_owned(),
        outcome: Outcome::Failed,
        detail: detail.to_owned(),
        remedy: remedy.to_owned(),
    }
}
