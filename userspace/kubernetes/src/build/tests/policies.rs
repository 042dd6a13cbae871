use std::{sync::Arc, time::Duration};

use weft_model::{
    CircuitBreaker, Fraction, HashKey, HttpLoadBalancer, LimitKey, LoadBalancer, OutlierDetection, Retry,
    RetryBudget, RouteRule, RouteSet, TrafficSettings,
};

use super::{World, parent, route, service};

const WEB: &str = "clusterIP: 10.96.0.1, ports: [{port: 80}]";
const SERVICE: &str = "{kind: Service, name: web}";
const ROUTE: &str = "{group: gateway.networking.k8s.io, kind: HTTPRoute, name: r}";
const RULE: &str = "{group: gateway.networking.k8s.io, kind: HTTPRoute, name: r, sectionName: a}";

fn policy(name: &str, target: &str, sections: &str) -> String {
    format!(
        "{{apiVersion: weft.dev/v1alpha1, kind: TrafficPolicy, metadata: {{name: {name}, namespace: shop}}, \
         spec: {{targetRefs: [{target}], {sections}}}}}"
    )
}

/// `web` with an HTTPRoute of the rules `a`, which says nothing else, and `b` with timeouts and a retry.
fn world() -> World {
    let rules = "rules: [{name: a, backendRefs: [{name: web, port: 80}]}, \
                 {name: b, timeouts: {request: 1s}, retry: {attempts: 9}, backendRefs: [{name: web, port: 80}]}]";
    World::new(&[&service("web", WEB), &route("HTTPRoute", "r", 1, &parent("web", ""), rules)])
}

fn rules(world: &mut World) -> Vec<RouteRule> {
    let RouteSet::Http(routes) = world.routing("web").unwrap().producer.clone() else { panic!() };
    routes[0].rules.clone()
}

fn settings(sections: &str) -> Arc<TrafficSettings> {
    let mut world = World::new(&[&service("web", WEB), &policy("p", SERVICE, sections)]);
    let routing = world.routing("web").unwrap_or_else(|| panic!("{sections} needs the proxy"));
    Arc::clone(&routing.traffic)
}

#[test]
fn only_what_looks_at_requests_takes_a_port_out_of_the_kernel() {
    for (sections, leaves) in [
        ("loadBalancer: {type: RoundRobin}", false),
        ("loadBalancer: {type: LeastRequest}", false),
        ("loadBalancer: {type: ConsistentHash, consistentHash: {type: SourceIP}}", false),
        ("timeouts: {connect: 1s, idle: 1h}", false),
        ("retryConstraint: {}", false),
        ("loadBalancer: {type: PeakEWMA}", true),
        ("loadBalancer: {type: ConsistentHash, consistentHash: {type: Header, header: {name: x}}}", true),
        ("loadBalancer: {type: ConsistentHash, consistentHash: {type: Cookie, cookie: {name: x}}}", true),
        (
            "loadBalancer: {type: ConsistentHash, consistentHash: {type: QueryParam, queryParam: {name: x}}}",
            true,
        ),
        ("circuitBreaker: {}", true),
        ("outlierDetection: {}", true),
        ("timeouts: {request: 1s}", true),
        ("timeouts: {backendRequest: 1s}", true),
        ("retry: {}", true),
        ("rateLimit: {local: {rules: [{limit: {requests: 1, unit: Hour}}]}}", true),
        ("faultInjection: {abort: {httpStatus: 503}}", true),
    ] {
        let mut world = World::new(&[&service("web", WEB), &policy("p", SERVICE, sections)]);
        assert_eq!(world.routing("web").is_some(), leaves, "{sections}");
        for odd in [
            "clusterIP: None, ports: [{port: 80}]",
            "clusterIP: 10.96.0.1, ports: [{port: 80, protocol: UDP}]",
        ] {
            world.put("0.yaml", &service("web", odd));
            assert!(world.routing("web").is_none(), "{sections} {odd}");
        }
    }
}

#[test]
fn what_a_policy_says_is_the_services_also_where_nothing_of_it_needs_the_proxy() {
    let sections = "timeouts: {connect: 1s}, loadBalancer: {type: RoundRobin}";
    let mut world = World::new(&[&service("web", WEB), &policy("p", SERVICE, sections)]);
    let web = world.service("web");
    assert!(web.ports[0].routing.is_none());
    assert_eq!(web.traffic.timeouts.connect, Some(Duration::from_secs(1)));
    assert_eq!(web.traffic.load_balancer, Some(HttpLoadBalancer::RoundRobin));
}

