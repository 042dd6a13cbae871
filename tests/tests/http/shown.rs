//! What people are told of routes, and what the proxy may do.

use std::fs;

use weft_tests::{manifests, soon, text};

use crate::shop::{FRONT, PLAIN, Shop};

#[test]
fn a_route_whose_backend_is_missing_says_so_and_the_others_stay_in_force() {
    let Some(shop) = Shop::open() else { return };
    let dangling = "{parentRefs: [{group: \"\", kind: Service, name: plain, port: 80}], rules: [{backendRefs: [\
                    {name: gone, port: 80}]}]}";
    shop.world.apply("dangling.yaml", &manifests::http_route("shop/dangling", dangling));
    shop.node.wait();

    let routes = shop.node.weft_json(&["get", "httproutes"]);
    let parent = |name: &str| {
        let route = routes.as_array().unwrap().iter().find(|route| route["name"] == name).cloned();
        route.unwrap_or_else(|| panic!("no {name} in {routes}"))["parents"][0].clone()
    };
    assert_eq!(parent("dangling")["resolvedRefs"]["reason"], "BackendNotFound", "{routes}");
    assert_eq!(parent("front")["accepted"]["status"], true, "{routes}");
    assert_eq!(parent("front")["resolvedRefs"]["status"], true, "{routes}");

    let answer = shop.web.get(PLAIN, "/", &[]).unwrap();
    assert_eq!((answer.status, answer.header("x-weft-reason")), (500, "InvalidBackend"));
    assert_eq!(shop.web.get(FRONT, "/v2", &[]).unwrap().seen().server, "v2");
}

#[test]
fn explain_says_which_way_a_request_takes_and_the_request_takes_it() {
    let Some(shop) = Shop::open() else { return };
    let explained = |to: &str, path: &str| {
        text(&shop.node.weft(&["explain", "--from", "shop/web", "--to", to, "--path", path]))
    };
    for (path, server) in [("/v2/x", "v2"), ("/", "v1")] {
        let said = explained("shop/front:80", path);
        assert!(
            said.contains("HTTPRoute shop/front") && said.contains(&format!("shop/{server}:80")),
            "{said}"
        );
        assert_eq!(shop.web.get(FRONT, path, &[]).unwrap().seen().server, server);
    }
    let said = explained("shop/plain:80", "/");
    assert!(said.contains("kernel"), "{said}");
}

#[test]
fn the_proxy_may_enter_namespaces_and_send_from_pods_addresses_and_nothing_else() {
    let Some(shop) = Shop::open() else { return };
    soon(|| shop.node.has_proxy());
    let status = fs::read_to_string(format!("/proc/{}/status", shop.node.proxy_pid())).unwrap();
    let (admin, raw) = (1_u64 << 21, 1_u64 << 13);
    for set in ["CapEff:", "CapPrm:", "CapBnd:"] {
        let line = status.lines().find_map(|line| line.strip_prefix(set)).unwrap();
        assert_eq!(u64::from_str_radix(line.trim(), 16).unwrap(), admin | raw, "{set}");
    }
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
}
