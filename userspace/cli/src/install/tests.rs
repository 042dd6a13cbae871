use std::collections::BTreeMap;

use clap::Parser;
use serde::Deserialize as _;
use serde_yaml::Value;

use super::*;

#[derive(Parser)]
struct Weft {
    #[command(flatten)]
    args: Args,
}

fn text(flags: &[&str]) -> String {
    let words = ["weft"].iter().chain(flags);
    super::objects(&Weft::parse_from(words).args)
}

fn objects(flags: &[&str]) -> Vec<Value> {
    let text = text(flags);
    assert!(!text.contains("${"), "{text}");
    parsed(&text)
}

fn parsed(text: &str) -> Vec<Value> {
    let documents = serde_yaml::Deserializer::from_str(text);
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
    let args: Vec<_> = container["args"].as_sequence().unwrap().iter().filter_map(Value::as_str).collect();
    for arg in ["--service-scope=node", "--metrics=[::]:9999", "--log=debug"] {
        assert!(args.contains(&arg), "{args:?}");
    }
}

#[test]
fn agents_and_controllers_are_told_where_the_api_server_is() {
    let controller =
        |all: &[Value]| of_kind(all, "Deployment")["spec"]["template"]["spec"]["containers"][0].clone();
    for (flags, arg) in [
        (&["--api-server=192.0.2.7:6443"][..], "--api-server=192.0.2.7:6443"),
        (&["--api-server=[2001:db8::7]:6443"], "--api-server=[2001:db8::7]:6443"),
        (&[], "--api-server="),
    ] {
        let all = objects(flags);
        for container in [container(&all), &controller(&all)] {
            assert!(container["args"].as_sequence().unwrap().contains(&arg.into()), "{container:?}");
        }
    }
    for wrong in ["192.0.2.7", "api:0", "https://api:6443", ":6443", "2001:db8::7:6443", "a b:1"] {
        assert!(Weft::try_parse_from(["weft", "--api-server", wrong]).is_err(), "{wrong}");
    }
}

