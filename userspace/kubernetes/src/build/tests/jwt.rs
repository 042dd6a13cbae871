//! Whose tokens a pod of this node takes.

use weft_model::{JwksSource, ObjectName, TokenHeader};

use super::{World, pod, shop};

const KEYS: &str =
    r#"'{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}]}'"#;
const ALL: &str = "{kind: Pod, selector: {}}";
const ONLY_WEB: &str = "{kind: Pod, selector: {matchLabels: {app: web}}}";

fn policy(name: &str, target: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: weft.dev/v1alpha1, kind: AuthenticationPolicy, metadata: {{name: {name}, namespace: shop}}, \
         spec: {{targetRefs: [{target}], {spec}}}}}"
    )
}

/// A provider of this name, and what else is said of it.
fn jwt(name: &str, rest: &str) -> String {
    format!("jwt: [{{name: {name}, issuer: 'https://{name}.example', jwks: {{inline: {KEYS}}}{rest}}}]")
}

fn web() -> String {
    pod("web", "10.0.0.1", "spec: {nodeName: n1},")
}

/// The providers of `web`.
fn providers(world: &mut World) -> Vec<String> {
    let built = world.built();
    let providers = built.jwt.get(&shop("web")).map(|providers| providers.iter());
    providers.into_iter().flatten().map(|provider| provider.name.to_string()).collect()
}

#[test]
fn a_provider_is_what_the_policy_says_and_the_usual_where_it_says_nothing() {
    let mut world = World::new(&[&web(), &policy("all", ALL, &jwt("corp", ""))]);
    let provider = world.built().jwt[&shop("web")][0].clone();
    assert_eq!((&*provider.issuer, provider.forward), ("https://corp.example", false));
    assert_eq!(provider.audiences, [] as [std::sync::Arc<str>; 0]);
    assert_eq!(provider.headers, [TokenHeader { name: "authorization".into(), prefix: "Bearer ".into() }]);
    assert!(matches!(&provider.keys, JwksSource::Inline(jwks) if jwks.keys.len() == 1));
    assert_eq!(provider.keys.location(), None);

    let rest = ", audiences: [shop, till], forwardOriginalToken: true, \
                fromHeaders: [{name: X-Token}, {name: AUTHORIZATION}, {name: x-other, prefix: 'JWT '}]";
    world.put("1.yaml", &policy("all", ALL, &jwt("corp", rest)));
    let provider = world.built().jwt[&shop("web")][0].clone();
    assert_eq!(provider.audiences, ["shop".into(), "till".into()]);
    assert!(provider.forward);
    let headers = provider.headers.iter().map(|header| (&*header.name, &*header.prefix));
    assert_eq!(
        headers.collect::<Vec<_>>(),
        [("x-token", ""), ("authorization", "Bearer "), ("x-other", "JWT ")]
    );
}

#[test]
fn keys_elsewhere_have_a_place_that_is_told() {
    let keys = |jwks: &str| {
        let spec = format!("jwt: [{{name: corp, issuer: corp, jwks: {jwks}}}]");
        World::new(&[&web(), &policy("all", ALL, &spec)]).built().jwt[&shop("web")][0].keys.clone()
    };
    let uri = keys("{uri: 'https://idp.example:8443/jwks?v=1'}");
    assert_eq!(uri.location().as_deref(), Some("https://idp.example:8443/jwks?v=1"));
    let service = keys("{backendRef: {name: idp, port: 8080}}");
    let path = "/.well-known/jwks.json".into();
    assert_eq!(service, JwksSource::Service { name: ObjectName::new("shop", "idp"), port: 8080, path });
    let own = keys("{backendRef: {name: idp, namespace: shop, port: 8080, path: /certs}}");
    assert_eq!(own.location().as_deref(), Some("Service shop/idp:8080/certs"));
}

