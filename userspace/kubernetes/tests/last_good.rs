//! What was good last stays in force, also when another source begins with what is broken now.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::{fs, path::Path, sync::Arc};

use tempfile::TempDir;
use weft_kubernetes::{ManifestSource, Options, Source as _};
use weft_model::{ObjectName, Snapshot};

/// Manifests, and where the last good ones are kept.
struct Folders {
    manifests: TempDir,
    last_good: TempDir,
}

impl Folders {
    fn new() -> Self {
        Self { manifests: tempfile::tempdir().unwrap(), last_good: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.manifests.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.manifests.path().join(name)).unwrap();
    }

    /// What a source that begins now sees; it ends at once.
    async fn seen(&self) -> Arc<Snapshot> {
        let last_good = Some(self.last_good.path().to_owned());
        let options =
            Options { node: "n1".into(), last_good, mutual_tls: false, system: None, trust_domain: None };
        let (source, snapshots) = ManifestSource::open(self.manifests.path(), options).unwrap();
        let refresh = source.refresh_handle();
        let read = async move {
            refresh.refresh().await;
        };
        Box::new(source).run(Box::pin(read)).await;
        Arc::clone(&snapshots.borrow())
    }
}

fn service(name: &str, ip: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{clusterIP: {ip}, ports: [{{port: 80}}]}}\n"
    )
}

fn ips(snapshot: &Snapshot) -> Vec<String> {
    let ip = |name: &str| snapshot.services.get(&ObjectName::new("shop", name)).map(|s| s.ips[0].to_string());
    ["a", "b", "c"].iter().filter_map(|name| ip(name)).collect()
}

#[tokio::test]
async fn a_document_that_broke_while_nobody_looked_keeps_its_last_good_version() {
    let folders = Folders::new();
    folders.write("a.yaml", &(service("a", "10.96.0.1") + &service("b", "10.96.0.2")));
    assert_eq!(ips(&*folders.seen().await), ["10.96.0.1", "10.96.0.2"]);

    folders.write("a.yaml", &(service("a", "nowhere") + &service("b", "10.96.0.5")));
    for _ in 0..3 {
        let seen = folders.seen().await;
        assert_eq!(ips(&seen), ["10.96.0.1", "10.96.0.5"], "the good one applies, the broken one stays");
        assert_eq!(seen.problems.len(), 1, "{:?}", seen.problems);
    }
    folders.write("a.yaml", "{ no yaml: [\n");
    for _ in 0..3 {
        assert_eq!(ips(&*folders.seen().await), ["10.96.0.1", "10.96.0.5"]);
    }
    folders.write("a.yaml", &service("b", "10.96.0.6"));
    for _ in 0..2 {
        assert_eq!(ips(&*folders.seen().await), ["10.96.0.6"], "what is removed and not broken is gone");
    }
}

#[tokio::test]
async fn a_file_that_was_deleted_or_moved_while_nobody_looked_is_not_remembered() {
    let folders = Folders::new();
    folders.write("a.yaml", &service("a", "10.96.0.1"));
    folders.write("team/b.yaml", &service("b", "10.96.0.2"));
    folders.write("c.yaml", &service("c", "10.96.0.3"));
    assert_eq!(ips(&*folders.seen().await).len(), 3);
    folders.remove("a.yaml");
    folders.remove("c.yaml");
    folders.write("d.yaml", &service("c", "10.96.0.4"));
    for _ in 0..2 {
        let seen = folders.seen().await;
        assert_eq!(ips(&seen), ["10.96.0.2", "10.96.0.4"]);
        assert!(seen.problems.is_empty(), "{:?}", seen.problems);
    }
    assert!(!folders.last_good.path().join("a.yaml").exists());
    assert!(folders.last_good.path().join("team/b.yaml").exists());
}

#[tokio::test]
async fn what_cannot_be_kept_is_no_reason_to_stop() {
    let folders = Folders::new();
    fs::write(folders.last_good.path().join("file"), "").unwrap();
    folders.write("a.yaml", &service("a", "10.96.0.1"));
    let options = Options {
        node: "n1".into(),
        last_good: Some(folders.last_good.path().join("file")),
        mutual_tls: false,
        system: None,
        trust_domain: None,
    };
    let (source, snapshots) = ManifestSource::open(Path::new(folders.manifests.path()), options).unwrap();
    let refresh = source.refresh_handle();
    let read = async move {
        refresh.refresh().await;
    };
    Box::new(source).run(Box::pin(read)).await;
    assert_eq!(ips(&snapshots.borrow()), ["10.96.0.1"]);
}