#[test]
fn what_a_section_does_not_say_takes_its_default() {
    assert_eq!(settings("circuitBreaker: {}").circuit_breaker, Some(CircuitBreaker::default()));
    assert_eq!(settings("outlierDetection: {}").outlier_detection, Some(OutlierDetection::default()));
    let breaker = settings("circuitBreaker: {maxParallelRetries: 3, maxRequestsPerConnection: 7}");
    let expected =
        CircuitBreaker { max_retries: 3, max_requests_per_connection: 7, ..CircuitBreaker::default() };
    assert_eq!(breaker.circuit_breaker, Some(expected));
    let retry = settings(
        "retry: {grpcCodes: [UNAVAILABLE, UNAUTHENTICATED]}, retryConstraint: {budget: {percent: 5}}",
    );
    let expected = Retry {
        attempts: Retry::ATTEMPTS,
        codes: Retry::CODES.to_vec(),
        grpc_codes: vec![14, 16],
        backoff: Retry::BACKOFF,
    };
    assert_eq!(retry.retry, Some(expected));
    assert_eq!(retry.retry_budget, Some(RetryBudget { percent: 5, ..RetryBudget::default() }));
    let limit = settings(
        "rateLimit: {local: {rules: [{limit: {requests: 9, unit: Minute}, key: [{type: Header, header: {name: X-A}}]}]}}",
    );
    let limit = &limit.rate_limit.as_ref().unwrap()[0];
    assert_eq!((limit.requests, limit.burst, limit.per), (9, 9, Duration::from_mins(1)));
    assert_eq!(limit.keys, [LimitKey::Header("x-a".into())]);
    let faults =
        settings("faultInjection: {delay: {fixedDelay: 1s, percent: 5}, abort: {grpcStatus: ABORTED}}")
            .faults
            .unwrap();
    assert_eq!(faults.delay.unwrap().share, Fraction { numerator: 5, denominator: 100 });
    assert_eq!((faults.abort.unwrap().status, faults.abort.unwrap().share), (Err(10), Fraction::ALL));
    let hash = settings(
        "loadBalancer: {type: ConsistentHash, slowStart: {window: 30s}, consistentHash: {type: Cookie, cookie: {name: u, ttl: 1m}, tableSize: 251}}",
    );
    let key = HashKey::Cookie { name: "u".into(), path: None, ttl: Some(Duration::from_mins(1)) };
    assert_eq!(hash.load_balancer, Some(HttpLoadBalancer::ConsistentHash { key, table_size: 251 }));
    assert_eq!(hash.slow_start, Some(Duration::from_secs(30)));
}

#[test]
fn a_more_specific_policy_wins_field_by_field_and_the_route_itself_over_all() {
    let mut world = world();
    let second = Duration::from_secs;
    world.put("s", &policy("s", SERVICE, "timeouts: {request: 30s, connect: 3s}, circuitBreaker: {}"));
    world.put("r", &policy("r", ROUTE, "timeouts: {request: 20s}, retry: {attempts: 4}"));
    world.put("a", &policy("a", RULE, "timeouts: {idle: 7s}, retry: {attempts: 5}"));
    let [a, b] = &rules(&mut world)[..] else { panic!() };
    assert_eq!((a.timeouts.request, a.timeouts.connect), (Some(second(20)), Some(second(3))));
    assert_eq!((a.timeouts.idle, a.retry.as_ref().unwrap().attempts), (Some(second(7)), 5));
    assert_eq!(a.traffic.circuit_breaker, Some(CircuitBreaker::default()));
    assert_eq!((b.timeouts.request, b.timeouts.connect), (Some(second(1)), Some(second(3))));
    assert_eq!((b.timeouts.idle, b.retry.as_ref().unwrap().attempts), (None, 9));
    assert_eq!(b.traffic.retry.as_ref().unwrap().attempts, 4, "what the policies come to stays to be seen");
    let routing = world.routing("web").unwrap();
    assert_eq!(routing.traffic.timeouts.request, Some(second(30)), "a route's policy is no Service's");

    world.remove("r");
    let [a, b] = &rules(&mut world)[..] else { panic!() };
    assert_eq!((a.timeouts.request, b.timeouts.request), (Some(second(30)), Some(second(1))));
    world.remove("s");
    world.remove("a");
    let rules = rules(&mut world);
    assert_eq!(rules[0].timeouts, weft_model::Timeouts::default());
    assert!(Arc::ptr_eq(&rules[0].traffic, &rules[1].traffic), "without policies it is one allocation");
}

