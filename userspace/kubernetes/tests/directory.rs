//! A running source on a real directory.
#![expect(clippy::unwrap_used, reason = "the helpers of a test may panic as the test may")]

use std::{fs, net::IpAddr, path::Path, sync::Arc, time::Duration};

use tempfile::TempDir;
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::timeout,
};
use weft_kubernetes::{ManifestSource, Options, Refresh, Source as _};
use weft_model::{
    Jwks, JwksHeld, ObjectName, RouteKind, RouteName, RouteReason, RouteSet, Service, Severity, Snapshot,
};

/// A source that runs until it is dropped.
struct Running {
    directory: TempDir,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    refresh: Refresh,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<()>>,
}

impl Running {
    fn start(files: &[(&str, String)]) -> Self {
        Self::with(files, watch::channel(Arc::default()).1)
    }

    /// As [`Running::start`], with what somebody else fetches.
    fn with(files: &[(&str, String)], jwks: watch::Receiver<Arc<JwksHeld>>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let options = Options::of("n1");
        let (mut source, snapshots) = ManifestSource::open(directory.path(), options).unwrap();
        source.follow_jwks(jwks);
        let refresh = source.refresh_handle();
        let (stop, stopped) = oneshot::channel::<()>();
        #[expect(clippy::disallowed_methods, reason = "the test owns this task and joins it")]
        let task = tokio::spawn(Box::new(source).run(Box::pin(async {
            let _ = stopped.await;
        })));
        Self { directory, snapshots, refresh, stop: Some(stop), task: Some(task) }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path().join(name), text).unwrap();
    }

    fn latest(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow())
    }

    /// The next snapshot for which `holds`, without asking for a refresh.
    async fn until(&mut self, what: &str, holds: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
        let found =
            timeout(Duration::from_secs(10), self.snapshots.wait_for(|snapshot| holds(snapshot))).await;
        Arc::clone(&found.unwrap_or_else(|_| panic!("never seen: {what}")).unwrap())
    }

    async fn refreshed(&self) -> Arc<Snapshot> {
        let version = self.refresh.refresh().await;
        let latest = self.latest();
        assert!(latest.version >= version, "the version is published before it is named");
        latest
    }

    async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.task.take().unwrap().await.unwrap();
    }
}

fn service(name: &str, ip: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{clusterIP: {ip}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}\n---\n"
    )
}

fn slice(name: &str, service: &str, addresses: &[&str]) -> String {
    let endpoints: Vec<_> = addresses.iter().map(|a| format!("- addresses: [{a}]\n")).collect();
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: {name}, namespace: shop, labels: {{kubernetes.io/service-name: {service}}}}}\n\
         addressType: IPv4\nports: [{{name: http, port: 8080}}]\nendpoints:\n{}---\n",
        endpoints.concat()
    )
}

fn named(name: &str) -> ObjectName {
    ObjectName::new("shop", name)
}

fn has(snapshot: &Snapshot, name: &str) -> bool {
    snapshot.services.contains_key(&named(name))
}

fn endpoints(snapshot: &Snapshot, name: &str) -> Vec<IpAddr> {
    let service: &Arc<Service> = &snapshot.services[&named(name)];
    service.ports[0].groups[0].endpoints.iter().map(|e| e.address.ip()).collect()
}

#[tokio::test]
async fn files_come_go_and_move_and_nothing_else_is_lost() {
    let mut running = Running::start(&[("a.yaml", service("a", "10.96.0.1"))]);
    assert_eq!(running.latest().version, 1);
    assert!(has(&running.latest(), "a"));

    running.write("b.yaml", service("b", "10.96.0.2"));
    running.until("b", |s| has(s, "a") && has(s, "b")).await;

    fs::rename(running.path().join("b.yaml"), running.path().join("c.yaml")).unwrap();
    let moved = running.refreshed().await;
    assert!(has(&moved, "b"), "a file's name is not its objects' name");

    fs::remove_file(running.path().join("a.yaml")).unwrap();
    let snapshot = running.until("a is gone", |s| !has(s, "a")).await;
    assert!(has(&snapshot, "b"));
    running.stop().await;
}

