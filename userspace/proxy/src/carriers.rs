//! A pod's connections of mutual TLS to pods of other nodes, on one worker. Each carries many streams.
//!
//! ```text
//! open ──► one that takes another stream, and would be opened the same way now? ──yes──► a stream on it
//!   ▲                 │ no
//!   └──(all wait)─────┴──► one task connects and shakes hands, then carries it to its end
//! ```
//! They belong to the pod whose identity they show and in whose namespace they are: no other pod may use them.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use tokio::sync::watch;
use weft_identity::{Endpoint, Proof, Refused};
use weft_model::{ServiceAccount, Timeouts};
use weft_transport::mux::{self, Opener, Stream};

use crate::{Limits, Reason, clock::Moment, outbound::connect_sealed, worker::Served};

/// See the module.
#[derive(Default)]
pub(crate) struct Carriers {
    to: RefCell<HashMap<SocketAddr, Vec<Rc<Carrier>>>>,
    opening: RefCell<HashMap<SocketAddr, Opening>>,
}

/// Ready once a connection is there or is not to be had.
type Opening = watch::Receiver<Option<Result<(), Reason>>>;

struct Carrier {
    opener: Opener,
    proof: Proof,
    idle_since: Cell<Option<Moment>>,
    /// Since when the server owes an answer to a stream, and what it had sent by then.
    asked: Cell<Option<(Moment, u64)>>,
}

/// A stream of `served`'s pod to `to`, which has proven to be of `account`. It is for whoever has `port` in the pod.
pub(crate) async fn open(
    served: &Rc<Served>,
    to: SocketAddr,
    account: &ServiceAccount,
    time: Duration,
    port: u16,
) -> Result<Stream, Reason> {
    let own = served.pod.service_account.as_ref();
    let endpoint = own.and_then(|own| served.worker.shared.identities.endpoint_of(own));
    let endpoint = endpoint.ok_or(Reason::NO_CERTIFICATE)?;
    loop {
        if let Some(stream) = served.carriers.stream(&endpoint, to, account, port, served.worker.now()) {
            return Ok(stream);
        }
        let known = served.carriers.opening.borrow().get(&to).cloned();
        let mut opening = known.unwrap_or_else(|| start(served, to, account.clone(), time));
        let opened = opening.wait_for(Option::is_some).await;
        // Dropped without a word, its pod has gone.
        opened.map_or(Some(Err(Reason::PROXY_FAILED)), |opened| *opened).unwrap_or(Ok(()))?;
    }
}

/// Has a task connect, and carry the connection.
fn start(served: &Rc<Served>, to: SocketAddr, account: ServiceAccount, time: Duration) -> Opening {
    let (done, opening) = watch::channel(None);
    served.carriers.opening.borrow_mut().insert(to, opening.clone());
    let pod = Rc::clone(served);
    served.upstreams.spawn("carrier", async move {
        let sealed = connect_sealed(&pod, to, &account, time).await;
        pod.carriers.opening.borrow_mut().remove(&to);
        let sealed = match sealed {
            Ok(sealed) => sealed,
            Err(why) => {
                done.send_replace(Some(Err(why)));
                return;
            }
        };
        let proof = sealed.proof().clone();
        let (opener, driver) = mux::client(sealed);
        let carrier = Rc::new(Carrier { opener, proof, idle_since: Cell::new(None), asked: Cell::new(None) });
        pod.carriers.to.borrow_mut().entry(to).or_default().push(Rc::clone(&carrier));
        done.send_replace(Some(Ok(())));
        if let Err(error) = driver.await {
            // A server refuses a certificate after the client's handshake is done.
            let refused = Refused::of(error);
            tracing::info!(pod = %pod.pod.name, %to, %refused, "a connection of mutual TLS broke");
        }
        pod.carriers.forget(to, &carrier);
    });
    opening
}

impl Carriers {
    /// A stream on a connection that is there.
    fn stream(
        &self,
        endpoint: &Endpoint,
        to: SocketAddr,
        account: &ServiceAccount,
        port: u16,
        now: Moment,
    ) -> Option<Stream> {
        let all = self.to.borrow();
        let fits = |carrier: &&Rc<Carrier>| {
            carrier.proof.peer().account == *account && endpoint.would_open_the_same(&carrier.proof)
        };
        let carriers = all.get(&to)?.iter().filter(fits);
        carriers.into_iter().find_map(|carrier| {
            let stream = carrier.opener.open(port)?;
            carrier.idle_since.set(None);
            if carrier.asked.get().is_none() {
                carrier.asked.set(Some((now, carrier.opener.heard())));
            }
            Some(stream)
        })
    }

    /// Closes what nobody has used for a time, what would not be opened the same way now (once its streams have ended),
    /// and what does not answer.
    pub(crate) fn sweep(&self, served: &Served) {
        let (now, shared) = (served.worker.now(), &served.worker.shared);
        let own = served.pod.service_account.as_ref();
        let endpoint = own.and_then(|own| shared.identities.endpoint_of(own));
        let is_current =
            |carrier: &Carrier| endpoint.as_ref().is_some_and(|own| own.would_open_the_same(&carrier.proof));
        let mut idle = 0;
        for carrier in self.to.borrow().values().flatten() {
            idle += usize::from(carrier.opener.streams() == 0);
            let is_of_use = carrier.is_of_use(now, &shared.limits) && idle <= shared.limits.pool_idle;
            if !is_of_use || !is_current(carrier) {
                carrier.opener.close();
            }
        }
    }

    /// Forgets all: their tasks end with the pod.
    pub(crate) fn clear(&self) {
        self.to.borrow_mut().clear();
    }

    fn forget(&self, to: SocketAddr, carrier: &Rc<Carrier>) {
        let mut all = self.to.borrow_mut();
        let Some(carriers) = all.get_mut(&to) else { return };
        carriers.retain(|one| !Rc::ptr_eq(one, carrier));
        if carriers.is_empty() {
            all.remove(&to);
        }
    }
}

impl Carrier {
    fn is_of_use(&self, now: Moment, limits: &Limits) -> bool {
        self.check_answers(now);
        if self.opener.streams() > 0 {
            self.idle_since.set(None);
            return true;
        }
        let since = self.idle_since.get().unwrap_or(now);
        self.idle_since.set(Some(since));
        now.since(since) < limits.pool_time
    }

    /// A server that has said nothing at all since it was asked is not there any more: TCP would notice in 15 minutes.
    fn check_answers(&self, now: Moment) {
        let Some((asked, before)) = self.asked.get() else { return };
        let heard = self.opener.heard();
        if !self.opener.is_asked() {
            self.asked.set(None);
        } else if heard != before {
            self.asked.set(Some((now, heard)));
        } else if now.since(asked) >= Timeouts::CONNECT {
            self.opener.give_up();
        }
    }
}
