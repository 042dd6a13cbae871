//! A mixture of everything, for long: the proxy's memory stays what it is.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use weft_tests::{Pod, Running, manifests, soon, text, throughout};

use crate::shop::{FRONT, ROUTE, Shop, vip};

/// For 20 s, or with `WEFT_SOAK` set for as many minutes as it says, 30 where it says 1: flat is less than 5 % more at
/// the end than after the warm-up, the first sixth. In 20 s the allocator has not seen everything yet, so that more is
/// let pass.
#[test]
fn the_proxys_memory_is_flat_under_mixed_load() {
    let Some(shop) = Shop::open() else { return };
    let (window, most) = match minutes() {
        Some(minutes) => (Duration::from_mins(minutes) / WINDOWS, 1.05),
        None => (Duration::from_secs(20) / WINDOWS, 1.5),
    };
    let _nginx = serve_http2(&shop);
    let proxy = shop.node.proxy_pid();
    let load = Load { shop: &shop, done: AtomicBool::new(false), turns: LOADS.map(|_| AtomicU64::new(0)) };
    let mut resident = Vec::new();
    thread::scope(|scope| {
        for (index, (name, work)) in LOADS.iter().enumerate() {
            let load = &load;
            scope.spawn(move || load.repeat(index, name, *work));
        }
        // Also when this thread panics: the scope waits for the others.
        let _done = Done(&load.done);
        for _ in 0..WINDOWS {
            // At most: its code goes and comes back as connections are parked.
            let mut most = 0;
            throughout(window, || {
                most = most.max(resident_kib(proxy));
                !load.done.load(Ordering::Relaxed)
            });
            resident.push(most);
        }
    });
    let turns =
        LOADS.iter().zip(&load.turns).map(|((name, _), turns)| (*name, turns.load(Ordering::Relaxed)));
    let turns: Vec<_> = turns.collect();
    eprintln!("turns of each load: {turns:?}; KiB resident: {resident:?}");
    assert!(turns.iter().all(|(_, turns)| *turns > 0), "{turns:?}");
    assert_eq!(shop.node.proxy_pid(), proxy, "it is the same proxy");
    let (warm, end) = (resident[WARM_UP], *resident.last().expect("there are windows"));
    assert!(f64::from(end) <= f64::from(warm) * most, "from {warm} KiB to {end} KiB: {resident:?}");
}

/// What goes on at once.
struct Load<'a> {
    shop: &'a Shop,
    done: AtomicBool,
    turns: [AtomicU64; LOADS.len()],
}

type Work = fn(&Shop, u64) -> io::Result<()>;

const LOADS: [(&str, Work); 6] = [
    ("HTTP/1.1", http1),
    ("HTTP/2", |shop, _| h2load(&shop.web, &["-m", "20"])),
    ("gRPC", |shop, _| {
        h2load(&shop.web, &["-m", "20", "-H", "content-type: application/grpc", "-H", "te: trailers"])
    }),
    ("WebSocket", websocket),
    ("resets", resets),
    ("routes", routes),
];

impl Load<'_> {
    /// Any failure ends all of them.
    fn repeat(&self, index: usize, name: &str, work: Work) {
        let _done = DoneByPanic(&self.done);
        while !self.done.load(Ordering::Relaxed) {
            let turn = self.turns[index].fetch_add(1, Ordering::Relaxed);
            work(self.shop, turn).unwrap_or_else(|error| panic!("{name}, turn {turn}: {error}"));
        }
    }
}

/// Requests on one connection, with and without a body, some of them to the other backend.
fn http1(shop: &Shop, turn: u64) -> io::Result<()> {
    let mut client = shop.web.http(FRONT)?;
    let body = vec![b'x'; usize::try_from(turn % 32).expect("it is small") << 10];
    for (method, target, body) in
        [("GET", "/", &[][..]), ("POST", "/", &body), ("POST", "/v2", &body)].repeat(10)
    {
        let answer = client.ask((method, target), &[], body)?;
        if answer.status != 200 || answer.seen().body != body.len() {
            return Err(io::Error::other(format!("{answer:?}")));
        }
    }
    Ok(())
}

fn h2load(web: &Pod, more: &[&str]) -> io::Result<()> {
    let url = format!("http://{}/shop.Soak/Say", vip(HTTP2));
    let command = [&["h2load", "-c", "4", "-n", "500"], more, &[&url]].concat();
    let output = web.exec(&command);
    let said = text(&output);
    let fine = ["500 succeeded, 0 failed, 0 errored, 0 timeout", "500 2xx,"];
    if fine.iter().all(|fine| said.contains(fine)) { Ok(()) } else { Err(io::Error::other(said)) }
}

