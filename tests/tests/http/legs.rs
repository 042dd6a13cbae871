//! Same-node acceleration of the proxy's own legs: what it reads passes from socket to socket, what apps read is
//! TCP's.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

use weft_tests::{Pod, manifests};

use crate::shop::{FRONT, Shop};

#[test]
fn what_the_proxy_reads_is_redirected_and_what_apps_read_is_not() {
    let Some(legs) = Legs::open("{}") else { return };
    let before = legs.shop.node.stat("bytes_redirected");
    let mut client = legs.connect();
    for round in 0..ROUNDS {
        let sent = block(round, SIZE);
        assert!(echo(&mut client, &sent) == sent, "round {round}");
    }
    let redirected = legs.shop.node.stat("bytes_redirected") - before;
    // The client's bytes to the proxy and the server's to the proxy, with their heads; the proxy's to either by TCP.
    let read = 2 * ROUNDS * SIZE;
    let read = read as u64..(read + read / 4) as u64;
    assert!(read.contains(&redirected), "{redirected} bytes of {read:?}");
}

/// The shop, with one more server behind the proxy.
pub(crate) struct Legs {
    pub(crate) shop: Shop,
}

impl Legs {
    /// None where end-to-end tests are off, and on a kernel that may not accelerate: then it has been asserted that
    /// status says so and that requests are answered.
    fn open(annotations: &str) -> Option<Self> {
        let shop = Shop::open_with(annotations, ROUTE)?;
        let echo = "{clusterIP: 10.96.0.9, selector: {app: v2}, ports: [{port: 80, targetPort: 8081}]}";
        shop.world.apply("echo.yaml", &manifests::service("shop/echo", echo));
        serve(&shop.v2, 8081);
        shop.node.wait();
        let legs = Self { shop };
        Some(legs)
    }

    /// A connection through the proxy.
    fn connect(&self) -> BufReader<TcpStream> {
        BufReader::new(self.shop.web.tcp_connect(FRONT).unwrap())
    }
}

/// Sends `body` and returns what comes back.
fn echo(client: &mut BufReader<TcpStream>, body: &[u8]) -> Vec<u8> {
    let head = format!("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len());
    client.get_mut().write_all(&[head.as_bytes(), body].concat()).unwrap();
    let (first, length) = head_of(client).expect("an answer");
    assert!(first.starts_with("HTTP/1.1 200 "), "{first}");
    let mut answer = vec![0; length];
    client.read_exact(&mut answer).unwrap();
    answer
}

/// Answers each request with its own body.
fn serve(pod: &Pod, port: u16) {
    let listener: TcpListener = pod.tcp_listen(pod.addr(port)).unwrap();
    thread::spawn(move || {
        // It ends with the process.
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut stream = BufReader::new(stream);
                while let Some((_, length)) = head_of(&mut stream) {
                    let mut body = vec![0; length];
                    if stream.read_exact(&mut body).is_err() {
                        return;
                    }
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
                    if stream.get_mut().write_all(&[head.as_bytes(), &body].concat()).is_err() {
                        return;
                    }
                }
            });
        }
    });
}

/// The first line of a message, and the length of its body.
fn head_of(from: &mut BufReader<TcpStream>) -> Option<(String, usize)> {
    let mut first = String::new();
    from.read_line(&mut first).ok().filter(|read| *read > 0)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        from.read_line(&mut line).ok()?;
        match line.trim_end().to_ascii_lowercase().split_once(':') {
            Some(("content-length", value)) => length = value.trim().parse().ok()?,
            Some(_) => {}
            None => return Some((first, length)),
        }
    }
}

/// Bytes that tell their place, other ones for each seed.
fn block(seed: usize, len: usize) -> Vec<u8> {
    (seed..seed + len).map(|at| (at ^ (at >> 8) ^ (at >> 16)).to_le_bytes()[0]).collect()
}

const ROUTE: &str = "{parentRefs: [{group: \"\", kind: Service, name: front}], rules: [\
     {matches: [{path: {type: PathPrefix, value: /echo}}], backendRefs: [{name: echo, port: 80}]}, \
     {backendRefs: [{name: v1, port: 80}]}]}";
const ROUNDS: usize = 200;
const SIZE: usize = 20_000;
