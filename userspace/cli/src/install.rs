//! `weft install`: what a cluster is given, as YAML for `kubectl apply`.
//!
//! The texts are `deploy/install/*.yaml`, with `${name}` where a flag decides. Reasons stand beside what they are for, and
//! stay there in what is printed.

use std::fmt;

use crate::{Error, Exit, Screen};

/// What `weft install` is given.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Prints objects and changes nothing: look at them, or hand them to kubectl. None of them is of a kind that they
define, so that one `kubectl apply` does.

Examples:
  weft install | kubectl apply -f -
  weft install --service-scope node | kubectl apply -f -   # a cluster without kube-proxy
  weft install | kubectl delete -f -")]
pub struct Args {
    /// The image of agent and proxy
    #[arg(long, value_name = "IMAGE", default_value = IMAGE)]
    image: String,
    /// Whose connections to Services are balanced: `enrolled` pods', or everybody's on each `node`, where there is no
    /// kube-proxy
    #[arg(long, value_name = "SCOPE", default_value = "enrolled", value_parser = ["enrolled", "node"])]
    service_scope: String,
    /// Where /metrics, /healthz and /readyz are served, on each node's own addresses
    #[arg(long, value_name = "PORT", default_value_t = 9470, value_parser = clap::value_parser!(u16).range(1..))]
    metrics_port: u16,
    /// Where nodes' container runtimes look for CNI plugins
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin", value_parser = absolute)]
    cni_bin_dir: String,
    /// Where they look for networks
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d", value_parser = absolute)]
    cni_conf_dir: String,
    /// What is logged: a level, or levels by target like `weft_datapath=debug,info`
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: String,
}

/// Prints the objects.
pub fn run(args: &Args, screen: &mut Screen) -> Result<Exit, Error> {
    screen.write(&Objects(args).to_string())?;
    Ok(Exit::Yes)
}

/// All objects, in the order in which they are made.
struct Objects<'a>(&'a Args);

impl fmt::Display for Objects<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.0.metrics_port.to_string();
        let values = [
            ("image", self.0.image.as_str()),
            ("service-scope", &self.0.service_scope),
            ("metrics-port", &port),
            ("cni-bin-dir", &self.0.cni_bin_dir),
            ("cni-conf-dir", &self.0.cni_conf_dir),
            ("log", &self.0.log),
        ];
        for (index, text) in TEXTS.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "---\n" })?;
            filled(text, &values, f)?;
        }
        Ok(())
    }
}

/// `text` with each `${name}` replaced. Values stand in quotes where YAML would read another type, which is the text's
/// own affair.
fn filled(text: &str, values: &[(&str, &str)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut parts = text.split("${");
    f.write_str(parts.next().unwrap_or_default())?;
    for part in parts {
        let (name, rest) = part.split_once('}').expect("the texts are ours, and a test fills each of them");
        let value = values.iter().find(|(known, _)| *known == name);
        f.write_str(value.expect("the texts name what there are flags for, which a test shows").1)?;
        f.write_str(rest)?;
    }
    Ok(())
}

/// A directory of nodes.
fn absolute(path: &str) -> Result<String, &'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let good = path.starts_with('/') && !path.ends_with('/') && path.chars().all(plain);
    if good {
        Ok(path.to_owned())
    } else {
        Err("an absolute path of letters, digits, '.', '_' and '-', like /opt/cni/bin")
    }
}

/// The name that `cargo xtask image` gives what it builds.
pub const IMAGE: &str = concat!("ghcr.io/weft-mesh/weft:v", env!("CARGO_PKG_VERSION"));

