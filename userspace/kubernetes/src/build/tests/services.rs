use std::{sync::Arc, time::Duration};

use weft_model::{Distribution, LoadBalancer, Protocol, ProxyFailure, ServiceKind};

use super::{World, addresses, built, endpoints, pod, service, shop, slice};

const WEB: &str = "clusterIP: 10.96.0.1, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]";

#[test]
fn a_service_is_what_its_object_says() {
    let spec = "clusterIPs: [10.96.0.1, 'fd00::96'], sessionAffinity: ClientIP, internalTrafficPolicy: Local, \
                trafficDistribution: PreferClose, \
                ports: [{name: http, port: 80, appProtocol: 'kubernetes.io/h2c'}, {name: dns, port: 53, protocol: UDP}]";
    let web = World::new(&[&service("web", spec)]).service("web");
    assert_eq!((web.kind, web.ips.len()), (ServiceKind::ClusterIp, 2));
    assert_eq!(web.session_affinity, Some(Duration::from_hours(3)));
    assert_eq!(web.ports[0].app_protocol.as_deref(), Some("kubernetes.io/h2c"));
    assert_eq!((web.ports[1].protocol, web.ports[1].port), (Protocol::Udp, 53));
    let group = &web.ports[0].groups[0];
    assert!(group.node_local && group.weight == 1 && group.service == shop("web"));
    assert_eq!(group.distribution, Distribution::PreferSameZone);
    assert_eq!((web.load_balancer, web.accelerate), (LoadBalancer::Random, false));
}

#[test]
fn an_annotation_says_what_a_failed_proxy_means() {
    let web = service("web", WEB);
    assert_eq!(World::new(&[&web]).service("web").proxy_failure, ProxyFailure::Closed);
    for (word, meaning) in [("open", ProxyFailure::Open), ("closed", ProxyFailure::Closed)] {
        let annotations = format!("namespace: shop, annotations: {{weft.dev/proxy-failure: {word}}}");
        let web = web.replace("namespace: shop", &annotations);
        assert_eq!(World::new(&[&web]).service("web").proxy_failure, meaning);
    }
}

#[test]
fn headless_and_external_name_have_nothing_to_balance() {
    let mut world = World::new(&[
        &service("headless", "clusterIP: None, selector: {app: web}, ports: [{port: 80}]"),
        &service("elsewhere", "type: ExternalName, externalName: a.example"),
        &service("node-port", "type: NodePort, clusterIP: 10.96.0.9, ports: [{port: 80, nodePort: 30080}]"),
        &pod("web-1", "10.1.0.1", ""),
    ]);
    let headless = world.service("headless");
    assert_eq!((headless.kind, headless.ips.len()), (ServiceKind::Headless, 0));
    assert_eq!(addresses(&headless, 0), ["10.1.0.1:80"]);
    assert_eq!(world.service("elsewhere").kind, ServiceKind::ExternalName);
    assert_eq!(world.service("node-port").kind, ServiceKind::ClusterIp);
}

#[test]
fn without_slices_the_selected_pods_are_the_endpoints() {
    let mut world = World::new(&[
        &service("web", WEB),
        &pod("web-1", "10.1.0.1", "spec: {nodeName: n2},"),
        &pod("web-2", "10.1.0.2", ""),
        &pod("web-3", "10.1.0.3", "").replace("app: web", "app: other"),
        &pod("web-4", "10.1.0.4", "").replace("namespace: shop", "namespace: other"),
        "{apiVersion: v1, kind: Node, metadata: {name: n2, labels: {topology.kubernetes.io/zone: z2}}}",
    ]);
    let web = world.service("web");
    assert_eq!(addresses(&web, 0), ["10.1.0.1:8080", "10.1.0.2:8080"]);
    let first = &endpoints(&web, 0)[0];
    assert_eq!((first.node.as_deref(), first.zone.as_deref()), (Some("n2"), Some("z2")));
    assert_eq!(first.pod, Some(shop("web-1")));
}

#[test]
fn pods_come_and_go_and_change_their_labels() {
    let mut world =
        World::new(&[&service("web", WEB), &service("other", &WEB.replace("app: web", "app: other"))]);
    assert!(addresses(&world.service("web"), 0).is_empty());
    world.put("pod.yaml", &pod("web-1", "10.1.0.1", ""));
    assert_eq!(addresses(&world.service("web"), 0), ["10.1.0.1:8080"]);
    let before = world.service("other");
    world.put("pod.yaml", &pod("web-1", "10.1.0.2", ""));
    assert_eq!(addresses(&world.service("web"), 0), ["10.1.0.2:8080"]);
    assert!(Arc::ptr_eq(&before, &world.service("other")), "a pod touches the Services that select it only");
    world.put("pod.yaml", &pod("web-1", "10.1.0.2", "").replace("app: web", "app: other"));
    assert!(addresses(&world.service("web"), 0).is_empty());
    assert_eq!(addresses(&world.service("other"), 0), ["10.1.0.2:8080"]);
    world.remove("pod.yaml");
    assert!(addresses(&world.service("other"), 0).is_empty());
}

