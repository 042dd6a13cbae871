//! What same-node acceleration brings to requests through the node's proxy: the same programs on four ways, in turns.
//!
//! ```text
//! cargo build --release -p weft -p weft-tests --bins
//! cargo run --release -p weft-tests --example legs
//! ```
//!
//! `kernel` comes round the proxy; `off` is the proxy without acceleration, `reads` with what it reads, `all` also with
//! what apps read of it, as it is by default (`weft agent --acceleration`).
#![expect(clippy::print_stdout, reason = "prints its table")]

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use weft_tests::{Agent, Node, Pod, Running, World, manifests};

const ROUNDS: usize = 7;
const TIME: Duration = Duration::from_secs(2);

/// A way from a client to a server.
struct Way {
    /// Dropped from top to bottom: the agent before what it works on.
    _agent: Agent,
    _nginx: Running,
    web: Pod,
    _api: Pod,
    node: Node,
    address: String,
}

fn main() -> Result<()> {
    let Some(world) = World::new() else { return Ok(()) };
    world.apply("namespace.yaml", &manifests::namespace("shop", true));
    let configs = tempfile::tempdir()?;
    let mut ways = Vec::new();
    for (number, (name, arguments)) in [
        ("kernel", &[][..]),
        ("off", &["--acceleration", "off"]),
        ("reads", &["--acceleration", "proxy"]),
        ("all", &["--acceleration", "all"]),
    ]
    .into_iter()
    .enumerate()
    {
        ways.push(way(&world, number + 1, name, arguments, configs.path())?);
    }
    println!("requests/s, medians of {ROUNDS} rounds of {TIME:?}; ratios are medians of each round's\n");
    println!(
        "{:>5} {:>9} {:>9} {:>9} {:>9}  off/kernel reads/kernel all/kernel reads/off all/off",
        "c", "kernel", "off", "reads", "all"
    );
    for connections in [1, 32, 128] {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let rates = ways.iter().map(|way| requests(way, connections)).collect::<Result<Vec<_>>>()?;
            rounds.push(rates);
        }
        let rate = |way: usize| median(rounds.iter().map(|round| round[way]).collect());
        let ratio =
            |one: usize, other: usize| median(rounds.iter().map(|round| round[one] / round[other]).collect());
        println!(
            "{connections:>5} {:>9.0} {:>9.0} {:>9.0} {:>9.0}  {:>10.3} {:>12.3} {:>10.3} {:>9.3} {:>7.3}",
            rate(0),
            rate(1),
            rate(2),
            rate(3),
            ratio(1, 0),
            ratio(2, 0),
            ratio(3, 0),
            ratio(2, 1),
            ratio(3, 1),
        );
    }
    for (way, name) in ways.iter().zip(["kernel", "off", "reads", "all"]) {
        let counters =
            ["proxied", "latch_redirect", "latch_native", "latch_left", "pair_busy", "bytes_redirected"];
        println!("{name}: {}", counters.map(|name| format!("{name} {}", way.node.stat(name))).join(", "));
    }
    Ok(())
}

fn way(world: &World, number: usize, name: &str, arguments: &[&str], configs: &Path) -> Result<Way> {
    let node = world.node(name);
    let address = format!("10.96.0.{number}");
    let (service, app) = (format!("shop/{name}"), format!("api-{name}"));
    let spec = format!(
        "{{clusterIP: {address}, selector: {{app: {app}}}, ports: [{{name: http, port: 80, targetPort: 8080, \
         appProtocol: http}}]}}"
    );
    node.apply("service.yaml", &manifests::service(&service, &spec));
    if name != "kernel" {
        let route = format!(
            "{{parentRefs: [{{group: \"\", kind: Service, name: {name}}}], rules: [{{backendRefs: [{{name: {name}, \
             port: 80}}]}}]}}"
        );
        node.apply("route.yaml", &manifests::http_route(&service, &route));
    }
    let web = node.pod(&format!("shop/web-{name}")).start();
    let api = node.pod(&format!("shop/{app}")).label("app", &app).start();
    let agent = node.spawn_agent(arguments);
    node.wait();
    let nginx = nginx(&api, &configs.join(name))?;
    let address = format!("{address}:80").parse()?;
    weft_tests::eventually(Duration::from_secs(20), || {
        web.get(address, "/", &[]).is_ok_and(|answer| answer.status == 200)
    });
    Ok(Way { _agent: agent, _nginx: nginx, web, _api: api, node, address: address.to_string() })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Requests per second of wrk against nginx.
fn requests(way: &Way, connections: u32) -> Result<f64> {
    let (count, url) = (format!("-c{connections}"), format!("http://{}/", way.address));
    let time = format!("-d{}s", TIME.as_secs());
    let output = way.web.exec(&["wrk", "-t1", &count, &time, &url]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(!text.contains("Non-2xx"), "wrk said: {text}");
    let line = text.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    line.and_then(|rate| rate.trim().parse().ok()).with_context(|| format!("wrk said: {text}"))
}

fn nginx(api: &Pod, dir: &Path) -> Result<Running> {
    std::fs::create_dir_all(dir)?;
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
    let running = api.spawn(&["nginx", "-c", config.to_str().context("a path of UTF-8")?]);
    thread::sleep(Duration::from_millis(300));
    Ok(running)
}
