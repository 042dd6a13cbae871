//! Nodes that have neither controllers nor an API server for a while.

use std::{fs, time::Duration};

use tokio::time::{Instant, sleep};
use weft_tests::{soon, text, wire::Wire};

use super::{
    agent::{own_address, publish},
    mesh::{Mesh, SAID, echo},
    until,
};

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_are_left_alone_go_on_and_nothing_is_cut_when_the_others_come_back() {
    let Some(mut mesh) = Mesh::open(&[]).await else { return };
    let wire = Wire::new(&mesh.api);
    let mut held = mesh.web.tcp_connect(mesh.api.addr(8080)).unwrap();
    assert!(echo(&mut held));
    mesh.controllers.clear();
    mesh.stage.server.kill();
    let goes_on = async |mesh: &Mesh, held: &mut std::net::TcpStream, while_: &str| {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(10) {
            assert!(mesh.echoes(), "a new connection, {while_}");
            assert!(echo(held), "the old one, {while_}");
            let in_clear = wire.streams().into_iter().find(|stream| stream.contains(SAID));
            assert!(in_clear.is_none(), "in clear, {while_}: {:?}", in_clear.map(|stream| stream.from));
            sleep(Duration::from_millis(50)).await;
        }
    };
    goes_on(&mesh, &mut held, "without API server and controllers").await;
    // Even an agent that begins anew: it knows what was in force, and its proxy has the certificates.
    for agent in &mut mesh.agents {
        agent.kill();
        agent.start();
    }
    goes_on(&mesh, &mut held, "with agents that have begun meanwhile").await;
    for node in &mesh.nodes {
        let status = node.weft(&["status"]);
        assert_eq!(status.status.code(), Some(1), "it says that something is missing: {}", text(&status));
        assert!(text(&status).contains("API server"), "{}", text(&status));
    }
    mesh.stage.server.bring_back().await;
    goes_on(&mesh, &mut held, "as the API server is back").await;
    mesh.controllers = vec![mesh.stage.controller_at(own_address()).await];
    publish(&mesh.stage, &mesh.controllers.iter().collect::<Vec<_>>()).await;
    until("all is well again", async || {
        mesh.nodes.iter().all(|node| node.weft(&["status"]).status.success())
    })
    .await;
    goes_on(&mesh, &mut held, "as controllers are back").await;
    for stream in wire.begun(2) {
        assert!(!stream.contains(SAID), "in clear: {} to {}", stream.from, stream.to);
        assert!(
            stream.is_tls13(),
            "no TLS 1.3: {} to {}: {:?}",
            stream.from,
            stream.to,
            stream.bytes.get(..64)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_of_a_cluster_has_none_of_its_tokens() {
    let Some(mesh) = Mesh::open(&["--log", "trace,aya=info,aya_obj=info"]).await else { return };
    let path = mesh.world.dir().join("mesh.tar").display().to_string();
    let [one, other] = mesh.nodes.each_ref().map(|node| node.run_dir().display().to_string());
    let asked = ["diagnose", "--file", &path, "--run-dir", &one, "--run-dir", &other];
    let told = mesh.nodes[0].weft_alone(&asked);
    assert!(told.status.success(), "{}", text(&told));
    let archive = fs::read(&path).unwrap();
    let has = |text: &str| archive.windows(text.len()).any(|window| window == text.as_bytes());
    for node in &mesh.nodes {
        assert!(has(&format!("weft-diagnose/nodes/{}/status.json", node.name())));
    }
    // Nor in what agents, their proxies and controllers have logged: that is what people send along.
    let mut logs: Vec<_> =
        mesh.nodes.iter().flat_map(|node| [node.log(), node.run_dir().join("proxy.log")]).collect();
    let folder = fs::read_dir(mesh.stage.folder.path()).unwrap().map(|entry| entry.unwrap().path());
    logs.extend(folder.filter(|path| path.extension().is_some_and(|end| end == "log")));
    assert_eq!(logs.len(), 6, "{logs:?}");
    let logged: String = logs.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    assert_eq!(mesh.tokens.len(), 4);
    for token in &mesh.tokens {
        // The signature is what makes it one; what is before it stands in audit logs, too.
        let signature = token.rsplit('.').next().unwrap();
        assert!(!has(signature), "{token}");
        assert!(!logged.contains(signature), "{token}");
    }
    assert!(!has("PRIVATE KEY") && !logged.contains("PRIVATE KEY"));
    soon(|| mesh.echoes());
}
