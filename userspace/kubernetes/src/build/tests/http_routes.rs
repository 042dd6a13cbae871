use std::sync::Arc;

use weft_model::{
    AppProtocol, BackendTarget, Filter, PathMatch, PathRewrite, PortRouting, RouteSet, SessionCarrier,
    Timeouts,
};

use super::{World, parent, route, service, shop, to};

const WEB: &str = "clusterIP: 10.96.0.1, ports: [{name: http, port: 80}, {name: admin, port: 81}]";

fn world() -> World {
    World::new(&[
        &service("web", WEB),
        &service("v1", &WEB.replace("0.1", "0.2")),
        &service("v2", &WEB.replace("0.1", "0.3")),
    ])
}

/// The kind of a set and the names of its routes.
fn names(set: &RouteSet) -> (&'static str, Vec<String>) {
    let routes =
        |routes: &[Arc<weft_model::Route>]| routes.iter().map(|route| route.name.to_string()).collect();
    match set {
        RouteSet::None => ("none", Vec::new()),
        RouteSet::Http(set) => ("http", routes(set)),
        RouteSet::Grpc(set) => ("grpc", routes(set)),
        RouteSet::Tls(set) => ("tls", set.iter().map(|route| route.name.to_string()).collect()),
    }
}

/// The rules of the first HTTPRoute of the first port of `web`.
fn rules(world: &mut World) -> Vec<weft_model::RouteRule> {
    match &world.routing("web").unwrap().producer {
        RouteSet::Http(routes) | RouteSet::Grpc(routes) => routes[0].rules.clone(),
        other => panic!("{other:?}"),
    }
}

fn there(routing: Option<&Arc<PortRouting>>) -> &PortRouting {
    routing.unwrap()
}

#[test]
fn producer_routes_are_for_everybody_and_consumer_routes_for_their_own_namespace() {
    let mut world = world();
    let web = parent("web", "");
    world.put("p.yaml", &route("HTTPRoute", "p", 1, &web, &to("v1")));
    world.put("c1.yaml", &route("HTTPRoute", "one/c", 1, &web, &to("v2")));
    world.put("c2.yaml", &route("GRPCRoute", "two/c", 1, &web, &to("v2")));
    let routing = world.routing("web");
    let routes = |client| names(there(routing.as_ref()).routes_for(client));
    assert_eq!(routes("shop"), ("http", vec!["shop/p".into()]));
    assert_eq!(routes("elsewhere"), ("http", vec!["shop/p".into()]));
    assert_eq!(routes("one"), ("http", vec!["one/c".into()]), "instead of the producer's, not beside them");
    assert_eq!(routes("two"), ("grpc", vec!["two/c".into()]), "of another kind than the producer's");
    assert_eq!(world.notices(), Vec::<String>::new());
    world.remove("p.yaml");
    let routing = world.routing("web");
    assert_eq!(
        names(&there(routing.as_ref()).producer).0,
        "none",
        "without one it is a plain Service for others"
    );
}

#[test]
fn routes_of_one_set_are_all_kept_the_oldest_first_and_then_by_name() {
    let mut world = world();
    let web = parent("web", "");
    for (file, name, day) in
        [("1", "b", 2), ("2", "a", 2), ("3", "z", 1), ("4", "one/y", 1), ("5", "one/x", 2)]
    {
        world.put(file, &route("HTTPRoute", name, day, &web, &to("v1")));
    }
    let twice = format!("{}, {}", parent("web", ", port: 80"), parent("web", ", sectionName: http"));
    world.put("6", &route("HTTPRoute", "twice", 3, &twice, &to("v1")));
    let routing = world.routing("web");
    let routing = there(routing.as_ref());
    let produced = ["shop/z", "shop/a", "shop/b", "shop/twice"].map(str::to_owned).to_vec();
    assert_eq!(names(&routing.producer), ("http", produced));
    assert_eq!(names(&routing.consumers["one"]), ("http", vec!["one/y".into(), "one/x".into()]));
}

