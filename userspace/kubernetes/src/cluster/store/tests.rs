use std::{path::PathBuf, time::Duration};

use serde_json::json;
use weft_model::{Passage, Severity};

use super::*;
use crate::{object::Kind, release};

const GATEWAY: &str = "gateway.networking.k8s.io/v1";
const WEFT: &str = "weft.dev/v1alpha1";

/// A store on node `n1` whose kinds are told by hand.
struct Cluster {
    store: Store,
    now: Instant,
}

impl Cluster {
    fn new() -> Self {
        Self::after(None)
    }

    fn after(kept: Option<Kept>) -> Self {
        let store = Store::new("n1".into(), false, kept);
        Self { store, now: Instant::now() }
    }

    /// As [`Cluster::new`], with these objects, and all that there is listed.
    fn synced(objects: &[(Kind, Value)]) -> Self {
        let mut cluster = Self::new();
        cluster.sync(objects);
        cluster
    }

    fn sync(&mut self, objects: &[(Kind, Value)]) {
        let optional = [(Kind::HttpRoute, GATEWAY), (Kind::AuthorizationPolicy, WEFT)];
        for (kind, version) in optional {
            self.store.expect(kind, Resource::optional(kind, version));
        }
        self.store.know_kinds(&optional.map(|(kind, _)| kind));
        for kind in CORE.into_iter().chain(optional.map(|(kind, _)| kind)) {
            let of_it = objects.iter().filter(|(other, _)| *other == kind);
            self.list(kind, of_it.map(|(_, object)| object.clone()).collect());
        }
        assert!(self.store.is_settled(self.now));
    }

    fn tell(&mut self, kind: Kind, told: Told) {
        self.store.take(kind, told, self.now);
    }

    fn list(&mut self, kind: Kind, objects: Vec<Value>) {
        self.tell(kind, Told::Listing);
        for object in objects {
            self.tell(kind, Told::Is(object));
        }
        self.tell(kind, Told::Listed);
    }

    fn snapshot(&mut self) -> Arc<Snapshot> {
        self.store.snapshot().expect("something is known")
    }

    fn place(&mut self, paths: &[(&str, &str)]) -> bool {
        let network = |path: &str| Network { path: path.into(), ips: None };
        self.store.place(paths.iter().map(|(uid, path)| ((*uid).into(), network(path))).collect())
    }

    fn netns(&mut self, pod: &str) -> Option<PathBuf> {
        self.snapshot().workloads.get(&ObjectName::new("shop", pod))?.netns.clone()
    }
}

fn namespace(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"weft.dev/mesh": "enabled"}}})
}

fn service(name: &str, ip: &str) -> Value {
    let ports = json!([{"port": 80, "protocol": "TCP", "targetPort": 8080}]);
    json!({"metadata": {"name": name, "namespace": "shop"}, "spec": {"clusterIP": ip, "clusterIPs": [ip], "ports": ports}})
}

fn pod(name: &str, node: &str, ip: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}")},
        "spec": {"nodeName": node, "serviceAccountName": "web"},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}
    })
}

fn policy(action: &str) -> Value {
    json!({
        "metadata": {"name": "p", "namespace": "shop"},
        "spec": {
            "targetRefs": [{"group": "", "kind": "Pod", "selector": {}}], "action": action,
            "rules": [{"sources": [{"type": "CIDR", "cidr": "10.8.0.0/16"}]}]
        }
    })
}

fn services(snapshot: &Snapshot) -> Vec<String> {
    snapshot.services.keys().map(|name| name.name.to_string()).collect()
}

#[test]
fn nothing_is_known_before_every_kind_was_listed() {
    let mut cluster = Cluster::new();
    for kind in CORE {
        cluster.list(kind, Vec::new());
    }
    assert!(!cluster.store.is_synced(), "there may be policies");
    assert!(cluster.store.snapshot().is_none());
    let kind = Kind::AuthorizationPolicy;
    cluster.store.expect(kind, Resource::optional(kind, WEFT));
    cluster.store.know_kinds(&[kind]);
    assert_eq!(cluster.store.unlisted().collect::<Vec<_>>(), ["AuthorizationPolicy"]);
    cluster.tell(kind, Told::Listing);
    assert!(cluster.store.snapshot().is_none());
    cluster.tell(kind, Told::Listed);
    assert_eq!(cluster.snapshot().version, 1);
}

