use super::*;

const ARGS: &str = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1;K8S_POD_INFRA_CONTAINER_ID=ab12;\
                    K8S_POD_UID=3d1c5c52-0d5f-4c5e-9c07-6d1d4b6c8c11";

fn read(changes: &[(&str, &str)], input: &str) -> Result<Call, Error> {
    let usual = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "ab12"),
        ("CNI_NETNS", "/var/run/netns/cni-1"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", ARGS),
    ];
    let set = |name: &str| {
        let all = changes.iter().chain(&usual);
        all.into_iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    };
    Call::read(set, input.as_bytes())
}

/// What the bridge plugin leaves (1.0.0): the host's end of the veth, the bridge and the pod's.
const BRIDGE: &str = r#"{
    "cniVersion": "1.0.0",
    "interfaces": [
        {"name": "cni0", "mac": "9a:01:23:45:67:89"},
        {"name": "vethb1", "mac": "9a:01:23:45:67:8a"},
        {"name": "eth0", "mac": "9a:01:23:45:67:8b", "sandbox": "/var/run/netns/cni-1"}
    ],
    "ips": [
        {"address": "10.244.1.7/24", "gateway": "10.244.1.1", "interface": 2},
        {"address": "fd00:10::7/64", "gateway": "fd00:10::1", "interface": 2}
    ],
    "routes": [{"dst": "0.0.0.0/0"}], "dns": {}
}"#;

fn after(previous: &str) -> String {
    format!(
        r#"{{"cniVersion": "1.0.0", "name": "n", "type": "weft-cni", "agent": "/run/weft/agent.sock", "prevResult": {previous}}}"#
    )
}

#[test]
fn a_pod_is_named_by_the_runtimes_arguments() {
    let call = read(&[], &after(BRIDGE)).unwrap();
    let pod = call.pod.unwrap();
    assert_eq!(
        (pod.name.to_string().as_str(), &*pod.uid),
        ("shop/web-1", "3d1c5c52-0d5f-4c5e-9c07-6d1d4b6c8c11")
    );
    assert_eq!(read(&[("CNI_ARGS", "")], &after(BRIDGE)).unwrap().pod, None, "nerdctl names none");
}

#[test]
fn the_pods_addresses_are_those_of_its_own_interface() {
    let addresses = |previous: &str| read(&[], &after(previous)).unwrap().config.addresses("eth0").unwrap();
    let texts = |previous: &str| addresses(previous).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(texts(BRIDGE), ["10.244.1.7", "fd00:10::7"]);
    // Calico's has no index (0.3.1); of two networks the other one's interface is not the pod's address.
    let calico = r#"{"cniVersion":"0.3.1","interfaces":[{"name":"cali12"}],
        "ips":[{"version":"4","address":"192.168.12.7/32"}],"dns":{}}"#;
    assert_eq!(texts(calico), ["192.168.12.7"]);
    let two = r#"{"interfaces":[{"name":"eth0","sandbox":"/n"},{"name":"net1","sandbox":"/n"},{"name":"v"}],
        "ips":[{"address":"10.0.0.1/24","interface":0},{"address":"10.9.0.1/24","interface":1},
               {"address":"10.8.0.1/24","interface":2}]}"#;
    assert_eq!(texts(two), ["10.0.0.1"]);
    assert!(texts(r#"{"cniVersion": "1.0.0"}"#).is_empty());
}

#[test]
fn what_a_runtime_leaves_out_is_named() {
    let code = |changes: &[(&str, &str)], input: &str| read(changes, input).unwrap_err();
    for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"] {
        let error = code(&[(name, "")], &after(BRIDGE));
        assert_eq!((error.code, error.message), (Code::InvalidVariables, format!("{name} is not set")));
    }
    assert!(read(&[("CNI_COMMAND", "DEL"), ("CNI_NETNS", "")], &after(BRIDGE)).is_ok(), "it may have gone");
    assert!(read(&[("CNI_COMMAND", "GC"), ("CNI_CONTAINERID", "")], &after(BRIDGE)).is_ok());
    let error = code(&[("CNI_COMMAND", "")], "");
    assert_eq!(error.code, Code::InvalidVariables);
    assert!(error.details.contains("ADD, CHECK, DEL, GC, STATUS, VERSION"), "{error}");
    assert_eq!(code(&[], "{").code, Code::Undecodable);
    let old = after(BRIDGE).replacen("1.0.0", "0.2.0", 1);
    let error = code(&[], &old);
    assert_eq!(error.code, Code::IncompatibleVersion);
    assert!(error.details.contains("1.1.0"), "{error}");
    let first = r#"{"cniVersion": "1.0.0", "type": "weft-cni"}"#;
    let error = read(&[], first).unwrap().config.previous().unwrap_err();
    assert_eq!(error.code, Code::InvalidConfiguration);
}