#[test]
fn a_field_that_a_level_does_not_say_is_the_one_below_it_and_a_default_comes_last() {
    let mut world = world();
    let service = "retry: {attempts: 5, codes: [503], grpcCodes: [UNAVAILABLE]}, \
        retryConstraint: {budget: {percent: 50, interval: 20s}}, faultInjection: {delay: {fixedDelay: 1s}}";
    world.put("s", &policy("s", SERVICE, service));
    let route = "retry: {backoff: 1s}, retryConstraint: {minRetryRate: {count: 3}}, \
        faultInjection: {abort: {httpStatus: 418}}";
    world.put("r", &policy("r", ROUTE, route));
    let [a, b] = &rules(&mut world)[..] else { panic!() };
    let second = Duration::from_secs(1);
    let retry = Retry { attempts: 5, codes: vec![503], grpc_codes: vec![14], backoff: second };
    assert_eq!(a.retry.as_ref(), Some(&retry));
    assert_eq!(b.retry, Some(Retry { attempts: 9, ..retry }), "the route itself says how often");
    let budget = RetryBudget { percent: 50, interval: 20 * second, min_retries: 3, ..RetryBudget::default() };
    assert_eq!(a.traffic.retry_budget, Some(budget));
    let faults = a.traffic.faults.unwrap();
    assert_eq!((faults.delay.unwrap().time, faults.abort.unwrap().status), (second, Ok(418)));
}

#[test]
fn levels_that_contradict_each_other_are_told_and_the_request_ends_the_try() {
    let mut world = world();
    world.put("s", &policy("s", SERVICE, "timeouts: {backendRequest: 5s}"));
    let [a, b] = &rules(&mut world)[..] else { panic!() };
    assert_eq!(a.timeouts.backend_request, Some(Duration::from_secs(5)));
    assert_eq!(b.timeouts.backend_request, Some(Duration::from_secs(1)));
    let told = "HTTPRoute shop/r: a try may take 5s, its request 1s, with what TrafficPolicies say: a try ends with its request";
    assert_eq!(world.notices(), [told]);
}

#[test]
fn two_policies_for_one_target_do_not_merge() {
    let mut world = world();
    for (target, of) in
        [(SERVICE, "Service shop/web"), (ROUTE, "HTTPRoute shop/r"), (RULE, "HTTPRoute shop/r rule a")]
    {
        world.put("1", &policy("p", target, "timeouts: {request: 2s}"));
        world.put("2", &policy("q", target, "timeouts: {request: 3s}, retry: {}"));
        let conflict =
            format!("TrafficPolicy shop/q: Conflicted: TrafficPolicy shop/p holds for {of} already");
        assert_eq!(world.notices(), [conflict]);
        let a = &rules(&mut world)[0];
        assert_eq!((a.timeouts.request, a.retry.is_none()), (Some(Duration::from_secs(2)), true), "{of}");
        let older = "namespace: shop, creationTimestamp: '2026-11-21T10:00:00Z'";
        let q = policy("q", target, "timeouts: {request: 3s}, retry: {}").replace("namespace: shop", older);
        world.put("2", &q);
        let a = &rules(&mut world)[0];
        assert_eq!(a.timeouts.request, Some(Duration::from_secs(3)), "{of}: the older one wins");
        world.remove("1");
        let a = &rules(&mut world)[0];
        assert_eq!((a.timeouts.request, a.retry.is_none()), (Some(Duration::from_secs(3)), false), "{of}");
        world.remove("2");
    }
}

#[test]
fn a_policy_waits_for_its_route() {
    let mut world = World::new(&[&service("web", WEB), &policy("p", RULE, "timeouts: {request: 2s}")]);
    assert_eq!(world.notices(), ["TrafficPolicy shop/p: there is no HTTPRoute shop/r"]);
    let named = |rule: &str| {
        let rules = format!("rules: [{{name: {rule}, backendRefs: [{{name: web, port: 80}}]}}]");
        route("HTTPRoute", "r", 1, &parent("web", ""), &rules)
    };
    world.put("r", &named("b"));
    assert_eq!(world.notices(), ["TrafficPolicy shop/p: HTTPRoute shop/r has no rule a"]);
    world.put("r", &named("a"));
    assert!(world.notices().is_empty());
    assert_eq!(rules(&mut world)[0].timeouts.request, Some(Duration::from_secs(2)));
    world.remove("r");
    assert_eq!(world.notices(), ["TrafficPolicy shop/p: there is no HTTPRoute shop/r"]);
}

#[test]
fn the_kernels_algorithm_stays_beside_the_proxys() {
    let mut world = World::new(&[&service("web", WEB)]);
    world.put("p", &policy("p", SERVICE, "loadBalancer: {type: RoundRobin}, circuitBreaker: {}"));
    let web = world.service("web");
    assert_eq!(web.load_balancer, LoadBalancer::RoundRobin);
    let routing = web.ports[0].routing.as_ref().unwrap();
    assert_eq!(routing.traffic.load_balancer, Some(HttpLoadBalancer::RoundRobin));
    assert_eq!(web.ports[0].groups[0].weight, 1, "its own endpoints stay where they were");
}
