//! All commands there are, as a shell sees them: what they end with where nobody can be asked, how a shell completes them,
//! and that kubectl finds them. Needs no root: no agent runs.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::{
    collections::BTreeSet,
    os::unix::fs::symlink,
    process::{Command, Output, Stdio},
};

const WEFT: &str = env!("CARGO_BIN_EXE_weft");

/// `weft <line>`, on a machine that knows of no cluster.
fn weft(line: &str) -> Output {
    let mut command = Command::new(WEFT);
    command.args(line.split(' ').filter(|word| !word.is_empty())).stdin(Stdio::null());
    command.env("HOME", "/nonexistent").env_remove("KUBECONFIG").env_remove("KUBERNETES_SERVICE_HOST");
    command.output().unwrap()
}

fn out(output: &Output) -> &str {
    str::from_utf8(&output.stdout).unwrap()
}

/// The words of each command that has none below it, by what help says.
fn commands() -> BTreeSet<String> {
    fn below(path: &str, found: &mut BTreeSet<String>) {
        let help = weft(&format!("{path} --help"));
        assert!(help.status.success(), "{path}: {help:?}");
        let listed = out(&help).split_once("\nCommands:\n").map(|(_, rest)| rest);
        let listed = listed.map(|rest| rest.split("\n\n").next().unwrap_or_default()).unwrap_or_default();
        let names = listed.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        let names = names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
        let mut is_leaf = true;
        for name in names {
            is_leaf = false;
            below(format!("{path} {name}").trim(), found);
        }
        if is_leaf {
            found.insert(path.to_owned());
        }
    }
    let mut found = BTreeSet::new();
    below("", &mut found);
    found
}

/// What a command is asked, and what it ends with: 0 yes, 1 no, 2 could not ask.
const NOBODY_THERE: &[(&str, &str, i32)] = &[
    (
        "agent",
        "--manifests /nonexistent --node n1 --run-dir DIR/run --state-dir DIR/state --cgroup /nonexistent",
        1,
    ),
    ("analyze", "/nonexistent", 2),
    ("authz check", "--from a/b --to a/c:80 --run-dir DIR", 2),
    ("bpf", "stat --run-dir DIR", 2),
    ("ca init", "--dir DIR/ca --trust-domain Not.One", 2),
    ("ca rotate", "--dir DIR/ca", 2),
    ("check", "--pre --kubeconfig /nonexistent", 2),
    ("cleanup", "--run-dir DIR --drain soon", 2),
    ("cni", "", 1),
    ("completion", "bash", 0),
    ("controller", "--kubeconfig /nonexistent", 1),
    ("describe controller", "--kubeconfig /nonexistent", 2),
    ("describe httproute", "a/b --run-dir DIR", 2),
    ("describe pod", "a/b --run-dir DIR", 2),
    ("describe service", "a/b --run-dir DIR", 2),
    ("diagnose", "--file DIR/mesh.tar --run-dir DIR", 2),
    ("explain", "--from a/b --to a/c:80 --run-dir DIR", 2),
    ("get", "services --run-dir DIR", 2),
    ("install", "", 0),
    ("log", "--run-dir DIR", 2),
    ("observe", "--run-dir DIR", 2),
    ("proxy upgrade", "--run-dir DIR", 2),
    ("stat", "--run-dir DIR", 2),
    ("status", "--run-dir DIR", 2),
    ("top", "--once --run-dir DIR", 2),
    ("uninstall", "--kubeconfig /nonexistent", 2),
];