#[test]
fn a_definition_that_changes_and_serves_the_same_version_is_no_news() {
    let mut cluster = Cluster::new();
    let kind = Kind::AuthorizationPolicy;
    let resource = || Resource::optional(kind, WEFT);
    cluster.store.expect(kind, resource());
    cluster.list(kind, vec![policy("DENY")]);
    cluster.store.expect(kind, resource());
    cluster.store.know_kinds(&[kind]);
    for kind in CORE {
        cluster.list(kind, Vec::new());
    }
    assert!(cluster.store.is_synced(), "nobody lists it once more");
    assert_eq!(cluster.snapshot().policies.len(), 1);
    cluster.store.expect(kind, Resource::optional(kind, "weft.dev/v1beta1"));
    assert_eq!(cluster.store.unlisted().collect::<Vec<_>>(), ["AuthorizationPolicy"], "another version is");
    assert_eq!(cluster.snapshot().policies.len(), 1, "and what is known stays meanwhile");
}

#[test]
fn a_list_is_one_swap() {
    let mut cluster = Cluster::synced(&[
        (Kind::Service, service("a", "10.96.0.1")),
        (Kind::Service, service("b", "10.96.0.2")),
    ]);
    assert_eq!(services(&cluster.snapshot()), ["a", "b"]);
    cluster.tell(Kind::Service, Told::Listing);
    cluster.tell(Kind::Service, Told::Is(service("c", "10.96.0.3")));
    assert!(!cluster.store.is_settled(cluster.now), "half of a list is not published");
    // It broke off, and is told from the beginning.
    cluster.tell(Kind::Service, Told::Listing);
    cluster.tell(Kind::Service, Told::Is(service("b", "10.96.0.2")));
    cluster.tell(Kind::Service, Told::Listed);
    assert!(cluster.store.is_settled(cluster.now));
    assert_eq!(
        services(&cluster.snapshot()),
        ["b"],
        "neither what was deleted nor what only the first half had"
    );
}

#[test]
fn a_list_that_takes_too_long_holds_nothing_back() {
    let mut cluster = Cluster::synced(&[(Kind::Service, service("a", "10.96.0.1"))]);
    cluster.snapshot();
    cluster.tell(Kind::Service, Told::Listing);
    cluster.tell(Kind::EndpointSlice, Told::Answered);
    let due = cluster.store.due().unwrap();
    assert!(!cluster.store.is_settled(due.checked_sub(Duration::from_millis(1)).unwrap()));
    assert!(cluster.store.is_settled(due));
    assert_eq!(services(&cluster.snapshot()), ["a"], "what was known stays until the list says otherwise");
}

#[test]
fn the_same_objects_again_are_the_same_snapshot() {
    let objects = [
        (Kind::Namespace, namespace("shop")),
        (Kind::Service, service("a", "10.96.0.1")),
        (Kind::Pod, pod("w", "n2", "10.1.0.7")),
        (Kind::AuthorizationPolicy, policy("ALLOW")),
    ];
    let mut cluster = Cluster::synced(&objects);
    let before = cluster.snapshot();
    let mut again = objects.clone();
    again[1].1["metadata"]["resourceVersion"] = "99".into();
    again[2].1["status"]["hostIP"] = "10.0.0.9".into();
    cluster.sync(&again);
    assert!(Arc::ptr_eq(&before, &cluster.snapshot()));
}

