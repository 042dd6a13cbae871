//! What commands do beside showing tables.

use std::{
    fs,
    sync::atomic::Ordering,
    time::{Duration, SystemTime},
};

use crate::shop::{Shop, flow, usage_error};
use tokio::time::{Instant, sleep};
use weft_cli::Exit;
use weft_telemetry::api::{CertificateFailure, FlowKind};

#[tokio::test]
async fn without_an_agent_the_error_names_the_socket_and_the_remedy() {
    let shop = Shop::closed();
    for line in ["status", "get services", "observe", "bpf stat", "describe pod shop/web-1"] {
        let error = shop.ask(line).await.exit.unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("no agent answers at {}/agent.sock: ", shop.run_dir())),
            "{error}"
        );
        assert!(error.contains("--run-dir"), "{error}");
    }
}

#[tokio::test]
async fn status_waits_for_the_agent_and_then_for_its_kernel() {
    let shop = Shop::closed();
    shop.agent.enforced.store(11, Ordering::Relaxed);
    let start = Instant::now();
    let (answer, ()) = tokio::join!(shop.ask("status --wait 30s"), async {
        sleep(Duration::from_millis(100)).await;
        shop.start();
        sleep(Duration::from_millis(100)).await;
        shop.agent.enforced.store(12, Ordering::Relaxed);
    });
    assert!(matches!(answer.exit, Ok(Exit::Yes)), "{answer:?}");
    assert!(start.elapsed() >= Duration::from_millis(200), "it did not wait");
    assert!(answer.out.contains("version 12 is enforced"), "{}", answer.out);
    assert!(answer.out.contains("error: policies.yaml:12"), "rejected documents are listed: {}", answer.out);
}

#[tokio::test]
async fn status_gives_up_in_time_and_shows_what_there_is() {
    let shop = Shop::open();
    shop.agent.enforced.store(11, Ordering::Relaxed);
    let answer = shop.ask("status --wait 200ms").await;
    assert!(matches!(answer.exit, Ok(Exit::No)), "{answer:?}");
    assert!(answer.out.contains("version 12 was read, 11 is enforced"), "{}", answer.out);
    assert_eq!(answer.err, "weft: not enforced within 200ms\n");

    let answer = Shop::closed().ask("status --wait 100ms").await;
    assert!(matches!(answer.exit, Ok(Exit::No)), "{answer:?}");
    assert!(answer.err.contains("not enforced within 100ms: no agent answers at"), "{}", answer.err);
}

#[tokio::test]
async fn a_configuration_that_the_kernel_refused_is_not_healthy() {
    let shop = Shop::open();
    assert!(matches!(shop.ask("status").await.exit, Ok(Exit::Yes)));
    let full = weft_telemetry::api::Failure::new("weft_pod is full", "enrol fewer pods on this node");
    *shop.agent.failure.lock().unwrap() = Some(full);
    let answer = shop.ask("status").await;
    assert!(matches!(answer.exit, Ok(Exit::No)), "{answer:?}");
    assert!(answer.out.contains("weft_pod is full; enrol fewer pods on this node"), "{}", answer.out);
}

#[tokio::test]
async fn a_proxy_that_is_gone_is_not_healthy() {
    let shop = Shop::open();
    shop.agent.proxy_fails.store(true, Ordering::Relaxed);
    let answer = shop.ask("status").await;
    assert!(matches!(answer.exit, Ok(Exit::No)), "{answer:?}");
    let line =
        "Failing, none in force since 1970-01-01T00:00:02.000Z, ended 3 times unasked, 7 records lost\n";
    assert!(answer.out.contains(line), "{}", answer.out);
    assert!(answer.out.contains("the proxy with pid 4101 ended with exit status: 1\n"), "{}", answer.out);
}

#[tokio::test]
async fn an_issuer_that_is_away_is_not_healthy_and_says_so_loudly() {
    let shop = Shop::open();
    let since = (SystemTime::UNIX_EPOCH + Duration::from_secs(2)).into();
    let why = CertificateFailure { error: "there is no authority at /etc/weft/ca".into(), since, tries: 7 };
    *shop.agent.unissued.lock().unwrap() = Some(why);
    let said = "there is no authority at /etc/weft/ca; since 1970-01-01T00:00:02.000Z, tried 7 times\n";
    let answer = shop.ask("status").await;
    assert!(matches!(answer.exit, Ok(Exit::No)), "{answer:?}");
    assert!(answer.out.contains(&format!("Issuer failure:  {said}")), "{}", answer.out);
    let answer = shop.ask("get certificates").await;
    assert!(answer.out.contains(said), "{}", answer.out);
}

