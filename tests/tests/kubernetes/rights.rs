//! What the mesh's accounts may do is what they do: by the API server's own log of who has asked for what.
//!
//! It is looked at after all other tests: installations, removals, restarts and pods that start without an agent are in it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::{fmt, fs};

use serde_json::Value;
use weft_tests::eventually;

use crate::agents::{Agent, PATIENCE, SYSTEM};
use crate::cluster;
use crate::stage::Stage;

#[test]
fn each_right_that_is_given_is_used_and_none_is_missing() {
    let stage = Stage::two_versions("rights");
    every_kind_has_a_status(&stage);
    a_pod_starts_without_an_agent(&stage);
    an_agent_ends_and_is_replaced();
    let given = given();
    assert!(given.len() > 40, "{given:#?}");
    let unused = || {
        let used = asked().used;
        given
            .iter()
            .filter(|right| !used.contains(right) && !is_for_occasions(right))
            .cloned()
            .collect::<Vec<_>>()
    };
    let began = std::time::Instant::now();
    while !unused().is_empty() && began.elapsed() < PATIENCE {
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    let unused: Vec<_> = unused().iter().map(Right::to_string).collect();
    assert!(unused.is_empty(), "nobody uses {unused:#?}");
    let refused = asked().refused;
    assert!(refused.is_empty(), "the API server has refused {refused:#?}");
}

/// An object of each kind, and one that is not accepted.
fn every_kind_has_a_status(stage: &Stage) {
    stage.apply(ONE_OF_EACH);
    for (kind, parents) in [("httproute", "parents"), ("trafficpolicy", "ancestors")] {
        let path = format!(
            "--output=jsonpath={{.status.{parents}[0].conditions[?(@.type==\"Programmed\")].status}}"
        );
        eventually(PATIENCE, || stage.ok(&["get", kind, "rights", &path]) == "True");
    }
    let events = || stage.ok(&["get", "events", "--output=jsonpath={.items[*].involvedObject.name}"]);
    eventually(PATIENCE, || events().split(' ').any(|name| name == "lost"));
}

/// Its plugin asks the API server, by its own account: the agent's socket is out of its sight.
fn a_pod_starts_without_an_agent(stage: &Stage) {
    let [one, _] = cluster::two_nodes();
    let outside = Stage::outside("without-agent");
    let step = |script: &str| cluster::of_this_machine(&["exec", &one, "sh", "-c", script]);
    step("mv /run/weft/agent.sock /run/weft/away.sock");
    let run = ["run", "early", "--image", crate::stage::IMAGE, "--image-pull-policy=IfNotPresent"];
    let on_node = format!("{{\"spec\": {{\"nodeName\": \"{one}\"}}}}");
    outside.ok(&[&run[..], &["--overrides", &on_node]].concat());
    let ready = outside.kubectl(&["wait", "pod/early", "--for=condition=Ready", "--timeout=60s"]);
    step("mv /run/weft/away.sock /run/weft/agent.sock");
    ready.expect("a pod that is not in the mesh needs no agent");
    assert!(stage.ask("web", &["http://api/"]).is_ok());
}

fn an_agent_ends_and_is_replaced() {
    let [one, _] = cluster::two_nodes();
    let agent = Agent::on(&one);
    cluster::as_with_cgroup_v2();
    cluster::ok(&["delete", "pod", &agent.pod, "--namespace", SYSTEM, "--wait"]);
    eventually(PATIENCE, || Agent::all().iter().any(|now| now.node == one && now.uid != agent.uid));
    Agent::on(&one).settle();
}

/// What an account may do, or does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    account: String,
    verb: String,
    group: String,
    /// With its subresource.
    resource: String,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { account, verb, group, resource } = self;
        write!(f, "{account}: {verb} {resource}")?;
        if group.is_empty() { Ok(()) } else { write!(f, ".{group}") }
    }
}

/// What the installed roles give.
fn given() -> BTreeSet<Right> {
    let system = ["--namespace", SYSTEM, "--selector=app.kubernetes.io/name=weft"];
    let all = |kinds: &str| {
        let found = cluster::objects(&[&["get", kinds][..], &system].concat());
        found["items"].as_array().cloned().unwrap_or_default()
    };
    let roles = all("roles,clusterroles");
    let mut rights = BTreeSet::new();
    for binding in all("rolebindings,clusterrolebindings") {
        let is_bound = |role: &&Value| {
            role["kind"] == binding["roleRef"]["kind"]
                && role["metadata"]["name"] == binding["roleRef"]["name"]
        };
        let role = roles.iter().find(is_bound).unwrap_or_else(|| panic!("no role for {binding}"));
        for rule in role["rules"].as_array().into_iter().flatten() {
            for account in texts(&binding["subjects"], "name") {
                rights.extend(of_rule(&account, rule));
            }
        }
    }
    rights
}