#[test]
fn an_object_that_breaks_keeps_its_last_good_version_and_stalls_nobody() {
    let mut cluster = Cluster::synced(&[(Kind::AuthorizationPolicy, policy("ALLOW"))]);
    let good = cluster.snapshot();
    assert_eq!(good.policies.len(), 1);
    cluster.tell(Kind::AuthorizationPolicy, Told::Is(policy("PERHAPS")));
    cluster.tell(Kind::Service, Told::Is(service("a", "10.96.0.1")));
    let now = cluster.snapshot();
    assert_eq!(now.policies, good.policies);
    assert_eq!(services(&now), ["a"]);
    let [problem] = now.problems.as_slice() else { panic!("{:?}", now.problems) };
    assert_eq!((problem.severity, &*problem.file, problem.line), (Severity::Error, "", 0));
    assert_eq!((&*problem.object, &*problem.field), ("AuthorizationPolicy shop/p", "spec.action"));
    cluster.tell(Kind::AuthorizationPolicy, Told::Was(policy("PERHAPS")));
    let now = cluster.snapshot();
    assert!(now.policies.is_empty() && now.problems.is_empty(), "one that is deleted is gone");
}

#[test]
fn a_kind_that_goes_takes_its_objects_with_it_and_one_that_comes_holds_nothing_up() {
    let mut cluster = Cluster::synced(&[(Kind::AuthorizationPolicy, policy("ALLOW"))]);
    assert_eq!(cluster.snapshot().policies.len(), 1);
    let kind = Kind::AuthorizationPolicy;
    cluster.store.withdraw(kind);
    assert!(cluster.snapshot().policies.is_empty());
    cluster.store.expect(kind, Resource::optional(kind, WEFT));
    assert!(cluster.store.is_settled(cluster.now), "the API server may refuse to tell of it for ever");
    cluster.list(kind, vec![policy("ALLOW")]);
    assert_eq!(cluster.snapshot().policies.len(), 1);
}

#[test]
fn a_pod_of_this_node_has_the_namespace_that_is_found_for_its_uid() {
    let mut theirs = pod("theirs", "n2", "10.1.0.8");
    theirs["metadata"]["annotations"] = json!({"weft.dev/netns": "/run/netns/x"});
    let mut ours = pod("ours", "n1", "10.1.0.7");
    ours["metadata"]["annotations"] = json!({"weft.dev/netns": "/run/netns/x"});
    let mut host = pod("host", "n1", "10.0.0.1");
    host["spec"]["hostNetwork"] = true.into();
    let mut done = pod("done", "n1", "10.1.0.9");
    done["status"]["phase"] = "Succeeded".into();
    let mut nowhere = pod("nowhere", "n1", "10.1.0.10");
    nowhere["spec"] = json!({});
    let pods = [theirs, ours, host, done, nowhere].map(|pod| (Kind::Pod, pod));
    let mut cluster = Cluster::synced(&pods);
    assert_eq!(cluster.store.sandboxes(), ["uid-ours".into()], "nobody else has one to be looked for");
    assert_eq!(
        (cluster.netns("theirs"), cluster.netns("ours")),
        (None, None),
        "what owners say is not believed"
    );
    assert!(!cluster.snapshot().workloads.contains_key(&ObjectName::new("shop", "nowhere")));
    assert!(cluster.place(&[("uid-ours", "/proc/41/ns/net")]));
    assert_eq!(cluster.netns("ours"), Some("/proc/41/ns/net".into()));
    assert!(!cluster.place(&[("uid-ours", "/proc/41/ns/net")]));
    // The object changes, and the sandbox is made again: each keeps the other.
    let mut ours = pod("ours", "n1", "10.1.0.7");
    ours["metadata"]["labels"] = json!({"weft.dev/mesh": "enabled"});
    cluster.tell(Kind::Pod, Told::Is(ours));
    assert_eq!(cluster.netns("ours"), Some("/proc/41/ns/net".into()));
    assert!(cluster.snapshot().workloads[&ObjectName::new("shop", "ours")].enrolled);
    assert!(cluster.place(&[("uid-ours", "/proc/77/ns/net")]));
    assert_eq!(cluster.netns("ours"), Some("/proc/77/ns/net".into()));
    assert!(cluster.place(&[]));
    assert_eq!(cluster.netns("ours"), None);
}