#[tokio::test]
async fn an_atomic_replacement_never_shows_a_state_between() {
    let mut running = Running::start(&[("a.yaml", service("a", "10.96.0.1") + &service("b", "10.96.0.2"))]);
    let before = running.latest().version;
    running.write(".a.yaml.swp", "half writ");
    running.write("#a.yaml", ": : :");
    running.write("notes.txt", "kind: Service");
    running.write(".new", service("a", "10.96.0.9") + &service("b", "10.96.0.2"));
    fs::rename(running.path().join(".new"), running.path().join("a.yaml")).unwrap();
    let ip: IpAddr = "10.96.0.9".parse().unwrap();
    let snapshot = running.until("the new address", |s| s.services[&named("a")].ips == [ip]).await;
    assert_eq!(snapshot.version, before + 1, "one change is one version");
    assert!(has(&snapshot, "b") && snapshot.problems.is_empty(), "{:?}", snapshot.problems);
    running.stop().await;
}

#[tokio::test]
async fn a_snapshot_that_has_not_changed_is_not_published_again() {
    let running = Running::start(&[("a.yaml", service("a", "10.96.0.1"))]);
    running.write("a.yaml", format!("# a comment\n{}", service("a", "10.96.0.1")));
    let snapshot = running.refreshed().await;
    assert_eq!(snapshot.version, 1);
    running.stop().await;
}

#[tokio::test]
async fn one_slice_s_change_leaves_every_other_service_the_same_allocation() {
    let names: Vec<_> = (0..50).map(|i| format!("svc-{i}")).collect();
    let mut files = vec![];
    for (i, name) in names.iter().enumerate() {
        let text = service(name, &format!("10.96.1.{i}"))
            + &slice(&format!("{name}-x"), name, &["10.0.0.1", "10.0.0.2"]);
        files.push((format!("{name}.yaml"), text));
    }
    let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.clone())).collect();
    let mut running = Running::start(&files);
    let before = running.latest();
    running.write(
        "svc-7.yaml",
        service("svc-7", "10.96.1.7") + &slice("svc-7-x", "svc-7", &["10.0.0.1", "10.0.0.3"]),
    );
    let third: IpAddr = "10.0.0.3".parse().unwrap();
    let after = running.until("the new endpoint", |s| endpoints(s, "svc-7").contains(&third)).await;
    assert_eq!(after.services.len(), 50);
    for (name, service) in after.services.iter() {
        let same = Arc::ptr_eq(service, &before.services[name]);
        assert_eq!(same, *name != named("svc-7"), "{name}");
    }
    assert!(
        Arc::ptr_eq(&after.workloads, &before.workloads) && Arc::ptr_eq(&after.policies, &before.policies)
    );
    running.stop().await;
}

#[tokio::test]
async fn a_broken_object_keeps_its_last_good_version_and_the_others_apply() {
    let mut running = Running::start(&[("a.yaml", service("a", "10.96.0.1") + &service("b", "10.96.0.2"))]);
    running.write("a.yaml", service("a", "10.96.0.300") + &service("b", "10.96.0.5"));
    let ip: IpAddr = "10.96.0.5".parse().unwrap();
    let snapshot = running.until("b's change", |s| s.services[&named("b")].ips == [ip]).await;
    assert_eq!(snapshot.services[&named("a")].ips, ["10.96.0.1".parse::<IpAddr>().unwrap()]);
    let problem = &snapshot.problems[0];
    assert_eq!((problem.severity, problem.line, &*problem.object), (Severity::Error, 4, "Service shop/a"));
    assert!(problem.file.ends_with("a.yaml"), "{problem:?}");

    running.write("a.yaml", service("a", "10.96.0.3") + &service("b", "10.96.0.5"));
    let snapshot = running.until("no problem is left", |s| s.problems.is_empty()).await;
    assert_eq!(snapshot.services[&named("a")].ips, ["10.96.0.3".parse::<IpAddr>().unwrap()]);
    running.stop().await;
}

fn http_route(path: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
         metadata: {{name: r, namespace: shop}}\nspec:\n\
         \x20 parentRefs: [{{group: '', kind: Service, name: a}}]\n\
         \x20 rules: [{{matches: [{{path: {path}}}], backendRefs: [{{name: a, port: 80}}]}}]\n"
    )
}

