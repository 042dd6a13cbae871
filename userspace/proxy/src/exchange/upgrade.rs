//! A connection that turns into a tunnel: WebSocket, over either version on either side.

use std::rc::Rc;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use super::answered::{Carrier, Permits};
use crate::{
    Reason,
    observe::Protocol,
    serve::{Client, Guard},
};

/// Carries what both ends send once both have switched, until one of them ends or nothing moves for too long.
pub(super) fn tunnel(
    client: &Rc<Client>,
    (ours, theirs): (OnUpgrade, OnUpgrade),
    permits: Permits,
    carrier: Carrier,
    guard: Option<Guard>,
) {
    let watched = Rc::clone(client);
    client.becomes_tunnel();
    client.served.clients.spawn("tunnel", async move {
        let _under_way = (watched.request(), permits, carrier);
        let watch = watched.watch();
        let carry = async {
            let (ours, theirs) = tokio::try_join!(ours, theirs).map_err(|_| Reason::CUT)?;
            let (mut ours, mut theirs) = (TokioIo::new(ours), TokioIo::new(theirs));
            // Either side's break ends both: they are dropped.
            copy_bidirectional(&mut ours, &mut theirs).await.map(drop).map_err(|_| Reason::CUT)
        };
        let forbidden = async {
            match guard {
                Some(guard) => guard.await,
                None => std::future::pending().await,
            }
        };
        let ended = tokio::select! {
            ended = carry => ended,
            why = watch.found() => Err(why),
            why = forbidden => Err(why),
        };
        // Of HTTP/2 the stream is reset when its ends are dropped, and the connection has others.
        if let Err(why) = ended
            && watched.spoken == Protocol::Http1
        {
            watched.reset_on_close(why);
        }
    });
}
