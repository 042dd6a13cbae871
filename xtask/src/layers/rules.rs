//! The level table, the walls, and what is a violation of them.

use crate::workspace::{Crate, Dependency};

/// Every violation, as the sentence that the developer reads: crate, dependency, rule, remedy.
pub(crate) fn violations(crates: &[Crate]) -> Vec<String> {
    let mut found: Vec<String> = crates.iter().flat_map(of_crate).collect();
    found.sort();
    found
}

fn of_crate(package: &Crate) -> Vec<String> {
    let name = package.name.as_str();
    let Some(level) = level(name) else {
        return vec![format!(
            "{name} is in no level: add it to LEVELS in xtask/src/layers/rules.rs and ARCHITECTURE.md"
        )];
    };
    let mut found = Vec::new();
    if !package.inherits_lints {
        found.push(format!(
            "{name} has lints of its own: write `[lints] workspace = true` into its Cargo.toml"
        ));
    }
    found.extend(package.dependencies.iter().filter_map(|dependency| direction(name, level, dependency)));
    if !OUTSIDE_THE_WALLS.contains(&name) {
        found.extend(package.dependencies.iter().filter_map(|dependency| wall(name, dependency)));
    }
    found
}

fn direction(name: &str, own: u8, dependency: &Dependency) -> Option<String> {
    let other = level(&dependency.name)?;
    let way = match other.cmp(&own) {
        std::cmp::Ordering::Less => return None,
        std::cmp::Ordering::Equal => "sideways",
        std::cmp::Ordering::Greater => "upwards",
    };
    Some(format!(
        "{name} (level {own}) depends {way} on {} (level {other}): a crate uses lower levels only; \
         pass a value or a small trait in, or move what both need down",
        dependency.name
    ))
}

fn wall(name: &str, dependency: &Dependency) -> Option<String> {
    let wall = WALLS.iter().find(|wall| wall.encloses(&dependency.name))?;
    let allowed = name == wall.inside || (dependency.optional && wall.optional_in == Some(name));
    (!allowed).then(|| {
        format!(
            "{name} names {}, which belongs in {} alone: put what needs it there and pass the result on in a type of weft-model",
            dependency.name, wall.inside
        )
    })
}

fn level(name: &str) -> Option<u8> {
    LEVELS.iter().find(|(listed, _)| *listed == name).map(|(_, level)| *level)
}

/// Third-party crates that one crate of ours wraps.
struct Wall {
    /// Names; `*` at the end stands for any rest.
    encloses: &'static [&'static str],
    inside: &'static str,
    /// May name them too, behind a feature of its own.
    optional_in: Option<&'static str>,
}

impl Wall {
    fn encloses(&self, name: &str) -> bool {
        self.encloses.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == *pattern,
        })
    }
}

const LEVELS: &[(&str, u8)] = &[
    ("weft-abi", 0),
    ("weft-model", 0),
    ("weft-ebpf-logic", 1),
    ("weft-policy", 1),
    ("weft-runtime", 1),
    ("weft-ebpf", 2),
    ("weft-telemetry", 2),
    ("weft-identity", 2),
    ("weft-kubernetes", 2),
    ("weft-transport", 3),
    ("weft-datapath", 4),
    ("weft-proxy", 4),
    ("weft-keeper", 4),
    ("weft-controller", 4),
    ("weft-cli", 4),
    ("weft-cni", 4),
    ("weft", 5),
    ("weft-fuzz", 6),
    ("weft-tests", 6),
    ("weft-benches", 7),
    // Builds and starts the others, so it compiles without any of them.
    ("xtask", 0),
];

/// The first wall that encloses a name decides.
const WALLS: &[Wall] = &[
    Wall { encloses: &["aya-ebpf*", "aya-log-ebpf*"], inside: "weft-ebpf", optional_in: None },
    Wall { encloses: &["aya", "aya-*"], inside: "weft-datapath", optional_in: Some("weft-abi") },
    Wall {
        encloses: &["kube", "kube-*", "k8s-openapi", "gateway-api"],
        inside: "weft-kubernetes",
        optional_in: None,
    },
    Wall {
        encloses: &["rustls", "rustls-*", "tokio-rustls", "hyper-rustls"],
        inside: "weft-identity",
        optional_in: None,
    },
];

