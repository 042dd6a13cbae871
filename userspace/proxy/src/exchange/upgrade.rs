//! A connection that turns into a tunnel: WebSocket, over either version on either side.

use std::{rc::Rc, time::SystemTime};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use super::{
    Guard,
    answered::{Carrier, Permits},
};
use crate::{
    Reason,
    clock::Moment,
    observe::{ConnectionRecord, Inbound, Protocol, Record, Security},
    serve::Client,
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
        let _under_way = (watched.request(), permits);
        let mut recorded = Recorded::begin(&watched);
        let watch = watched.watch();
        // Until it is known how they are to be closed.
        let mut ends = None;
        let carry = async {
            let (ours, theirs) = tokio::try_join!(ours, theirs).map_err(|_| Reason::CUT)?;
            let (ours, theirs) = ends.insert((TokioIo::new(ours), TokioIo::new(theirs)));
            // Either side's break ends both: they are dropped.
            copy_bidirectional(ours, theirs).await.map(drop).map_err(|_| Reason::CUT)
        };
        let forbidden = async {
            match guard {
                Some(guard) => guard.await,
                None => std::future::pending().await,
            }
        };
        let (ended, by_us) = tokio::select! {
            ended = carry => (ended, false),
            why = watch.found() => (Err(why), true),
            why = forbidden => (Err(why), true),
        };
        // What its ends do is theirs to tell.
        recorded.reason = ended.err().filter(|_| by_us);
        if let Err(why) = ended {
            carrier.reset_on_close();
            // Of HTTP/2 the stream is reset when its ends are dropped, and the connection has others.
            if watched.spoken == Protocol::Http1 {
                watched.reset_on_close(why);
            }
        }
    });
}

/// Tells of a tunnel that the proxy has ended, when it is dropped. Before its end that is a cut. Its request was told when
/// both ends had switched, and with it what there is to say of one that ends as they like.
struct Recorded {
    client: Rc<Client>,
    began: Moment,
    reason: Option<Reason>,
}

impl Recorded {
    fn begin(client: &Rc<Client>) -> Self {
        let began = client.served.worker.now();
        Self { client: Rc::clone(client), began, reason: Some(Reason::CUT) }
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        let (Some(why), client) = (self.reason, &self.client) else { return };
        client.served.pod.account.refused();
        let records = &client.served.worker.records;
        if !records.wanted() {
            return;
        }
        let incoming = client.caller.as_ref();
        records.put(Record::Connection(Box::new(ConnectionRecord {
            connection: 0,
            ended: SystemTime::now(),
            pod: client.served.pod.name.clone(),
            client: client.address,
            dialled: Some(client.dialled),
            service: None,
            route: None,
            spoken: client.spoken,
            endpoint: incoming.map(|_| client.dialled),
            security: incoming.map_or(Security::None, |incoming| incoming.security),
            lasted: client.served.worker.now().since(self.began),
            received: 0,
            sent: 0,
            reason: Some(why),
            inbound: incoming
                .map(|incoming| Inbound { account: incoming.caller.proven.clone(), told: incoming.told }),
        })));
    }
}