#[test]
fn a_pod_is_known_once_both_its_runtime_and_the_api_server_have_told_of_it() {
    let mut cluster = Cluster::synced(&[(Kind::Namespace, namespace("shop"))]);
    let network =
        Network { path: "/run/netns/cni-1".into(), ips: Some(["10.1.0.7".parse().unwrap()].into()) };
    let announced = HashMap::from([(Arc::from("uid-web"), network)]);
    cluster.store.place(announced.clone());
    let snapshot = cluster.snapshot();
    assert_eq!(cluster.store.known("uid-web", &snapshot), None, "the API server has not told of it");
    let mut web = pod("web", "n1", "");
    web["status"] = json!({"phase": "Pending"});
    cluster.tell(Kind::Pod, Told::Is(web));
    let snapshot = cluster.snapshot();
    let known = cluster.store.known("uid-web", &snapshot).unwrap();
    assert_eq!((known.pod.to_string().as_str(), known.enrolled), ("shop/web", true));
    let workload = &snapshot.workloads[&known.pod];
    assert_eq!(workload.ips, ["10.1.0.7".parse::<std::net::IpAddr>().unwrap()], "its object has none yet");
    assert_eq!(workload.netns, Some("/run/netns/cni-1".into()));
    // An older snapshot does not say where it is.
    assert_eq!(cluster.store.known("uid-web", &Snapshot::default()), None);
}

/// What an agent leaves that knew these objects.
fn kept(folder: &std::path::Path, objects: &[(Kind, Value)], paths: &[(&str, &str)]) -> Kept {
    let mut cluster = Cluster::synced(objects);
    cluster.place(paths);
    let snapshot = cluster.snapshot();
    cluster.store.to_keep(&snapshot).write(folder).unwrap();
    Kept::read(folder, "n1", false).expect("it was just written")
}

#[test]
fn a_pod_of_which_its_node_says_still_that_it_has_joined_leaves_when_its_label_has_gone() {
    let mut cluster = Cluster::new();
    cluster.store = cluster.store.with_word_of(Some("weft-system".into()));
    let mut system = namespace("weft-system");
    (system["metadata"]["uid"], system["metadata"]["labels"]) = ("installed".into(), json!({}));
    let shop = |label: &str| json!({"metadata": {"name": "shop", "labels": {"weft.dev/mesh": label}}});
    let says = |word: Option<&str>| {
        let mut pod = pod("web", "n1", "10.1.0.1");
        if let Some(word) = word {
            pod["metadata"]["annotations"] = json!({"weft.dev/joined": word});
        }
        pod
    };
    for (label, word, passage) in [
        ("enabled", None, Passage::Joins),
        ("enabled", Some("installed"), Passage::Done),
        ("disabled", Some("installed"), Passage::Leaves),
        ("disabled", None, Passage::Done),
        ("disabled", Some("another"), Passage::Done),
    ] {
        let namespaces = [(Kind::Namespace, system.clone()), (Kind::Namespace, shop(label))];
        cluster.sync(&[&namespaces[..], &[(Kind::Pod, says(word))]].concat());
        let snapshot = cluster.snapshot();
        let web = &snapshot.workloads[&ObjectName::new("shop", "web")];
        assert_eq!((web.enrolled, web.passage), (label == "enabled", passage), "{label} {word:?}");
    }
}

#[test]
fn without_a_server_what_was_in_force_last_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let objects = [
        (Kind::Namespace, namespace("shop")),
        (Kind::Service, service("a", "10.96.0.1")),
        (Kind::Pod, pod("w", "n1", "10.1.0.7")),
        (Kind::AuthorizationPolicy, policy("DENY")),
    ];
    let before = Cluster::synced(&objects).snapshot();
    let kept = kept(folder.path(), &objects, &[("uid-w", "/proc/41/ns/net")]);
    let mut cluster = Cluster::after(Some(kept));
    let now = cluster.snapshot();
    assert!(now.version > 0 && cluster.store.kept_at().is_some());
    assert_eq!((&now.services, &now.policies), (&before.services, &before.policies));
    assert_eq!(cluster.netns("w"), None, "a process' number of yesterday is nobody's");
    assert!(cluster.place(&[("uid-w", "/proc/52/ns/net")]));
    assert_eq!(cluster.netns("w"), Some("/proc/52/ns/net".into()));
    // The server is there again: what was deleted meanwhile goes, in one step, and nothing else changes.
    let version = cluster.snapshot().version;
    cluster.list(Kind::Service, Vec::new());
    assert_eq!(cluster.snapshot().version, version, "half of what there is is not published");
    cluster.sync(&[objects[0].clone(), objects[2].clone(), objects[3].clone()]);
    let now = cluster.snapshot();
    assert!(now.version > version && now.services.is_empty());
    assert_eq!((now.policies.len(), cluster.store.kept_at()), (1, None));
    assert_eq!(cluster.netns("w"), Some("/proc/52/ns/net".into()));
}