#[test]
fn a_refusal_is_in_the_words_of_the_spec() {
    let error = Error::new(Code::TryAgainLater, "pod shop/web waits", "the agent is away");
    let json: Value = serde_json::from_str(&error.to_json(Some("1.0.0"))).unwrap();
    let expected = serde_json::json!({"cniVersion": "1.0.0", "code": 11, "msg": "pod shop/web waits",
        "details": "the agent is away"});
    assert_eq!(json, expected);
}

#[test]
fn a_path_is_told_without_the_links_on_its_way() {
    let folder = tempfile::tempdir().unwrap();
    let real = folder.path().canonicalize().unwrap();
    std::fs::create_dir(real.join("run")).unwrap();
    std::os::unix::fs::symlink(real.join("run"), real.join("var-run")).unwrap();
    assert_eq!(without_links(&real.join("var-run/cni-1")), real.join("run/cni-1"));
    assert_eq!(without_links(Path::new("/proc/self/ns/net")).file_name().unwrap(), "net");
}

/// A runtime reads the configuration that an agent has written, and calls the plugin that is on the disk: after an update these
/// are of two releases for a moment; and of a pod's DEL and CHECK for as long as the pod lives, as runtimes keep what was there
/// at its ADD.
#[test]
fn the_configuration_of_another_release_means_the_same() {
    let written = r#"{"type":"weft-cni","agent":"/run/weft/agent.sock","kubeconfig":"/var/lib/weft/cni/kubeconfig",
        "members":"/var/lib/weft/last-good/n1/members.json","neverWait":["kube-system","weft-system"]"#;
    let runtimes = format!(r#""cniVersion": "1.0.0", "name": "n", "prevResult": {BRIDGE}"#);
    for more in ["", r#""ofTheNextRelease": {"some": ["thing"]},"#] {
        let config = read(&[], &format!("{written}, {more} {runtimes}}}")).unwrap().config;
        assert_eq!(config.agent, Path::new("/run/weft/agent.sock"));
        assert_eq!(config.kubeconfig, Path::new("/var/lib/weft/cni/kubeconfig"));
        assert_eq!(config.members, Path::new("/var/lib/weft/last-good/n1/members.json"));
        assert_eq!(config.never_wait, ["kube-system", "weft-system"]);
    }
    // What is written today is that, and so a plugin of that release reads it.
    let settings = crate::Settings {
        agent: "/run/weft/agent.sock".into(),
        kubeconfig: "/var/lib/weft/cni/kubeconfig".into(),
        members: "/var/lib/weft/last-good/n1/members.json".into(),
        never_wait: vec!["kube-system".to_owned(), "weft-system".to_owned()],
    };
    let today: Value = serde_json::to_value(settings).unwrap();
    let then: Value = serde_json::from_str(&format!("{written}}}")).unwrap();
    for (key, value) in then.as_object().unwrap().iter().filter(|(key, _)| *key != "type") {
        assert_eq!(today[key], *value, "{key}");
    }
}