fn of_rule(account: &str, rule: &Value) -> Vec<Right> {
    let words = |field: &str| -> Vec<String> {
        let all = rule[field].as_array().cloned().unwrap_or_default();
        all.iter().filter_map(|word| word.as_str().map(str::to_owned)).collect()
    };
    let mut rights = Vec::new();
    for (group, resource) in words("apiGroups")
        .iter()
        .flat_map(|group| words("resources").into_iter().map(move |resource| (group.clone(), resource)))
    {
        rights.extend(words("verbs").into_iter().map(|verb| Right {
            account: account.to_owned(),
            verb,
            group: group.clone(),
            resource: resource.clone(),
        }));
    }
    rights
}

fn texts(list: &Value, field: &str) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|one| one[field].as_str().map(str::to_owned)).collect()
}

#[derive(Default)]
struct Asked {
    used: BTreeSet<Right>,
    refused: BTreeSet<String>,
}

/// What the mesh's accounts have asked, since the cluster is there.
fn asked() -> Asked {
    let log = std::env::var_os("WEFT_AUDIT_LOG").expect("`cargo xtask test --tier cluster` says where it is");
    let log = PathBuf::from(log);
    let folder = log.parent().expect("it lies in a folder");
    let mut asked = Asked::default();
    // A log that has grown too long is put aside under a longer name.
    for file in fs::read_dir(folder).expect("it is there").flatten().map(|entry| entry.path()) {
        if file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("audit")) {
            let text = fs::read_to_string(&file).expect("it can be read");
            text.lines().filter(|line| line.contains(ACCOUNTS)).for_each(|line| take(line, &mut asked));
        }
    }
    asked
}

fn take(line: &str, asked: &mut Asked) {
    // Of a line that is being written the rest is missing.
    let Ok(event) = serde_json::from_str::<Value>(line) else { return };
    let user = event["user"]["username"].as_str().unwrap_or_default();
    let Some(account) = user.strip_prefix(ACCOUNTS) else { return };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (object, resource) = (&event["objectRef"], text(&event["objectRef"]["resource"]));
    let resource = match text(&object["subresource"]) {
        none if none.is_empty() => resource,
        subresource => format!("{resource}/{subresource}"),
    };
    let right = Right {
        account: account.to_owned(),
        verb: text(&event["verb"]),
        group: text(&object["apiGroup"]),
        resource,
    };
    if event["annotations"]["authorization.k8s.io/decision"] == "allow" {
        asked.used.insert(right);
    } else {
        asked.refused.insert(format!("{right} ({})", text(&event["requestURI"])));
    }
}

/// Whether it is for what this cluster, or an hour, does not bring about.
fn is_for_occasions(right: &Right) -> bool {
    let Right { verb, resource, .. } = right;
    // By API servers that do not stream lists: 1.33.
    verb == "list"
        // Where another controller has written a status in the same moment (`statuses` of weft-kubernetes).
        || verb == "get" && ["routes", "xmeshes", "policies", "meshconfigs"].iter().any(|kind| resource.ends_with(kind))
            && right.account == "weft-controller"
        // When the issuer has to be renewed, and by a root that is made anew (`rotated` of the controller's tests).
        || verb == "update" && ["secrets", "configmaps"].contains(&resource.as_str())
}

const ACCOUNTS: &str = "system:serviceaccount:weft-system:";
const ONE_OF_EACH: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: rights}
spec:
  parentRefs: [{group: '', kind: Service, name: api, port: 80}]
  rules: [{backendRefs: [{name: api-v1, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: lost}
spec:
  parentRefs: [{group: '', kind: Service, name: nobody, port: 80}]
  rules: [{backendRefs: [{name: api-v1, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: rights}
spec:
  parentRefs: [{group: '', kind: Service, name: api, port: 7070}]
  rules: [{backendRefs: [{name: api-v1, port: 7070}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: rights}
spec:
  parentRefs: [{group: '', kind: Service, name: api, port: 9090}]
  rules: [{backendRefs: [{name: api-v1, port: 9090}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: rights}
spec:
  parentRefs: [{group: '', kind: Service, name: api-v2, port: 9090}]
  hostnames: [api.example.org]
  rules: [{backendRefs: [{name: api-v1, port: 9090}]}]
---
apiVersion: weft.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: rights}
spec:
  targetRefs: [{group: '', kind: Service, name: api}]
  timeouts: {request: 9s}
---
apiVersion: weft.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: rights}
spec:
  targetRefs: [{group: '', kind: Pod, selector: {matchLabels: {app: api}}}]
  rules: [{sources: [{type: ServiceAccount, serviceAccount: {namespace: NAMESPACE, name: web}}]}]
---
apiVersion: weft.dev/v1alpha1
kind: AuthenticationPolicy
metadata: {name: rights}
spec:
  targetRefs: [{group: '', kind: Pod, selector: {matchLabels: {app: api}}}]
  mtls: {mode: Permissive}
---
apiVersion: weft.dev/v1alpha1
kind: TelemetryPolicy
metadata: {name: rights}
spec:
  targetRefs: [{group: '', kind: Service, name: api}]
  accessLog: {mode: Disabled}
---
apiVersion: weft.dev/v1alpha1
kind: MeshConfig
metadata: {name: default}
spec: {}
---
apiVersion: gateway.networking.x-k8s.io/v1alpha1
kind: XMesh
metadata: {name: rights}
spec: {controllerName: weft.dev/controller}
";