#[test]
fn a_policy_that_broke_while_nobody_looked_keeps_its_last_good_version() {
    let folder = tempfile::tempdir().unwrap();
    let good = [(Kind::AuthorizationPolicy, policy("DENY"))];
    let policies = Arc::clone(&Cluster::synced(&good).snapshot().policies);
    // Broken already before the agent ended, or only afterwards.
    for breaks in [true, false] {
        let mut cluster = Cluster::synced(&good);
        if breaks {
            cluster.tell(Kind::AuthorizationPolicy, Told::Is(policy("PERHAPS")));
        }
        let snapshot = cluster.snapshot();
        cluster.store.to_keep(&snapshot).write(folder.path()).unwrap();
        let mut next = Cluster::after(Kept::read(folder.path(), "n1", false));
        next.sync(&[(Kind::AuthorizationPolicy, policy("PERHAPS"))]);
        let now = next.snapshot();
        assert_eq!((&now.policies, now.problems.len()), (&policies, 1));
    }
    let mut next = Cluster::after(Kept::read(folder.path(), "n1", false));
    next.sync(&[]);
    assert!(next.snapshot().policies.is_empty(), "what was deleted is not remembered");
}

#[test]
fn objects_of_a_kind_that_is_gone_are_not_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let kept = kept(folder.path(), &[(Kind::AuthorizationPolicy, policy("DENY"))], &[]);
    let mut cluster = Cluster::after(Some(kept));
    cluster.store.know_kinds(&[]);
    for kind in CORE {
        cluster.list(kind, Vec::new());
    }
    assert!(cluster.store.is_synced());
    assert!(cluster.snapshot().policies.is_empty());
}

#[test]
fn what_is_kept_is_for_its_node_alone_and_for_nobody_else_to_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    kept(folder.path(), &[(Kind::Service, service("a", "10.96.0.1"))], &[]);
    assert!(Kept::read(folder.path(), "n2", false).is_none());
    let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap();
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::write(file.path(), "{").unwrap();
    assert!(Kept::read(folder.path(), "n1", false).is_none(), "a broken file is none");
}

#[test]
fn what_an_agent_of_another_release_has_kept_is_what_was_in_force() {
    let folder = tempfile::tempdir().unwrap();
    kept(
        folder.path(),
        &[(Kind::Service, service("a", "10.96.0.1")), (Kind::AuthorizationPolicy, policy("DENY"))],
        &[],
    );
    let file = folder.path().join("cluster.json");
    let today: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let fixed =
        ["uids", "labels", "pods", "generations", "jwt", "jwks", "access_logs", "routes", "workloads"];
    let recorded = release::recorded("cluster.json", &today);
    for (who, text) in
        [("that release", &recorded), ("a release that keeps more", &release::newer(&today, &fixed))]
    {
        std::fs::write(&file, text.to_string()).unwrap();
        let kept =
            Kept::read(folder.path(), "n1", false).unwrap_or_else(|| panic!("what {who} keeps is lost"));
        let snapshot = &kept.snapshot;
        assert_eq!((snapshot.services.len(), snapshot.policies.len(), kept.good.len()), (1, 1, 1), "{who}");
    }
    let mut today = today;
    // When it was written.
    today["at"] = recorded["at"].clone();
    assert_eq!(release::lost(&recorded, &today), [""; 0], "that release reads what is not kept any more");
}
