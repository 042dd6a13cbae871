use std::sync::Arc;

use weft_model::{ObjectName, RouteKind, RouteName, RouteReason, RouteStatus};

use super::{World, parent, route, service, to};

const WEB: &str = "clusterIP: 10.96.0.1, ports: [{name: http, port: 80}, {name: admin, port: 81}]";

fn world() -> World {
    World::new(&[&service("web", WEB), &service("v1", &WEB.replace("0.1", "0.2"))])
}

fn status(world: &mut World, kind: RouteKind, name: &str) -> Option<Arc<RouteStatus>> {
    world.built().routes.get(&RouteName { kind, name: ObjectName::parse(name).unwrap() }).cloned()
}

/// The reasons of each parent's two conditions.
fn conditions(status: &RouteStatus) -> Vec<(RouteReason, RouteReason)> {
    status.parents.iter().map(|parent| (parent.accepted.reason, parent.resolved.reason)).collect()
}

#[test]
fn every_parent_ref_has_a_condition_of_its_own() {
    let mut world = world();
    let parents = [
        parent("web", ""),
        parent("web", ", port: 99"),
        parent("nobody", ""),
        parent("v1", ", sectionName: admin"),
    ];
    world.put("first", &route("HTTPRoute", "r", 1, &parents.join(", "), &to("v1")));
    world.put("grpc", &route("GRPCRoute", "g", 9, &parent("v1", ""), &to("v1")));
    let status = status(&mut world, RouteKind::Http, "shop/r").unwrap();
    let good = RouteReason::ResolvedRefs;
    assert_eq!(
        conditions(&status),
        [
            (RouteReason::Accepted, good),
            (RouteReason::NoMatchingParent, good),
            (RouteReason::NoMatchingParent, good),
            (RouteReason::Conflicted, good),
        ]
    );
    assert_eq!(status.parents[1].port, Some(99));
    assert!(status.parents[2].accepted.message.contains("no Service shop/nobody"));
    assert!(status.parents[3].accepted.message.contains("GRPCRoute shop/g holds"));
    assert!(status.parents[0].accepted.status && !status.parents[3].accepted.status);
    assert_eq!((status.rules.len(), &*status.rules[0].backends[0].to), (1, "shop/v1:80"));
}

#[test]
fn a_status_follows_the_objects_around_its_route() {
    let mut world = World::new(&[&route("HTTPRoute", "one/r", 1, &parent("web", ""), &to("v1"))]);
    let seen = |world: &mut World| conditions(&status(world, RouteKind::Http, "one/r").unwrap())[0];
    assert_eq!(seen(&mut world), (RouteReason::NoMatchingParent, RouteReason::BackendNotFound));
    world.put("web", &service("web", WEB));
    assert_eq!(seen(&mut world), (RouteReason::Accepted, RouteReason::BackendNotFound));
    world.put("v1", &service("v1", "clusterIP: 10.96.0.2, ports: [{port: 80, appProtocol: mysql}]"));
    assert_eq!(seen(&mut world), (RouteReason::Accepted, RouteReason::UnsupportedProtocol));
    world.put("v1", &service("v1", "clusterIP: 10.96.0.2, ports: [{port: 80}]"));
    assert_eq!(seen(&mut world), (RouteReason::Accepted, RouteReason::ResolvedRefs));
    world.put("grpc", &route("GRPCRoute", "one/g", 9, &parent("web", ""), &to("v1")));
    assert_eq!(seen(&mut world), (RouteReason::Conflicted, RouteReason::ResolvedRefs));
    world.remove("grpc");
    assert_eq!(seen(&mut world), (RouteReason::Accepted, RouteReason::ResolvedRefs));
    world.remove("0.yaml");
    assert!(status(&mut world, RouteKind::Http, "one/r").is_none());
}

#[test]
fn a_filter_that_weft_cannot_do_is_a_reference_that_is_not_resolved() {
    let mut world = world();
    let spec = "rules: [{filters: [{type: ExtensionRef, extensionRef: {group: a.example, kind: Waf, name: w}}], \
                backendRefs: [{name: v1, port: 80}]}]";
    world.put("r", &route("HTTPRoute", "r", 1, &parent("web", ""), spec));
    let status = status(&mut world, RouteKind::Http, "shop/r").unwrap();
    assert_eq!(conditions(&status), [(RouteReason::Accepted, RouteReason::InvalidKind)]);
    assert!(status.parents[0].resolved.message.contains("ExtensionRef"));
}

#[test]
fn a_status_that_says_the_same_stays_the_same_allocation() {
    let mut world = world();
    world.put("r", &route("HTTPRoute", "r", 1, &parent("web", ""), &to("v1")));
    let before = status(&mut world, RouteKind::Http, "shop/r").unwrap();
    let routes = world.built().routes;
    world.put("0.yaml", &service("web", &WEB.replace("0.1", "0.9")));
    assert!(Arc::ptr_eq(&before, &status(&mut world, RouteKind::Http, "shop/r").unwrap()));
    assert!(Arc::ptr_eq(&routes, &world.built().routes));
}