#[test]
fn of_several_kinds_on_a_port_one_wins_and_the_others_take_over() {
    let mut world = world();
    let tls = format!("hostnames: [a.example], {}", to("v1"));
    let web = parent("web", ", port: 80");
    // The youngest wins here: the kind comes first.
    let kinds = [("GRPCRoute", 4, "grpc"), ("HTTPRoute", 3, "http"), ("TLSRoute", 2, "tls")];
    for (kind, day, _) in kinds {
        let spec = if kind == "TLSRoute" { &tls } else { &to("v1") };
        world.put(kind, &route(kind, "r", day, &web, spec));
    }
    world.put("TCPRoute", &route("TCPRoute", "r", 1, &web, &to("v2")));
    for (kind, _, set) in kinds {
        let routing = world.routing("web");
        assert_eq!(names(&there(routing.as_ref()).producer), (set, vec!["shop/r".into()]));
        let conflict =
            format!("TCPRoute shop/r: Conflicted: {kind} shop/r holds for Service shop/web already");
        assert!(world.notices().contains(&conflict), "{:?}", world.notices());
        assert_eq!(world.service("web").ports[0].groups[0].service, shop("web"), "the TCPRoute has lost");
        world.remove(kind);
    }
    let web = world.service("web");
    assert!(web.ports[0].routing.is_none(), "a TCPRoute is the kernel path's");
    assert_eq!(web.ports[0].groups[0].service, shop("v2"));
    assert!(world.notices().is_empty());
}

#[test]
fn a_consumer_route_of_a_kind_that_would_win_takes_nothing_from_the_producer() {
    let mut world = world();
    let web = parent("web", "");
    world.put("tcp", &route("TCPRoute", "r", 1, &web, &to("v1")));
    world.put("http", &route("HTTPRoute", "one/r", 1, &web, &to("v2")));
    let port = world.service("web").ports[0].clone();
    let routing = there(port.routing.as_ref());
    assert_eq!(names(&routing.consumers["one"]).0, "http");
    assert_eq!(names(&routing.producer).0, "none");
    assert_eq!(port.groups[0].service, shop("v1"), "the TCPRoute keeps its groups");
    assert!(world.notices().is_empty());
}

#[test]
fn a_route_takes_the_ports_that_its_parent_refs_name() {
    for (rest, taken) in [
        ("", [true, true]),
        (", port: 80", [true, false]),
        (", sectionName: admin", [false, true]),
        (", port: 80, sectionName: http", [true, false]),
        (", port: 80, sectionName: admin", [false, false]),
    ] {
        let mut world = world();
        world.put("r", &route("HTTPRoute", "r", 1, &parent("web", rest), &to("v1")));
        let web = world.service("web");
        assert_eq!([0, 1].map(|i| web.ports[i].routing.is_some()), taken, "{rest}");
        assert_eq!(world.notices().len(), usize::from(taken == [false, false]), "{rest}");
    }
}

#[test]
fn a_route_leaves_alone_what_it_cannot_carry() {
    let ports = "clusterIP: 10.96.0.9, ports: [{name: a, port: 80}, {name: b, port: 81, appProtocol: grpc}, \
                 {name: c, port: 82, appProtocol: https}, {name: d, port: 83, appProtocol: mysql}, \
                 {name: e, port: 84, protocol: UDP}, {name: f, port: 85, appProtocol: http}]";
    for (kind, taken) in [
        ("HTTPRoute", [true, true, false, false, false, true]),
        ("GRPCRoute", [true, true, false, false, false, false]),
        ("TLSRoute", [true, false, true, true, false, false]),
    ] {
        let mut world = world();
        world.put("odd", &service("odd", ports));
        let spec =
            if kind == "TLSRoute" { format!("hostnames: [a.example], {}", to("v1")) } else { to("v1") };
        world.put("r", &route(kind, "r", 1, &parent("odd", ""), &spec));
        let odd = world.service("odd");
        let routed: Vec<_> = odd.ports.iter().map(|port| port.routing.is_some()).collect();
        assert_eq!(routed, taken, "{kind}");
        let speaks = |i: usize| odd.ports[i].routing.as_ref().map(|routing| routing.protocol);
        assert_eq!(speaks(0), Some(AppProtocol::Detect));
        assert!([None, Some(AppProtocol::Http2)].contains(&speaks(1)));
    }
}

