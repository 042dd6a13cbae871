//! The access log on the agent's standard output.

use serde_json::Value;
use weft_tests::{manifests, soon};

use crate::shop::{FRONT, Shop};

#[test]
fn nothing_is_logged_until_a_policy_asks_for_it_and_then_what_its_filter_holds_for() {
    let Some(shop) = Shop::open_with("{}", ROUTE) else { return };
    shop.ask_and_wait("/unasked");
    assert_eq!(shop.logged(), [Value::Null; 0]);

    shop.log("{mode: Enabled, filter: 'response.code >= 400 && request.path.startsWith(\"/wrong\")'}");
    for path in ["/wrong/1", "/right", "/missing"] {
        shop.ask_and_wait(path);
    }
    soon(|| !shop.logged().is_empty());
    // Lines are written in order, so that what was asked before is written before.
    shop.ask_and_wait("/wrong/2");
    soon(|| shop.logged().len() >= 2);
    let paths: Vec<_> = shop.logged().iter().map(|line| line["path"].clone()).collect();
    assert_eq!(paths, ["/wrong/1", "/wrong/2"]);
    let line = shop.logged().swap_remove(0);
    for (key, value) in [
        ("src.namespace", Value::from("shop")),
        ("src.pod", "web".into()),
        ("src.identity", "spiffe://cluster.local/ns/shop/sa/web".into()),
        ("dst.service", "shop/front:80".into()),
        ("protocol", "HTTP/1.1".into()),
        ("method", "GET".into()),
        ("host", "test".into()),
        ("status", 404.into()),
        ("response_flags", "NR".into()),
        ("reason", "NoRule".into()),
        ("user_agent", "seeing/1".into()),
        ("trace_id", TRACE.into()),
        ("connection_security_policy", "none".into()),
    ] {
        assert_eq!(line[key], value, "{key} in {line}");
    }
    shop.world.remove("log.yaml");
    shop.node.wait();
    shop.ask_and_wait("/wrong/3");
    shop.ask_and_wait("/wrong/4");
    assert_eq!(shop.logged().len(), 2, "{:?}", shop.logged());
}

#[test]
fn a_line_of_text_has_the_same_keys() {
    let Some(shop) = Shop::open_with("{}", ROUTE) else { return };
    shop.log("{mode: Enabled, format: Text}");
    shop.ask_and_wait("/right");
    let line = || shop.agent.log().lines().find(|line| line.contains(" path=/right ")).map(str::to_owned);
    soon(|| line().is_some());
    let line = line().unwrap();
    for part in
        [" src.pod=web ", " dst.pod=v1 ", " status=200 ", " response_flags=- ", " tries=1 ", " request_id="]
    {
        assert!(line.contains(part), "no {part} in {line}");
    }
    assert!(line.contains(" route=\"HTTPRoute shop/front rules[0]\" "), "{line}");
}

impl Shop {
    /// Has requests of all pods logged in this way.
    pub(crate) fn log(&self, access_log: &str) {
        let spec = format!("{{targetRefs: [{{kind: Pod, selector: {{}}}}], accessLog: {access_log}}}");
        self.world.apply("log.yaml", &manifests::telemetry_policy("shop/log", &spec));
        self.node.wait();
    }

    /// Asks for `path`, and waits until the agent knows of it.
    fn ask_and_wait(&self, path: &str) {
        let traceparent = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let headers = [("user-agent", "seeing/1"), ("traceparent", &*traceparent)];
        self.web.get(FRONT, path, &headers).expect("the proxy answers");
        soon(|| self.node.flows(&[]).iter().any(|flow| flow["http"]["path"] == path));
    }

    /// The lines of the access log. The agent's own are no objects with a pod.
    pub(crate) fn logged(&self) -> Vec<Value> {
        let log = self.agent.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line.get("src.pod").is_some()).collect()
    }
}

const ROUTE: &str = "{parentRefs: [{group: \"\", kind: Service, name: front}], rules: [{matches: [{path: {type: \
     PathPrefix, value: /right}}], backendRefs: [{name: v1, port: 80}]}]}";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