#[tokio::test]
async fn an_upgrade_that_fails_is_a_no_with_its_reason() {
    let shop = Shop::open();
    let failure = weft_telemetry::api::Failure::new("the proxy was not upgraded", "see its log");
    *shop.agent.failure.lock().unwrap() = Some(failure);
    let answer = shop.ask("proxy upgrade").await;
    assert!(matches!(answer.exit, Ok(Exit::No)), "{answer:?}");
    assert_eq!(answer.err, "weft: the proxy was not upgraded\n  see its log\n");
    let error = Shop::closed().ask("proxy upgrade").await.exit.unwrap_err().to_string();
    assert!(error.starts_with("no agent answers at "), "{error}");
}

#[tokio::test]
async fn authz_check_says_no_with_its_exit_code() {
    let shop = Shop::open();
    let allowed = shop.ask("authz check --from shop/web --to shop/api:80").await;
    let denied = shop.ask("authz check --from shop/cart --to shop/api:80").await;
    let unknown = shop.ask("authz check --from shop/cart --to shop/api:81").await;
    assert!(matches!(allowed.exit, Ok(Exit::Yes)), "{allowed:?}");
    assert!(matches!(denied.exit, Ok(Exit::No)), "{denied:?}");
    let error = unknown.exit.unwrap_err().to_string();
    assert_eq!(error, "Service shop/api has no port 81\n  its ports are 80");
}

#[tokio::test]
async fn explain_says_no_with_its_exit_code() {
    let shop = Shop::open();
    let passes = shop.ask("explain --from shop/web-1 --to shop/db:5432").await;
    let refused = shop.ask("explain --from shop/web-1 --to shop/api:80").await;
    let unknown = shop.ask("explain --from shop/web-1 --to shop/gone:80").await;
    assert!(matches!(passes.exit, Ok(Exit::Yes)), "{passes:?}");
    assert!(matches!(refused.exit, Ok(Exit::No)), "{refused:?}");
    let error = unknown.exit.unwrap_err().to_string();
    assert_eq!(error, "there is no Service shop/gone\n  see: weft get services");
}

#[tokio::test]
async fn observe_follows_until_the_agent_ends() {
    let shop = Shop::open();
    let (answer, ()) = tokio::join!(shop.ask("observe --follow --last 1 --pod shop/web-1 -o json"), async {
        sleep(Duration::from_millis(200)).await;
        shop.push(flow(7, FlowKind::Opened));
        sleep(Duration::from_millis(200)).await;
        shop.stop();
    });
    let times: Vec<_> = answer.out.lines().map(|line| line[9..33].to_owned()).collect();
    assert_eq!(times, ["1970-01-01T12:02:02.123Z", "1970-01-01T12:08:02.123Z"]);
    assert_eq!(answer.err, "weft: the agent ended\n");
    assert!(matches!(answer.exit, Ok(Exit::NotAsked)));
}

#[tokio::test]
async fn observe_shows_only_what_is_asked_for() {
    let shop = Shop::open();
    let lines = async |line: &str| shop.ask(line).await.out.lines().count();
    assert_eq!(lines("observe").await, 5);
    assert_eq!(lines("observe --last 2").await, 2);
    assert_eq!(lines("observe --verdict denied").await, 1);
    assert_eq!(lines("observe --pod cart-6d5f7c9b8-x2x4q").await, 2);
    assert_eq!(lines("observe -n elsewhere").await, 0);
    let labelled = lines("observe -l app=web").await;
    assert!((1..5).contains(&labelled), "{labelled}");
    assert_eq!(lines("observe --pod shop/web-1").await, labelled, "the only such pod");
    assert_eq!(lines("observe -l app=web,tier=none").await, 0);
}

#[tokio::test]
async fn observe_tells_requests_by_what_they_asked_for() {
    let shop = Shop::busy();
    let lines = async |line: &str| shop.ask(line).await.out.lines().count();
    assert_eq!(lines("observe").await, 10);
    assert_eq!(lines("observe --protocol http").await, 5);
    assert_eq!(lines("observe --protocol tcp").await, 5);
    assert_eq!(lines("observe --method post").await, 2);
    assert_eq!(lines("observe --http-path /v1").await, 3);
    assert_eq!(lines("observe --status 404").await, 1);
    assert_eq!(lines("observe --verdict denied --protocol http").await, 1);
}

/// Rates depend on the time; what does not is looked at.
fn without_rates(table: &str) -> Vec<Vec<&str>> {
    let lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines
        .map(|mut cells| {
            cells.remove(cells.len() - 5);
            cells
        })
        .collect()
}