#[test]
fn each_command_says_by_its_exit_code_that_it_could_not_ask() {
    let all = commands();
    let known: BTreeSet<_> = NOBODY_THERE.iter().map(|(command, ..)| (*command).to_owned()).collect();
    assert_eq!(all, known, "each command has a line here");
    for (command, words, code) in NOBODY_THERE {
        let folder = tempfile::tempdir().unwrap();
        let words = words.replace("DIR", &folder.path().display().to_string());
        let output = weft(&format!("{command} {words}"));
        assert_eq!(output.status.code(), Some(*code), "weft {command} {words}: {output:?}");
        let said = str::from_utf8(&output.stderr).unwrap();
        match code {
            0 => assert!(said.is_empty() && !output.stdout.is_empty(), "{command}: {output:?}"),
            // A plugin's words go to its runtime.
            1 => assert!(said.starts_with("weft: ") || *command == "cni", "{command}: {output:?}"),
            _ => assert!(said.starts_with("weft: ") || said.starts_with("error: "), "{command}: {output:?}"),
        }
    }
}

#[test]
fn each_command_takes_an_unknown_flag_for_wrong_usage() {
    for command in commands() {
        let output = weft(&format!("{command} --no-such-flag"));
        assert_eq!(output.status.code(), Some(2), "weft {command}: {output:?}");
        let said = str::from_utf8(&output.stderr).unwrap();
        assert!(said.contains("--no-such-flag") && said.contains("Usage:"), "weft {command}: {said}");
    }
}

/// What bash would write for these words, of which the last is not yet complete.
fn completed(script: &str, words: &[&str]) -> BTreeSet<String> {
    let (command, last) = (words[0], words.len() - 1);
    let ask = format!(
        "{script}\nCOMP_WORDS=({})\nCOMP_CWORD={last}\n\
         function=$(complete -p {command} | sed 's/.*-F \\([^ ]*\\).*/\\1/')\n\
         \"$function\" {command} '{}' '{}'\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words.join(" "),
        words[last],
        words[last - 1],
    );
    let output = Command::new("bash").args(["--noprofile", "--norc", "-c", &ask]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    out(&output).lines().map(str::to_owned).filter(|word| !word.is_empty()).collect()
}

#[test]
fn a_shell_completes_commands_flags_and_what_they_may_be() {
    let script = weft("completion bash");
    let complete = |words: &[&str]| completed(out(&script), words);
    let set = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(complete(&["weft", "sta"]), set(&["stat", "status"]));
    assert!(complete(&["weft", "describe", "p"]).contains("pod"));
    assert!(complete(&["weft", "get", "ht"]).contains("httproutes"));
    assert!(complete(&["weft", "observe", "--fol"]).contains("--follow"));
    assert_eq!(complete(&["weft", "get", "services", "-o", ""]), set(&["json", "table", "yaml"]));
}

#[test]
fn kubectl_runs_the_same_under_a_name_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("kubectl-weft");
    symlink(WEFT, &plugin).unwrap();
    let run = |words: &[&str]| Command::new(&plugin).args(words).output().unwrap();
    let help = run(&["observe", "--help"]);
    assert!(out(&help).contains("Usage: kubectl weft observe"), "{}", out(&help));
    assert_eq!(run(&["status", "--run-dir", "/nonexistent"]).status.code(), Some(2));
    let script = run(&["completion", "bash"]);
    assert!(completed(out(&script), &["kubectl-weft", "sta"]).contains("status"));
}

/// On a node that weft was removed from without its agent's help there is the plugin, and nothing else of it.
#[test]
fn the_plugin_on_a_node_cleans_up_where_no_runtime_asks_it() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("weft-cni");
    symlink(WEFT, &plugin).unwrap();
    let called = |command: Option<&str>| {
        let mut plugin = Command::new(&plugin);
        plugin.args(["cleanup", "--run-dir"]).arg(folder.path()).stdin(Stdio::null());
        plugin.env_remove("CNI_COMMAND").envs(command.map(|command| ("CNI_COMMAND", command)));
        plugin.output().unwrap()
    };
    let by_hand = called(None);
    assert_eq!(by_hand.status.code(), Some(2), "no agent was there: {by_hand:?}");
    assert!(str::from_utf8(&by_hand.stderr).unwrap().contains("is no run directory of an agent"));
    let by_a_runtime = called(Some("VERSION"));
    assert!(out(&by_a_runtime).contains("supportedVersions"), "{by_a_runtime:?}");
}