#[tokio::test]
async fn a_refused_route_is_shown_with_its_reason_while_its_last_good_version_stays() {
    let mut running = Running::start(&[("a.yaml", service("a", "10.96.0.1"))]);
    let name = RouteName { kind: RouteKind::Http, name: named("r") };
    let reason =
        |snapshot: &Snapshot| snapshot.routes.get(&name).map(|route| route.parents[0].accepted.reason);
    let path = |snapshot: &Snapshot| match &snapshot.services[&named("a")].ports[0].routing.as_ref()?.producer
    {
        RouteSet::Http(routes) => Some(format!("{:?}", routes[0].rules[0].matches[0].path)),
        other => panic!("{other:?}"),
    };
    running.write("r.yaml", http_route("{type: Glob, value: /a}"));
    let refused = running.until("the refusal", |s| reason(s) == Some(RouteReason::UnsupportedValue)).await;
    assert_eq!(path(&refused), None, "it never was in force");
    let message = &refused.routes[&name].parents[0].accepted.message;
    assert!(message.starts_with("spec.rules[0].matches[0].path.type: expected one of"), "{message}");

    running.write("r.yaml", http_route("{value: /a}"));
    let good = running.until("the route", |s| reason(s) == Some(RouteReason::Accepted)).await;
    assert!(path(&good).unwrap().contains("/a"));

    running.write("r.yaml", http_route("{value: /a//b}"));
    let refused = running.until("the refusal", |s| reason(s) == Some(RouteReason::UnsupportedValue)).await;
    assert_eq!(path(&refused), path(&good), "the last good version stays");
    let parent = &refused.routes[&name].parents[0];
    assert_eq!(parent.service, Some(named("a")));
    assert!(parent.accepted.message.ends_with("its last good version stays in force"), "{parent:?}");

    fs::remove_file(running.path().join("r.yaml")).unwrap();
    let gone = running.until("it is gone", |s| reason(s).is_none()).await;
    assert_eq!(path(&gone), None);
    running.stop().await;
}

#[tokio::test]
async fn what_the_proxy_gets_reads_back_as_it_was() {
    let running = Running::start(&[("a.yaml", service("a", "10.96.0.1") + &service("b", "10.96.0.2"))]);
    running.write("r.yaml", http_route("{value: /a}"));
    let part = running.refreshed().await.for_proxy(&std::collections::BTreeSet::default());
    assert!(has(&part, "a") && !has(&part, "b"));
    let text = serde_json::to_string(&part).unwrap();
    assert_eq!(serde_json::from_str::<Snapshot>(&text).unwrap(), part);
    running.stop().await;
}

#[tokio::test]
async fn a_file_that_is_no_yaml_any_more_loses_nothing() {
    let mut running = Running::start(&[("a.yaml", service("a", "10.96.0.1") + &service("b", "10.96.0.2"))]);
    running.write("a.yaml", "{ this is: [ no yaml\n");
    let snapshot = running.until("the problem", |s| !s.problems.is_empty()).await;
    assert!(has(&snapshot, "a") && has(&snapshot, "b"));
    running.write("a.yaml", [0xff, 0xfe, 0x00]);
    let snapshot = running.refreshed().await;
    assert!(has(&snapshot, "a") && has(&snapshot, "b"));
    assert!(snapshot.problems[0].message.contains("UTF-8"), "{:?}", snapshot.problems);
    // Readable again, and without b: now it is removed.
    running.write("a.yaml", service("a", "10.96.0.1"));
    let snapshot = running.until("b is gone", |s| !has(s, "b")).await;
    assert!(has(&snapshot, "a") && snapshot.problems.is_empty());
    running.stop().await;
}

#[tokio::test]
async fn the_first_of_two_files_wins_and_the_other_takes_over() {
    let mut running = Running::start(&[("b.yaml", service("a", "10.96.0.2"))]);
    running.write("a.yaml", service("a", "10.96.0.1"));
    let first: IpAddr = "10.96.0.1".parse().unwrap();
    let second: IpAddr = "10.96.0.2".parse().unwrap();
    let snapshot = running.until("the first file wins", |s| s.services[&named("a")].ips == [first]).await;
    assert!(snapshot.problems[0].file.ends_with("b.yaml"), "{:?}", snapshot.problems);
    assert!(snapshot.problems[0].message.contains("a.yaml"), "{:?}", snapshot.problems);
    fs::remove_file(running.path().join("a.yaml")).unwrap();
    let snapshot = running.until("the other takes over", |s| s.services[&named("a")].ips == [second]).await;
    assert!(snapshot.problems.is_empty());
    running.stop().await;
}

