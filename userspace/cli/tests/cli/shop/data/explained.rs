//! Answers to `weft explain`. Who finds them is tested in `weft`; here is how they read.

use weft_telemetry::api::{
    ExplainQuery, ExplainedBackend, ExplainedRule, ExplainedSetting, Explanation, Failure, NearMiss,
    OwnAnswer, Path, PodAnswer, Verdict,
};

pub(crate) fn explain(query: &ExplainQuery) -> Result<Explanation, Failure> {
    match (query.to.as_str(), query.path.as_str()) {
        ("shop/api", "/v1/items") if query.headers == "x-canary: yes\nx-user: 7" => Ok(forwarded()),
        ("shop/api", _) => Ok(unmatched()),
        ("shop/db", _) => Ok(kernel()),
        (other, _) => {
            Err(Failure::new(format!("there is no Service {other}"), "see: weft get services".to_owned()))
        }
    }
}

fn forwarded() -> Explanation {
    Explanation {
        routes: Some("routes of namespace shop".into()),
        rule: Some(ExplainedRule {
            route: "HTTPRoute shop/canary".into(),
            index: 0,
            name: Some("canary".into()),
            matched: "path below /v1, header x-canary = yes".into(),
            filters: vec!["URLRewrite prefix /v1 to /".into(), "RequestMirror 5 % to shop/shadow:80".into()],
            forwarded: Some("/items of api.shop".into()),
        }),
        backends: vec![
            backend("shop/api-v1:80", 90, 90.0, None),
            backend("shop/api-v2:80", 10, 10.0, Some("NoEndpoints")),
        ],
        settings: vec![
            setting("loadBalancer", "ConsistentHash by header x-user", "TrafficPolicy of the Service"),
            setting("timeouts.request", "15s", "route"),
            setting("retry", "once, of a connection that fails or a stream that is refused", "default"),
        ],
        pods: vec![PodAnswer {
            pod: "shop/api-1".into(),
            client: Some("shop/web-1".into()),
            port: 8080,
            verdict: Verdict::Forwarded,
            reason: None,
            rule: Some("shop/api-read rules[0]".into()),
        }],
        notes: vec!["10.0 % of requests are refused: NoEndpoints, shop/api-v2:80".into()],
        ..http()
    }
}

fn unmatched() -> Explanation {
    Explanation {
        verdict: Verdict::Denied,
        reason: Some("NoRule".into()),
        routes: Some("consumer routes of namespace shop".into()),
        nearest: vec![NearMiss {
            route: "HTTPRoute shop/canary".into(),
            index: 0,
            wanted: "path below /v1, header x-canary = yes".into(),
            missing: vec!["header x-canary = yes: it has none".into()],
        }],
        answer: Some(OwnAnswer {
            status: Some(404),
            location: None,
            why: "No rule of the routes matches the request.".into(),
        }),
        ..http()
    }
}

fn kernel() -> Explanation {
    Explanation {
        path: Path::Kernel,
        because: vec!["nothing of the Service needs the proxy".into()],
        protocol: None,
        backends: vec![backend("shop/db:5432", 1, 100.0, None)],
        settings: vec![setting("loadBalancer", "Random", "default")],
        ..http()
    }
}

fn http() -> Explanation {
    Explanation {
        verdict: Verdict::Forwarded,
        reason: None,
        managed: true,
        path: Path::Http,
        because: vec![
            "HTTPRoute shop/canary is for it".into(),
            "a TrafficPolicy for Service shop/api has retry, timeouts.request".into(),
        ],
        protocol: Some("HTTP".into()),
        routes: None,
        rule: None,
        nearest: Vec::new(),
        answer: None,
        backends: Vec::new(),
        settings: Vec::new(),
        pods: Vec::new(),
        notes: Vec::new(),
    }
}

fn backend(name: &str, weight: u32, share: f64, problem: Option<&str>) -> ExplainedBackend {
    let eligible = usize::from(problem.is_none());
    ExplainedBackend {
        name: name.into(),
        weight,
        share,
        eligible,
        endpoints: 2,
        problem: problem.map(Into::into),
    }
}

fn setting(name: &str, value: &str, from: &str) -> ExplainedSetting {
    ExplainedSetting { name: name.into(), value: value.into(), from: from.into() }
}