const OUTSIDE_THE_WALLS: &[&str] = &["weft-tests", "weft-benches"];

#[cfg(test)]
mod tests {
    use super::violations;
    use crate::workspace::{Crate, Dependency};

    fn package(name: &str, dependencies: &[&str]) -> Crate {
        let dependencies = dependencies
            .iter()
            .map(|name| Dependency { name: (*name).to_owned(), optional: false })
            .collect();
        Crate { name: name.to_owned(), folder: "".into(), inherits_lints: true, dependencies }
    }

    fn only(found: &[String]) -> &str {
        assert_eq!(found.len(), 1, "{found:?}");
        &found[0]
    }

    #[test]
    fn downward_and_third_party_dependencies_pass() {
        let crates = [
            package("weft-datapath", &["weft-model", "weft-abi", "aya", "aya-log", "tokio"]),
            package("weft-ebpf", &["weft-abi", "weft-ebpf-logic", "aya-ebpf", "aya-log-ebpf"]),
            package("weft-kubernetes", &["weft-model", "k8s-openapi"]),
        ];
        assert_eq!(violations(&crates), Vec::<String>::new());
    }

    #[test]
    fn an_upward_dependency_is_named() {
        let found = violations(&[package("weft-policy", &["weft-kubernetes"])]);
        let sentence = only(&found);
        assert!(
            sentence.contains("weft-policy (level 1) depends upwards on weft-kubernetes (level 2)"),
            "{sentence}"
        );
    }

    #[test]
    fn a_sideways_dependency_is_named() {
        let found = violations(&[package("weft-cli", &["weft-datapath"])]);
        assert!(only(&found).contains("depends sideways on weft-datapath"), "{found:?}");
    }

    #[test]
    fn nothing_depends_on_the_tests() {
        let found = violations(&[package("weft", &["weft-tests"])]);
        assert!(only(&found).contains("upwards"), "{found:?}");
    }

    #[test]
    fn aya_outside_the_datapath_is_named() {
        for dependency in ["aya", "aya-log", "aya-obj"] {
            let found = violations(&[package("weft-transport", &[dependency])]);
            assert!(only(&found).contains("belongs in weft-datapath alone"), "{found:?}");
        }
    }

    #[test]
    fn the_abi_may_name_aya_only_behind_its_feature() {
        let mut abi = package("weft-abi", &["aya"]);
        assert_eq!(violations(&[abi.clone()]).len(), 1);
        abi.dependencies[0].optional = true;
        assert_eq!(violations(&[abi.clone()]), Vec::<String>::new());
        abi.name = "weft-model".to_owned();
        assert_eq!(violations(&[abi]).len(), 1);
    }

    #[test]
    fn the_kernel_side_of_aya_stays_in_the_programs() {
        let found = violations(&[package("weft-datapath", &["aya-ebpf"])]);
        assert!(only(&found).contains("belongs in weft-ebpf alone"), "{found:?}");
    }

    #[test]
    fn kube_and_rustls_have_walls_too() {
        let found =
            violations(&[package("weft-cli", &["kube-runtime", "k8s-openapi", "tokio-rustls", "rustls"])]);
        assert_eq!(found.len(), 4, "{found:?}");
    }

    #[test]
    fn tests_and_benches_may_look_over_every_wall() {
        let crates = [package("weft-tests", &["aya", "rustls"]), package("weft-benches", &["kube"])];
        assert_eq!(violations(&crates), Vec::<String>::new());
    }

    #[test]
    fn an_unknown_crate_and_own_lints_are_named() {
        let unknown = violations(&[package("weft-common", &[])]);
        assert!(only(&unknown).contains("weft-common is in no level"), "{unknown:?}");
        let mut own = package("weft-model", &[]);
        own.inherits_lints = false;
        assert!(only(&violations(&[own])).contains("[lints] workspace = true"));
    }
}