#[tokio::test]
async fn a_file_that_is_being_written_is_left_alone() {
    use std::io::Write as _;
    let mut running = Running::start(&[("a.yaml", service("a", "10.96.0.1"))]);
    let mut file = fs::File::create(running.path().join("a.yaml")).unwrap();
    file.write_all(b"# truncated, and not complete yet\n").unwrap();
    running.write("b.yaml", service("b", "10.96.0.2"));
    let snapshot = running.until("b", |s| has(s, "b")).await;
    assert!(has(&snapshot, "a"), "a half-written file removes nothing");
    file.write_all(service("a", "10.96.0.7").as_bytes()).unwrap();
    drop(file);
    let ip: IpAddr = "10.96.0.7".parse().unwrap();
    running.until("the complete file", |s| s.services.get(&named("a")).is_some_and(|a| a.ips == [ip])).await;
    running.stop().await;
}

#[tokio::test]
async fn sub_directories_are_read_one_level_deep() {
    let mut running = Running::start(&[]);
    fs::create_dir_all(running.path().join("team/deeper")).unwrap();
    running.write("team/a.yaml", service("a", "10.96.0.1"));
    running.write("team/deeper/b.yaml", service("b", "10.96.0.2"));
    let snapshot = running.until("a", |s| has(s, "a")).await;
    assert!(!has(&snapshot, "b"));
    running.write("team/c.json", serde_json_service("c"));
    running.until("c", |s| has(s, "c")).await;
    running.stop().await;
}

fn serde_json_service(name: &str) -> String {
    format!(
        "{{\n\t\"apiVersion\": \"v1\", \"kind\": \"Service\",\n\t\"metadata\": {{\"name\": \"{name}\", \
         \"namespace\": \"shop\"}},\n\t\"spec\": {{\"clusterIP\": \"10.96.0.3\", \"ports\": [{{\"port\": 80}}]}}\n}}\n"
    )
}

#[tokio::test]
async fn a_refresh_holds_everything_written_before_it() {
    let running = Running::start(&[]);
    for i in 0..100 {
        running.write("a.yaml", service("a", &format!("10.96.0.{i}")));
        let snapshot = running.refreshed().await;
        let ip: IpAddr = format!("10.96.0.{i}").parse().unwrap();
        assert_eq!(snapshot.services[&named("a")].ips, [ip]);
    }
    running.stop().await;
}

#[tokio::test]
async fn a_file_that_was_rewritten_under_its_old_time_is_read_again() {
    let running = Running::start(&[("a.yaml", service("a", "10.96.0.1"))]);
    let path = running.path().join("a.yaml");
    let hour_ago = std::time::SystemTime::now() - Duration::from_hours(1);
    for ip in ["10.96.0.2", "10.96.0.3"] {
        running.write("a.yaml", service("a", ip));
        fs::File::options().write(true).open(&path).unwrap().set_modified(hour_ago).unwrap();
        let snapshot = running.refreshed().await;
        assert_eq!(snapshot.services[&named("a")].ips, [ip.parse::<IpAddr>().unwrap()]);
    }
    running.stop().await;
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let error = ManifestSource::open("/nonexistent/manifests", Options::of("n1")).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("/nonexistent/manifests") && message.contains("does it exist"), "{message}");
}

#[tokio::test]
async fn a_source_that_has_ended_still_answers() {
    let running = Running::start(&[("a.yaml", service("a", "10.96.0.1"))]);
    let refresh = running.refresh.clone();
    running.stop().await;
    assert_eq!(refresh.refresh().await, 1);
}

#[tokio::test]
async fn fetched_keys_are_in_the_snapshots_from_then_on() {
    let x = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    let document = format!(r#"{{"keys": [{{"kty": "OKP", "crv": "Ed25519", "x": "{x}"}}]}}"#);
    let (jwks, _) = Jwks::parse(document.as_bytes()).unwrap();
    let held = |at: &str| Arc::new(JwksHeld::from([(at.into(), Arc::new(jwks.clone()))]));
    let (fetched, follow) = watch::channel(held("https://a.example"));
    let mut running = Running::with(&[("a.yaml", service("a", "10.96.0.1"))], follow);
    let first = running.until("what was there", |s| s.jwks.contains_key("https://a.example")).await;
    fetched.send_replace(held("https://b.example"));
    let second = running.until("what came", |s| s.jwks.contains_key("https://b.example")).await;
    assert!(second.version > first.version, "who takes no version twice has to see it");
    assert!(Arc::ptr_eq(&first.services, &second.services));
    drop(fetched);
    running.write("b.yaml", service("b", "10.96.0.2"));
    let third = running.until("a change after the last keys", |s| has(s, "b")).await;
    assert!(Arc::ptr_eq(&third.jwks, &second.jwks));
    running.stop().await;
}
