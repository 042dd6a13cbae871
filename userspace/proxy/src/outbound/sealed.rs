//! A connection to the one pod that the kernel's balancing chose, or that was dialled itself: on another node, and by
//! mutual TLS or not at all.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use tokio::net::TcpStream;
use weft_model::{ServiceAccount, Timeouts};
use weft_transport::{Progress, relay_inside};

use super::ended;
use crate::{
    Reason, carriers,
    line::reset_on_close,
    worker::{Served, Shared},
};

/// Carries the bytes of `socket` to the pod at `to`.
pub(super) async fn carry(
    served: &Rc<Served>,
    socket: TcpStream,
    client: SocketAddr,
    to: SocketAddr,
    progress: &Progress,
) -> Result<(), Reason> {
    let connected = match workload(&served.worker.shared, to).await {
        Some(account) => carriers::open(served, to, &account, Timeouts::CONNECT, client.port()).await,
        None => Err(Reason::UNKNOWN_WORKLOAD),
    };
    let sealed = match connected {
        Ok(sealed) => sealed,
        Err(why) => {
            reset_on_close(&socket);
            return Err(why);
        }
    };
    let relayed = relay_inside(socket, sealed, Timeouts::IDLE, progress).await;
    let account = &served.pod.account;
    account.received(usize::try_from(progress.left_to_right()).unwrap_or(usize::MAX));
    account.sent(usize::try_from(progress.right_to_left()).unwrap_or(usize::MAX));
    ended(&relayed)
}

/// Who has to be at `to`. The kernel may have learnt of it a moment before this process.
async fn workload(shared: &Shared, to: SocketAddr) -> Option<ServiceAccount> {
    let mut changes = shared.changes.subscribe();
    let known = async {
        loop {
            if let Some(account) = shared.tables.load().sealed_by_kernel(to).cloned() {
                return Some(account);
            }
            changes.changed().await.ok()?;
        }
    };
    tokio::time::timeout(NEWS, known).await.ok().flatten()
}

/// How long the news of a pod may take from the kernel to here.
const NEWS: Duration = Duration::from_secs(5);