/// A connection that is switched, some messages each way, and its end.
fn websocket(shop: &Shop, _: u64) -> io::Result<()> {
    let mut client = shop.web.http(FRONT)?;
    let key = ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    let upgrade = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), key];
    let answer = client.ask(("GET", "/"), &upgrade, &[])?;
    if answer.status != 101 {
        return Err(io::Error::other(format!("{answer:?}")));
    }
    let mut stream = client.stream();
    for _ in 0..20 {
        stream.write_all(&[b'm'; 500])?;
        stream.read_exact(&mut [0; 500])?;
    }
    Ok(())
}

/// Connections that end by a reset: before a head, in the middle of one, of a body, and of an answer.
fn resets(shop: &Shop, _: u64) -> io::Result<()> {
    let parts = [
        "",
        "GET / HT",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\nbut",
        "GET /wait/20 HTTP/1.1\r\nHost: x\r\n\r\n",
    ];
    for part in parts {
        let mut stream = shop.web.tcp_connect(FRONT)?;
        stream.write_all(part.as_bytes())?;
        set_socket_linger(&stream, Some(Duration::ZERO))?;
    }
    // The last of them is over by then: the other loads get their time, too.
    shop.web.get(FRONT, "/wait/20", &[]).map(drop)
}

/// The route is changed there and back, and each time it is obeyed.
#[expect(clippy::unnecessary_wraps, reason = "it is one of the loads")]
fn routes(shop: &Shop, turn: u64) -> io::Result<()> {
    let header = format!("turn-{turn}");
    let filter = format!(
        "filters: [{{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: x-turn, value: {header}}}]}}}}]"
    );
    let route = ROUTE.replacen("{backendRefs", &format!("{{{filter}, backendRefs"), 1);
    shop.world.apply("route.yaml", &manifests::http_route("shop/front", &route));
    soon(|| shop.web.get(FRONT, "/", &[]).is_ok_and(|answer| answer.header("x-turn") == header));
    Ok(())
}

/// nginx speaks HTTP/2 beside `v1`, behind a Service of its own with a route.
fn serve_http2(shop: &Shop) -> Running {
    let (folder, file) = (shop.world.dir().display(), shop.world.dir().join("soak.conf"));
    let configuration = format!(
        "worker_processes 1; daemon off; pid {folder}/soak.pid; error_log stderr crit;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; server {{ listen 8081 http2; location / {{ return 200 \"something\"; }} }} }}\n"
    );
    fs::write(&file, configuration).expect("the world has a folder");
    let nginx = shop.v1.spawn(&["nginx", "-c", file.to_str().expect("its name is ASCII")]);
    let spec = format!(
        "{{clusterIP: {}, selector: {{app: v1}}, ports: [{{port: 80, targetPort: 8081, \
         appProtocol: kubernetes.io/h2c}}]}}",
        vip(HTTP2).ip()
    );
    let route = "{parentRefs: [{group: \"\", kind: Service, name: http2}], rules: [{backendRefs: [\
                 {name: http2, port: 80}]}]}";
    let objects = [manifests::service("shop/http2", &spec), manifests::http_route("shop/http2", route)];
    shop.world.apply("http2.yaml", &manifests::documents(&objects));
    shop.node.wait();
    // By connections of its own: the answers of all that follow are looked at.
    soon(|| shop.v1.tcp_connect(shop.v1.addr(8081)).is_ok());
    soon(|| {
        let asked = shop.web.exec(&["h2load", "-n", "1", &format!("http://{}/", vip(HTTP2))]);
        text(&asked).contains("1 succeeded")
    });
    nginx
}

/// How long it lasts, where more than a trial is asked for.
fn minutes() -> Option<u64> {
    let said = std::env::var_os("WEFT_SOAK")?;
    let said = said.to_str().and_then(|text| text.parse().ok());
    Some(said.filter(|minutes| *minutes > 1).unwrap_or(30))
}

fn resident_kib(process: i32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("the proxy lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    line.trim().trim_end_matches(" kB").parse().expect("VmRSS is a number of kB")
}

struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct DoneByPanic<'a>(&'a AtomicBool);

impl Drop for DoneByPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

const WINDOWS: u32 = 12;
/// The window whose end is the end of the warm-up.
const WARM_UP: usize = 1;
const HTTP2: u8 = 5;
