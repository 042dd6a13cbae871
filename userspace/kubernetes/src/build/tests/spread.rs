//! What a change of one object rebuilds.

use std::{collections::BTreeSet, fmt::Write as _, sync::Arc};

use super::{super::objects::Dirty, World, parent, route, service, shop, slice, to};

const SERVICES: usize = 10_000;

/// Services `s0`, `s1` and so on, one HTTPRoute for every tenth, from it to the next.
fn large() -> World {
    let (mut services, mut routes) = (String::new(), String::new());
    for i in 0..SERVICES {
        let spec =
            format!("clusterIP: 10.{}.{}.{}, ports: [{{port: 80}}]", 96 + i / 65_536, i / 256 % 256, i % 256);
        writeln!(services, "---\n{}", service(&format!("s{i}"), &spec)).unwrap();
        if i % 10 == 0 {
            let next = to(&format!("s{}", i + 1));
            writeln!(
                routes,
                "---\n{}",
                route("HTTPRoute", &format!("r{i}"), 1, &parent(&format!("s{i}"), ""), &next)
            )
            .unwrap();
        }
    }
    let mut world = World::new(&[&services, &routes]);
    world.built();
    world
}

/// What is marked for a rebuild by the changes since the last build; they are not built.
fn marked(world: &mut World) -> Dirty {
    let mut dirty = Dirty::default();
    for (key, object) in world.catalog.settle() {
        world.builder.objects.replace(key, object, &mut dirty);
    }
    world.builder.objects.spread(&mut dirty);
    dirty
}

fn names(names: &[&str]) -> BTreeSet<weft_model::ObjectName> {
    names.iter().map(|name| shop(name)).collect()
}

#[test]
fn a_change_among_ten_thousand_services_rebuilds_those_that_it_touches() {
    let mut world = large();
    let policy = |target: &str| {
        format!(
            "{{apiVersion: weft.dev/v1alpha1, kind: TrafficPolicy, metadata: {{name: p, namespace: shop}}, \
             spec: {{targetRefs: [{target}], timeouts: {{request: 1s}}}}}}"
        )
    };
    world.put("r", &route("HTTPRoute", "new", 1, &parent("s20", ""), &to("s41")));
    let dirty = marked(&mut world);
    assert_eq!(dirty.services, names(&["s20"]), "a route rebuilds its parents, not its backends");
    assert_eq!(dirty.routes.len(), 1);
    world.put("p", &policy("{group: gateway.networking.k8s.io, kind: HTTPRoute, name: r50}"));
    let dirty = marked(&mut world);
    assert_eq!((dirty.services, dirty.routes.len()), (names(&["s50"]), 1), "a route's policy, its parents");
    world.put("p", &policy("{kind: Service, name: s61}"));
    let dirty = marked(&mut world);
    assert_eq!(dirty.services, names(&["s50", "s61"]), "a Service's policy, that Service and the one before");
    world.put("e", &slice("e", "s41", "{port: 8080}", "{addresses: [10.1.0.1]}"));
    let dirty = marked(&mut world);
    assert_eq!(dirty.services, names(&["s41"]), "endpoints of a backend, nothing of the routes to it");
    assert!(dirty.routes.is_empty());
    world.put(
        "s",
        &service("s0", "clusterIP: 10.200.0.1, ports: [{port: 80}]").replace("name: s0", "name: extra"),
    );
    assert_eq!(marked(&mut world).services, names(&["extra"]));
}

#[test]
fn a_backend_that_is_defined_anew_reaches_its_routes_parents() {
    let web = "clusterIP: 10.96.0.1, ports: [{port: 80}]";
    let back = |port: u16| service("back", &format!("clusterIP: 10.96.0.2, ports: [{{port: {port}}}]"));
    let mut world = World::new(&[
        &service("web", web),
        &service("other", &web.replace("0.1", "0.3")),
        &route("HTTPRoute", "r", 1, &parent("web", ""), &to("back")),
    ]);
    assert_eq!(world.notices().len(), 1, "{:?}", world.notices());
    let before = (world.service("web"), world.service("other"));
    world.put("back", &back(80));
    assert!(world.notices().is_empty(), "{:?}", world.notices());
    assert!(
        !Arc::ptr_eq(&before.0, &world.service("web")) && Arc::ptr_eq(&before.1, &world.service("other"))
    );
    world.put("back", &back(81));
    assert_eq!(world.notices().len(), 1, "{:?}", world.notices());
}

#[test]
fn endpoints_that_come_and_go_leave_the_routing_where_it_is() {
    let mut world = World::new(&[
        &service("web", "clusterIP: 10.96.0.1, ports: [{port: 80}]"),
        &slice("web-x", "web", "{port: 8080}", "{addresses: [10.1.0.1]}"),
        &route("HTTPRoute", "r", 1, &parent("web", ""), &to("web")),
    ]);
    let before = world.service("web");
    world.put("1.yaml", &slice("web-x", "web", "{port: 8080}", "{addresses: [10.1.0.2]}"));
    let after = world.service("web");
    assert!(!Arc::ptr_eq(&before, &after));
    let routing = |service: &weft_model::Service| service.ports[0].routing.clone().unwrap();
    assert!(Arc::ptr_eq(&routing(&before), &routing(&after)));
}