#[test]
fn a_backend_ref_that_leads_nowhere_says_why_and_one_without_weight_does_no_harm() {
    let mut world = world();
    let odd = "clusterIP: 10.96.0.9, ports: [{name: a, port: 80, appProtocol: tls}, {name: b, port: 81, appProtocol: http}]";
    world.put("odd", &service("odd", odd));
    world.put("alias", &service("alias", "type: ExternalName, externalName: a.example, ports: [{port: 80}]"));
    let backends = "rules: [{backendRefs: [{name: v1, port: 80, weight: 3}, {name: nobody, port: 80}, \
                    {name: v1, port: 99}, {name: odd, port: 80}, {name: alias, port: 80}, \
                    {group: example.com, kind: Bucket, name: b}, {name: nobody, namespace: data, port: 80, weight: 0}]}]";
    world.put("r", &route("HTTPRoute", "r", 1, &parent("web", ""), backends));
    let targets: Vec<_> =
        rules(&mut world)[0].backends.iter().map(|backend| backend.target.clone()).collect();
    assert_eq!(targets[0], BackendTarget::Service { name: shop("v1"), port: 80 });
    let why = |i: usize| match &targets[i] {
        BackendTarget::Invalid { why } => why.to_string(),
        BackendTarget::Service { name, .. } => panic!("{i} leads to {name}"),
    };
    assert_eq!(why(1), "there is no Service shop/nobody");
    assert_eq!(why(2), "Service shop/v1 has no TCP port 99");
    assert_eq!(why(3), "port 80 of Service shop/odd speaks tls, which no HTTPRoute carries");
    assert_eq!(why(4), "Service shop/alias is an ExternalName, which has no endpoints");
    assert_eq!(why(5), "a Bucket of group \"example.com\" is no backend");
    assert_eq!(why(6), "there is no Service data/nobody");
    let reasons: Vec<_> =
        world.notices().iter().map(|notice| notice.split(": ").nth(1).unwrap().to_owned()).collect();
    let expected =
        ["BackendNotFound", "BackendNotFound", "UnsupportedProtocol", "InvalidKind", "InvalidKind"];
    assert_eq!(reasons, expected, "the last one has no weight");

    // HTTP/1.1 is nothing for gRPC, and no appProtocol is fine for both.
    let spec = "rules: [{backendRefs: [{name: odd, port: 81}, {name: v1, port: 80}]}]";
    world.put("r", &route("GRPCRoute", "r", 1, &parent("web", ""), spec));
    let rules = rules(&mut world);
    assert!(matches!(rules[0].backends[0].target, BackendTarget::Invalid { .. }));
    assert!(matches!(rules[0].backends[1].target, BackendTarget::Service { .. }));
}

