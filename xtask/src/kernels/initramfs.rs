//! The only file system of a kernel under test: busybox, dash, `ip`, the tests, `weft`, their libraries and modules.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::debian::Image;
use super::qemu;
use crate::{repo, shell};

/// Packs the initramfs, with the programs that the suite looks for `beside` it, and returns where it is.
pub(super) fn pack(
    version: &str,
    image: &Image,
    suite: &Path,
    beside: &[(&str, &Path)],
    filters: &[&str],
) -> Result<PathBuf> {
    let root = repo::absolute(Path::new(repo::KERNELS).join(format!("{version}.root")))?;
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("remove {}", root.display()))?;
    }
    let tree = Tree { root };
    for dir in ["proc", "sys", "dev", "run", "tmp", "var", "root", "modules", "sbin", "usr"] {
        tree.dir(dir)?;
    }
    tree.programs(suite, beside)?;
    tree.cases()?;
    tree.modules(image)?;
    tree.executable("init", &init(filters))?;
    let archive = tree.archive(version)?;
    fs::remove_dir_all(&tree.root).with_context(|| format!("remove {}", tree.root.display()))?;
    Ok(archive)
}

struct Tree {
    root: PathBuf,
}

impl Tree {
    fn dir(&self, name: &str) -> Result<()> {
        let path = self.root.join(name);
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))
    }

    fn programs(&self, suite: &Path, beside: &[(&str, &Path)]) -> Result<()> {
        // busybox's own sh would run its built-in `ip`, which knows no namespaces: dash is sh here.
        let mut programs = vec![
            ("bin/sh", host("dash")?),
            ("bin/ip", host("ip")?),
            ("bin/bpftool", host("bpftool")?),
            ("bin/unshare", host("unshare")?),
        ];
        let ours: Vec<_> = std::iter::once(("bin/suite", suite)).chain(beside.iter().copied()).collect();
        programs.extend(ours.iter().map(|(name, program)| (*name, program.to_path_buf())));
        let mut libraries = BTreeSet::new();
        for (name, program) in &programs {
            self.copy(program, name)?;
            libraries.extend(libraries_of(program)?);
        }
        for library in &libraries {
            self.copy(library, library.strip_prefix("/").unwrap_or(library))?;
        }
        self.copy(&host("busybox")?, "bin/busybox")?;
        for applet in APPLETS {
            let link = self.root.join("bin").join(applet);
            symlink("busybox", &link).with_context(|| format!("link {}", link.display()))?;
        }
        // Debug information is most of a test binary, and unpacking it under emulation takes seconds.
        for (name, _) in ours {
            shell::capture(Command::new("strip").arg("--strip-debug").arg(self.root.join(name)))?;
        }
        Ok(())
    }

    /// The case files, where the suite was built to look for them.
    fn cases(&self) -> Result<()> {
        let from = repo::absolute(CASES)?;
        let files = fs::read_dir(&from).with_context(|| format!("list {}", from.display()))?;
        for file in files {
            let file = file.with_context(|| format!("list {}", from.display()))?.path();
            self.copy(&file, file.strip_prefix("/").unwrap_or(&file))?;
        }
        Ok(())
    }

    /// The modules and what they need, numbered in the order in which they go in.
    fn modules(&self, image: &Image) -> Result<()> {
        let mut files = Vec::new();
        for module in MODULES {
            let mut modprobe = Command::new(host("modprobe")?);
            modprobe.arg("-d").arg(&image.root).args(["-S", &image.release, "--show-depends", module]);
            let said = shell::capture(&mut modprobe)?;
            // `insmod FILE [OPTION...]`; a `builtin NAME` needs nothing.
            let needed = said.lines().filter_map(|line| line.strip_prefix("insmod ")?.split(' ').next());
            for file in needed.map(str::to_owned) {
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
        for (number, file) in files.iter().enumerate() {
            let stem = Path::new(file).file_name().unwrap_or_default().to_string_lossy().into_owned();
            let name = stem.trim_end_matches(".xz");
            let to = format!("modules/{number:02}-{name}");
            if name == stem {
                self.copy(Path::new(file), to)?;
            } else {
                let output = File::create(self.root.join(&to)).with_context(|| format!("create {to}"))?;
                shell::run(Command::new("xz").args(["-dc", file]).stdout(output))?;
            }
        }
        Ok(())
    }

    fn copy(&self, from: &Path, to: impl AsRef<Path>) -> Result<()> {
        let path = self.root.join(to);
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        }
        fs::copy(from, &path).with_context(|| format!("copy {} to {}", from.display(), path.display()))?;
        Ok(())
    }

    fn executable(&self, name: &str, text: &str) -> Result<()> {
        let path = self.root.join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        fs::set_permissions(&path, Permissions::from_mode(0o755))
            .with_context(|| format!("chmod {}", path.display()))
    }

    /// Not compressed: the emulated machine would take longer to unpack it than to read it.
    fn archive(&self, version: &str) -> Result<PathBuf> {
        let archive = repo::absolute(Path::new(repo::KERNELS).join(format!("{version}.initramfs")))?;
        let output = File::create(&archive).with_context(|| format!("create {}", archive.display()))?;
        let mut cpio = Command::new("sh");
        cpio.args(["-c", "find . | cpio --quiet -o -H newc -R 0:0"]).current_dir(&self.root);
        shell::run(cpio.stdin(Stdio::null()).stdout(output))?;
        Ok(archive)
    }
}

fn host(command: &str) -> Result<PathBuf> {
    repo::find_command(command).with_context(|| format!("no {command} on this host: run `cargo xtask setup`"))
}

/// `libc.so.6 => /lib/.../libc.so.6 (0x...)` and `/lib64/ld-linux-x86-64.so.2 (0x...)`.
fn libraries_of(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("start ldd")?;
    let said = String::from_utf8_lossy(&output.stdout);
    if let Some(missing) = said.lines().find(|line| line.contains("not found")) {
        bail!("{} lacks a library: {}", program.display(), missing.trim());
    }
    // A static program is no error: ldd says so and names nothing.
    let words = said.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(words.filter(|word| !word.ends_with(':')).map(PathBuf::from).collect())
}

/// The first process. It prints what `qemu.rs` looks for, and turns the machine off whatever happens.
fn init(filters: &[&str]) -> String {
    let filters: Vec<_> = filters.iter().map(|text| format!("'{}'", text.replace('\'', r"'\''"))).collect();
    let filters = filters.join(" ");
    let (booted, exit) = (qemu::BOOTED, qemu::EXIT);
    format!(
        r#"#!/bin/sh
export PATH=/bin HOME=/root TERM=dumb RUST_BACKTRACE=1 WEFT_KERNEL_MATRIX=1 WEFT_BIN=/bin/weft
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
for module in /modules/*; do insmod "$module" || echo "insmod $module failed"; done
ip link set lo up
echo "{booted} $(uname -r)"
cd /root
/bin/suite --test-threads=1 {filters}
echo "{exit} $?"
poweroff -f
"#
    )
}

/// What the tests and the data path need and Debian builds as modules. Nothing loads them on demand here.
const MODULES: &[&str] = &["veth", "bridge", "dummy", "tcp_diag", "udp_diag"];

const CASES: &str = "tests/conformance/cases";
const APPLETS: &[&str] = &[
    "cat", "chmod", "cp", "grep", "insmod", "kill", "ln", "ls", "mkdir", "mount", "poweroff", "ps",
    "readlink", "rm", "seq", "sleep", "sysctl", "true", "umount", "uname",
];
