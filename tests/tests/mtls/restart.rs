//! An app that goes and comes again, while its node's proxy accepts for it.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use weft_tests::Pod;

use crate::source::{listen, pair};
use crate::stage::Stage;

#[test]
fn an_app_that_starts_again_gets_its_port_back_whatever_connections_it_had() {
    let Some((stage, mut app)) = Stage::with_listener(&[]) else { return };
    let stranger = stage.a.pod("shop/stranger").outsider().start();
    for client in [&stage.web, &stranger] {
        for to in addresses(&stage) {
            // One that its client keeps open, one that the app's end closes, and the one between the nodes that stays.
            let (kept, served) = pair(client, &app, to);
            let (_closed, by_app) = pair(client, &app, to);
            drop((served, by_app, app));
            app = listen(&stage.api);
            pair(client, &app, to);
            drop(kept);
        }
    }
}

#[test]
fn who_asks_an_app_that_is_away_is_told_at_once() {
    let Some((stage, mut app)) = Stage::with_listener(&[]) else { return };
    let stranger = stage.a.pod("shop/stranger").outsider().start();
    for client in [&stage.web, &stranger] {
        for to in addresses(&stage) {
            pair(client, &app, to);
            drop(app);
            // A busy machine may hold up one of them, and not all.
            let fastest = (0..5).map(|_| time_to_end(client, to)).min().unwrap();
            assert!(fastest < AT_ONCE, "{to} ended after {fastest:?}");
            app = listen(&stage.api);
        }
    }
}

/// How long it takes until a connection ends, or is known not to be made.
fn time_to_end(client: &Pod, to: SocketAddr) -> Duration {
    let asked = Instant::now();
    if let Ok(mut stream) = client.tcp_connect(to)
        && stream.write_all(b"a").is_ok()
    {
        let end = stream.read(&mut [0]);
        assert!(!end.is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "{to} is silent");
    }
    asked.elapsed()
}

fn addresses(stage: &Stage) -> [SocketAddr; 2] {
    [stage.api.addr(8080), stage.api.addr6(8080)]
}

/// Below a second, after which TCP sends a SYN again that nobody has answered.
const AT_ONCE: Duration = Duration::from_millis(800);