#[test]
fn a_more_specific_policy_has_its_own_providers_and_none_of_the_others() {
    let mut world = World::new(&[&web(), &policy("all", ALL, &jwt("corp", ""))]);
    assert_eq!(providers(&mut world), ["corp"]);
    world.put("some.yaml", &policy("some", ONLY_WEB, &jwt("partner", "")));
    assert_eq!(providers(&mut world), ["partner"]);
    world.put("first.yaml", &policy("first", ONLY_WEB, &jwt("first", "")));
    assert_eq!(providers(&mut world), ["first"], "of two at one level, the first by name");
    world.put("first.yaml", &policy("first", ONLY_WEB, "mtls: {mode: Strict}"));
    assert_eq!(providers(&mut world), ["partner"], "one that says nothing of tokens is none of the two");
    world.put("some.yaml", &policy("some", ONLY_WEB, "jwt: []"));
    assert_eq!(providers(&mut world), [""; 0], "one that names nobody takes the others away");
    world.remove("some.yaml");
    assert_eq!(providers(&mut world), ["corp"]);
    world.remove("1.yaml");
    assert_eq!(providers(&mut world), [""; 0]);
}

#[test]
fn pods_of_other_nodes_are_their_own_proxys_business() {
    let elsewhere = pod("web", "10.0.0.1", "spec: {nodeName: n2},");
    assert_eq!(providers(&mut World::new(&[&elsewhere, &policy("all", ALL, &jwt("corp", ""))])), [""; 0]);
}

const ENROLLED: &str =
    "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {weft.dev/mesh: enabled}}}";
const ONLY_API: &str = "{kind: Pod, selector: {matchLabels: {app: api}}}";

/// An AuthorizationPolicy whose rule asks for tokens of this provider.
fn asks(target: &str, action: &str, provider: &str) -> String {
    format!(
        "{{apiVersion: weft.dev/v1alpha1, kind: AuthorizationPolicy, metadata: {{name: asks, namespace: shop}}, \
         spec: {{targetRefs: [{target}], action: {action}, rules: [{{sources: []}}, {{jwt: {{provider: {provider}}}}}]}}}}"
    )
}

#[test]
fn a_rule_that_asks_for_tokens_which_nobody_verifies_is_told() {
    let documents = [&web(), &asks(ONLY_WEB, "ALLOW", "corp"), &policy("tokens", ONLY_WEB, &jwt("corp", ""))];
    let mut world = World::new(&documents.map(String::as_str));
    world.put("shop.yaml", ENROLLED);
    assert_eq!(world.notices(), Vec::<String>::new());

    world.put("1.yaml", &asks(ONLY_WEB, "ALLOW", "crop"));
    let notices = world.built().notices.values().flatten().cloned().collect::<Vec<_>>();
    assert_eq!(notices[0].finding.field, "spec.rules[1].jwt.provider");
    let told = world.notices().join("\n");
    assert!(told.contains("AuthorizationPolicy shop/asks") && told.contains("provider crop"), "{told}");
    assert!(told.contains("takes tokens of corp") && told.contains("allows nobody"), "{told}");
    world.put("1.yaml", &asks(ONLY_WEB, "DENY", "crop"));
    assert!(world.notices().join("\n").contains("denies nobody"), "{:?}", world.notices());

    // An AuthenticationPolicy that changes, goes or comes is enough to change it.
    world.put("1.yaml", &asks(ONLY_WEB, "DENY", "corp"));
    assert_eq!(world.notices(), Vec::<String>::new());
    world.put("2.yaml", &policy("tokens", ONLY_API, &jwt("corp", "")));
    let told = world.notices().join("\n");
    assert!(told.contains("no AuthenticationPolicy has tokens verified for Pod shop/web"), "{told}");
    assert!(told.contains("denies whatever its other parts match"), "{told}");
    world.put("2.yaml", &policy("tokens", ALL, &jwt("corp", "")));
    assert_eq!(world.notices(), Vec::<String>::new());
    world.remove("2.yaml");
    assert_eq!(world.notices().len(), 1);
    world.remove("0.yaml");
    assert_eq!(world.notices(), Vec::<String>::new(), "there is no such pod");
}

#[test]
fn a_routes_policy_that_asks_for_tokens_is_told() {
    let route = "{group: gateway.networking.k8s.io, kind: HTTPRoute, name: web}";
    let documents = [&asks(route, "ALLOW", "corp"), &policy("tokens", ALL, &jwt("corp", ""))];
    let mut world = World::new(&documents.map(String::as_str));
    let told = world.notices().join("\n");
    assert!(told.contains("no token is verified where a route is taken"), "{told}");
}
