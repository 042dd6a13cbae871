use std::{
    future::poll_fn,
    io::{Read as _, Write as _},
    net::TcpStream as Client,
};

use futures_util::FutureExt as _;
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// A client, and the proxy's end of its connection.
async fn connection() -> (Client, Stream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::connect(listener.local_addr().unwrap()).unwrap();
    let (socket, _) = listener.accept().await.unwrap();
    let line = Line::Plain(socket);
    let stream = Stream::new(line, Bytes::new(), Protocol::Http1, 0, Arc::default(), Clock::start());
    (client, stream)
}

/// Reads once, as soon as there is something.
async fn read(stream: &mut Stream) -> usize {
    let mut room = vec![0; 4 << 10];
    let mut buf = ReadBuf::new(&mut room);
    poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, &mut buf)).await.unwrap();
    buf.filled().len()
}

fn socket(stream: &Stream) -> &TcpStream {
    stream.wire.line.socket().unwrap()
}

/// Whether the next read asks the kernel.
fn asks(stream: &Stream) -> bool {
    socket(stream).readable().now_or_never().is_some()
}

#[tokio::test]
async fn behind_a_short_request_nothing_is_looked_for_and_what_comes_later_is_found() {
    let (mut client, mut stream) = connection().await;
    for _ in 0..3 {
        client.write_all(&[b'x'; SURE]).unwrap();
        assert_eq!(read(&mut stream).await, SURE);
        assert!(!asks(&stream));
        assert!(read(&mut stream).now_or_never().is_none());
    }
}

#[tokio::test]
async fn behind_more_than_that_the_kernel_is_asked() {
    let (mut client, mut stream) = connection().await;
    client.write_all(&[b'x'; SURE + 1]).unwrap();
    assert_eq!(read(&mut stream).await, SURE + 1);
    assert!(asks(&stream));
    // In pieces as well.
    assert!(read(&mut stream).now_or_never().is_none());
    for _ in 0..2 {
        client.write_all(&[b'x'; SURE]).unwrap();
        socket(&stream).readable().await.unwrap();
        stream.found += SURE;
        assert_eq!(read(&mut stream).await, SURE);
        assert!(asks(&stream));
        assert!(read(&mut stream).now_or_never().is_none());
    }
}

#[tokio::test]
async fn an_end_that_came_with_a_short_request_is_found() {
    let (mut client, mut stream) = connection().await;
    client.write_all(b"x").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(read(&mut stream).await, 1);
    assert_eq!(read(&mut stream).await, 0);
    drop(stream);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}