#[tokio::test]
async fn stat_shows_the_last_minute_by_service_and_route() {
    let shop = Shop::busy();
    let answer = shop.ask("stat").await;
    assert_eq!(
        without_rates(&answer.out),
        [
            vec!["NAMESPACE", "SERVICE", "ROUTE", "REQUESTS", "SUCCESS", "P50", "P95", "P99"],
            vec!["shop", "api", "HTTPRoute", "canary", "2", "100.00%", "12ms", "13ms", "13ms"],
            vec!["shop", "api", "-", "1", "100.00%", "152us", "152us", "152us"],
            vec!["shop", "api", "GRPCRoute", "calls", "1", "0.00%", "1.2s", "1.2s", "1.2s"],
            vec!["shop", "web", "-", "1", "100.00%", "928us", "928us", "928us"],
        ],
        "{}",
        answer.out
    );
    let json: serde_json::Value = serde_json::from_str(&shop.ask("stat -o json").await.out).unwrap();
    assert_eq!(json[0]["requests"], 2);
    let millis = |key: &str| json[0][key].as_f64().unwrap();
    assert!(12.0 <= millis("p50Ms") && millis("p50Ms") <= millis("p99Ms"), "{json}");
    assert!(millis("rps") > 0.0 && millis("success") > 0.99, "{json}");
    assert_eq!(shop.ask("stat -n elsewhere").await.out.lines().count(), 1);
    assert!(matches!(answer.exit, Ok(Exit::Yes)));
}

#[tokio::test]
async fn top_is_written_once_into_a_pipe_and_where_it_is_asked_to() {
    let shop = Shop::busy();
    let piped = shop.ask("top --limit 2").await;
    assert_eq!(piped.out.lines().count(), 3, "{}", piped.out);
    let once = shop.ask_on("top --once", Some(80), false).await;
    assert_eq!((once.out.lines().count(), once.out.contains('\u{1b}')), (5, false), "{}", once.out);
}

#[tokio::test]
async fn top_draws_the_screen_anew_until_the_agent_ends() {
    let shop = Shop::busy();
    let top = shop.ask_on("top --interval 50", Some(80), false);
    let (answer, ()) = tokio::join!(top, async {
        sleep(Duration::from_millis(300)).await;
        shop.request();
        sleep(Duration::from_millis(300)).await;
        shop.stop();
    });
    assert!(matches!(answer.exit, Ok(Exit::NotAsked)), "{answer:?}");
    let drawn: Vec<_> = answer.out.split("\u{1b}[H").skip(1).collect();
    assert!(drawn.len() > 2, "{answer:?}");
    assert!(drawn.iter().all(|page| page.ends_with("\u{1b}[J")), "{answer:?}");
    let requests = |page: &str| page.contains(" HTTPRoute canary");
    assert!(drawn.iter().all(|page| requests(page)), "{answer:?}");
}

#[tokio::test]
async fn lists_can_be_of_one_namespace() {
    let shop = Shop::open();
    for kind in ["services", "endpoints", "workloads", "policies", "httproutes", "connections"] {
        let lines = async |n: &str| shop.ask(&format!("get {kind} -n {n}")).await.out.lines().count();
        assert!(lines("shop").await > 1, "{kind}");
        assert_eq!(lines("elsewhere").await, 1, "{kind}: the heading alone");
    }
}

#[tokio::test]
async fn an_agents_refusal_comes_with_its_remedy() {
    let error = Shop::open().ask("bpf policy").await.exit.unwrap_err().to_string();
    assert_eq!(error, "cannot read policy: permission denied\n  run the agent as root");
}

#[tokio::test]
async fn analyze_needs_no_agent_and_fails_on_errors_only() {
    let shop = Shop::closed();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("web.yaml");
    let analyze = async || shop.ask(&format!("analyze {}", file.display())).await;
    fs::write(&file, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n").unwrap();
    let good = analyze().await;
    assert_eq!(good.out, "no problems found\n");
    assert!(matches!(good.exit, Ok(Exit::Yes)));
    fs::write(&file, "apiVersion: v1\nkind: Service\nmetadata: {name: Shop!}\n").unwrap();
    let bad = analyze().await;
    assert!(bad.out.starts_with(&format!("error: {}:", file.display())), "{}", bad.out);
    assert!(matches!(bad.exit, Ok(Exit::No)));
    let missing = shop.ask("analyze /nowhere/at/all").await.exit.unwrap_err().to_string();
    assert!(missing.starts_with("there is no /nowhere/at/all\n  name files"), "{missing}");
}

#[test]
fn wrong_usage_says_what_is_right() {
    for (line, hint) in [
        ("describe pod web", "write NAMESPACE/NAME, like shop/web"),
        ("authz check --from shop/web --to shop/api", "write NAMESPACE/NAME:PORT, like shop/api:80"),
        ("status --wait soon", "write a time like 10s, 500ms or 1m30s"),
        ("observe --verdict dropped", "a verdict is FORWARDED, DENIED or AUDIT"),
        (
            "get gateways",
            "possible values: services, endpoints, workloads, policies, httproutes, grpcroutes, tlsroutes",
        ),
    ] {
        let error = usage_error(line);
        assert!(error.contains(hint), "{line}: {error}");
    }
}