#[test]
fn agents_and_controllers_are_told_the_trust_domain_that_the_authority_is_made_for() {
    for (flags, arg) in [
        (&["--trust-domain=mesh.example"][..], "--trust-domain=mesh.example"),
        (&[], "--trust-domain=cluster.local"),
    ] {
        let all = objects(flags);
        let controller = &of_kind(&all, "Deployment")["spec"]["template"]["spec"]["containers"][0];
        for container in [container(&all), controller] {
            assert!(container["args"].as_sequence().unwrap().contains(&arg.into()), "{container:?}");
        }
    }
    for wrong in ["", "Mesh.Example", "a/b", "a b", "spiffe://a"] {
        assert!(Weft::try_parse_from(["weft", "--trust-domain", wrong]).is_err(), "{wrong}");
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
    // Without these no agent starts where AppArmor (Ubuntu, Debian) or SELinux (RHEL) is on: their defaults deny the BPF filesystem.
    assert_eq!(pod["securityContext"]["appArmorProfile"]["type"], "Unconfined");
    assert_eq!(pod["securityContext"]["seLinuxOptions"]["type"], "spc_t");
    assert_eq!(container(&all)["ports"], Value::Null, "they would be ports of the host");
}

#[test]
fn the_next_agent_of_a_node_starts_beside_the_one_that_runs() {
    let all = objects(&[]);
    let daemonset = of_kind(&all, "DaemonSet");
    let rolling = &daemonset["spec"]["updateStrategy"]["rollingUpdate"];
    assert_eq!((&rolling["maxSurge"], &rolling["maxUnavailable"]), (&1.into(), &0.into()));
    let args: Vec<_> =
        container(&all)["args"].as_sequence().unwrap().iter().filter_map(Value::as_str).collect();
    let metadata = &daemonset["metadata"];
    let own = format!(
        "--daemonset={}/{}",
        metadata["namespace"].as_str().unwrap(),
        metadata["name"].as_str().unwrap()
    );
    assert!(args.contains(&"--stand-by") && args.contains(&own.as_str()), "{args:?}");
    // The probe of each asks that very one.
    let socket = args.iter().find_map(|arg| arg.strip_prefix("--probe-socket=")).unwrap();
    let volumes = daemonset["spec"]["template"]["spec"]["volumes"].as_sequence().unwrap();
    let own = volumes.iter().find(|volume| volume["emptyDir"] != Value::Null).unwrap();
    let mounts = container(&all)["volumeMounts"].as_sequence().unwrap();
    let mount = mounts.iter().find(|mount| mount["name"] == own["name"]).unwrap();
    assert!(socket.starts_with(mount["mountPath"].as_str().unwrap()), "{socket} is the pod's own");
    for probe in ["readinessProbe", "livenessProbe"] {
        let command = container(&all)[probe]["exec"]["command"].as_sequence().unwrap();
        assert!(
            command.iter().any(|word| word.as_str() == Some(&format!("--socket={socket}"))),
            "{command:?}"
        );
    }
}

#[test]
fn agents_read_and_change_nothing_but_what_a_policy_holds_them_to() {
    let all = objects(&[]);
    let policy = of_kind(&all, "ValidatingAdmissionPolicy");
    let held = &policy["spec"]["matchConstraints"]["resourceRules"][0]["resources"];
    assert_eq!(policy["spec"]["failurePolicy"], "Fail");
    let binding = of_kind(&all, "ValidatingAdmissionPolicyBinding");
    assert_eq!(binding["spec"]["policyName"], policy["metadata"]["name"]);
    assert_eq!(binding["spec"]["validationActions"][0], "Deny");
    for object in objects(&[])
        .iter()
        .filter(|object| object["kind"] == "ClusterRole" && object["metadata"]["name"] == "weft-agent")
    {
        for rule in object["rules"].as_sequence().unwrap() {
            let verbs = rule["verbs"].as_sequence().unwrap();
            let reads = verbs.iter().all(|verb| ["get", "list", "watch"].contains(&verb.as_str().unwrap()));
            assert!(
                reads || (rule["resources"] == *held && verbs.len() == 1 && verbs[0] == "patch"),
                "{rule:?}"
            );
            assert!(rule["resources"].as_sequence().unwrap().iter().all(|resource| resource != "secrets"));
        }
    }
}

#[test]
fn every_object_is_in_its_namespace_and_none_is_of_our_kinds() {
    for object in objects(&["--monitoring"]) {
        assert!(!object["apiVersion"].as_str().unwrap().starts_with("weft.dev/"));
        if let Some(namespace) = object["metadata"].get("namespace") {
            assert_eq!(namespace, "weft-system");
        }
    }
}

#[test]
fn one_apply_defines_our_kinds_and_each_definition_fits_an_annotation() {
    let definitions = |flags: &[&str]| {
        objects(flags).iter().filter(|object| object["kind"] == "CustomResourceDefinition").count()
    };
    assert_eq!((definitions(&[]), definitions(&["--without-crds"])), (5, 0));
    for crd in CRDS {
        // As JSON, in `kubectl.kubernetes.io/last-applied-configuration`; all annotations together may have 256 KiB.
        let json = serde_json::to_string(&parsed(crd.yaml)[0]).unwrap();
        assert!(crd.yaml.len().max(json.len()) < 200 << 10, "{} has {} bytes", crd.name, json.len());
    }
}

#[test]
fn what_other_operators_define_is_asked_for_by_a_flag() {
    let foreign = |flags: &[&str]| {
        objects(flags).iter().filter(|object| object["apiVersion"] == "monitoring.coreos.com/v1").count()
    };
    assert_eq!((foreign(&[]), foreign(&["--monitoring"])), (0, 2));
    let all = objects(&["--monitoring"]);
    let dashboard = all.iter().find(|object| object["metadata"]["name"] == "weft-dashboard").unwrap();
    let dashboard: serde_json::Value =
        serde_json::from_str(dashboard["data"]["weft.json"].as_str().unwrap()).unwrap();
    // Dashboards and alerts ask for what there is.
    let mut questions = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let targets = panel["targets"].as_array().unwrap().iter();
        questions.extend(targets.map(|target| target["expr"].as_str().unwrap().to_owned()));
    }
    for group in of_kind(&all, "PrometheusRule")["spec"]["groups"].as_sequence().unwrap() {
        let rules = group["rules"].as_sequence().unwrap().iter();
        questions.extend(rules.map(|rule| rule["expr"].as_str().unwrap().to_owned()));
    }
    assert!(questions.len() > 15, "{questions:?}");
    for question in &questions {
        assert_eq!(unknown(question), [""; 0], "{question}");
    }
    assert_eq!(unknown("sum by (nobody) (rate(weft_drops_total{reason=\"x\"}[1m]))"), ["nobody"]);
    assert_eq!(unknown("max(weft_dropped) > 0"), ["weft_dropped"]);
}

