//! Session persistence: where a client is, whatever the weights say.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::client::conn::http1::SendRequest;
use weft_model::AppProtocol::Http;
use weft_model::{ObjectName, PortRouting, SessionCarrier, SessionPersistence};

use crate::mesh::{Body, Mesh, empty, full, get, read, routed, rule};
use crate::server::Server;

fn named(mesh: &Mesh, name: &'static str) -> Server {
    Server::http1(mesh, move |_| async move { Response::<Body>::new(full(name)) })
}

fn split(one: u32, two: u32) -> PortRouting {
    in_session(&[("one", one), ("two", two)])
}

fn in_session(backends: &[(&str, u32)]) -> PortRouting {
    let mut rule = rule("/", backends);
    rule.session = Some(SessionPersistence {
        name: "sid".into(),
        carrier: SessionCarrier::SessionCookie,
        absolute_timeout: None,
    });
    routed(Http, vec![rule])
}

/// Where a request goes, and the cookie that its answer brings.
async fn ask(client: &mut SendRequest<Body>, cookie: Option<&str>) -> (String, Option<String>) {
    client.ready().await.unwrap();
    let mut request = get("/");
    if let Some(cookie) = cookie {
        request.headers_mut().insert("cookie", cookie.parse().unwrap());
    }
    let answer = client.send_request(request).await.unwrap();
    let line = answer.headers().get("set-cookie").map(|line| line.to_str().unwrap().to_owned());
    let (status, _, body) = read(answer).await;
    assert_eq!(status, 200);
    (body, line.map(|line| line.split(';').next().unwrap().to_owned()))
}

#[tokio::test]
async fn a_session_stays_where_it_is_whatever_the_weights_are_even_at_zero() {
    let mesh = Mesh::start().await;
    let servers = [named(&mesh, "one"), named(&mesh, "two")];
    let (one, two) = ([servers[0].address], [servers[1].address]);
    let others: [(&str, Option<&str>, &[_]); 2] = [("one", None, &one), ("two", None, &two)];
    mesh.serve_all(split(50, 50), &[], &others);
    let mut client = mesh.http1().await;
    let (home, cookie) = ask(&mut client, None).await;
    let cookie = cookie.expect("the client is told");
    let away = if home == "one" { split(0, 100) } else { split(100, 0) };
    for weights in [split(50, 50), split(1, 1_000_000), split(1_000_000, 1), away.clone()] {
        mesh.serve_all(weights, &[], &others);
        for _ in 0..20 {
            assert_eq!(ask(&mut client, Some(&cookie)).await, (home.clone(), None));
        }
    }
    // Who has no session goes by the weights.
    let (other, new) = ask(&mut client, None).await;
    assert!(other != home && new.is_some_and(|new| new != cookie));
}

#[tokio::test]
async fn a_session_whose_endpoint_is_gone_goes_on_elsewhere_and_the_client_is_told() {
    let mesh = Mesh::start().await;
    let servers = [named(&mesh, "one"), named(&mesh, "two")];
    let (one, two) = ([servers[0].address], [servers[1].address]);
    mesh.serve_all(split(1, 0), &[], &[("one", None, &one), ("two", None, &two)]);
    let mut client = mesh.http1().await;
    let (_, cookie) = ask(&mut client, None).await;
    let cookie = cookie.expect("the client is told");
    mesh.serve_all(split(1, 1), &[], &[("one", None, &two), ("two", None, &two)]);
    let (other, new) = ask(&mut client, Some(&cookie)).await;
    let new = new.expect("the client is told");
    assert_eq!((other.as_str(), new == cookie), ("two", false));
    // A token that nobody can read is none.
    let request =
        Request::get("/").header("host", "web").header("cookie", "sid=../../etc").body(empty()).unwrap();
    client.ready().await.unwrap();
    assert!(client.send_request(request).await.unwrap().headers().contains_key("set-cookie"));
}

#[tokio::test]
async fn a_session_goes_before_the_affinity_of_the_service_which_serves_who_has_none() {
    let mesh = Mesh::start().await;
    let servers = [named(&mesh, "one"), named(&mesh, "two")];
    let (one, two) = (servers[0].address, servers[1].address);
    let with_affinity = |endpoints: &[_]| {
        let mut snapshot = mesh.snapshot(in_session(&[("web", 1)]), endpoints);
        let services = Arc::make_mut(&mut snapshot.services);
        let web = services.get_mut(&ObjectName::new("shop", "web")).unwrap();
        Arc::make_mut(web).session_affinity = Some(Duration::from_hours(3));
        mesh.handle.apply(&snapshot).unwrap();
    };
    with_affinity(&[one, two]);
    let mut client = mesh.http1().await;
    let mut cookies = Vec::new();
    for endpoint in [one, two] {
        with_affinity(&[endpoint]);
        cookies.push(ask(&mut client, None).await.1.expect("the client is told"));
    }
    with_affinity(&[one, two]);
    // All of them come from one address.
    for _ in 0..10 {
        for (cookie, home) in cookies.iter().zip(["one", "two"]) {
            assert_eq!(ask(&mut client, Some(cookie)).await, (home.into(), None));
        }
    }
    let (home, _) = ask(&mut client, None).await;
    for _ in 0..20 {
        assert_eq!(ask(&mut client, None).await.0, home);
    }
}
