//! The binary as a shell sees it: exit codes, streams, no colour into pipes. Needs no root: no agent runs.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Output, Stdio},
};

fn weft(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weft")).args(arguments).output().expect("cargo built it")
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).expect("weft writes UTF-8")
}

#[test]
fn exit_codes_tell_no_from_not_asked() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::write(path("good.yaml"), "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n")
        .expect("writable");
    fs::write(path("bad.yaml"), "apiVersion: v1\nkind: Service\nmetadata: {name: Shop!}\n")
        .expect("writable");
    let table: &[(i32, &[&str])] = &[
        (0, &["--help"]),
        (0, &["analyze", &path("good.yaml")]),
        (1, &["analyze", &path("bad.yaml")]),
        (2, &["analyze", &path("missing.yaml")]),
        (2, &["status", "--run-dir", &path("nobody")]),
        (2, &["proxy", "upgrade", "--run-dir", &path("nobody")]),
        (1, &["status", "--wait", "50ms", "--run-dir", &path("nobody")]),
        (2, &["get", "gateways"]),
        (2, &[]),
    ];
    for (code, arguments) in table {
        let output = weft(arguments);
        assert_eq!(output.status.code(), Some(*code), "weft {arguments:?}: {output:?}");
    }
}

#[test]
fn analyze_answers_in_each_format_with_the_same_exit_code() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (good, bad) = (path("good.yaml"), path("bad.yaml"));
    fs::write(&good, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n").expect("writable");
    fs::write(&bad, "apiVersion: v1\nkind: Service\nmetadata: {name: Shop!}\n").expect("writable");
    let analyze = |file: &str, format: &str| {
        let output = weft(&["analyze", file, "-o", format]);
        (output.status.code(), text(&output.stdout).to_owned())
    };
    assert_eq!(analyze(&good, "table"), (Some(0), "no problems found\n".to_owned()));
    assert_eq!(analyze(&good, "json"), (Some(0), "[]\n".to_owned()));
    assert_eq!(analyze(&good, "yaml"), (Some(0), "[]\n".to_owned()));

    let (code, table) = analyze(&bad, "table");
    assert_eq!(code, Some(1), "{table}");
    assert!(table.starts_with(&format!("error: {bad}:")), "{table}");
    let (code, json) = analyze(&bad, "json");
    assert_eq!(code, Some(1), "{json}");
    let problems: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    assert_eq!(problems[0]["file"], bad.as_str(), "{problems}");
    for field in ["severity", "line", "message", "remedy"] {
        assert!(!problems[0][field].is_null(), "{field} of {problems}");
    }
    let (code, yaml) = analyze(&bad, "yaml");
    assert_eq!(code, Some(1), "{yaml}");
    let same: serde_json::Value = serde_yaml::from_str(&yaml).expect("it is YAML");
    assert_eq!(same, problems);
}

#[test]
fn an_authority_is_made_rotated_and_never_cut_off_by_mistake() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("ca").display().to_string();
    let table: &[(i32, &[&str], &str)] = &[
        (2, &["rotate"], "roots.pem is not there; make an authority: weft ca init --dir "),
        (2, &["init", "--trust-domain", "Not.One"], "Not.One is no trust domain"),
        (0, &["init", "--trust-domain", "mesh.example"], "Trust domain:  mesh.example"),
        (1, &["init"], "is there already: a new authority would cut off every workload"),
        (0, &["rotate"], "Issuer:        weft issuer "),
        (0, &["rotate", "issuer"], "Trusted root:  weft root "),
        (2, &["rotate", "issuer", "--finish"], "--finish ends the rotation of a root"),
        (1, &["rotate", "root", "--finish"], "only one root is trusted"),
        (0, &["rotate", "root"], "Next:          when the old certificates have ended, in 1d"),
        (1, &["rotate", "root"], "finish that rotation first"),
        (1, &["rotate", "root", "--finish"], "certificates of the old root may live until 2"),
        (
            0,
            &["rotate", "root", "--finish", "--overlap", "0s", "-o", "json"],
            "\"trustDomain\": \"mesh.example\"",
        ),
        (2, &["rotate", "leaf"], "invalid value 'leaf'"),
    ];
    for (code, arguments, wanted) in table {
        let output = weft(&[&["ca", arguments[0], "--dir", &path], &arguments[1..]].concat());
        assert_eq!(output.status.code(), Some(*code), "weft ca {arguments:?}: {output:?}");
        let said = if *code == 0 { &output.stdout } else { &output.stderr };
        assert!(text(said).contains(wanted), "weft ca {arguments:?}: {}", text(said));
    }
}

#[test]
fn errors_go_to_standard_error_and_pipes_get_no_colour() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let output = weft(&["status", "--run-dir", &dir.path().display().to_string()]);
    assert!(output.stdout.is_empty());
    assert!(text(&output.stderr).starts_with("weft: no agent answers at "), "{}", text(&output.stderr));

    let missing = dir.path().join("missing.yaml").display().to_string();
    let said = weft(&["analyze", &missing]).stderr;
    assert_eq!(
        text(&said).lines().collect::<Vec<_>>(),
        [
            format!("weft: there is no {missing}").as_str(),
            "  name files or folders of manifests, such as deploy/examples"
        ]
    );

    fs::write(dir.path().join("bad.yaml"), "kind: [").expect("writable");
    let output = weft(&["analyze", &dir.path().display().to_string()]);
    assert!(text(&output.stdout).contains("error: "), "{output:?}");
    assert!(!output.stdout.contains(&0x1b), "{}", text(&output.stdout));
}

#[test]
fn analyze_names_who_may_call_from_outside_where_the_mode_is_strict_and_the_way_out() {
    let strict = "apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {weft.dev/mesh: enabled}}
---
apiVersion: weft.dev/v1alpha1
kind: MeshConfig
metadata: {name: default}
spec: {mtls: {mode: Strict}}
---
apiVersion: v1
kind: Pod
metadata: {name: api, namespace: shop, labels: {app: api}, annotations: {prometheus.io/scrape: \"true\", prometheus.io/port: \"9100\"}}
spec: {nodeName: n1, containers: [{name: api, image: api}]}
status: {podIP: 10.0.0.2, podIPs: [{ip: 10.0.0.2}]}
";
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::write(dir.path().join("shop.yaml"), strict).expect("writable");
    let output = weft(&["analyze", &dir.path().display().to_string()]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "a warning is no error: {output:?}");
    for wanted in
        ["warning: ", "shop/api", "prometheus.io/scrape", "portLevel: [{port: 9100, mode: Permissive}]"]
    {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for index in 0..2_000 {
        fs::write(dir.path().join(format!("{index}.yaml")), "kind: [").expect("writable");
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_weft"))
        .arg("analyze")
        .arg(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("cargo built it");
    let mut first = String::new();
    let mut reader = BufReader::new(child.stdout.take().expect("stdout was piped"));
    reader.read_line(&mut first).expect("there is a line");
    drop(reader);
    let output = child.wait_with_output().expect("a child can be waited for");
    assert!(first.starts_with("error: "), "{first}");
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
}

#[test]
fn each_shell_has_a_completion_script() {
    for shell in ["bash", "zsh", "fish"] {
        let output = weft(&["completion", shell]);
        assert!(output.status.success());
        assert!(text(&output.stdout).contains("observe"), "{shell}");
    }
}
