//! What commands make of the answers of several agents.

use std::{
    collections::BTreeMap, fs::File, io::Read as _, os::unix::fs::MetadataExt as _, sync::atomic::Ordering,
    time::Duration,
};

use serde_json::Value;
use tokio::time::sleep;
use weft_cli::Exit;
use weft_telemetry::api::{Failure, FlowKind, HttpFlow};

use crate::shop::{Answer, Shop, ask_all, flow};

fn lines(answer: &Answer) -> Vec<Vec<&str>> {
    answer.out.lines().map(|line| line.split_whitespace().collect()).collect()
}

#[tokio::test]
async fn what_all_nodes_say_alike_is_shown_once() {
    let (one, two) = (Shop::of("n1"), Shop::of("n2"));
    for kind in ["services", "endpoints", "workloads", "policies", "httproutes"] {
        let line = format!("get {kind}");
        let (alone, both) = (one.ask(&line).await.out, ask_all(&[&one, &two], &line).await.out);
        let sorted = |text: &str| {
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&both), sorted(&alone), "{kind}");
    }
}

#[tokio::test]
async fn where_nodes_differ_a_column_names_those_that_say_so() {
    let (one, two) = (Shop::of("n1"), Shop::of("n2"));
    let alone = one.ask("get connections").await.out.lines().count();
    let both = ask_all(&[&two, &one], "get connections").await;
    let rows = lines(&both);
    assert_eq!(rows[0][0], "NODE", "{}", both.out);
    let nodes: Vec<_> = rows[1..].iter().map(|row| row[0]).collect();
    assert_eq!((nodes.len(), nodes.iter().filter(|node| **node == "n2").count()), (alone, 1), "{}", both.out);
    let json: Value =
        serde_json::from_str(&ask_all(&[&one, &two], "get connections -o json").await.out).unwrap();
    assert_eq!(json[0]["nodes"], serde_json::json!(["n1"]));
    assert!(json[0]["source"]["ip"].is_string(), "{json}");
    let chosen = ask_all(&[&one, &two], "get connections --node n2").await;
    assert_eq!((chosen.out.lines().count(), chosen.out.contains("NODE")), (2, false), "{}", chosen.out);
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_named_beside_what_the_others_say() {
    let (open, closed) = (Shop::of("n1"), Shop::closed_of("n2"));
    let answer = ask_all(&[&open, &closed], "get services").await;
    assert!(matches!(answer.exit, Ok(Exit::Yes)), "{answer:?}");
    assert!(answer.out.contains("shop"), "{}", answer.out);
    let said = format!("weft: {0}: no agent answers at {0}/agent.sock: ", closed.run_dir());
    assert!(answer.err.starts_with(&said), "{}", answer.err);
}

#[tokio::test]
async fn where_nobody_answers_all_are_named() {
    let (one, two) = (Shop::closed_of("n1"), Shop::closed_of("n2"));
    for line in ["get services", "observe", "observe --follow", "describe pod shop/web-1", "stat"] {
        let error = ask_all(&[&one, &two], line).await.exit.unwrap_err().to_string();
        assert!(error.starts_with("no agent answered\n"), "{line}: {error}");
        assert!(error.contains(&one.run_dir()) && error.contains(&two.run_dir()), "{line}: {error}");
    }
    let status = ask_all(&[&one, &two], "status").await;
    assert!(matches!(status.exit, Ok(Exit::NotAsked)), "{status:?}");
}

#[tokio::test]
async fn what_no_node_has_is_refused_once() {
    let (one, two) = (Shop::of("n1"), Shop::of("n2"));
    let error = ask_all(&[&one, &two], "describe pod shop/nobody").await.exit.unwrap_err().to_string();
    assert_eq!(error, "there is no such pod\n  see: weft get workloads");
    let error = ask_all(&[&one, &two], "describe httproute shop/nothing").await.exit.unwrap_err().to_string();
    assert_eq!(error, "there is no HTTPRoute shop/nothing\n  see: weft get httproutes");
}

#[tokio::test]
async fn a_node_that_there_is_not_is_named_with_those_that_there_are() {
    let (one, two) = (Shop::of("n1"), Shop::of("n2"));
    let error = ask_all(&[&one, &two], "get services --node n3").await.exit.unwrap_err().to_string();
    assert_eq!(error, "there is no agent of node n3\n  there are agents of n1, n2");
    let error = ask_all(&[&one, &two], "bpf services").await.exit.unwrap_err().to_string();
    assert_eq!(error, "what a kernel holds is of one node\n  name it with --node: n1, n2");
    let error = ask_all(&[&one, &two], "proxy upgrade").await.exit.unwrap_err().to_string();
    assert_eq!(error, "an upgrade is of one node\n  name it with --node: n1, n2");
    let (asked, alone) =
        (ask_all(&[&one, &two], "bpf services --node n2").await, two.ask("bpf services").await);
    assert_eq!(asked.out, alone.out);
}

#[tokio::test]
async fn status_is_a_line_for_each_node_and_no_where_one_is_not_well() {
    let (one, two) = (Shop::of("n1"), Shop::of("n2"));
    let well = ask_all(&[&one, &two], "status").await;
    assert!(matches!(well.exit, Ok(Exit::Yes)), "{well:?}");
    let rows = lines(&well);
    assert_eq!(rows[0], ["NODE", "AGENT", "VERSION", "SYNCED", "PODS", "PROXY", "RESTARTS", "AGE"]);
    assert_eq!(rows[1][..5], ["n1", "-", "0.1.0", "no:", "source"], "{}", well.out);
    assert_eq!(rows[2][0], "n2");
    assert_eq!(well.out.matches("error: policies.yaml:12").count(), 1, "the same problem is there once");
    assert!(well.out.contains("\nall "), "so is the same degradation: {}", well.out);

    let full = Failure::new("weft_pod is full", "enrol fewer pods on this node");
    *two.agent.failure.lock().unwrap() = Some(full);
    let ill = ask_all(&[&one, &two], "status").await;
    assert!(matches!(ill.exit, Ok(Exit::No)), "{ill:?}");
    assert!(ill.out.contains("\nn2: weft_pod is full; enrol fewer pods on this node\n"), "{}", ill.out);

    let gone = ask_all(&[&one, &Shop::closed_of("n3")], "status").await;
    assert!(matches!(gone.exit, Ok(Exit::No)), "{gone:?}");
    assert!(gone.out.contains("not heard") && gone.out.contains("no agent answers at"), "{}", gone.out);
    let json: Value = serde_json::from_str(&ask_all(&[&one, &two], "status -o json").await.out).unwrap();
    assert_eq!((&json[0]["healthy"], &json[1]["healthy"]), (&true.into(), &false.into()));
    assert_eq!(json[1]["status"]["node"], "n2");
}

#[tokio::test]
async fn status_waits_until_each_node_enforces() {
    let (one, two) = (Shop::of("n1"), Shop::of("n2"));
    two.agent.enforced.store(11, Ordering::Relaxed);
    let late = ask_all(&[&one, &two], "status --wait 300ms").await;
    assert!(matches!(late.exit, Ok(Exit::No)), "{late:?}");
    assert_eq!(late.err, "weft: not enforced on each node within 300ms\n");
    assert!(late.out.contains("no: 11 of 12"), "{}", late.out);
    let both = [&one, &two];
    let (answer, ()) = tokio::join!(ask_all(&both, "status --wait 30s"), async {
        sleep(Duration::from_millis(300)).await;
        two.agent.enforced.store(12, Ordering::Relaxed);
    });
    assert!(matches!(answer.exit, Ok(Exit::Yes)), "{answer:?}");
}

#[tokio::test]
async fn flows_of_all_nodes_are_shown_by_their_time() {
    let (one, two) = (Shop::of("n1"), Shop::of("n2"));
    let answer = ask_all(&[&two, &one], "observe --last 4 -o json").await;
    let flows: Vec<Value> = answer.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(flows.len(), 4, "as many as were asked for, of all nodes together: {}", answer.out);
    let times: Vec<_> = flows.iter().map(|flow| flow["time"].as_str().unwrap().to_owned()).collect();
    assert!(times.is_sorted(), "{times:?}");
    let nodes: Vec<_> = flows.iter().map(|flow| flow["node"].as_str().unwrap()).collect();
    assert_eq!(nodes, ["n1", "n2", "n1", "n2"]);
    let table = ask_all(&[&two, &one], "observe --last 1").await.out;
    assert!(table.starts_with("n2  12:"), "{table}");
}

#[tokio::test]
async fn flows_are_followed_until_the_last_agent_ends() {
    let (one, two) = (Shop::of("n1"), Shop::of("n2"));
    let both = [&one, &two];
    let (answer, ()) = tokio::join!(ask_all(&both, "observe --follow -o json"), async {
        sleep(Duration::from_millis(300)).await;
        two.push(flow(8, FlowKind::Opened));
        one.push(flow(7, FlowKind::Opened));
        sleep(Duration::from_millis(100)).await;
        one.stop();
        sleep(Duration::from_millis(200)).await;
        two.push(flow(9, FlowKind::Opened));
        sleep(Duration::from_millis(100)).await;
        two.stop();
    });
    let flows: Vec<Value> = answer.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = flows.iter().map(|flow| (flow["node"].as_str().unwrap(), &flow["time"])).collect();
    let at = |minute: u8| Value::from(format!("1970-01-01T12:{minute:02}:02.123Z"));
    assert_eq!(told, [("n1", &at(8)), ("n2", &at(9)), ("n2", &at(10))], "the earlier first: {}", answer.err);
    assert_eq!(answer.err, "weft: all agents ended\n");
    assert!(matches!(answer.exit, Ok(Exit::NotAsked)));
}

#[tokio::test]
async fn requests_of_all_nodes_add_up() {
    let (one, two) = (Shop::of("n1"), Shop::of("n2"));
    one.request();
    two.request();
    let json: Value = serde_json::from_str(&ask_all(&[&one, &two], "stat -o json").await.out).unwrap();
    let alone: Value = serde_json::from_str(&one.ask("stat -o json").await.out).unwrap();
    assert_eq!(json[0]["requests"].as_u64(), alone[0]["requests"].as_u64().map(|count| 2 * count));
    let top = ask_all(&[&one, &two], "top --once -o json").await;
    let top: Value = serde_json::from_str(&top.out).unwrap();
    assert_eq!(top[0]["requests"], json[0]["requests"]);
}

#[tokio::test]
async fn one_pod_is_described_by_its_own_node_and_asked_about_there() {
    let (one, two) = (Shop::of("n1"), Shop::of("n2"));
    for line in [
        "describe pod shop/web-1",
        "describe service shop/api",
        "explain --from shop/web-1 --to shop/db:5432",
        "authz check --from shop/web --to shop/api:80",
        "authz check --from shop/cart --to shop/api:80",
    ] {
        let (alone, both) = (one.ask(line).await, ask_all(&[&two, &one], line).await);
        assert_eq!(both.exit.unwrap(), alone.exit.unwrap(), "{line}");
        let same = |text: &str| text.lines().next().map(str::to_owned);
        assert_eq!(same(&both.out), same(&alone.out), "{line}");
    }
}

#[tokio::test]
async fn workloads_can_be_told_by_their_labels() {
    let shop = Shop::of("n1");
    let count = async |line: &str| shop.ask(line).await.out.lines().count();
    let all = count("get workloads -A").await;
    let api = count("get workloads -l app=api").await;
    assert!(1 < api && api < all, "{api} of {all}");
    assert_eq!(count("get workloads -l app=api,app=web").await, 1, "the heading alone");
    let error = shop.ask("get services -l app=api").await.exit.unwrap_err().to_string();
    assert_eq!(error, "--selector is asked of workloads\n  weft get workloads -l app=web");
}

/// The files of an archive.
fn files(path: &str) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(File::open(path).expect("it was written"));
    let entries = archive.entries().expect("it is an archive").map(|entry| {
        let mut entry = entry.expect("it is whole");
        let mut text = String::new();
        entry.read_to_string(&mut text).expect("it is text");
        (entry.path().expect("it has a name").display().to_string(), text)
    });
    entries.collect()
}

