//! Copies of requests: what a mirror is sent.

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::sync::watch;
use tokio::time::timeout;
use weft_model::{
    AppProtocol::Http, BackendTarget, Filter, Fraction, HeaderModifier, Mirror, ObjectName, RouteRule,
};

use crate::mesh::{Body, Mesh, PATIENCE, full, get, read, routed, rule};
use crate::server::Server;
use crate::streams::written;

fn mirror(name: &str, share: Fraction) -> Filter {
    let target = BackendTarget::Service { name: ObjectName::new("shop", name), port: 80 };
    Filter::Mirror(Mirror { target, share })
}

/// Puts the rule in force, with the backends that it names.
fn serve(mesh: &Mesh, rule: RouteRule, servers: &[(&str, &Server)]) {
    let addresses: Vec<_> = servers.iter().map(|(name, server)| (*name, [server.address])).collect();
    let others: Vec<_> = addresses.iter().map(|(name, address)| (*name, None, &address[..])).collect();
    mesh.serve_all(routed(Http, vec![rule]), &[], &others);
}

/// A server that tells how much of a body it has read; `None` is one that broke off.
fn reading(mesh: &Mesh) -> (Server, watch::Receiver<Option<usize>>) {
    let (tell, told) = watch::channel(Some(0));
    let server = Server::http1(mesh, move |request| {
        let tell = tell.clone();
        async move {
            let mut body = request.into_body();
            while let Some(frame) = body.frame().await {
                let read = frame.ok().and_then(|frame| frame.into_data().ok()).map(|data| data.len());
                tell.send_modify(|all| *all = all.zip(read).map(|(all, more)| all + more));
            }
            Response::<Body>::new(full("read"))
        }
    });
    (server, told)
}

#[tokio::test]
async fn a_mirror_that_keeps_up_gets_the_whole_of_a_large_body() {
    const PIECE: usize = 256 << 10;
    let mesh = Mesh::start().await;
    let ((server, _), (copied, mut told)) = (reading(&mesh), reading(&mesh));
    let mut mirrored = rule("/", &[("a", 1)]);
    mirrored.filters = vec![mirror("copied", Fraction::ALL)];
    serve(&mesh, mirrored, &[("a", &server), ("copied", &copied)]);
    let (pieces, body) = written();
    let mut client = mesh.http1().await;
    let asking = client.send_request(Request::post("/").header("host", "web").body(body).unwrap());
    let sending = async {
        for n in 1..=16 {
            pieces.send(Frame::data(Bytes::from(vec![7; PIECE]))).await.unwrap();
            let there = |read: &Option<usize>| read.is_none_or(|read| read >= n * PIECE);
            let read = *timeout(PATIENCE, told.wait_for(there)).await.unwrap().unwrap();
            assert_eq!(read, Some(n * PIECE));
        }
        drop(pieces);
    };
    let (answer, ()) = tokio::join!(asking, sending);
    assert_eq!(read(answer.unwrap()).await.2, "read");
    assert_eq!(mesh.handle.report().pods[0].1.mirrors_dropped, 0);
}

#[tokio::test]
async fn a_mirror_of_a_backend_gets_what_goes_to_that_backend_as_its_filters_leave_it() {
    let mesh = Mesh::start().await;
    let [(a, _), (b, _), (copied, mut told)] = [reading(&mesh), reading(&mesh), reading(&mesh)];
    let mut split = rule("/", &[("a", 1), ("b", 1)]);
    let set = vec![("x-by".into(), "backend".into())];
    split.backends[1].filters = vec![
        mirror("copied", Fraction::ALL),
        Filter::RequestHeaders(HeaderModifier { set, add: Vec::new(), remove: Vec::new() }),
    ];
    serve(&mesh, split, &[("a", &a), ("b", &b), ("copied", &copied)]);
    let mut client = mesh.http1().await;
    for n in 0.. {
        client.ready().await.unwrap();
        let request = Request::post(format!("/{n}")).header("host", "web").body(full("body")).unwrap();
        assert_eq!(read(client.send_request(request).await.unwrap()).await.2, "read");
        if n >= 20 && !a.heads().is_empty() && !b.heads().is_empty() {
            break;
        }
    }
    let to_b = b.heads().len();
    timeout(PATIENCE, told.wait_for(|read| read.is_none_or(|read| read == 4 * to_b))).await.unwrap().unwrap();
    let paths = |server: &Server| {
        let mut paths: Vec<_> = server.heads().iter().map(|head| head.uri.path().to_owned()).collect();
        paths.sort();
        paths
    };
    assert_eq!(paths(&copied), paths(&b));
    assert!(copied.heads().iter().all(|head| head.headers["x-by"] == "backend"));
}

#[tokio::test]
async fn a_mirror_gets_the_share_that_it_asks_for() {
    let mesh = Mesh::start().await;
    let [(server, _), (copied, _), (none, _)] = [reading(&mesh), reading(&mesh), reading(&mesh)];
    let mut mirrored = rule("/", &[("a", 1)]);
    let share = |numerator| Fraction { numerator, denominator: 100 };
    mirrored.filters = vec![mirror("copied", share(30)), mirror("none", share(0))];
    serve(&mesh, mirrored, &[("a", &server), ("copied", &copied), ("none", &none)]);
    let mut client = mesh.http1().await;
    for _ in 0..1000 {
        client.ready().await.unwrap();
        assert_eq!(read(client.send_request(get("/")).await.unwrap()).await.2, "read");
    }
    // 64 at most are still under way.
    let dropped = usize::try_from(mesh.handle.report().pods[0].1.mirrors_dropped).unwrap();
    let drawn = copied.heads().len() + dropped;
    assert!((300 - 64 - 75..=375).contains(&drawn), "{drawn} of 1000");
    assert!(none.heads().is_empty());
}
