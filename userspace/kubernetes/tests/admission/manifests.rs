//! The policies in the repository's manifests.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize as _;
use serde_json::Value;

const KINDS: [&str; 5] =
    ["MeshConfig", "TrafficPolicy", "AuthorizationPolicy", "AuthenticationPolicy", "TelemetryPolicy"];

/// A manifest that is wrong in one way, and where that is.
pub(crate) struct Broken {
    pub(crate) name: String,
    pub(crate) field: String,
    pub(crate) object: Value,
}

/// Those of `tests/broken` with one object, which is ours, and whose mistake is no warning about other objects.
pub(crate) fn broken() -> Vec<Broken> {
    let files = files(Path::new("tests/broken"));
    files.into_iter().filter_map(|path| broken_file(&path)).collect()
}

fn broken_file(path: &Path) -> Option<Broken> {
    let text = fs::read_to_string(path).unwrap();
    let header = |name: &str| {
        let mut lines = text.lines().take_while(|line| line.starts_with('#'));
        lines.find_map(|line| line.strip_prefix(name).map(|value| value.trim().to_owned()))
    };
    if header("# severity:").is_some() {
        return None;
    }
    // Some are no YAML, or no objects.
    let documents: Vec<Value> = documents(&text)?;
    let [object] = &documents[..] else { return None };
    is_ours(object).then(|| Broken {
        name: path.file_stem().unwrap().to_string_lossy().into_owned(),
        field: header("# field:").unwrap(),
        object: within_shop(object),
    })
}

/// Each policy of our examples and tests, all different, and where it was found.
pub(crate) fn good() -> Vec<(PathBuf, Value)> {
    let mut found: Vec<(PathBuf, Value)> = Vec::new();
    for folder in ["tests/good", "../../deploy/examples", "../../tests/conformance/cases"] {
        for path in files(Path::new(folder)) {
            let text = fs::read_to_string(&path).unwrap();
            let mut objects = Vec::new();
            for document in documents(&text).unwrap_or_else(|| panic!("{} is no YAML", path.display())) {
                collect(&document, &mut objects);
            }
            for object in objects {
                if found.iter().all(|(_, other)| other["spec"] != object["spec"]) {
                    found.push((path.clone(), object));
                }
            }
        }
    }
    found
}

/// Our objects, wherever they are in a file.
fn collect(value: &Value, found: &mut Vec<Value>) {
    match value {
        value if is_ours(value) => found.push(within_shop(value)),
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Object(entries) => entries.values().for_each(|entry| collect(entry, found)),
        _ => {}
    }
}

fn is_ours(value: &Value) -> bool {
    value["apiVersion"] == "weft.dev/v1alpha1" && KINDS.iter().any(|kind| value["kind"] == *kind)
}

/// In the one namespace that there is.
fn within_shop(object: &Value) -> Value {
    let mut object = object.clone();
    if object["kind"] != "MeshConfig" {
        object["metadata"]["namespace"] = "shop".into();
    }
    object
}

fn documents(text: &str) -> Option<Vec<Value>> {
    serde_yaml::Deserializer::from_str(text).map(|document| Value::deserialize(document).ok()).collect()
}

/// All manifests below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
    found.sort();
    found
}
