//! The guard under hyper's client, on real sockets: what an upstream's answer may be.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use weft_proxy::http1::{Guarded, Limits, Malformed};

/// A connection to an upstream that gives these answers, one for each request.
struct Client {
    sender: SendRequest<Empty<Bytes>>,
    /// How the connection ended.
    ended: JoinHandle<Option<Malformed>>,
}

impl Client {
    async fn of(answers: &[&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        spawn_local(upstream(listener, answers.to_vec()));
        let guarded = Guarded::client(TcpStream::connect(address).await.unwrap(), Limits::default());
        let refusal = guarded.refusal();
        let (sender, connection) = handshake(TokioIo::new(guarded)).await.unwrap();
        let ended = spawn_local(async move {
            // Whoever waits for a response has the error.
            let _ = connection.with_upgrades().await;
            refusal.malformed()
        });
        Self { sender, ended }
    }

    async fn ask(&mut self, method: &str) -> Result<Response<Incoming>, Malformed> {
        self.sender.ready().await.unwrap();
        let request =
            Request::builder().method(method).uri("/").header("host", "a").body(Empty::new()).unwrap();
        self.sender.send_request(request).await.map_err(|error| Malformed::of(&error).unwrap())
    }
}

async fn upstream(listener: TcpListener, answers: Vec<&'static str>) {
    let (mut stream, _) = listener.accept().await.unwrap();
    for answer in answers {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
    // Until the client closes.
    let _ = stream.read_u8().await;
}

fn local<F: Future>(test: impl FnOnce() -> F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test())
}

async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[test]
fn answers_are_read_by_what_was_asked() {
    local(|| async {
        let mut client = Client::of(&[
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbye",
        ])
        .await;
        assert_eq!(text(client.ask("HEAD").await.unwrap()).await, "");
        assert_eq!(text(client.ask("GET").await.unwrap()).await, "hi");
        assert_eq!(text(client.ask("GET").await.unwrap()).await, "");
        assert_eq!(text(client.ask("GET").await.unwrap()).await, "bye");
        drop(client.sender);
        assert_eq!(client.ended.await.unwrap(), None);
    });
}

#[test]
fn a_malformed_answer_is_an_error_that_says_why() {
    for (answer, why) in [
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            Malformed::LengthAndEncoding,
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n",
            Malformed::ContentLengthRepeated,
        ),
        ("HTTP/1.1 200 OK\nx: y\r\n\r\n", Malformed::BareLf),
        ("HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\n\r\n", Malformed::OutOfTurn),
    ] {
        local(|| async {
            let mut client = Client::of(&[answer]).await;
            assert_eq!(client.ask("GET").await.unwrap_err(), why, "{answer:?}");
            assert_eq!(client.ended.await.unwrap(), Some(why));
        });
    }
}

#[test]
fn a_second_answer_to_one_request_is_nobodys() {
    local(|| async {
        let both =
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
        let mut client = Client::of(&[both, both]).await;
        assert_eq!(text(client.ask("GET").await.unwrap()).await, "hi");
        assert_eq!(client.ended.await.unwrap(), Some(Malformed::OutOfTurn));
    });
}

#[test]
fn a_malformed_chunk_breaks_the_body_off() {
    local(|| async {
        let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0x1\r\na\r\n0\r\n\r\n";
        let mut client = Client::of(&[answer]).await;
        let response = client.ask("GET").await.unwrap();
        let error = response.into_body().collect().await.unwrap_err();
        assert_eq!(Malformed::of(&error), Some(Malformed::ChunkSize));
    });
}
