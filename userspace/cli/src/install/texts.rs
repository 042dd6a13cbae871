//! What is installed, as it stands in `deploy`.

/// One file.
pub(super) struct Text {
    /// Its name, without the ending.
    pub(super) name: &'static str,
    pub(super) yaml: &'static str,
    /// The flag without which it is left out.
    pub(super) only_with: Option<&'static str>,
}

macro_rules! text {
    ($folder:literal, $name:literal, $only_with:expr) => {
        Text {
            name: $name,
            yaml: include_str!(concat!("../../../../deploy/", $folder, "/", $name, ".yaml")),
            only_with: $only_with,
        }
    };
}

/// The definitions of our kinds.
pub(super) const CRDS: &[Text] = &[
    text!("crds", "weft.dev_meshconfigs", None),
    text!("crds", "weft.dev_trafficpolicies", None),
    text!("crds", "weft.dev_authorizationpolicies", None),
    text!("crds", "weft.dev_authenticationpolicies", None),
    text!("crds", "weft.dev_telemetrypolicies", None),
];

/// Everything else, in the order in which it is made.
pub(super) const OBJECTS: &[Text] = &[
    text!("install", "namespace", None),
    text!("install", "access", None),
    text!("install", "controller", None),
    text!("install", "agent", None),
    text!("install", "monitoring", Some("monitoring")),
];

/// `text` with each `${name}` replaced. Values stand in quotes where YAML would read another type, which is the text's
/// own affair.
pub(super) fn fill(text: &str, value: impl Fn(&str) -> String) -> String {
    let mut parts = text.split("${");
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('}').expect("the texts are ours, and a test fills each of them");
        filled.push_str(&value(name));
        filled.push_str(rest);
    }
    filled
}