/// What a question of a dashboard or an alert asks for that there is not: metrics, or labels of theirs.
fn unknown(question: &str) -> Vec<String> {
    let named: BTreeMap<&str, Vec<&str>> = [
        include_str!("../../../telemetry/src/metrics/names.txt"),
        include_str!("../../../controller/src/metrics/names.txt"),
    ]
    .iter()
    .flat_map(|names| names.lines())
    .map(|line| {
        let mut words = line.split(' ');
        let name = words.next().unwrap();
        (name, words.nth(1).map(|labels| labels.split(',').collect()).unwrap_or_default())
    })
    .collect();
    // Those of every target, and the node, which the ServiceMonitor adds.
    let everywhere = ["job", "node", "pod", "le"];
    let without_texts: String = question.split('"').step_by(2).collect::<Vec<_>>().join("\"\"");
    let of_a_metric = |word: &&str| word.starts_with("istio_") || word.starts_with("weft_");
    let words = |text: &str| -> Vec<String> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        text.split(|c| !is_part(c)).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let (mut wrong, mut labels) = (Vec::new(), everywhere.to_vec());
    for word in words(&without_texts).iter().map(String::as_str).filter(of_a_metric) {
        let found = named.iter().find(|(name, _)| {
            word.strip_prefix(**name).is_some_and(|rest| ["", "_total", "_bucket"].contains(&rest))
        });
        match found {
            Some((_, of_it)) => labels.extend(of_it),
            None => wrong.push(word.to_owned()),
        }
    }
    let chosen = without_texts.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let grouped = without_texts.split("by (").skip(1).filter_map(|rest| rest.split(')').next());
    let asked = chosen.chain(grouped).flat_map(words);
    wrong.extend(asked.filter(|label| !labels.contains(&label.as_str())));
    wrong
}

#[test]
fn whoever_looks_after_metrics_finds_agents_and_controllers() {
    let all = objects(&["--monitoring"]);
    for (component, port) in [("agent", 9470), ("controller", 9476)] {
        let services = all.iter().filter(|object| object["kind"] == "Service");
        let mut services = services.filter(|service| service["spec"]["clusterIP"] == "None");
        let of_it =
            |service: &&Value| service["spec"]["selector"]["app.kubernetes.io/component"] == component;
        let service = services.find(of_it).unwrap_or_else(|| panic!("no Service of {component}s' metrics"));
        let offered = &service["spec"]["ports"][0];
        assert_eq!(
            (&offered["name"], &offered["targetPort"]),
            (&"metrics".into(), &port.into()),
            "{component}"
        );
        let labels = service["metadata"]["labels"].as_mapping().unwrap();
        let monitored = all.iter().filter(|object| object["kind"] == "ServiceMonitor").any(|monitor| {
            let wanted = monitor["spec"]["selector"]["matchLabels"].as_mapping().unwrap();
            let ports = monitor["spec"]["endpoints"].as_sequence().unwrap();
            wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
                && ports.iter().any(|endpoint| endpoint["port"] == "metrics")
        });
        assert!(monitored, "nobody asks {component}s");
    }
}

#[test]
fn the_chart_and_the_kustomization_make_what_install_prints() {
    let chart = |name: &str| generated(&format!("deploy/chart/{name}")).unwrap();
    let values = &parsed(&chart("values.yaml"))[0];
    let rendered = |monitoring: bool| {
        let objects = OBJECTS
            .iter()
            .map(|text| render(&chart(&format!("templates/{}.yaml", text.name)), values, monitoring));
        let crds = CRDS.iter().map(|text| chart(&format!("crds/{}.yaml", text.name)));
        parsed(&crds.chain(objects).filter(|text| !text.is_empty()).collect::<Vec<_>>().join("---\n"))
    };
    assert_eq!(rendered(false), objects(&[]));
    assert_eq!(rendered(true), objects(&["--monitoring"]));
    let kustomized = generated("deploy/kustomize/default/weft.yaml").unwrap();
    assert_eq!(parsed(&kustomized), objects(&["--without-crds"]));
    assert!(generated("deploy/chart/templates/other.yaml").is_none() && generated("README.md").is_none());
}

