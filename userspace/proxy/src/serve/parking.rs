//! A connection of HTTP/1 that hyper has only while something is on its way.
//!
//! hyper keeps two buffers of 8 KiB and a state of 2 KiB for each connection, also for one that is kept for later, as most
//! are. What of a connection lasts is its socket with its accounts ([`Wire`](crate::stream::Wire)) and its [`Client`]:
//! hyper's part is dropped when nothing is under way, and made anew with the next byte.
//!
//! ```text
//! served ──quiet for a little, at rest──► parked: the socket alone is waited for
//!    ▲                                      │ readable, or told to finish
//!    └──────────────────────────────────────┘
//! ```
//! hyper says of a connection that is taken apart before its end that bytes may be unwritten. The framing guard below it
//! has seen them all: it is at rest when every request that it passed is answered to the last byte.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use super::Client;
use crate::{account::Counted, stream::Stream};

/// See the module. `C` is hyper's part, which `F` begins.
pub(super) struct Parking<'a, C, F> {
    client: &'a Client,
    begin: F,
    /// Boxed, so that a parked connection does without the room for it.
    serving: Option<Pin<Box<C>>>,
    parked: Option<Counted>,
}

impl<'a, C, F: Fn(Stream) -> C + Unpin> Parking<'a, C, F> {
    pub(super) fn new(client: &'a Client, begin: F, stream: Stream) -> Self {
        let serving = Some(Box::pin(begin(stream)));
        Self { client, begin, serving, parked: None }
    }

    /// Lets go of hyper's part. The connection must be at rest.
    pub(super) fn park(self: Pin<&mut Self>) {
        let this = self.get_mut();
        if this.serving.take().is_some() {
            let served = &this.client.served;
            this.parked = Some(served.pod.account.parked());
            served.worker.parked.update(|parked| parked + 1);
        }
    }

    /// Has it end in order: hyper knows how.
    pub(super) fn finish(self: Pin<&mut Self>, finish: impl Fn(Pin<&mut C>)) {
        finish(self.get_mut().serving());
    }

    fn serving(&mut self) -> Pin<&mut C> {
        let Self { client, begin, serving, parked } = self;
        *parked = None;
        serving.get_or_insert_with(|| Box::pin(begin(Stream::again(&client.wire)))).as_mut()
    }
}

impl<C: Future, F: Fn(Stream) -> C + Unpin> Future for Parking<'_, C, F> {
    type Output = C::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let this = self.get_mut();
        if this.serving.is_none() {
            ready!(this.client.wire.poll_readable(cx));
        }
        this.serving().poll(cx)
    }
}
