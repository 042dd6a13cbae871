use std::fs;

use tempfile::TempDir;
use weft_runtime::Tasks;

use super::*;

/// A node's CNI directories.
struct Node {
    folder: TempDir,
}

const FLANNEL: &str = r#"{
  "name": "cbr0",
  "cniVersion": "0.3.1",
  "plugins": [
    {"type": "flannel", "delegate": {"hairpinMode": true}}
  ]
}
"#;
const BRIDGE: &str = "{\"cniVersion\": \"0.4.0\", \"name\": \"b\", \"type\": \"bridge\"}\n";

impl Node {
    fn new(files: &[(&str, &str)]) -> Self {
        let node = Self { folder: tempfile::tempdir().unwrap() };
        for folder in ["bin", "net.d"] {
            fs::create_dir(node.folder.path().join(folder)).unwrap();
        }
        fs::write(node.folder.path().join("weft"), "program").unwrap();
        for (name, text) in files {
            fs::write(node.conf(name), text).unwrap();
        }
        node
    }

    fn bin(&self) -> PathBuf {
        self.folder.path().join("bin")
    }

    fn conf(&self, name: &str) -> PathBuf {
        self.folder.path().join("net.d").join(name)
    }

    fn installer(&self) -> Installer {
        Installer {
            bin_dir: self.bin(),
            conf_dir: self.conf(""),
            program: self.folder.path().join("weft"),
            settings: Settings {
                agent: "/run/weft/agent.sock".into(),
                kubeconfig: "/var/lib/weft/cni/kubeconfig".into(),
                members: "/var/lib/weft/last-good/n1/members.json".into(),
                never_wait: vec!["kube-system".into()],
            },
        }
    }

    fn files(&self) -> Vec<(String, String)> {
        let entries = fs::read_dir(self.conf("")).unwrap().map(|entry| entry.unwrap().path());
        let file = |path: PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        };
        let mut files: Vec<_> = entries.map(file).collect();
        files.sort();
        files
    }

    /// The plugins of the network that a runtime would use.
    fn network(&self) -> Vec<String> {
        let files = networks(&self.conf("")).unwrap();
        let texts = files.iter().map(|file| fs::read_to_string(file).unwrap());
        texts.into_iter().find_map(|text| crate::conflist::plugins(&text).ok()).unwrap_or_default()
    }

    fn uninstall(&self) {
        uninstall(&self.bin(), &self.conf("")).unwrap();
    }
}

#[test]
fn a_node_is_afterwards_as_it_was_before() {
    let nodes: [&[(&str, &str)]; 4] = [
        &[("10-flannel.conflist", FLANNEL), ("20-other.conflist", FLANNEL), ("README", "x")],
        &[("10-bridge.conf", BRIDGE), ("10-bridge.conflist", FLANNEL)],
        &[("00-broken.conflist", "{"), ("99-loopback.json", BRIDGE)],
        &[],
    ];
    for files in nodes {
        let node = Node::new(files);
        let before = (node.files(), node.network());
        node.installer().ensure().unwrap();
        assert_eq!(node.network().last().map(String::as_str), before.1.last().map(|_| NAME), "{files:?}");
        assert_eq!(fs::read_to_string(node.bin().join(NAME)).unwrap(), "program");
        node.uninstall();
        assert_eq!((node.files(), node.network()), before);
        assert_eq!(fs::read_dir(node.bin()).unwrap().count(), 0, "no program is left");
        node.uninstall();
    }
}

#[test]
fn the_first_network_by_name_is_the_one_that_counts() {
    let node = Node::new(&[("10-flannel.conflist", FLANNEL)]);
    let file = node.conf("10-flannel.conflist");
    let installer = node.installer();
    assert_eq!(installer.ensure().unwrap(), Ensured::In { file: file.clone(), anew: true });
    assert_eq!(installer.ensure().unwrap(), Ensured::In { file, anew: false }, "nothing is left to be done");
    // Another plugin comes before it: in one list, or alone.
    for (name, text, plugins) in
        [("05-cilium.conflist", FLANNEL, ["flannel", NAME]), ("01-bridge.conf", BRIDGE, ["bridge", NAME])]
    {
        fs::write(node.conf(name), text).unwrap();
        assert!(matches!(installer.ensure().unwrap(), Ensured::In { anew: true, .. }));
        assert_eq!(node.network(), plugins, "{name}");
    }
    node.uninstall();
    let names: Vec<_> = node.files().into_iter().collect();
    let text = |text: &str| text.to_owned();
    let expected =
        [("01-bridge.conf", BRIDGE), ("05-cilium.conflist", FLANNEL), ("10-flannel.conflist", FLANNEL)];
    assert_eq!(names, expected.map(|(name, of)| (text(name), text(of))));
}

