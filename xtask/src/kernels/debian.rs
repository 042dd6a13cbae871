//! Debian's kernels: downloaded and unpacked below `target/kernels`, never installed on the host.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Kernel;
use crate::{repo, screen, shell};

/// Where apt finds a package.
#[derive(Clone, Copy)]
pub(super) enum Suite {
    /// Whatever the host is set up to use.
    Configured,
    /// `URI suite component`: lists and caches of its own, /etc/apt stays as it is.
    Extra(&'static str),
}

/// An unpacked kernel.
pub(super) struct Image {
    /// As `uname -r` says.
    pub(super) release: String,
    pub(super) vmlinuz: PathBuf,
    /// The folder that holds `lib/modules`.
    pub(super) root: PathBuf,
}

/// The kernel from the cache, else from Debian; none, with a note, where Debian no longer has one that may be missing.
pub(super) fn provide(kernel: &Kernel) -> Result<Option<Image>> {
    if !cfg!(target_arch = "x86_64") {
        bail!("the kernel matrix knows Debian's amd64 kernels only; run it on an x86-64 machine");
    }
    let root = repo::absolute(Path::new(repo::KERNELS).join(kernel.version))?;
    if !root.exists() {
        let partial = root.with_file_name(format!("{}.partial", kernel.version));
        match screen::step(format_args!("download kernel {}", kernel.version), || download(kernel, &partial))
        {
            Ok(()) => {}
            Err(error) if kernel.required => return Err(error),
            Err(error) => {
                screen::note(format_args!("kernel {} is not available: {error:#}", kernel.version));
                return Ok(None);
            }
        }
        unpack(&partial)?;
        fs::rename(&partial, &root).with_context(|| format!("rename {}", partial.display()))?;
    }
    let image = Image::find(&root).with_context(|| format!("{} is incomplete: remove it", root.display()))?;
    if !image.release.starts_with(&format!("{}.", kernel.version)) {
        let Kernel { version, package, .. } = kernel;
        bail!("{package} is kernel {}, not {version}: the matrix needs Debian 12's suites", image.release);
    }
    Ok(Some(image))
}

fn download(kernel: &Kernel, folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let apt = Apt::new(kernel)?;
    let mut packages = vec![apt.newest(kernel.package)?];
    // An image is one package up to 6.18, three from 6.19 on; a metapackage comes before either.
    let mut next = 0;
    while let Some(package) = packages.get(next) {
        let parts = apt.parts(package)?;
        packages.extend(parts.into_iter().filter(|part| !packages.contains(part)).collect::<Vec<_>>());
        next += 1;
    }
    shell::logged(apt.command("apt-get").arg("download").args(&packages).current_dir(folder), &apt.log())
}

fn unpack(folder: &Path) -> Result<()> {
    for archive in entries(folder)? {
        shell::capture(Command::new("dpkg").arg("-x").args([&archive, folder]))?;
        fs::remove_file(&archive).with_context(|| format!("remove {}", archive.display()))?;
    }
    // From Debian 13 on modules are in /usr/lib, where /lib points to; kmod looks in /lib.
    let lib = folder.join("lib");
    if !lib.exists() {
        symlink("usr/lib", &lib).with_context(|| format!("link {}", lib.display()))?;
    }
    let image = Image::find(folder)?;
    shell::capture(Command::new("/sbin/depmod").arg("-b").arg(folder).arg(&image.release)).map(drop)
}

impl Image {
    fn find(root: &Path) -> Result<Self> {
        let modules = entries(&root.join("lib/modules"))?;
        let [modules] = modules.as_slice() else {
            bail!("expected one kernel's modules in {}", root.display())
        };
        let release = modules.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // The second place is that of 6.19 and later.
        let places = [root.join("boot").join(format!("vmlinuz-{release}")), modules.join("vmlinuz")];
        let vmlinuz = places.into_iter().find(|place| place.is_file());
        let vmlinuz = vmlinuz.with_context(|| format!("no vmlinuz of {release} in {}", root.display()))?;
        Ok(Self { release, vmlinuz, root: root.to_path_buf() })
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    list.map(|entry| Ok(entry.with_context(|| format!("list {}", folder.display()))?.path())).collect()
}

/// apt with the host's set-up, or with one of its own below `target/kernels/apt`.
struct Apt {
    version: &'static str,
    options: Vec<String>,
}

impl Apt {
    fn new(kernel: &Kernel) -> Result<Self> {
        let mut apt = Self { version: kernel.version, options: Vec::new() };
        if let Suite::Extra(source) = kernel.suite {
            let dir = repo::absolute(Path::new(repo::KERNELS).join("apt").join(kernel.version))?;
            for part in ["lists/partial", "cache/archives/partial"] {
                fs::create_dir_all(dir.join(part)).with_context(|| format!("create {}", dir.display()))?;
            }
            let list = dir.join("sources.list");
            fs::write(&list, format!("deb [signed-by={KEYRING}] {source}\n"))
                .with_context(|| format!("write {}", list.display()))?;
            let dir = dir.display();
            apt.options = vec![
                format!("Dir::Etc::sourcelist={dir}/sources.list"),
                "Dir::Etc::sourceparts=/dev/null".to_owned(),
                format!("Dir::State::lists={dir}/lists"),
                format!("Dir::Cache={dir}/cache"),
            ];
        }
        // Old lists name packages that the mirror no longer has.
        shell::logged(apt.command("apt-get").args(["-q", "update"]), &apt.log())?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        // Downloads go to a folder of the caller; apt's own user may not write there.
        command.args(["-o", "APT::Sandbox::User=root"]);
        command.args(self.options.iter().flat_map(|option| ["-o", option]));
        command
    }

