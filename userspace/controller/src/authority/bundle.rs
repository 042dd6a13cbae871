//! The roots that are trusted, where agents read them.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use weft_identity::{
    Clock,
    ca::SecretIssuer,
    controller::{BUNDLE, BUNDLE_KEY as KEY, Roots},
};
use weft_kubernetes::{AskError, Values, ValuesKind};
use weft_model::ObjectName;

use super::{Authority, AuthorityError};

impl Authority {
    /// Has the bundle say what the authority says. What is written is of the version that was read before the authority
    /// was: whoever has read a newer one has written since, and then nothing is written here.
    pub(super) async fn publish(&self) -> Result<(), AuthorityError> {
        let bundle = self.bundle().await?;
        let pem = self.read_anew(&*self.snapshot()?).await?.roots_pem().into_bytes();
        let name = self.bundle_name();
        let written = match bundle {
            Some(values) if values.data.get(KEY) == Some(&pem) => return Ok(()),
            Some(mut values) => {
                values.data.extend(self.published(pem));
                self.cluster.replace_values(ValuesKind::ConfigMap, &name, values).await
            }
            None => {
                let values = Values::new(self.published(pem).into());
                self.cluster.create_values(ValuesKind::ConfigMap, &name, values).await
            }
        };
        match written {
            Ok(_) => tracing::info!(bundle = %name, "the trusted roots were published"),
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// What the bundle holds once `pem` is in it.
    fn published(&self, pem: Vec<u8>) -> [(String, Vec<u8>); 2] {
        let now = seconds(self.clock.now()).to_string();
        [(KEY.to_owned(), pem), (SINCE.to_owned(), now.into_bytes())]
    }

    pub(super) async fn bundle(&self) -> Result<Option<Values>, AskError> {
        self.cluster.values(ValuesKind::ConfigMap, &self.bundle_name()).await
    }

    fn bundle_name(&self) -> ObjectName {
        ObjectName::new(Arc::clone(&self.namespace), BUNDLE)
    }
}

/// The roots of a bundle; `None` where it holds none.
pub(super) fn roots(values: &Values) -> Result<Option<Roots>, AuthorityError> {
    let Some(pem) = values.data.get(KEY) else { return Ok(None) };
    Ok(Some(Roots::parse(&String::from_utf8_lossy(pem))?))
}

/// For how long a bundle has held the roots of `issuer` and no others; for ever, where it does not say since when.
pub(super) fn known_for(values: &Values, issuer: &SecretIssuer, clock: &Clock) -> Duration {
    if values.data.get(KEY).is_none_or(|pem| *pem != issuer.roots_pem().as_bytes()) {
        return Duration::ZERO;
    }
    let since = values.data.get(SINCE).and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
    since.map_or(Duration::MAX, |since| Duration::from_secs(seconds(clock.now()).saturating_sub(since)))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Since when the bundle has been as it is, in seconds since 1970.
const SINCE: &str = "since";
