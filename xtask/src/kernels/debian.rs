//! Debian's kernels: downloaded and unpacked below `target/kernels`, never installed on the host.

use std::fs;
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

/// The kernel from the cache, else from Debian.
pub(super) fn provide(kernel: &Kernel) -> Result<Image> {
    if !cfg!(target_arch = "x86_64") {
        bail!("the kernel matrix knows Debian's amd64 kernels only; run it on an x86-64 machine");
    }
    let root = repo::absolute(Path::new(repo::KERNELS).join(kernel.version))?;
    if !root.exists() {
        screen::step(format_args!("download kernel {}", kernel.version), || download(kernel, &root))?;
    }
    let image = unpacked(&root).with_context(|| format!("{} is incomplete: remove it", root.display()))?;
    if !image.release.starts_with(&format!("{}.", kernel.version)) {
        bail!(
            "{} is kernel {}, not {}: does this host use Debian 12's suites?",
            kernel.package,
            image.release,
            kernel.version
        );
    }
    Ok(image)
}

fn download(kernel: &Kernel, root: &Path) -> Result<()> {
    let partial = root.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial).with_context(|| format!("remove {}", partial.display()))?;
    }
    fs::create_dir_all(&partial).with_context(|| format!("create {}", partial.display()))?;
    let apt = Apt::new(kernel)?;
    let mut packages = vec![apt.newest(kernel.package)?];
    // An image is one package up to 6.18, three from 6.19 on; a metapackage comes before either.
    let mut next = 0;
    while let Some(package) = packages.get(next) {
        let parts = apt.parts(package)?;
        packages.extend(parts.into_iter().filter(|part| !packages.contains(part)).collect::<Vec<_>>());
        next += 1;
    }
    shell::logged(apt.command("apt-get").arg("download").args(&packages).current_dir(&partial), &apt.log())?;
    for entry in fs::read_dir(&partial).with_context(|| format!("list {}", partial.display()))? {
        let archive = entry.with_context(|| format!("list {}", partial.display()))?.path();
        if archive.extension().is_some_and(|extension| extension == "deb") {
            shell::capture(Command::new("dpkg").arg("-x").args([&archive, &partial]))?;
            fs::remove_file(&archive).with_context(|| format!("remove {}", archive.display()))?;
        }
    }
    let image = unpacked(&partial)?;
    shell::capture(Command::new("/sbin/depmod").arg("-b").arg(&partial).arg(&image.release))?;
    fs::rename(&partial, root).with_context(|| format!("rename {}", partial.display()))
}

fn unpacked(root: &Path) -> Result<Image> {
    let boot = root.join("boot");
    for entry in fs::read_dir(&boot).with_context(|| format!("list {}", boot.display()))? {
        let vmlinuz = entry.with_context(|| format!("list {}", boot.display()))?.path();
        let name = vmlinuz.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if let Some(release) = name.strip_prefix("vmlinuz-") {
            return Ok(Image { release: release.to_owned(), vmlinuz, root: root.to_path_buf() });
        }
    }
    bail!("no vmlinuz in {}", boot.display())
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