    /// The package of this name, or the newest of this pattern (one `*`).
    fn newest(&self, pattern: &str) -> Result<String> {
        let names = shell::capture(self.command("apt-cache").arg("pkgnames").arg(prefix(pattern)))?;
        let newest = names.lines().filter(|name| matches(pattern, name)).max_by_key(|name| numbers(name));
        newest
            .map(str::to_owned)
            .with_context(|| format!("no package {pattern} in the suites of this host or of the matrix"))
    }

    /// The packages that hold parts of the same kernel.
    fn parts(&self, package: &str) -> Result<Vec<String>> {
        let said = shell::capture(self.command("apt-cache").arg("depends").arg(package))?;
        let depends = said.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        let is_part = |name: &&str| PARTS.iter().any(|part| name.starts_with(part));
        Ok(depends.filter(is_part).map(str::to_owned).collect())
    }

    fn log(&self) -> PathBuf {
        Path::new(repo::KERNELS).join(format!("apt-{}.log", self.version))
    }
}

fn prefix(pattern: &str) -> &str {
    pattern.split('*').next().unwrap_or(pattern)
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => name == pattern,
        Some((start, end)) => name.strip_prefix(start).is_some_and(|rest| rest.ends_with(end)),
    }
}

/// All numbers in a name, so that 6.18.12 is newer than 6.18.5.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

const PARTS: [&str; 3] = ["linux-image-", "linux-binary-", "linux-modules-"];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

#[cfg(test)]
mod tests {
    use super::{matches, numbers};

    #[test]
    fn the_newest_of_a_pattern_is_by_number_not_by_letter() {
        let names = ["linux-image-6.18.5+deb13-cloud-amd64", "linux-image-6.18.12+deb13-cloud-amd64"];
        assert_eq!(names.iter().max_by_key(|name| numbers(name)), Some(&names[1]));
    }

    #[test]
    fn a_pattern_takes_neither_debug_nor_unsigned_packages() {
        let pattern = "linux-image-6.18*-cloud-amd64";
        assert!(matches(pattern, "linux-image-6.18.5+deb13-cloud-amd64"));
        assert!(!matches(pattern, "linux-image-6.18.5+deb13-cloud-amd64-dbg"));
        assert!(!matches(pattern, "linux-image-6.18.5+deb13-cloud-amd64-unsigned"));
        assert!(!matches(pattern, "linux-image-6.1.0-cloud-amd64"));
    }
}
