use serde_json::Value;

use super::*;

const ENTRY: &str = r#"{"type":"weft-cni","agent":"/run/weft/agent.sock"}"#;

/// As kindnetd, flannel, calico, cilium and the test cluster write them.
const LISTS: [(&str, &str); 5] = [
    (
        "kindnet",
        r#"
{
	"cniVersion": "0.3.1",
	"name": "kindnet",
	"plugins": [
	{
		"type": "ptp",
		"ipMasq": false,
		"ipam": {
			"type": "host-local",
			"dataDir": "/run/cni-ipam-state",
			"routes": [ { "dst": "0.0.0.0/0" } ],
			"ranges": [ [ { "subnet": "10.244.0.0/24" } ] ]
		},
		"mtu": 1500
	},
	{
		"type": "portmap",
		"capabilities": { "portMappings": true }
	}
	]
}
"#,
    ),
    (
        "flannel",
        r#"{
  "name": "cbr0",
  "cniVersion": "0.3.1",
  "plugins": [
    {
      "type": "flannel",
      "delegate": {
        "hairpinMode": true,
        "isDefaultGateway": true
      }
    },
    {
      "type": "portmap",
      "capabilities": {
        "portMappings": true
      }
    }
  ]
}
"#,
    ),
    (
        "calico",
        r#"{
  "name": "k8s-pod-network",
  "cniVersion": "0.3.1",
  "plugins": [
    {
      "type": "calico",
      "log_level": "info",
      "log_file_path": "/var/log/calico/cni/cni.log",
      "datastore_type": "kubernetes",
      "nodename": "n1",
      "mtu": 0,
      "ipam": {"type": "calico-ipam"},
      "policy": {"type": "k8s"},
      "kubernetes": {"kubeconfig": "/etc/cni/net.d/calico-kubeconfig"}
    },
    {"type": "portmap", "snat": true, "capabilities": {"portMappings": true}},
    {"type": "bandwidth", "capabilities": {"bandwidth": true}}
  ]
}"#,
    ),
    (
        "cilium",
        r#"
{
  "cniVersion": "0.3.1",
  "name": "cilium",
  "plugins": [
    {
       "type": "cilium-cni",
       "enable-debug": false,
       "log-file": "/var/run/cilium/cilium-cni.log"
    }
  ]
}
"#,
    ),
    (
        "one line",
        r#"{"cniVersion":"1.0.0","name":"bridge \"]}\" ","plugins":[{"type":"bridge","bridge":"cni0"}]}"#,
    ),
];

fn types(text: &str) -> Vec<String> {
    plugins(text).unwrap()
}

#[test]
fn the_plugin_is_last_and_what_others_wrote_is_untouched() {
    for (who, list) in LISTS {
        let ours = with(list, ENTRY).unwrap();
        assert_eq!(types(&ours), [types(list), vec![NAME.to_owned()]].concat(), "{who}");
        assert_eq!(without(&ours).unwrap(), list, "{who}: gone without a trace");
        assert_eq!(with(&ours, ENTRY).unwrap(), ours, "{who}: once is enough");
        let before: Value = serde_json::from_str(list).unwrap();
        let mut after: Value = serde_json::from_str(&ours).unwrap();
        after["plugins"].as_array_mut().unwrap().pop();
        assert_eq!(before, after, "{who}");
    }
}

#[test]
fn a_list_reads_as_if_its_writer_had_put_the_plugin_there() {
    let (_, calico) = LISTS[2];
    let ours = with(calico, ENTRY).unwrap();
    let expected = "    {\"type\": \"bandwidth\", \"capabilities\": {\"bandwidth\": true}},\n    \
                    {\"type\":\"weft-cni\",\"agent\":\"/run/weft/agent.sock\"}\n  ]\n}";
    assert!(ours.ends_with(expected), "{ours}");
}

#[test]
fn an_older_entry_is_replaced_where_it_stands() {
    let (_, kindnet) = LISTS[0];
    let old = with(kindnet, r#"{"type": "weft-cni", "agent": "/old"}"#).unwrap();
    assert_eq!(with(&old, ENTRY).unwrap(), with(kindnet, ENTRY).unwrap());
    // Somebody else has come behind it meanwhile.
    let chained = old.replace("\"/old\"}", "\"/old\"},\n\t{\"type\": \"bandwidth\"}");
    assert_eq!(types(&with(&chained, ENTRY).unwrap()), ["ptp", "portmap", "weft-cni", "bandwidth"]);
    assert_eq!(types(&without(&chained).unwrap()), ["ptp", "portmap", "bandwidth"]);
    let first = chained.replacen("\"plugins\": [", "\"plugins\": [{\"type\": \"weft-cni\"}, ", 1);
    assert_eq!(types(&without(&first).unwrap())[0], "ptp");
}

#[test]
fn a_single_plugin_becomes_a_list_of_two() {
    let bridge = "{\n  \"cniVersion\": \"0.4.0\",\n  \"name\": \"mynet\",\n  \"type\": \"bridge\"\n}\n";
    let list = wrapped(bridge, ENTRY).unwrap();
    assert_eq!(types(&list), ["bridge", "weft-cni"]);
    let read: Value = serde_json::from_str(&list).unwrap();
    assert_eq!((&read["name"], &read["cniVersion"]), (&"mynet".into(), &"0.4.0".into()));
    assert!(list.contains(bridge.trim()), "{list}");
    assert_eq!(types(bridge), ["bridge"]);
}

#[test]
fn what_is_no_network_is_refused() {
    for bad in ["", "{", "[]", "{}", r#"{"plugins": []}"#, r#"{"plugins": [{}]}"#, r#"{"plugins": {}}"#] {
        assert!(plugins(bad).is_err() && with(bad, ENTRY).is_err(), "{bad}");
    }
    assert!(without(r#"{"plugins": [{"type": "weft-cni"}]}"#).is_err(), "there would be no network");
}
