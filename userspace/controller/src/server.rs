//! Where agents ask: HTTPS, one question a connection, bounded in number, time and size.

mod routes;

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use weft_identity::controller::Serving;
use weft_runtime::{Stop, Tasks};

pub(crate) use self::routes::{Asked, router};

/// Answers on `listener` until `stop`.
pub(crate) async fn serve(
    listener: TcpListener,
    serving: Serving,
    router: Router,
    tasks: Tasks,
    stop: Stop,
) -> Result<(), Infallible> {
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await.expect("nobody closes it");
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return Ok(()),
        };
        let Ok((socket, from)) = accepted else {
            // Out of file descriptors, or the client has left already.
            sleep(PAUSE).await;
            continue;
        };
        let (serving, router) = (serving.clone(), router.clone());
        tasks.spawn("a question", async move {
            let answered = timeout(WHOLE, answer(socket, &serving, router)).await;
            if let Err(error) = answered.unwrap_or_else(|late| Err(late.into())) {
                tracing::debug!(%from, %error, "a question had no answer");
            }
            drop(slot);
            Ok::<_, Infallible>(())
        });
    }
}

async fn answer(socket: TcpStream, serving: &Serving, router: Router) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let stream = serving.accept(socket, HANDSHAKE).await?;
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    connection.await.map_err(io::Error::other)
}

/// Connections at a time. The next ones wait in the listener.
const AT_ONCE: usize = 512;

/// How long a client has for its handshake, and then for the head of its request.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// How long a connection may last.
const WHOLE: Duration = Duration::from_secs(15);

const PAUSE: Duration = Duration::from_millis(100);
