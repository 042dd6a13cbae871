//! The keys of providers of tokens: from the Snapshot to whoever fetches them; back with the Snapshots to the proxy.

use std::{convert::Infallible, sync::Arc, time::SystemTime};

use tokio::sync::watch;
use weft_identity::{JwksOptions, JwksPlace, JwksWanted, KeySetStatus, KeySets};
use weft_model::{JwksSource, ObjectName, Snapshot};
use weft_runtime::{Stop, Tasks};
use weft_telemetry::api::{CertificateFailure, JwksView};

use crate::endpoints::endpoints;

/// Fetches what the Snapshots name from now on.
pub(crate) fn start(
    options: JwksOptions,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    tasks: &Tasks,
) -> KeySets {
    let sets = KeySets::new(wanted(&snapshots.borrow()));
    tasks.spawn("keys of tokens", sets.clone().run(options, tasks.stop_signal()));
    tasks.spawn("providers of tokens", follow(sets.clone(), snapshots, tasks.stop_signal()));
    sets
}

/// What `weft status` shows.
pub(crate) fn view(sets: &KeySets) -> Vec<JwksView> {
    let now = SystemTime::now();
    let view = |status: &KeySetStatus| JwksView {
        location: status.location.to_string(),
        keys: status.keys,
        fetched: status.fetched.map(Into::into),
        age_seconds: status.fetched.map(|at| now.duration_since(at).unwrap_or_default().as_secs()),
        failure: status.failure.clone().map(|failure| CertificateFailure {
            error: failure.error,
            since: failure.since.into(),
            tries: failure.tries,
        }),
    };
    sets.status().iter().map(view).collect()
}

async fn follow(
    sets: KeySets,
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    stop: Stop,
) -> Result<(), Infallible> {
    loop {
        sets.want(wanted(&snapshots.borrow_and_update()));
        tokio::select! {
            changed = snapshots.changed() => if changed.is_err() { return Ok(()) },
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// Where the keys of the providers are whose tokens a pod of this node takes.
fn wanted(snapshot: &Snapshot) -> JwksWanted {
    let sources = snapshot.jwt.values().flat_map(|providers| providers.iter()).map(|provider| &provider.keys);
    sources.filter_map(|source| Some((source.location()?, place(snapshot, source)?))).collect()
}

fn place(snapshot: &Snapshot, source: &JwksSource) -> Option<JwksPlace> {
    match source {
        JwksSource::Inline(_) => None,
        JwksSource::Uri(uri) => Some(JwksPlace::Uri(Arc::clone(uri))),
        JwksSource::Service { name, port, path } => {
            let ObjectName { namespace, name: service } = name;
            let host = format!("{service}.{namespace}.svc:{port}").into();
            let addresses = endpoints(snapshot, name, |it| it.port == *port);
            Some(JwksPlace::Endpoints { addresses, host, path: Arc::clone(path) })
        }
    }
}

#[cfg(test)]
mod tests {
    use weft_kubernetes::{ManifestSource, Options};

    use super::*;

    #[test]
    fn what_the_policies_of_this_nodes_pods_name_is_wanted_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let policy = |name: &str, app: &str, jwks: &str| {
            format!(
                "apiVersion: weft.dev/v1alpha1\nkind: AuthenticationPolicy\nmetadata: {{name: {name}, namespace: shop}}\n\
                 spec:\n  targetRefs: [{{kind: Pod, selector: {{matchLabels: {{app: {app}}}}}}}]\n  \
                 jwt: [{{name: corp, issuer: corp, jwks: {jwks}}}]\n---\n"
            )
        };
        let pod = |name: &str, node: &str, ip: &str| {
            format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: shop, labels: {{app: {name}}}}}, \
                 spec: {{nodeName: {node}}}, status: {{podIPs: [{{ip: {ip}}}]}}}}\n---\n"
            )
        };
        let text = [
            pod("web", "n1", "10.1.0.1"),
            pod("api", "n1", "10.1.0.2"),
            pod("far", "n2", "10.1.0.3"),
            policy("web", "web", "{uri: 'https://idp.example/jwks'}"),
            policy("api", "api", "{backendRef: {name: idp, port: 80}}"),
            policy("far", "far", "{uri: 'https://elsewhere.example/jwks'}"),
            "{apiVersion: v1, kind: Service, metadata: {name: idp, namespace: shop}, \
             spec: {clusterIP: 10.96.0.9, selector: {app: far}, ports: [{port: 80, targetPort: 8080}]}}"
                .to_owned(),
        ];
        std::fs::write(folder.path().join("all.yaml"), text.concat()).unwrap();
        let options = Options::of("n1");
        let (_source, snapshots) = ManifestSource::open(folder.path(), options).unwrap();
        let snapshot = Arc::clone(&snapshots.borrow());
        let wanted = wanted(&snapshot);
        let locations: Vec<_> = wanted.keys().map(|location| &**location).collect();
        let service = "Service shop/idp:80/.well-known/jwks.json";
        assert_eq!(locations, [service, "https://idp.example/jwks"], "{:?}", snapshot.problems);
        let JwksPlace::Endpoints { addresses, host, path } = &wanted[service] else { panic!("{wanted:?}") };
        assert_eq!(*addresses, ["10.1.0.3:8080".parse().unwrap()]);
        assert_eq!((&**host, &**path), ("idp.shop.svc:80", "/.well-known/jwks.json"));
    }
}
