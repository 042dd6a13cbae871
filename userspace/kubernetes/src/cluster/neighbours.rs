//! What in a cluster cannot live together with this mesh: other meshes' redirection, and plugins that want pods' connections or
//! the network's configuration for themselves.

use std::collections::BTreeMap;

use kube::{
    Client,
    api::{GetParams, ListParams},
    core::Request,
};
use serde_json::Value;
use weft_model::ObjectName;

use super::{Connection, resource::Resource, trouble::Trouble};
use crate::{Error, core::ENROLMENT, object::Kind};

/// Something in a cluster beside which something is to be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// What it is.
    pub who: String,
    /// How it shows.
    pub detail: String,
    /// What to do about it.
    pub remedy: String,
    /// It and this mesh cannot both work as it is.
    pub clashes: bool,
}

/// What was looked at.
#[derive(Debug, Default)]
struct Seen {
    /// Namespaces, by name.
    namespaces: BTreeMap<String, Value>,
    daemon_sets: Vec<ObjectName>,
    /// Cilium's settings.
    cilium: Option<Value>,
    /// Major and minor version of the API server.
    version: Option<(u32, u32)>,
}

/// Looks around in the cluster, which is asked nothing but to list namespaces and `DaemonSets`, and for Cilium's settings.
pub async fn cluster_neighbours(connection: &Connection) -> Result<Vec<Neighbour>, Error> {
    let (client, server) = connection.client().await?;
    let asked = async {
        let namespaces = list(&client, &Resource::core(Kind::Namespace).path()).await?;
        let daemon_sets = list(&client, "/apis/apps/v1/daemonsets").await?;
        let settings = Request::new("/api/v1/namespaces/kube-system/configmaps");
        let settings = get(&client, &settings, "cilium-config").await?;
        let version = client.apiserver_version().await.map_err(|error| Trouble::of(&error))?;
        let number = |text: &str| text.trim_end_matches('+').parse().ok();
        Ok::<_, Trouble>(Seen {
            namespaces: namespaces.into_iter().map(|one| (name(&one).name.to_string(), one)).collect(),
            daemon_sets: daemon_sets.iter().map(name).collect(),
            cilium: settings.and_then(|mut map| map.get_mut("data").map(Value::take)),
            version: number(&version.major).zip(number(&version.minor)),
        })
    };
    let seen = asked.await.map_err(|trouble| Error::Client { server, message: trouble.to_string() })?;
    Ok(judge(&seen))
}

async fn list(client: &Client, path: &str) -> Result<Vec<Value>, Trouble> {
    let request = Request::new(path).list(&ListParams::default());
    let request = request.map_err(|error| Trouble::Refused(error.to_string()))?;
    let mut list: Value = client.request(request).await.map_err(|error| Trouble::of(&error))?;
    Ok(list.get_mut("items").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default())
}

async fn get(client: &Client, of: &Request, name: &str) -> Result<Option<Value>, Trouble> {
    let request = of.get(name, &GetParams::default());
    let request = request.map_err(|error| Trouble::Refused(error.to_string()))?;
    match client.request(request).await {
        Ok(object) => Ok(Some(object)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(Trouble::of(&error)),
    }
}

fn name(object: &Value) -> ObjectName {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
    ObjectName::new(text("/metadata/namespace"), text("/metadata/name"))
}

fn judge(seen: &Seen) -> Vec<Neighbour> {
    let mut found = Vec::new();
    found.extend(seen.version.and_then(old));
    for mesh in &MESHES {
        found.extend(mesh.twice(&seen.namespaces));
        found.extend(mesh.installed(&seen.daemon_sets));
    }
    found.extend(seen.cilium.iter().flat_map(cilium));
    found
}

fn old((major, minor): (u32, u32)) -> Option<Neighbour> {
    ((major, minor) < (1, 33)).then(|| Neighbour {
        who: "Kubernetes".to_owned(),
        detail: format!("the API server is of version {major}.{minor}"),
        remedy: "weft is made for 1.33 and later; upgrade the cluster".to_owned(),
        clashes: true,
    })
}

/// Another mesh, and how it takes namespaces and shows on nodes.
struct Mesh {
    name: &'static str,
    /// `labels` or `annotations` of a namespace, the key, and the value if it matters.
    takes: &'static [(&'static str, &'static str, Option<&'static str>)],
    daemon_sets: &'static [&'static str],
}

const MESHES: [Mesh; 4] = [
    Mesh {
        name: "Istio",
        takes: &[
            ("labels", "istio-injection", Some("enabled")),
            ("labels", "istio.io/rev", None),
            ("labels", "istio.io/dataplane-mode", Some("ambient")),
        ],
        daemon_sets: &["istio-cni-node", "ztunnel"],
    },
    Mesh {
        name: "Linkerd",
        takes: &[
            ("annotations", "linkerd.io/inject", Some("enabled")),
            ("annotations", "linkerd.io/inject", Some("ingress")),
        ],
        daemon_sets: &["linkerd-cni"],
    },
    Mesh {
        name: "Kmesh",
        takes: &[("labels", "istio.io/dataplane-mode", Some("Kmesh"))],
        daemon_sets: &["kmesh"],
    },
    Mesh {
        name: "Kuma",
        takes: &[("labels", "kuma.io/sidecar-injection", Some("enabled"))],
        daemon_sets: &["kuma-cni-node"],
    },
];

