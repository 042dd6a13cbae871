//! Other programs: `ip`, the helper, `weft`.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Runs lines of `ip` commands inside the namespace `netns`.
#[track_caller]
pub(crate) fn ip_batch(netns: &str, lines: &str) {
    let mut command = Command::new("ip");
    command.args(["-n", netns, "-batch", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("these tests need `ip` of iproute2");
    let mut stdin = child.stdin.take().expect("stdin was piped");
    stdin.write_all(lines.as_bytes()).expect("ip reads its commands to the end");
    drop(stdin);
    let output = child.wait_with_output().expect("a child can be waited for");
    assert!(output.status.success(), "ip -n {netns} -batch:\n{lines}\n{}", text(&output));
}

/// Makes the network namespace `/run/netns/<name>`.
#[track_caller]
pub(crate) fn ip_netns_add(name: &str) {
    let output = Command::new("ip").args(["netns", "add", name]).output();
    let output = output.expect("these tests need `ip` of iproute2");
    assert!(output.status.success(), "ip netns add {name}: {}", text(&output));
}

/// A command that runs another one in mounts and a cgroup tree of its own, after the shell command
/// `before`, which may name `path` as `"$0"`.
pub fn private(before: &str, path: &Path) -> Vec<String> {
    let script = format!("{before} && exec \"$@\"");
    let helper = beside("weft-test-helper").display().to_string();
    [&helper, "private", "sh", "-c", &script, &path.display().to_string()].map(str::to_owned).into()
}

/// A command that runs another one in the group at `path`.
pub(crate) fn within(path: &Path) -> Vec<String> {
    let helper = beside("weft-test-helper").display().to_string();
    [&helper, "exec", &path.display().to_string()].map(str::to_owned).into()
}

/// A command of the helper binary.
pub(crate) fn helper(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(beside("weft-test-helper"));
    command.args(arguments);
    command
}

/// The `weft` binary: `WEFT_BIN`, else the one in the tests' own target folder.
pub fn weft() -> PathBuf {
    std::env::var_os("WEFT_BIN").map_or_else(|| beside("weft"), PathBuf::from)
}

/// What a finished command has written.
pub fn text(output: &Output) -> String {
    let streams = [&output.stdout, &output.stderr].map(|stream| String::from_utf8_lossy(stream).into_owned());
    streams.concat()
}

/// A binary in the folder of this one, or above `deps/`, where cargo puts test binaries.
fn beside(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("/proc is mounted");
    let found = this.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("{name} is not built beside {}; run the tests by `cargo xtask test`", Path::display(&this))
    })
}
