//! Who gets nothing, whatever he has.

use std::{
    io::{Read as _, Write as _},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use weft_model::PROGRAMMED;

use super::{process::Controller, stage::Stage, tokens::with_claims};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_one_node_gets_no_identity_of_another() {
    let stage = Stage::open().await;
    let controller = stage.controller().await;
    let stolen = stage.agent(&stage.agent_token("n1").await, &[&controller]).await;
    assert_eq!(stolen.refused("api").await, "NoPodThere", "api runs on n2 alone");
    stolen.ask("web").await.unwrap();
    let own = stage.agent(&stage.agent_token("n2").await, &[&controller]).await;
    own.ask("api").await.unwrap();
    assert_eq!(own.refused("web").await, "NoPodThere");
    // Nor of agents and controllers themselves, and nobody's that does not exist.
    for account in ["weft-agent", "default"] {
        assert_eq!(stolen.refused(account).await, "NoPodThere", "{account}");
    }
    assert!(controller.metric("weft_controller_refusals_total", "NoPodThere") >= 4);
    assert!(
        controller.log().contains("no pod of ServiceAccount shop/api that is in the mesh runs on n1 now")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_token_of_an_agents_pod_is_one() {
    let stage = Stage::open().await;
    let controller = stage.controller().await;
    let node = stage.uid("Node", "n1").await;
    let pod = stage.uid("Pod", "weft-n1").await;
    let good = stage.agent_token("n1").await;
    let other_account = super::tokens::token(&stage.server, "weft-controller", Some("weft-ca"), None).await;
    let (head, rest) = good.split_once('.').unwrap();
    let table = [
        // For the API server: what every pod has.
        (stage.token(None, Some(("Pod", "weft-n1", &pod))).await, "TokenBad"),
        (stage.token(Some("weft"), Some(("Pod", "weft-n1", &pod))).await, "TokenBad"),
        (stage.token(Some("weft-ca"), None).await, "TokenUnbound"),
        (stage.token(Some("weft-ca"), Some(("Node", "n1", &node))).await, "TokenUnbound"),
        (other_account, "NotAnAgent"),
        ("admin-token".to_owned(), "TokenBad"),
        (format!("{head}.{}", rest.replacen('.', "A.", 1)), "TokenBad"),
        (with_claims(&stage.server, &good, |claims| claims["exp"] = 1_700_000_000.into()), "TokenBad"),
        // Signed by the very key, as nobody can: another node than the pod's is seen all the same.
        (
            with_claims(&stage.server, &good, |claims| claims["kubernetes.io"]["node"]["name"] = "n2".into()),
            "AgentGone",
        ),
        (String::new(), "TokenMissing"),
    ];
    for (token, reason) in table {
        let agent = stage.agent(&token, &[&controller]).await;
        assert_eq!(agent.refused("web").await, reason, "{token}");
        assert!(controller.metric("weft_controller_refusals_total", reason) > 0, "{reason}");
    }
    let same = with_claims(&stage.server, &good, |_| ());
    stage.agent(&same, &[&controller]).await.ask("web").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_of_a_pod_that_is_gone_is_good_for_nothing() {
    let stage = Stage::open().await;
    let controller = stage.controller().await;
    let token = stage.agent_token("n1").await;
    let agent = stage.agent(&token, &[&controller]).await;
    agent.ask("web").await.unwrap();
    stage.server.delete(&super::stage::pod("weft-system", "weft-n1", "weft-agent", "n1")).await;
    let gone = tokio::time::Instant::now();
    super::until("it is not taken any more", async || agent.ask("web").await.is_err()).await;
    assert!(gone.elapsed() < Duration::from_secs(10), "{:?}", gone.elapsed());
    // Another pod of that name is not the one whose token it is.
    stage.server.apply(&super::stage::pod("weft-system", "weft-n1", "weft-agent", "n1")).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let reason = agent.refused("web").await;
    assert!(["AgentGone", "TokenBad"].contains(&reason.as_str()), "{reason}");
    let fresh = stage.agent_token("n1").await;
    stage.agent(&fresh, &[&controller]).await.ask("web").await.unwrap();
}

/// A report may have 4 MiB: whoever may not report is told so before he has sent one of them, or he could fill its memory.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_stranger_no_more_than_the_head_is_read() {
    let stage = Stage::open().await;
    let controller = stage.controller().await;
    let began = Instant::now();
    for token in ["", "authorization: Bearer nobody\r\n"] {
        let answer = answer_to_a_head(
            &controller,
            &format!("POST {PROGRAMMED} HTTP/1.1\r\nhost: it\r\n{token}content-length: 4000000\r\n\r\n"),
        );
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(10), "whoever waits for a body does so for 15 s");
}

/// What `head` is answered by, where nothing follows it.
fn answer_to_a_head(controller: &Controller, head: &str) -> String {
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", &controller.address.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Held until the end: at the end of its input it would leave.
    let mut stdin = client.stdin.take().unwrap();
    stdin.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    client.stdout.take().unwrap().read_to_string(&mut answer).unwrap();
    client.wait().unwrap();
    answer
}
