use std::{io::Write as _, net::TcpStream as Server};

use futures_util::FutureExt as _;
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
};

use super::*;

/// The proxy's end of a connection, and the server's.
async fn connection() -> (Socket, Server) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let server = listener.accept().await.unwrap().0.into_std().unwrap();
    (Line::Plain(ours).into(), server)
}

#[tokio::test]
async fn behind_an_answer_that_is_whole_nothing_is_looked_for_and_what_comes_later_is_found() {
    for whole in [true, false] {
        let (mut socket, mut server) = connection().await;
        socket.resting().set(whole);
        for _ in 0..3 {
            server.write_all(b"answer").unwrap();
            assert_eq!(socket.read(&mut [0; 100]).await.unwrap(), 6);
            // Is here at once, and has an edge of its own.
            server.write_all(b"more").unwrap();
            let at_once = socket.read(&mut [0; 100]).now_or_never().transpose().unwrap();
            assert_eq!(at_once, (!whole).then_some(4));
            if whole {
                assert_eq!(socket.read(&mut [0; 100]).await.unwrap(), 4);
            }
        }
    }
}

#[tokio::test]
async fn an_end_that_came_with_such_an_answer_is_found_at_once() {
    let (mut socket, mut server) = connection().await;
    socket.resting().set(true);
    server.write_all(b"answer").unwrap();
    drop(server);
    socket.stream.readable().await;
    assert_eq!(socket.read(&mut [0; 100]).await.unwrap(), 6);
    assert_eq!(socket.read(&mut [0; 100]).now_or_never().transpose().unwrap(), Some(0));
}
