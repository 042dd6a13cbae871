//! How much faster two pods of one node talk with `weft.dev/accelerate: same-node`: the same programs on the
//! same connections, in turns, through a Service with the annotation and one without.
//!
//! ```text
//! cargo build --release -p weft -p weft-tests --bins
//! cargo run --release -p weft-tests --example acceleration [bulk]
//! ```
#![expect(clippy::print_stdout, reason = "prints its table")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use weft_tests::{Node, Pod, Running, World, manifests};

const ROUNDS: usize = 7;
const TIME: Duration = Duration::from_secs(2);
const PLAIN: &str = "10.96.0.2";
const FAST: &str = "10.96.0.1";

fn main() -> Result<()> {
    let Some(world) = World::new() else { return Ok(()) };
    let node = world.node("a");
    world.apply("namespace.yaml", &manifests::namespace("shop", true));
    world.apply("fast.yaml", &service("fast", FAST, "{weft.dev/accelerate: same-node}"));
    world.apply("plain.yaml", &service("plain", PLAIN, "{}"));
    let web = node.pod("shop/web").start();
    let api = node.pod("shop/api").label("app", "api").start();
    let agent = node.agent();
    let config = tempfile::tempdir()?;
    let _server = nginx(&api, config.path())?;
    thread::sleep(Duration::from_millis(500));

    println!("medians of {ROUNDS} rounds of {TIME:?}, without and with acceleration in turns\n");
    println!("{:34} {:>12} {:>12} {:>7}  redirected", "", "without", "with", "ratio");
    let only_bulk = std::env::args().nth(1).is_some_and(|argument| argument == "bulk");
    let counts: &[u32] = if only_bulk { &[] } else { &[1, 32, 128] };
    for connections in counts {
        let name = format!("requests/s, keep-alive, c={connections}");
        compare(&node, &name, |address| requests(&web, address, *connections))?;
    }
    for (streams, size) in [(1, 128), (4, 128), (1, 16)] {
        let name = format!("MiB/s, {streams} bulk, writes of {size} KiB");
        compare(&node, &name, |address| bulk(&web, &api, address, streams, size << 10))?;
    }
    let status = node.weft_json(&["status"]);
    let counters = ["latch_redirect", "latch_native", "latch_left", "pair_busy"];
    println!(
        "\ndirections: {}",
        counters.map(|name| format!("{name} {}", status["counters"][name])).join(", ")
    );
    drop(agent);
    Ok(())
}

/// Measures both ways in turns and prints the line of the table.
fn compare(node: &Node, name: &str, mut measure: impl FnMut(&str) -> Result<f64>) -> Result<()> {
    let before = bytes(node);
    let (mut plain, mut fast) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        plain.push(measure(PLAIN)?);
        fast.push(measure(FAST)?);
    }
    let (plain, fast) = (median(plain), median(fast));
    let share = share(node, before) * 100.0;
    println!("{name:34} {plain:>12.0} {fast:>12.0} {:>7.2}  {share:.1} %", fast / plain);
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Requests per second of wrk against nginx.
fn requests(web: &Pod, address: &str, connections: u32) -> Result<f64> {
    let (count, url) = (format!("-c{connections}"), format!("http://{address}/"));
    let time = format!("-d{}s", TIME.as_secs());
    let output = web.exec(&["wrk", "-t1", &count, &time, &url]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    line.and_then(|rate| rate.trim().parse().ok()).with_context(|| format!("wrk said: {text}"))
}

/// MiB per second through so many connections, from client to server.
fn bulk(web: &Pod, api: &Pod, address: &str, streams: usize, size: usize) -> Result<f64> {
    let listener = api.tcp_listen(api.addr(8081))?;
    let to: SocketAddr = format!("{address}:81").parse()?;
    let mut ends = Vec::new();
    for _ in 0..streams {
        ends.push((web.tcp_connect(to)?, listener.accept()?.0));
    }
    let began = Instant::now();
    let received = thread::scope(|scope| {
        let mut readers = Vec::new();
        for (client, server) in ends {
            scope.spawn(move || write_for(client, size));
            readers.push(scope.spawn(move || read_all(server)));
        }
        readers.into_iter().map(|reader| reader.join().expect("a reader ends")).sum::<usize>()
    });
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let mebibytes = received as f64 / f64::from(1 << 20);
    Ok(mebibytes / began.elapsed().as_secs_f64())
}

fn write_for(mut client: TcpStream, size: usize) {
    let (data, began) = (vec![7; size], Instant::now());
    while began.elapsed() < TIME {
        client.write_all(&data).expect("the connection takes it");
    }
}

fn read_all(mut server: TcpStream) -> usize {
    let (mut buffer, mut all) = (vec![0; 256 << 10], 0);
    while let Ok(len) = server.read(&mut buffer) {
        if len == 0 {
            break;
        }
        all += len;
    }
    all
}

/// Bytes of accelerated Services: redirected, and by TCP.
fn bytes(node: &Node) -> [u64; 2] {
    let status = node.weft_json(&["status"]);
    ["bytes_redirected", "bytes_native"].map(|name| status["counters"][name].as_u64().unwrap_or(0))
}

#[expect(clippy::cast_precision_loss, reason = "a share")]
fn share(node: &Node, before: [u64; 2]) -> f64 {
    let after = bytes(node);
    let [redirected, native] = [after[0] - before[0], after[1] - before[1]];
    redirected as f64 / (redirected + native).max(1) as f64
}

fn nginx(api: &Pod, dir: &Path) -> Result<Running> {
    let body = "x".repeat(200);
    let text = format!(
        "daemon off; worker_processes 1; pid {dir}/pid; error_log {dir}/log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {dir}/b;\n\
         proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;\n\
         server {{ listen 8080; location / {{ return 200 \"{body}\"; }} }} }}\n",
        dir = dir.display()
    );
    let config = dir.join("nginx.conf");
    std::fs::write(&config, text)?;
    Ok(api.spawn(&["nginx", "-c", config.to_str().context("a path of UTF-8")?]))
}

fn service(name: &str, ip: &str, annotations: &str) -> String {
    let ports = "[{name: http, port: 80, targetPort: 8080}, {name: bulk, port: 81, targetPort: 8081}]";
    let spec = format!("{{clusterIP: {ip}, selector: {{app: api}}, ports: {ports}}}");
    manifests::annotated_service(&format!("shop/{name}"), annotations, &spec)
}