#[test]
fn a_rule_is_what_its_object_says() {
    let mut world = world();
    let spec = "rules: [{name: pay, matches: [{path: {value: /pay/}, method: POST, \
        headers: [{name: X-User, value: a}, {name: x-user, value: b}], queryParams: [{name: Q, value: a}]}], \
        filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}, \
        {type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 81}, fraction: {numerator: 1, denominator: 3}}}], \
        backendRefs: [{name: v1, port: 80, weight: 0}], timeouts: {request: 1s}, retry: {attempts: 3}, \
        sessionPersistence: {type: Header}}, {}]";
    world.put("r", &route("HTTPRoute", "r", 1, &parent("web", ""), spec));
    let [pay, rest] = &rules(&mut world)[..] else { panic!() };
    assert_eq!(pay.name.as_deref(), Some("pay"));
    let asked = &pay.matches[0];
    assert_eq!(asked.path, PathMatch::Prefix("/pay".into()));
    assert_eq!((asked.method.as_deref(), asked.headers.len(), asked.query.len()), (Some("POST"), 1, 1));
    assert_eq!((&*asked.headers[0].name, &*asked.query[0].name), ("x-user", "Q"));
    let Filter::Rewrite(rewrite) = &pay.filters[0] else { panic!("{:?}", pay.filters) };
    let prefix = PathRewrite::Prefix { matched: "/pay".into(), replacement: "/".into() };
    assert_eq!(rewrite.path, Some(prefix));
    let Filter::Mirror(mirror) = &pay.filters[1] else { panic!("{:?}", pay.filters) };
    assert_eq!(mirror.target, BackendTarget::Service { name: shop("v2"), port: 81 });
    assert_eq!((mirror.share.numerator, mirror.share.denominator), (1, 3));
    assert_eq!(pay.backends[0].weight, 0);
    assert_eq!(pay.timeouts.request, Some(std::time::Duration::from_secs(1)));
    let retry = pay.retry.as_ref().unwrap();
    assert_eq!((retry.attempts, &retry.codes[..]), (3, &[500, 502, 503, 504][..]));
    assert_eq!(pay.session.as_ref().unwrap().carrier, SessionCarrier::Header);
    assert_eq!(rest.matches, [weft_model::RouteMatch::any()], "no match at all is every request");
    assert!(rest.backends.is_empty() && rest.retry.is_none() && rest.timeouts == Timeouts::default());
}

#[test]
fn two_rules_keep_their_sessions_in_cookies_of_their_own() {
    let mut world = world();
    let rule = "{sessionPersistence: {}, backendRefs: [{name: v1, port: 80}]}";
    world.put("r", &route("HTTPRoute", "r", 1, &parent("web", ""), &format!("rules: [{rule}, {rule}]")));
    let names: Vec<_> = rules(&mut world).into_iter().map(|rule| rule.session.unwrap().name).collect();
    assert!(names[0] != names[1] && names[0].starts_with("weft-session-"), "{names:?}");
}

#[test]
fn a_filter_that_weft_cannot_do_is_never_skipped() {
    let mut world = world();
    let waf = "filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [a]}}, \
               {type: ExtensionRef, extensionRef: {group: example.com, kind: Waf, name: w}}]";
    let spec = format!(
        "rules: [{{{waf}, backendRefs: [{{name: v1, port: 80}}]}}, \
         {{backendRefs: [{{name: v1, port: 80, {waf}}}, {{name: v2, port: 80}}]}}]"
    );
    world.put("r", &route("HTTPRoute", "r", 1, &parent("web", ""), &spec));
    let [rule, backend] = &rules(&mut world)[..] else { panic!() };
    assert!(rule.backends.is_empty() && rule.filters.is_empty(), "nothing is forwarded, nor redirected");
    assert!(
        matches!(&backend.backends[0].target, BackendTarget::Invalid { why } if why.contains("ExtensionRef"))
    );
    assert_eq!(backend.backends[1].target, BackendTarget::Service { name: shop("v2"), port: 80 });
}

#[test]
fn a_grpc_match_is_the_service_and_the_method_in_the_path() {
    let mut world = world();
    let spec = "rules: [{matches: [{method: {service: .pkg.Greeter}}, {headers: [{name: a, value: b}]}], \
                backendRefs: [{name: v1, port: 80}]}]";
    world.put("r", &route("GRPCRoute", "r", 1, &parent("web", ""), spec));
    let matches = rules(&mut world).remove(0).matches;
    let exact = weft_model::NameMatch::Exact("pkg.Greeter".into());
    assert_eq!(matches[0].path, PathMatch::Grpc { service: Some(exact), method: None });
    assert_eq!(matches[1].path, PathMatch::Grpc { service: None, method: None });
}

#[test]
fn a_headless_service_has_no_routes() {
    let mut world = world();
    world.put("web", &service("web", "clusterIP: None, ports: [{port: 80}]"));
    world.put("0.yaml", "");
    world.put("r", &route("HTTPRoute", "r", 1, &parent("web", ""), &to("v1")));
    assert!(world.routing("web").is_none());
    assert_eq!(world.notices().len(), 1, "{:?}", world.notices());
}