const TEXTS: &[&str] = &[
    include_str!("../../../deploy/install/namespace.yaml"),
    include_str!("../../../deploy/install/access.yaml"),
    include_str!("../../../deploy/install/controller.yaml"),
    include_str!("../../../deploy/install/agent.yaml"),
];

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde::Deserialize as _;
    use serde_yaml::Value;

    use super::*;

    #[derive(Parser)]
    struct Weft {
        #[command(flatten)]
        args: Args,
    }

    fn objects(flags: &[&str]) -> Vec<Value> {
        let words = ["weft"].iter().chain(flags);
        let text = Objects(&Weft::parse_from(words).args).to_string();
        assert!(!text.contains("${"), "{text}");
        let documents = serde_yaml::Deserializer::from_str(&text);
        documents.map(|document| Value::deserialize(document).unwrap()).collect()
    }

    fn of_kind<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
        objects.iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
    }

    fn container(objects: &[Value]) -> &Value {
        &of_kind(objects, "DaemonSet")["spec"]["template"]["spec"]["containers"][0]
    }

    #[test]
    fn every_flag_is_where_it_belongs() {
        let all = objects(&["--image=x/y:z", "--service-scope=node", "--metrics-port=9999", "--log=debug"]);
        let container = container(&all);
        assert_eq!(container["image"], "x/y:z");
        let args: Vec<_> =
            container["args"].as_sequence().unwrap().iter().filter_map(Value::as_str).collect();
        for arg in ["--service-scope=node", "--metrics=0.0.0.0:9999", "--log=debug"] {
            assert!(args.contains(&arg), "{args:?}");
        }
    }

    #[test]
    fn an_agent_is_not_privileged_and_writes_nothing_of_its_image() {
        let all = objects(&[]);
        let context = &container(&all)["securityContext"];
        assert_eq!(context["privileged"], false);
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["capabilities"]["drop"][0], "ALL");
        let pod = &of_kind(&all, "DaemonSet")["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        assert_eq!(container(&all)["ports"], Value::Null, "they would be ports of the host");
    }

    #[test]
    fn agents_read_and_change_nothing() {
        for rule in of_kind(&objects(&[]), "ClusterRole")["rules"].as_sequence().unwrap() {
            let verbs = rule["verbs"].as_sequence().unwrap();
            assert!(verbs.iter().all(|verb| ["get", "list", "watch"].contains(&verb.as_str().unwrap())));
            assert!(rule["resources"].as_sequence().unwrap().iter().all(|resource| resource != "secrets"));
        }
    }

    #[test]
    fn the_plugin_asks_for_single_objects_and_agents_for_its_tokens_alone() {
        let all = objects(&[]);
        let named = |kind: &str, name: &str| {
            all.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name).unwrap()
        };
        for rule in named("ClusterRole", "weft-cni")["rules"].as_sequence().unwrap() {
            assert_eq!(rule["verbs"], serde_yaml::from_str::<Value>("[get]").unwrap());
        }
        let tokens = named("Role", "weft-agent")["rules"].as_sequence().unwrap();
        let tokens = tokens.iter().find(|rule| rule["resources"][0] == "serviceaccounts/token").unwrap();
        assert_eq!(tokens["resourceNames"], serde_yaml::from_str::<Value>("[weft-cni]").unwrap());
    }

    #[test]
    fn nodes_that_keep_cni_elsewhere_are_told_where() {
        let all = objects(&["--cni-bin-dir=/usr/libexec/cni", "--cni-conf-dir=/var/cni.d"]);
        let volumes =
            of_kind(&all, "DaemonSet")["spec"]["template"]["spec"]["volumes"].as_sequence().unwrap();
        let paths: Vec<_> = volumes.iter().filter_map(|volume| volume["hostPath"]["path"].as_str()).collect();
        for (path, flag) in [("/usr/libexec/cni", "--cni-bin-dir"), ("/var/cni.d", "--cni-conf-dir")] {
            assert!(paths.contains(&path), "{paths:?}");
            let text = serde_yaml::to_string(container(&all)).unwrap();
            assert!(text.contains(&format!("{flag}=/host{path}\n")), "{text}");
            assert!(text.contains(&format!("mountPath: /host{path}\n")), "{text}");
        }
        for bad in ["opt/cni", "/opt/cni/", "/opt/c ni", "/a\": x"] {
            assert!(absolute(bad).is_err(), "{bad}");
        }
    }

    fn named<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
        let found = objects.iter().find(|it| it["kind"] == kind && it["metadata"]["name"] == name);
        found.unwrap_or_else(|| panic!("no {kind} {name}"))
    }

    #[test]
    fn controllers_are_two_and_have_nothing_of_their_nodes() {
        let all = objects(&["--image=x/y:z"]);
        let spec = &named(&all, "Deployment", "weft-controller")["spec"];
        assert_eq!(spec["replicas"], 2);
        let pod = &spec["template"]["spec"];
        assert_eq!(pod["hostNetwork"], Value::Null);
        assert_eq!(pod["volumes"], Value::Null);
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        let container = &pod["containers"][0];
        assert_eq!(container["image"], "x/y:z");
        let context = &container["securityContext"];
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(
            (&context["capabilities"]["drop"][0], &context["capabilities"]["add"]),
            (&"ALL".into(), &Value::Null)
        );
        let labels = &spec["template"]["metadata"]["labels"];
        for selector in [
            &spec["selector"]["matchLabels"],
            &named(&all, "Service", "weft-controller")["spec"]["selector"],
            &named(&all, "PodDisruptionBudget", "weft-controller")["spec"]["selector"]["matchLabels"],
        ] {
            for (label, value) in selector.as_mapping().unwrap() {
                assert_eq!(labels[label], *value);
            }
        }
    }

    #[test]
    fn of_secrets_a_controller_may_read_but_two_and_change_but_its_own() {
        let all = objects(&[]);
        let rules = named(&all, "Role", "weft-controller")["rules"].as_sequence().unwrap();
        let about = |resource: &str, verb: &str| {
            let has = |list: &Value, word: &str| list.as_sequence().unwrap().iter().any(|it| it == word);
            let rules =
                rules.iter().filter(|rule| has(&rule["resources"], resource) && has(&rule["verbs"], verb));
            rules.map(|rule| rule["resourceNames"].clone()).collect::<Vec<_>>()
        };
        let names = |names: &[&str]| Value::Sequence(names.iter().map(|&name| name.into()).collect());
        assert_eq!(about("secrets", "get"), [names(&["weft-ca", "weft-issuer"])]);
        assert_eq!(about("secrets", "update"), [names(&["weft-ca"])]);
        assert_eq!(about("configmaps", "update"), [names(&["weft-trust-bundle"])]);
        for verb in ["list", "watch", "delete", "patch"] {
            assert!(about("secrets", verb).is_empty(), "{verb}");
        }
        let cluster = named(&all, "ClusterRole", "weft-controller")["rules"].as_sequence().unwrap();
        assert!(
            cluster.iter().all(|rule| rule["resources"]
                .as_sequence()
                .unwrap()
                .iter()
                .all(|it| it != "secrets"))
        );
    }

    #[test]
    fn an_agent_proves_itself_by_a_token_for_controllers_alone() {
        let all = objects(&[]);
        let pod = &of_kind(&all, "DaemonSet")["spec"]["template"]["spec"];
        let volumes = pod["volumes"].as_sequence().unwrap();
        let token = volumes.iter().find(|volume| volume["name"] == "token").expect("there is one");
        let source = &token["projected"]["sources"][0]["serviceAccountToken"];
        assert_eq!((&source["audience"], &source["path"]), (&"weft-ca".into(), &"token".into()));
        let mounts = container(&all)["volumeMounts"].as_sequence().unwrap();
        let mount = mounts.iter().find(|mount| mount["name"] == "token").expect("it is mounted");
        assert_eq!(mount["mountPath"], "/var/run/secrets/weft", "the default of --ca-token");
    }

    #[test]
    fn every_object_is_in_its_namespace_and_none_is_of_our_kinds() {
        for object in objects(&[]) {
            assert!(!object["apiVersion"].as_str().unwrap().starts_with("weft.dev/"));
            if let Some(namespace) = object["metadata"].get("namespace") {
                assert_eq!(namespace, "weft-system");
            }
        }
    }
}