/// As Helm does, as far as our templates need it.
fn render(template: &str, values: &Value, monitoring: bool) -> String {
    let body = match template.strip_prefix("{{- if .Values.monitoring }}\n") {
        Some(_) if !monitoring => return String::new(),
        Some(rest) => rest.strip_suffix("{{- end }}\n").unwrap(),
        None => template,
    };
    let body = body.replace(chart::ESCAPED, "\u{1}");
    let mut parts = body.split("{{ .Values.");
    let mut text = parts.next().unwrap().to_owned();
    for part in parts {
        let (name, rest) = part.split_once(" }}").unwrap();
        text.push_str(&match &values[name] {
            Value::String(value) => value.clone(),
            Value::Number(value) => value.to_string(),
            other => panic!("{name} is {other:?}"),
        });
        text.push_str(rest);
    }
    assert!(!text.contains("{{"), "{text}");
    text.replace('\u{1}', "{{")
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
    let volumes = of_kind(&all, "DaemonSet")["spec"]["template"]["spec"]["volumes"].as_sequence().unwrap();
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
    // What RBAC cannot hold by name, a policy does.
    let policy = &named(&all, "ValidatingAdmissionPolicy", "weft-controller")["spec"];
    let held = &policy["matchConstraints"]["resourceRules"][0];
    let made =
        rules.iter().filter(|rule| rule["verbs"].as_sequence().unwrap().iter().any(|verb| verb == "create"));
    let made: Vec<_> = made.map(|rule| &rule["resources"]).collect();
    assert_eq!((made.as_slice(), &held["operations"][0]), (&[&held["resources"]][..], &"CREATE".into()));
    assert_eq!(policy["failurePolicy"], "Fail");
    let binding = &named(&all, "ValidatingAdmissionPolicyBinding", "weft-controller")["spec"];
    assert_eq!(
        (&binding["policyName"], &binding["validationActions"][0]),
        (&"weft-controller".into(), &"Deny".into())
    );
    let cluster = named(&all, "ClusterRole", "weft-controller")["rules"].as_sequence().unwrap();
    assert!(
        cluster.iter().all(|rule| rule["resources"].as_sequence().unwrap().iter().all(|it| it != "secrets"))
    );
}

#[test]
fn a_disruption_takes_one_controller_at_most() {
    let all = objects(&[]);
    let budget = &named(&all, "PodDisruptionBudget", "weft-controller")["spec"];
    let replicas = named(&all, "Deployment", "weft-controller")["spec"]["replicas"].as_u64().unwrap();
    assert!(budget["maxUnavailable"].as_u64().unwrap() < replicas, "{budget:?}");
    assert_eq!(budget["minAvailable"], Value::Null, "with one node less it would hold up every drain");
    let update = &named(&all, "Deployment", "weft-controller")["spec"]["strategy"]["rollingUpdate"];
    assert_eq!(update["maxUnavailable"], 0, "an update takes none");
}

#[test]
fn each_pod_of_ours_says_what_it_takes_and_comes_before_others() {
    let all = objects(&[]);
    let pods = [of_kind(&all, "DaemonSet"), of_kind(&all, "Deployment")]
        .map(|object| &object["spec"]["template"]["spec"]);
    for (pod, class) in pods.iter().zip(["system-node-critical", "system-cluster-critical"]) {
        assert_eq!(pod["priorityClassName"], class);
        for container in pod["containers"].as_sequence().unwrap() {
            let (requests, limits) = (&container["resources"]["requests"], &container["resources"]["limits"]);
            for of_it in [&requests["cpu"], &requests["memory"], &limits["memory"]] {
                assert!(of_it.is_string(), "{container:?}");
            }
            assert_eq!(limits["cpu"], Value::Null, "who is throttled enforces late");
            assert_eq!(container["imagePullPolicy"], "IfNotPresent");
            assert_eq!(container["securityContext"]["privileged"], false);
        }
    }
    let everywhere: Value = serde_yaml::from_str("[{operator: Exists}]").unwrap();
    assert_eq!(
        pods[0]["tolerations"], everywhere,
        "a node without an agent would keep pods of the mesh waiting"
    );
}

#[test]
fn each_capability_says_what_it_is_for() {
    let all = objects(&[]);
    let granted = container(&all)["securityContext"]["capabilities"]["add"].as_sequence().unwrap();
    let names: Vec<_> = granted.iter().map(|name| name.as_str().unwrap()).collect();
    // One more is a decision.
    let known = [
        "BPF",
        "PERFMON",
        "NET_ADMIN",
        "SYS_ADMIN",
        "SYS_CHROOT",
        "SYS_PTRACE",
        "NET_RAW",
        "DAC_OVERRIDE",
        "KILL",
        "SETPCAP",
    ];
    assert_eq!(names, known);
    let text = text(&[]);
    for name in names {
        let line = text.lines().find(|line| line.trim().starts_with(&format!("- {name} ")));
        let why = line.and_then(|line| line.split_once(" # ")).map_or("", |(_, why)| why);
        assert!(why.split(' ').count() > 3, "{name}: {line:?}");
    }
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