#[tokio::test]
async fn an_archive_holds_what_each_node_tells_and_what_is_missing_but_no_secret() {
    let (one, two, gone) = (Shop::of("n1"), Shop::of("n2"), Shop::closed_of("n3"));
    let secret = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlIn0.c2lnbmF0dXJl";
    let mut leak = flow(7, FlowKind::Request);
    leak.http = Some(Box::new(HttpFlow {
        method: "GET".into(),
        path: format!("/login/{secret}").into(),
        status: 200,
        latency_ms: 1.0,
        protocol: "HTTP/1.1".into(),
        authority: "api.shop".into(),
        grpc_status: None,
        route: None,
        response_flags: "-".into(),
    }));
    one.push(leak);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mesh.tar").display().to_string();
    let line = format!("diagnose --file {path}");
    let answer = ask_all(&[&one, &two, &gone], &line).await;
    assert!(matches!(answer.exit, Ok(Exit::No)), "one did not answer: {answer:?}");
    assert!(answer.out.contains("2 of 3 nodes"), "{}", answer.out);
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    let files = files(&path);
    for node in ["n1", "n2"] {
        for file in ["status.json", "services.json", "flows.ndjson", "metrics.txt", "bpf/services.json"] {
            assert!(!files[&format!("weft-diagnose/nodes/{node}/{file}")].is_empty(), "{node} {file}");
        }
    }
    let about = &files["weft-diagnose/about.json"];
    assert!(about.contains(&gone.run_dir()) && about.contains("cannot read policy"), "{about}");
    assert!(files["weft-diagnose/nodes/n1/flows.ndjson"].contains("/login/(removed)"));
    assert!(files.values().all(|text| !text.contains(secret)));
    let again = ask_all(&[&one], &line).await.exit.unwrap_err().to_string();
    assert!(again.starts_with(&format!("cannot write the archive {path}: File exists")), "{again}");
}
