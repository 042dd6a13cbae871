//! Rotations, by command and by age, while certificates of before live.

use std::time::{Duration, SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use weft_identity::{Clock, PrivateKey, Request, Svid, ca::SecretAuthority, controller::Roots};
use weft_model::ServiceAccount;
use weft_tests::text;

use super::{
    stage::{Stage, trust, verify},
    until,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_by_command_cuts_nothing() {
    let stage = Stage::open().await;
    let controllers = [stage.controller().await, stage.controller().await];
    let (one, two) = (stage.agent_token("n1").await, stage.agent_token("n2").await);
    let old_trust = stage.trust().await;
    let web = stage.agent(&one, &[&controllers[0]]).await.ask("web").await.unwrap();

    let output = stage.rotate(&["issuer"]);
    assert!(output.status.success() && text(&output).contains("weft-system/weft-ca"), "{}", text(&output));
    // An agent with the roots of before: it asks on, through all of it.
    let agents = [stage.agent(&one, &[&controllers[0]]).await, stage.agent(&two, &[&controllers[1]]).await];
    until("both replicas sign by the new issuer", async || {
        let web = agents[0].ask("web").await.unwrap();
        let api = agents[1].ask("api").await.unwrap();
        for svid in [&web, &api] {
            verify(&old_trust, svid).unwrap();
        }
        web.chain()[1] == api.chain()[1]
    })
    .await;

    let output = stage.rotate(&["root"]);
    assert!(output.status.success(), "{}", text(&output));
    let again = stage.rotate(&["root"]);
    assert_eq!(again.status.code(), Some(1), "{}", text(&again));
    until("both roots are published", async || stage.bundle().await.certificates().len() == 2).await;
    let mut api = agents[1].ask("api").await.unwrap();
    until("the new root's issuer signs", async || {
        api = agents[1].ask("api").await.unwrap();
        api.chain().len() == 3
    })
    .await;
    let both = stage.trust().await;
    for svid in [&web, &api] {
        for trust in [&old_trust, &both] {
            verify(trust, svid).unwrap();
        }
    }

    let early = stage.rotate(&["root", "--finish"]);
    assert_eq!(early.status.code(), Some(1), "{}", text(&early));
    let cut = stage.rotate(&["root", "--finish", "--overlap", "0s"]);
    assert!(cut.status.success(), "{}", text(&cut));
    until("the old root is gone", async || stage.bundle().await.certificates().len() == 1).await;
    let new = trust(&stage.bundle().await);
    verify(&new, &api).unwrap();
    assert!(verify(&new, &web).is_err(), "who cuts it off does that");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_grown_old_is_rotated_by_itself_and_cuts_nothing() {
    let stage = Stage::open().await;
    // The issuer's year has half a month left, and the ten years of the root have more than one and less than two.
    let ago = |days: u64| Clock::of_tokio(SystemTime::now() - Duration::from_hours(24 * days));
    let mut old = SecretAuthority::make("weft-system/weft-ca", "cluster.local", &[], &ago(3100)).unwrap();
    old.rotate_issuer(&ago(350)).unwrap();
    let issuer = old.issuer().unwrap();
    let key = PrivateKey::generate().unwrap();
    let request = Request::parse(&Request::by(&key).unwrap()).unwrap();
    let account = ServiceAccount::new("shop", "web");
    let chain = issuer.sign(&request, &account, Duration::from_hours(24), SystemTime::now()).unwrap();
    let before = Svid::new(chain, key).unwrap();
    let old_trust = trust(&Roots::parse(&issuer.roots_pem()).unwrap());
    let values = old.into_values().into_iter().map(|(key, value)| (key, STANDARD.encode(value)));
    let data: serde_json::Map<_, _> = values.map(|(key, value)| (key, value.into())).collect();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": "weft-ca", "namespace": "weft-system"}, "data": data});
    stage.server.apply(&secret).await;

    let controllers = [stage.controller().await, stage.controller().await];
    until("issuer and root are new, the old root is trusted", async || {
        let now = stage.secret().await;
        let is_new = |key: &str| now[key] != secret["data"][key].as_str().unwrap_or_default();
        is_new("issuer.pem") && stage.bundle().await.certificates().len() == 2
    })
    .await;
    let agents = [
        stage.agent(&stage.agent_token("n1").await, &[&controllers[0]]).await,
        stage.agent(&stage.agent_token("n2").await, &[&controllers[1]]).await,
    ];
    let mut new = agents[0].ask("web").await.unwrap();
    until("both replicas sign by what is new", async || {
        new = agents[0].ask("web").await.unwrap();
        let other = agents[1].ask("api").await.unwrap();
        new.chain()[1..] == other.chain()[1..] && new.chain()[1] != before.chain()[1]
    })
    .await;
    // Nodes hear of it in whatever order: all that is alive is good for those that have heard and those that have not.
    let both = stage.trust().await;
    for svid in [&before, &new] {
        for trust in [&old_trust, &both] {
            verify(trust, svid).unwrap();
        }
    }
    for controller in &controllers {
        assert_eq!(controller.metric("weft_controller_authority_failing", ""), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_is_trusted_for_as_long_as_the_mesh_has_its_certificates_live() {
    let stage = Stage::open().await;
    let ago = |days: u64| Clock::of_tokio(SystemTime::now() - Duration::from_hours(24 * days));
    let mut rotated = SecretAuthority::make("weft-system/weft-ca", "cluster.local", &[], &ago(60)).unwrap();
    rotated.rotate_root(&ago(20)).unwrap();
    let values = rotated.into_values().into_iter().map(|(key, value)| (key, STANDARD.encode(value)));
    let data: serde_json::Map<_, _> = values.map(|(key, value)| (key, value.into())).collect();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": "weft-ca", "namespace": "weft-system"}, "data": data});
    stage.server.apply(&secret).await;
    let lives = async |ttl: &str| {
        let mesh = json!({"apiVersion": "weft.dev/v1alpha1", "kind": "MeshConfig", "metadata": {"name": "default"},
            "spec": {"certificates": {"ttl": ttl}}});
        until("the kind is served", async || stage.server.try_apply(&mesh).await).await;
    };
    lives("720h").await;
    let early = stage.rotate(&["root", "--finish"]);
    assert_eq!(early.status.code(), Some(1), "{}", text(&early));
    assert_eq!(stage.secret().await["roots.pem"], secret["data"]["roots.pem"].as_str().unwrap());
    lives("48h").await;
    let finished = stage.rotate(&["root", "--finish"]);
    assert!(finished.status.success(), "{}", text(&finished));
}
