//! The trust domain: that of the installation, else that of the settings.

use super::World;

fn named(spec: &str) -> String {
    format!(
        "{{apiVersion: weft.dev/v1alpha1, kind: MeshConfig, metadata: {{name: default}}, spec: {{{spec}}}}}"
    )
}

#[test]
fn the_trust_domain_is_that_of_the_installation_whatever_is_written() {
    let cases = [
        (None, "", "cluster.local", 0),
        (None, "trustDomain: b.example", "b.example", 0),
        (Some("a.example"), "", "a.example", 0),
        (Some("a.example"), "trustDomain: a.example", "a.example", 0),
        (Some("a.example"), "trustDomain: b.example", "a.example", 1),
    ];
    for (installed, spec, in_force, notices) in cases {
        let mut world = World::new(&[]);
        world.builder.install_for(installed.map(Into::into));
        world.put("mesh.yaml", &named(spec));
        assert_eq!(&*world.built().trust_domain, in_force, "{installed:?} {spec}");
        assert_eq!(world.notices().len(), notices, "{installed:?} {spec}");
        world.remove("mesh.yaml");
        assert_eq!(&*world.built().trust_domain, installed.unwrap_or("cluster.local"), "{spec}");
        assert_eq!(world.notices().len(), 0, "{installed:?} {spec}");
    }
}
