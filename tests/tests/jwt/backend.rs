//! Keys behind a Service.

use serde_json::json;
use weft_tests::{manifests, soon};

use crate::{
    provider::{Key, Provider},
    stage::{READERS, Stage, TARGET},
};

#[test]
fn keys_are_fetched_from_the_endpoints_of_a_service_and_from_the_next_ones() {
    let Some(mut stage) = Stage::open(Some(READERS)) else { return };
    let readers = json!({"realm": {"groups": ["readers"]}});
    let key = Key::new("behind");
    let provider = Provider::serve(&key);
    // The Service's own address means nothing outside of pods; its endpoint is where the agent finds it.
    let service = "{clusterIP: 10.96.0.9, ports: [{name: http, port: 80}]}";
    stage.node.apply_and_wait("keys.yaml", &manifests::service("shop/keys", service));
    let endpoint = |provider: &Provider| {
        let (ports, ip) =
            (format!("[{{name: http, port: {}}}]", provider.address.port()), provider.address.ip());
        manifests::endpoint_slice("shop/keys", "1", "IPv4", &ports, &format!("[{{addresses: ['{ip}']}}]"))
    };
    stage.node.apply_and_wait("slice.yaml", &endpoint(&provider));
    let jwt = format!(
        "{{{TARGET}, jwt: [{{name: corp, issuer: 'https://idp.example', audiences: [shop], \
         jwks: {{backendRef: {{name: keys, port: 80, path: /jwks}}}}}}]}}"
    );
    stage.node.apply_and_wait("tokens.yaml", &manifests::authentication_policy("shop/api", &jwt));
    stage.gets(&stage.web, Some(&key.token(&readers)), (200, ""));
    stage.gets(&stage.web, Some(&stage.key.token(&readers)), (401, "TokenKey"));
    soon(|| stage.keys()["location"] == "Service shop/keys:80/jwks" && stage.keys()["failure"].is_null());

    let next = Key::new("next");
    let elsewhere = Provider::serve(&next);
    provider.breaks();
    stage.node.apply_and_wait("slice.yaml", &endpoint(&elsewhere));
    // An agent that starts fetches at once; nobody waits five minutes here.
    stage.agent.restart();
    stage.node.wait();
    stage.gets(&stage.web, Some(&next.token(&readers)), (200, ""));
}