#[test]
fn a_single_plugin_that_is_written_anew_is_wrapped_anew() {
    let node = Node::new(&[("10-bridge.conf", BRIDGE)]);
    node.installer().ensure().unwrap();
    let newer = BRIDGE.replace("\"b\"", "\"newer\"");
    fs::write(node.conf("10-bridge.conf"), &newer).unwrap();
    assert_eq!(node.network(), ["bridge"], "until it is looked at");
    node.installer().ensure().unwrap();
    assert_eq!(node.network(), ["bridge", NAME]);
    assert!(fs::read_to_string(node.conf("10-bridge.conf.conflist")).unwrap().contains("newer"));
    node.uninstall();
    assert_eq!(node.files(), [("10-bridge.conf".to_owned(), newer)]);
}

#[test]
fn rights_of_files_stay_and_the_program_can_be_run() {
    use std::os::unix::fs::PermissionsExt as _;
    let node = Node::new(&[("10-flannel.conflist", FLANNEL)]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let (list, program) = (node.conf("10-flannel.conflist"), node.bin().join(NAME));
    fs::set_permissions(&list, fs::Permissions::from_mode(0o600)).unwrap();
    node.installer().ensure().unwrap();
    assert_eq!((mode(&list), mode(&program)), (0o600, 0o755));
    // An update, and somebody who has taken a right away.
    fs::write(node.folder.path().join("weft"), "another program").unwrap();
    node.installer().ensure().unwrap();
    assert_eq!(fs::read_to_string(&program).unwrap(), "another program");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o644)).unwrap();
    node.installer().ensure().unwrap();
    assert_eq!(mode(&program), 0o755);
}

#[test]
fn a_program_that_a_list_still_names_is_not_removed() {
    let node = Node::new(&[("10-flannel.conflist", FLANNEL)]);
    node.installer().ensure().unwrap();
    let list = node.conf("10-flannel.conflist");
    fs::write(&list, r#"{"name": "n", "plugins": [{"type": "weft-cni"}]}"#).unwrap();
    let error = uninstall(&node.bin(), &node.conf("")).unwrap_err().to_string();
    assert!(error.contains("10-flannel.conflist") && error.contains("by hand"), "{error}");
    assert!(node.bin().join(NAME).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_writes_the_network_anew_finds_the_plugin_in_it() {
    let node = Node::new(&[]);
    let (placement, mut told) = latest::channel(Placement::Unknown);
    let tasks = Tasks::new();
    tasks.spawn("cni", keep(node.installer(), placement, tasks.stop_signal()));
    told.wait_for(|told| *told == Placement::NoNetwork).await.unwrap();
    let file = node.conf("10-flannel.conflist");
    fs::write(&file, FLANNEL).unwrap();
    told.wait_for(|told| *told == Placement::Placed { file: file.clone() }).await.unwrap();
    let patience = Duration::from_secs(20);
    for round in 0..2 {
        fs::write(node.conf(".draft"), FLANNEL).unwrap();
        fs::rename(node.conf(".draft"), &file).unwrap();
        let repaired = async {
            while node.network() != ["flannel", NAME] {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(timeout(patience, repaired).await.is_ok(), "round {round}: nobody has repaired it");
    }
    fs::write(node.conf("00-first.conf"), BRIDGE).unwrap();
    let around = node.conf("00-first.conf.conflist");
    timeout(patience, told.wait_for(|told| *told == Placement::Placed { file: around.clone() }))
        .await
        .unwrap()
        .unwrap();
    tasks.drain(Duration::from_secs(5)).await;
    assert_eq!(node.network(), ["bridge", NAME], "an agent that ends leaves it");
}
