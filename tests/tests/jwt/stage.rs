//! What these tests begin with: one node with `web` and `api`, where `api` serves HTTP on port 8080 and takes the tokens
//! of a provider; and `plain`, which is not in the mesh.

use weft_tests::{Agent, Answer, Node, Pod, Server, World, manifests, soon};

use crate::provider::{Key, Provider};

/// Dropped from top to bottom: the agent before what it works on.
pub(crate) struct Stage {
    pub(crate) agent: Agent,
    _servers: Vec<Server>,
    pub(crate) web: Pod,
    pub(crate) plain: Pod,
    pub(crate) api: Pod,
    pub(crate) node: Node,
    pub(crate) key: Key,
    pub(crate) provider: Provider,
    _world: World,
}

/// Only who has a token of the group `readers` may do anything.
pub(crate) const READERS: &str =
    "action: ALLOW, rules: [{jwt: {provider: corp, claims: [{name: realm.groups, values: [readers]}]}}]";

impl Stage {
    /// With this AuthorizationPolicy of `api`, if any; `spec` is what follows `targetRefs`.
    pub(crate) fn open(spec: Option<&str>) -> Option<Self> {
        let world = World::new()?;
        let (node, key) = (world.node("a"), Key::new("first"));
        let provider = Provider::serve(&key);
        world.apply("namespace.yaml", &manifests::namespace("shop", true));
        let jwt = format!(
            "{{{TARGET}, jwt: [{{name: corp, issuer: 'https://idp.example', audiences: [shop], \
             jwks: {{uri: '{}'}}}}]}}",
            provider.uri()
        );
        world.apply("tokens.yaml", &manifests::authentication_policy("shop/api", &jwt));
        if let Some(spec) = spec {
            world.apply(
                "policy.yaml",
                &manifests::authorization_policy("shop/api", &format!("{{{TARGET}, {spec}}}")),
            );
        }
        let pod = |name: &str| node.pod(&format!("shop/{name}")).service_account(name).label("app", name);
        let (web, api) = (pod("web").start(), pod("api").start());
        let plain = node.pod("field/plain").enrolled(false).start();
        let servers = vec![api.serve_http(8080, "api"), api.serve_echo(9000)];
        let agent = node.agent();
        let stage = Self { agent, _servers: servers, web, plain, api, node, key, provider, _world: world };
        soon(|| stage.node.has_proxy());
        stage.node.wait();
        Some(stage)
    }

    /// What `GET /items` of `pod` is answered with, with this token.
    pub(crate) fn ask(&self, pod: &Pod, token: Option<&str>) -> std::io::Result<Answer> {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
        pod.http(self.api.addr(8080))?.ask(("GET", "/items"), &headers, &[])
    }

    /// Waits until that has this status and reason: the proxy may hear of keys after the kernel of the policy.
    #[track_caller]
    pub(crate) fn gets(&self, pod: &Pod, token: Option<&str>, (status, reason): (u16, &str)) -> Answer {
        let mut last = None;
        soon(|| {
            last = self.ask(pod, token).ok();
            last.as_ref()
                .is_some_and(|answer| (answer.status, answer.header("x-weft-reason")) == (status, reason))
        });
        last.unwrap()
    }

    /// The lines of the access log. The agent's own are no objects with a pod.
    pub(crate) fn logged(&self) -> Vec<serde_json::Value> {
        let log = self.agent.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        lines.filter(|line| line.get("src.pod").is_some()).collect()
    }

    /// What `weft status` says of the provider's keys.
    pub(crate) fn keys(&self) -> serde_json::Value {
        self.node.weft_json(&["status"])["jwks"][0].clone()
    }
}

pub(crate) const TARGET: &str = "targetRefs: [{group: \"\", kind: Pod, selector: {matchLabels: {app: api}}}]";
