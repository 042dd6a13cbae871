//! A connection that turns into a tunnel: WebSocket, over either version on either side.

use std::rc::Rc;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use super::answered::{Carrier, Permits};
use crate::serve::{Client, Guard};

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
            let (ours, theirs) = tokio::try_join!(ours, theirs)?;
            let (mut ours, mut theirs) = (TokioIo::new(ours), TokioIo::new(theirs));
            // Either side's break ends both: they are dropped.
            let _ = copy_bidirectional(&mut ours, &mut theirs).await;
            Ok::<_, hyper::Error>(())
        };
        tokio::select! {
            _ = carry => {}
            _ = watch.found() => {}
            _ = async {
                match guard {
                    Some(guard) => guard.await,
                    None => std::future::pending().await,
                }
            } => {}
        }
    });
}
