//! What is done for the authority all the time: renewed when it is due, its roots published, its certificate shown.

use std::{
    convert::Infallible,
    sync::{Arc, PoisonError},
    time::SystemTime,
};

use tokio::time::{Duration, sleep};
use weft_identity::{ca::SecretIssuer, controller::Serving};
use weft_runtime::{Backoff, Stop};

use super::{Authority, AuthorityError};
use crate::metrics::Metrics;

/// What a controller shows, and until when.
struct Shown {
    /// Of which issuer, under which roots.
    by: String,
    renew_at: SystemTime,
}

impl Authority {
    /// Keeps the authority as it should be, and `serving` with a certificate of it for `host`, until `stop`.
    pub(crate) async fn keep(
        self,
        host: String,
        serving: Serving,
        metrics: Arc<Metrics>,
        stop: Stop,
    ) -> Result<(), Infallible> {
        let (mut shown, mut backoff) = (None, Backoff::new(Duration::from_millis(200), LOOK));
        loop {
            let looked = self.look(&host, &serving, &mut shown).await;
            let wait = match &looked {
                Ok(()) => {
                    backoff.reset();
                    LOOK
                }
                Err(_) => backoff.step(),
            };
            metrics.looked(self.seen().as_deref(), looked.err().as_ref());
            tokio::select! {
                () = sleep(wait) => {}
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    async fn look(
        &self,
        host: &str,
        serving: &Serving,
        shown: &mut Option<Shown>,
    ) -> Result<(), AuthorityError> {
        // A renewal that cannot be done is no reason not to go on with what there is.
        let renewed = self.renew(&*self.snapshot()?).await;
        self.publish().await?;
        self.show(&*self.issuer().await?, host, serving, shown)?;
        renewed.map(drop)
    }

    /// Shows a new certificate when the old one's time is half over, or another issuer signs.
    fn show(
        &self,
        issuer: &SecretIssuer,
        host: &str,
        serving: &Serving,
        shown: &mut Option<Shown>,
    ) -> Result<(), AuthorityError> {
        let (now, by) = (self.clock.now(), [issuer.certificate_pem(), issuer.roots_pem()].concat());
        if shown.as_ref().is_some_and(|shown| shown.by == by && now < shown.renew_at) {
            return Ok(());
        }
        let (chain, key) = issuer.serving(host, LIFE, now)?;
        serving.show(chain, &key)?;
        *shown = Some(Shown { by, renew_at: now + LIFE / 2 });
        Ok(())
    }

    fn seen(&self) -> Option<Arc<SecretIssuer>> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.as_ref().map(|read| Arc::clone(&read.issuer))
    }
}

/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(10);

/// How long a controller's own certificate is valid.
const LIFE: Duration = Duration::from_hours(24);