#[test]
fn a_service_finds_pods_that_were_there_before_it() {
    let two = "clusterIP: 10.96.0.2, selector: {app: web, tier: front}, ports: [{port: 80}]";
    let front = pod("web-2", "10.1.0.2", "").replace("app: web", "app: web, tier: front");
    let mut world = World::new(&[&pod("web-1", "10.1.0.1", ""), &front]);
    world.built();
    world.put("web.yaml", &service("web", WEB));
    world.put("two.yaml", &service("two", two));
    assert_eq!(addresses(&world.service("web"), 0), ["10.1.0.1:8080", "10.1.0.2:8080"]);
    assert_eq!(addresses(&world.service("two"), 0), ["10.1.0.2:80"]);
    world.put("web.yaml", &service("web", &WEB.replace("{app: web}", "{tier: front}")));
    assert_eq!(addresses(&world.service("web"), 0), ["10.1.0.2:8080"]);
    world.put("web.yaml", &service("web", &WEB.replace("selector: {app: web},", "")));
    assert!(addresses(&world.service("web"), 0).is_empty(), "without a selector it selects nothing");
}

#[test]
fn a_named_target_port_is_looked_up_in_each_pod() {
    let named = "spec: {containers: [{name: a, ports: [{name: http, containerPort: 9000}, {name: dns, containerPort: 53, protocol: UDP}]}]},";
    let mut world = World::new(&[
        &service(
            "web",
            "clusterIP: 10.96.0.1, selector: {app: web}, \
             ports: [{name: a, port: 80, targetPort: http}, {name: b, port: 53, targetPort: dns}]",
        ),
        &pod("web-1", "10.1.0.1", named),
        &pod("web-2", "10.1.0.2", &named.replace("9000", "9001")),
        &pod("web-3", "10.1.0.3", ""),
    ]);
    let web = world.service("web");
    assert_eq!(addresses(&web, 0), ["10.1.0.1:9000", "10.1.0.2:9001"]);
    assert!(addresses(&web, 1).is_empty(), "a UDP port does not serve a TCP port of its name");
}

#[test]
fn a_pods_condition_makes_its_endpoints() {
    let not_ready =
        |pod: String| pod.replace("status: {", "status: {conditions: [{type: Ready, status: 'False'}], ");
    let terminating = |pod: String| {
        pod.replace("namespace: shop,", "namespace: shop, deletionTimestamp: '2026-11-21T10:00:00Z',")
    };
    let state = |spec: &str, pod: String| {
        let web = World::new(&[&service("web", spec), &pod]).service("web");
        endpoints(&web, 0).iter().map(|e| (e.ready, e.serving, e.terminating)).collect::<Vec<_>>()
    };
    let web = || pod("web-1", "10.1.0.1", "");
    assert_eq!(state(WEB, web()), [(true, true, false)]);
    assert_eq!(state(WEB, not_ready(web())), [(false, false, false)]);
    assert_eq!(state(WEB, terminating(web())), [(false, true, true)]);
    assert_eq!(state(WEB, terminating(not_ready(web()))), [(false, false, true)]);
    assert!(state(WEB, web().replace("status: {", "status: {phase: Failed, ")).is_empty());
    let published = format!("{WEB}, publishNotReadyAddresses: true");
    assert_eq!(state(&published, not_ready(web())), [(true, false, false)]);
}

#[test]
fn a_dual_stack_service_has_both_of_a_pods_addresses() {
    let dual = pod("web-1", "10.1.0.1", "").replace("[{ip: 10.1.0.1}]", "[{ip: 10.1.0.1}, {ip: 'fd00::1'}]");
    let both = WEB.replace("clusterIP: 10.96.0.1", "clusterIPs: [10.96.0.1, 'fd00::96']");
    let v6 = WEB.replace("10.96.0.1", "'fd00::96'");
    assert_eq!(addresses(&World::new(&[&service("web", WEB), &dual]).service("web"), 0), ["10.1.0.1:8080"]);
    assert_eq!(
        addresses(&World::new(&[&service("web", &both), &dual]).service("web"), 0),
        ["10.1.0.1:8080", "[fd00::1]:8080"]
    );
    assert_eq!(addresses(&World::new(&[&service("web", &v6), &dual]).service("web"), 0), ["[fd00::1]:8080"]);
}

