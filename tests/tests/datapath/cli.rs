//! The commands, asked of a live agent. How their tables look is tested in `weft-cli`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use weft_abi::names;
use weft_tests::foreign::{Foreign, Sharing};
use weft_tests::{Node, World, eventually, manifests, text, weft};

use crate::market::{API, Market};

#[test]
fn every_question_has_an_answer_in_each_format_and_without_colour() {
    let Some(market) = Market::open() else { return };
    let _stream = market.web.tcp_connect(API).unwrap();
    market.web.ask(API).unwrap();
    let questions: [(&[&str], &str); 16] = [
        (&["status"], "shop/web"),
        (&["get", "services"], "10.96.0.1"),
        (&["get", "endpoints"], "api"),
        (&["get", "workloads"], "thief"),
        (&["get", "policies"], "api-clients"),
        (&["get", "connections"], "web"),
        (&["get", "services", "-n", "shop"], "api"),
        (&["describe", "pod", "shop/api"], "api-clients"),
        (&["describe", "service", "shop/api"], "10.96.0.1"),
        (&["authz", "check", "--from", "shop/web", "--to", "shop/api:80"], "api-clients"),
        (&["observe"], "web"),
        (&["bpf", "services"], "10.96.0.1"),
        (&["bpf", "backends"], "api"),
        (&["bpf", "policy"], "shop/web"),
        (&["bpf", "pods"], "shop/web"),
        (&["bpf", "stat"], "translated"),
    ];
    for (question, expected) in questions {
        for format in ["table", "json", "yaml"] {
            let answer = market.node.weft(&[question, &["-o", format]].concat());
            let said = text(&answer);
            assert_eq!(answer.status.code(), Some(0), "{question:?} -o {format}: {said}");
            assert!(said.contains(expected), "{question:?} -o {format} lacks {expected}:\n{said}");
            assert!(!said.contains('\u{1b}'), "{question:?} -o {format}: no colour into a pipe");
            match format {
                "json" if question[0] != "observe" => drop(serde_json::from_str::<Value>(&said).unwrap()),
                "yaml" if question[0] != "observe" => drop(serde_yaml::from_str::<Value>(&said).unwrap()),
                _ => {}
            }
        }
    }
    assert!(!text(&market.node.weft(&["get", "services", "-n", "other"])).contains("10.96.0.1"));
}

#[test]
fn exit_codes_are_yes_no_and_could_not_ask() {
    let Some(market) = Market::open() else { return };
    let code = |arguments: &[&str]| market.node.weft(arguments).status.code();
    let check = |from: &str, to: &str| code(&["authz", "check", "--from", from, "--to", to]);
    assert_eq!(check("shop/web", "shop/api:80"), Some(0));
    assert_eq!(check("shop/thief", "shop/api:80"), Some(1));
    assert_eq!(check("shop/web", "shop/nothing:80"), Some(2));
    assert_eq!(check("web", "shop/api:80"), Some(2));
    assert_eq!(code(&["status"]), Some(0));
    assert_eq!(code(&["describe", "pod", "shop/nobody"]), Some(2));
    assert_eq!(code(&["get", "nothing"]), Some(2));
    let refused = text(&market.node.weft(&["authz", "check", "--from", "shop/thief", "--to", "shop/api:80"]));
    assert!(refused.contains("DENIED") && refused.contains("NotAllowed"), "{refused}");
}

#[test]
fn waiting_for_an_agent_ends_when_it_is_up_and_not_before() {
    let Some(mut market) = Market::open() else { return };
    market.agent.stop();
    let began = Instant::now();
    let waited = market.node.weft(&["status", "--wait", "300ms"]);
    assert_eq!(waited.status.code(), Some(1), "{}", text(&waited));
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(market.node.weft(&["status"]).status.code(), Some(2));

    market.world.apply("broken.yaml", "kind: [");
    let node = market.node.clone();
    let waiting = std::thread::spawn(move || node.weft(&["status", "--wait", "10s"]));
    market.agent.start();
    let waited = waiting.join().unwrap();
    assert_eq!(waited.status.code(), Some(0), "a rejected document holds nothing back: {}", text(&waited));
    assert!(text(&waited).contains("broken.yaml"), "and is listed: {}", text(&waited));
}