impl Mesh {
    /// Namespaces that are in both meshes.
    fn twice(&self, namespaces: &BTreeMap<String, Value>) -> Option<Neighbour> {
        let text = |namespace: &Value, of: &str, key: &str| {
            namespace.get("metadata")?.get(of)?.get(key)?.as_str().map(ToOwned::to_owned)
        };
        let is_ours = |namespace: &Value| text(namespace, "labels", ENROLMENT).as_deref() == Some("enabled");
        let is_theirs = |namespace: &Value| {
            self.takes.iter().any(|(of, key, wanted)| {
                let value = text(namespace, of, key);
                value.is_some_and(|value| wanted.is_none_or(|wanted| value == wanted))
            })
        };
        let both = namespaces.iter().filter(|(_, namespace)| is_ours(namespace) && is_theirs(namespace));
        let both: Vec<_> = both.map(|(name, _)| name.as_str()).collect();
        (!both.is_empty()).then(|| Neighbour {
            who: "another mesh".to_owned(),
            detail: format!("{} has namespaces that are to be in weft, too: {}", self.name, both.join(", ")),
            remedy: format!(
                "take each of them out of one of the two ({}, or {ENROLMENT}), and restart its pods",
                self.takes[0].1
            ),
            clashes: true,
        })
    }

    /// It is there, for others.
    fn installed(&self, daemon_sets: &[ObjectName]) -> Option<Neighbour> {
        let here = daemon_sets.iter().find(|set| self.daemon_sets.contains(&&*set.name))?;
        Some(Neighbour {
            who: "another mesh".to_owned(),
            detail: format!("{} runs in this cluster (DaemonSet {here})", self.name),
            remedy: "both can be here as long as no namespace is in both".to_owned(),
            clashes: false,
        })
    }
}

fn cilium(settings: &Value) -> Vec<Neighbour> {
    let is = |key: &str, value: &str| settings.get(key).and_then(Value::as_str) == Some(value);
    let balances = is("kube-proxy-replacement", "true")
        || is("kube-proxy-replacement", "strict")
        || is("bpf-lb-sock", "true");
    let mut found = Vec::new();
    if balances && !is("bpf-lb-sock-hostns-only", "true") {
        found.push(Neighbour {
            who: "Cilium".to_owned(),
            detail:
                "its socket load balancer takes pods' connections, so that weft does not see their Services"
                    .to_owned(),
            remedy: "set socketLB.hostNamespaceOnly=true (Helm), and restart its agents".to_owned(),
            clashes: true,
        });
    }
    if is("cni-exclusive", "true") {
        found.push(Neighbour {
            who: "Cilium".to_owned(),
            detail: "it takes other plugins out of nodes' CNI configuration, weft-cni among them".to_owned(),
            remedy: "set cni.exclusive=false (Helm), and restart its agents".to_owned(),
            clashes: true,
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seen(namespaces: &Value, cilium: Option<Value>) -> Seen {
        let namespaces = namespaces.as_object().unwrap().iter();
        let namespaces =
            namespaces.map(|(name, metadata)| (name.clone(), json!({"metadata": metadata}))).collect();
        Seen { namespaces, cilium, version: Some((1, 36)), ..Seen::default() }
    }

    fn clashes(seen: &Seen) -> Vec<String> {
        judge(seen)
            .into_iter()
            .filter(|one| one.clashes)
            .map(|one| format!("{}; {}", one.detail, one.remedy))
            .collect()
    }

    #[test]
    fn a_namespace_is_in_one_mesh_at_most() {
        let ours = json!({"weft.dev/mesh": "enabled"});
        let both = |key: &str, value: &str| json!({"weft.dev/mesh": "enabled", key: value});
        let namespaces = json!({
            "ours": {"labels": ours},
            "theirs": {"labels": {"istio-injection": "enabled"}},
            "ambient": {"labels": both("istio.io/dataplane-mode", "ambient")},
            "sidecars": {"labels": both("istio-injection", "enabled")},
            "without": {"labels": both("istio-injection", "disabled")},
            "linkerd": {"labels": ours, "annotations": {"linkerd.io/inject": "enabled"}},
        });
        let found = clashes(&seen(&namespaces, None));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].contains("Istio has namespaces") && found[0].contains("ambient, sidecars;"),
            "{found:?}"
        );
        assert!(found[1].contains("Linkerd") && found[1].contains("linkerd.io/inject"), "{found:?}");
    }

    #[test]
    fn another_mesh_that_leaves_ours_alone_is_told_and_stops_nobody() {
        let set = |name: &str| ObjectName::new("istio-system", name);
        let seen = Seen { daemon_sets: vec![set("ztunnel"), set("logs")], ..Seen::default() };
        let [found] = &judge(&seen)[..] else { panic!("{:?}", judge(&seen)) };
        assert!(!found.clashes && found.detail.contains("istio-system/ztunnel"), "{found:?}");
    }

    #[test]
    fn cilium_is_to_leave_pods_sockets_and_the_networks_configuration_alone() {
        let of = |settings: Value| clashes(&seen(&json!({}), Some(settings)));
        let bad = of(json!({"kube-proxy-replacement": "true", "cni-exclusive": "true"}));
        assert!(bad[0].contains("hostNamespaceOnly") && bad[1].contains("cni.exclusive=false"), "{bad:?}");
        let good = json!({"kube-proxy-replacement": "true", "bpf-lb-sock-hostns-only": "true", "cni-exclusive": "false"});
        assert_eq!(of(good), [""; 0]);
        assert_eq!(of(json!({"kube-proxy-replacement": "false", "bpf-lb-sock": "true"})).len(), 1);
    }

    #[test]
    fn an_old_cluster_is_told() {
        let seen = Seen { version: Some((1, 32)), ..Seen::default() };
        assert!(clashes(&seen)[0].contains("1.33"), "{:?}", clashes(&seen));
    }
}