#[test]
fn slices_are_joined_by_port_name_and_doubles_are_dropped() {
    let spec = "clusterIP: 10.96.0.1, selector: {app: web}, ports: [{name: http, port: 80}, {name: admin, port: 81}]";
    let mut world = World::new(&[
        &service("web", spec),
        &slice(
            "web-a",
            "web",
            "{name: http, port: 8080}, {name: admin, port: 8081, protocol: UDP}",
            "{addresses: [10.1.0.1], conditions: {ready: false}}, {addresses: [10.1.0.2], conditions: {}}",
        ),
        &slice(
            "web-b",
            "web",
            "{name: http, port: 8080}",
            "{addresses: [10.1.0.1]}, {addresses: [10.1.0.3], conditions: {ready: false, terminating: true, serving: true}}",
        ),
        &slice("other", "other", "{name: http, port: 8080}", "{addresses: [10.1.0.9]}"),
        &pod("web-1", "10.1.0.7", ""),
    ]);
    let web = world.service("web");
    assert_eq!(addresses(&web, 0), ["10.1.0.1:8080", "10.1.0.2:8080", "10.1.0.3:8080"], "and no pod besides");
    let states: Vec<_> = endpoints(&web, 0).iter().map(|e| (e.ready, e.serving, e.terminating)).collect();
    assert_eq!(
        states,
        [(true, true, false), (true, true, false), (false, true, true)],
        "the ready double counts"
    );
    assert!(addresses(&web, 1).is_empty(), "the protocols differ");
    world.remove("1.yaml");
    world.remove("2.yaml");
    assert_eq!(addresses(&world.service("web"), 0), ["10.1.0.7:80"], "without slices it is the pods again");
}

#[test]
fn a_slice_endpoint_keeps_its_topology() {
    let endpoint = "{addresses: [10.1.0.1], nodeName: n2, hints: {forZones: [{name: z1}], forNodes: [{name: n1}]}, \
                    targetRef: {kind: Pod, name: web-1}}, {addresses: [10.1.0.2], zone: z9}";
    let mut world = World::new(&[&service("web", WEB), &slice("web-a", "web", "{port: 8080}", endpoint)]);
    assert_eq!(endpoints(&world.service("web"), 0)[0].zone, None);
    world.put(
        "node.yaml",
        "{apiVersion: v1, kind: Node, metadata: {name: n2, labels: {topology.kubernetes.io/zone: z2}}}",
    );
    let web = world.service("web");
    let [first, second] = endpoints(&web, 0) else { panic!("{web:?}") };
    assert_eq!(
        (first.node.as_deref(), first.zone.as_deref()),
        (Some("n2"), Some("z2")),
        "the Node knows its zone"
    );
    assert_eq!((second.zone.as_deref(), &second.hints), (Some("z9"), &None));
    let hints = first.hints.as_deref().unwrap();
    assert_eq!((&*hints.zones[0], &*hints.nodes[0]), ("z1", "n1"));
    assert_eq!(first.pod, Some(shop("web-1")));
}

#[test]
fn of_two_services_with_one_address_the_first_by_name_has_it() {
    let mut world = World::new(&[&service("b", WEB), &service("c", &WEB.replace("10.96.0.1", "10.96.0.3"))]);
    assert_eq!(world.service("b").ips.len(), 1);
    world.put("a.yaml", &service("a", WEB));
    assert_eq!((world.service("a").ips.len(), world.service("b").ips.len()), (1, 0));
    assert_eq!(
        world.notices(),
        ["Service shop/b: Conflicted: Service shop/a has the address 10.96.0.1, and keeps it"]
    );
    world.remove("a.yaml");
    assert_eq!((world.service("b").ips.len(), world.notices().len()), (1, 0));
}

#[test]
fn a_slice_that_changes_hands_leaves_its_old_service() {
    let of = |service: &str| slice("s", service, "{port: 8080}", "{addresses: [10.1.0.1]}");
    let spec = |ip: &str| format!("clusterIP: {ip}, ports: [{{port: 80}}]");
    let mut world =
        World::new(&[&service("a", &spec("10.96.0.1")), &service("b", &spec("10.96.0.2")), &of("a")]);
    assert_eq!((addresses(&world.service("a"), 0).len(), addresses(&world.service("b"), 0).len()), (1, 0));
    world.put("2.yaml", &of("b"));
    assert_eq!((addresses(&world.service("a"), 0).len(), addresses(&world.service("b"), 0).len()), (0, 1));
}

#[test]
fn the_same_objects_again_leave_every_part_the_same_allocation() {
    let documents = [service("web", WEB), pod("web-1", "10.1.0.1", "")];
    let mut world = World::new(&[&documents[0], &documents[1]]);
    let before = world.built();
    world.put("0.yaml", &format!("# again\n{}", documents[0]));
    world.put("1.yaml", &format!("# again\n{}", documents[1]));
    let after = world.built();
    assert!(
        Arc::ptr_eq(&before.services, &after.services) && Arc::ptr_eq(&before.workloads, &after.workloads)
    );
    assert!(!built(&[&documents[0]]).services.is_empty());
}