#[test]
fn analyze_says_offline_what_status_says_of_the_same_files() {
    let Some(market) = Market::open() else { return };
    market.world.apply("service.yaml", "apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: api}\nspec: {clusterIP: 10.96.0.1, ports: [{port: 70000}]}\n");
    market.node.wait();
    let status = market.node.weft_json(&["status"]);
    let folder = market.node.manifests_dir();
    let offline = Command::new(weft()).arg("analyze").arg(&folder).args(["-o", "json"]).output().unwrap();
    assert_eq!(offline.status.code(), Some(1), "{}", text(&offline));
    let offline: Value = serde_json::from_slice(&offline.stdout).unwrap();
    assert_eq!(offline, status["problems"]);
    let problem = &offline[0];
    assert_eq!(problem["line"], 4);
    assert!(
        problem["field"].to_string().contains("port") && !problem["remedy"].to_string().is_empty(),
        "{problem}"
    );
    market.world.remove("service.yaml");
    let clean = Command::new(weft()).arg("analyze").arg(&folder).output().unwrap();
    assert_eq!(clean.status.code(), Some(0), "{}", text(&clean));
}

#[test]
fn check_finds_this_machine_fit_and_leaves_nothing_behind() {
    let Some(market) = Market::open() else { return };
    let cgroup = market.node.cgroup().display().to_string();
    let mut check = Command::new(weft());
    check.args(["check", "--cgroup", &cgroup, "-o", "json"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let check = check.spawn().unwrap();
    // Other tests check at the same time: this one's traces are told by its process.
    let trace = format!("_check-{}", check.id());
    let check = check.wait_with_output().unwrap();
    assert_eq!(check.status.code(), Some(0), "{}", text(&check));
    let lines: Vec<Value> = serde_json::from_slice(&check.stdout).unwrap();
    let names: BTreeSet<_> = lines.iter().map(|line| line["name"].as_str().unwrap()).collect();
    for name in [
        "kernel",
        "BTF",
        "cgroup v2",
        "BPF filesystem",
        "capabilities",
        "helper",
        "programs",
        "foreign programs",
    ] {
        assert!(names.contains(name), "{name} of {names:?}");
    }
    assert!(!crate::lifecycle::entries(Path::new("/sys/fs/bpf/weft")).contains(&trace));
    market.assert_enforced();
}

#[test]
fn check_says_what_to_do_about_each_thing_that_is_not_as_it_should_be() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let check = |cgroup: &Path| {
        let mut command = Command::new(weft());
        let output = command.args(["check", "-o", "json", "--cgroup"]).arg(cgroup).output().unwrap();
        let lines: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        for line in lines.iter().filter(|line| line["outcome"] != "Ok") {
            assert!(line["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{line}");
        }
        let found = |name: &str| lines.iter().find(|line| line["name"] == name).unwrap().clone();
        (output.status.code(), found("cgroup v2"), lines)
    };
    let (code, cgroup, _) = check(&world.dir().join("nowhere"));
    assert_eq!((code, &cgroup["outcome"]), (Some(1), &"Failed".into()), "{cgroup}");

    let others = Foreign::connect4(node.cgroup(), Sharing::Multi).unwrap();
    let (code, cgroup, lines) = check(node.cgroup());
    assert_eq!((code, &cgroup["outcome"]), (Some(0), &"Ok".into()), "{cgroup}");
    let foreign = lines.iter().find(|line| line["name"] == "foreign program").unwrap();
    let id = format!("id {}", others.id().unwrap());
    assert!(foreign["detail"].as_str().unwrap().contains(&id), "{foreign} names {id}");
    drop(others);

    let others = Foreign::connect4(node.cgroup(), Sharing::Exclusive).unwrap();
    let (code, _, lines) = check(node.cgroup());
    let foreign = lines.iter().find(|line| line["name"] == "foreign program").unwrap();
    assert_eq!((code, &foreign["outcome"]), (Some(1), &"Failed".into()), "{foreign}");
    let remedy = foreign["remedy"].as_str().unwrap();
    assert!(remedy.contains("hostNamespaceOnly") && remedy.contains("BPF_F_ALLOW_MULTI"), "{remedy}");
    drop(others);
}

#[test]
fn a_preflight_names_what_cannot_live_together_and_loads_nothing() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let networks = world.dir().join("net.d");
    fs::create_dir(&networks).unwrap();
    let check = || {
        let mut command = Command::new(weft());
        command.args(["check", "--pre", "-o", "json", "--cgroup"]).arg(node.cgroup());
        let output = command.arg("--cni-conf-dir").arg(&networks).output().unwrap();
        let lines: Vec<Value> =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
        (output.status.code(), lines)
    };
    let (code, lines) = check();
    assert_eq!(code, Some(0), "{lines:?}");
    assert!(
        lines.iter().all(|line| !["programs", "helper"].contains(&line["name"].as_str().unwrap())),
        "{lines:?}"
    );
    fs::write(
        networks.join("10-net.conflist"),
        r#"{"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "bridge"}, {"type": "istio-cni"}]}"#,
    )
    .unwrap();
    let (code, lines) = check();
    let istio = lines.iter().find(|line| line["name"] == "another mesh").unwrap();
    assert_eq!((code, &istio["outcome"]), (Some(0), &"Warning".into()), "{lines:?}");
    let detail = istio["detail"].as_str().unwrap();
    assert!(detail.starts_with("Istio") && detail.contains("10-net.conflist"), "{istio}");
    assert!(istio["remedy"].as_str().unwrap().contains("no namespace may be in both"), "{istio}");
    let balancer = Foreign::connect4(node.cgroup(), Sharing::Exclusive).unwrap();
    let (code, lines) = check();
    let alone = lines.iter().find(|line| line["name"] == "foreign program").unwrap();
    assert_eq!((code, &alone["outcome"]), (Some(1), &"Failed".into()), "{alone}");
    let id = format!("id {}", balancer.id().unwrap());
    let (detail, remedy) = (alone["detail"].as_str().unwrap(), alone["remedy"].as_str().unwrap());
    assert!(detail.contains(&id) && detail.contains("exclusively"), "{alone} names {id}");
    assert!(
        remedy.contains("hostNamespaceOnly") && remedy.contains("bpfConnectTimeLoadBalancing"),
        "{alone}"
    );
    drop(balancer);
    assert_eq!(check().0, Some(0), "it is gone");
    let no_server =
        Command::new(weft()).args(["check", "--pre", "--kubeconfig", "/nonexistent"]).output().unwrap();
    assert_eq!(no_server.status.code(), Some(2), "{}", text(&no_server));
}

#[test]
fn the_log_says_more_from_the_moment_on_that_it_is_told_to_and_less_again() {
    let Some(market) = Market::open() else { return };
    let debug = || fs::read_to_string(market.node.log()).unwrap().matches("DEBUG").count();
    let set = |filter: &str| {
        let answer = market.node.weft(&["log", "--set", filter]);
        assert_eq!(answer.status.code(), Some(0), "{}", text(&answer));
        assert!(text(&answer).contains(filter), "{}", text(&answer));
    };
    // Something of which there is something to be told.
    let mut round = 0;
    let mut change = || {
        round += 1;
        let spec = format!("{{clusterIP: 10.96.0.77, ports: [{{port: {round}}}]}}");
        market.world.apply("more.yaml", &manifests::service("shop/more", &spec));
        market.node.wait();
    };
    set("info");
    let before = debug();
    change();
    assert_eq!(debug(), before);
    set("weft_datapath=debug,weft_kubernetes=debug,info");
    eventually(Duration::from_secs(10), || {
        change();
        debug() > before
    });
    set("info");
    let after = debug();
    change();
    assert_eq!(debug(), after);
    let wrong = market.node.weft(&["log", "--set", "weft_datapath=loud"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", text(&wrong));
    assert!(text(&wrong).contains("weft_datapath=loud"), "{}", text(&wrong));
    assert!(text(&market.node.weft(&["log"])).contains("info"), "it is as it was");
}

#[test]
fn bpftool_shows_our_names_and_fields() {
    let Some(market) = Market::open() else { return };
    let programs = programs(&market.node);
    assert_eq!(programs.len(), 11, "{programs:?}");
    for name in &programs {
        assert!(names::program::ALL.contains(&name.as_str()), "{name}");
    }
    let dump =
        |map: &str| bpftool(&["map", "dump", "pinned", &market.node.map_pin(map).display().to_string()]);
    for (map, fields) in [
        ("weft_svc", &["addr", "port", "protocol", "generation", "slots"][..]),
        ("weft_pod", &["cookie", "ip4", "identity", "namespace"]),
        ("weft_pod_ip", &["netns", "policy", "flags"]),
        ("weft_backend", &["service", "addr", "port"]),
        ("weft_cfg", &["schema", "flags", "probe_cgroup"]),
    ] {
        let dump = dump(map);
        for field in fields {
            assert!(dump.contains(&format!("\"{field}\"")), "{field} of {map}:\n{dump}");
        }
    }
    for map in names::map::ALL {
        let shown: Value = serde_json::from_str(&bpftool(&[
            "-j",
            "map",
            "show",
            "pinned",
            &market.node.map_pin(map).display().to_string(),
        ]))
        .unwrap();
        assert_eq!(shown["name"], *map);
    }
}

/// Names of the programs that `weft status` lists, as the kernel has them.
fn programs(node: &Node) -> BTreeSet<String> {
    let status = node.weft_json(&["status"]);
    let attached =
        status["programs"].as_array().unwrap().iter().filter(|program| program["state"] == "attached");
    let name = |program: &Value| {
        let shown: Value =
            serde_json::from_str(&bpftool(&["-j", "prog", "show", "id", &program["id"].to_string()]))
                .unwrap();
        shown["name"].as_str().unwrap().to_owned()
    };
    attached.map(name).collect()
}

fn bpftool(arguments: &[&str]) -> String {
    let output = Command::new("bpftool").args(arguments).output().unwrap();
    assert!(output.status.success(), "bpftool {arguments:?}: {}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}
