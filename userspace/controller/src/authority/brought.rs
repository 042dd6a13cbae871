//! An authority that somebody brings: it is read, and never written.
//!
//! Nothing vouches for it among those who trust our own authority. So where that is there, of before, both are trusted as
//! long as its Secret stays, and it signs on until every node has heard of the roots that are new.

use std::time::Duration;

use weft_identity::{
    ca::{SecretAuthority, SecretIssuer},
    controller::Roots,
};
use weft_kubernetes::{Values, ValuesKind};
use weft_model::{ObjectName, Snapshot};

use super::{Authority, AuthorityError, bundle};

impl Authority {
    /// What signs where the Secret `name` is to: it does, or for the first minute our own authority of before.
    pub(super) async fn brought(
        &self,
        name: &ObjectName,
        snapshot: &Snapshot,
    ) -> Result<SecretIssuer, AuthorityError> {
        let name = self.in_ours(name);
        let values = self.cluster.values(ValuesKind::Secret, &name).await?;
        let values = values.ok_or_else(|| AuthorityError::NotBrought { secret: name.clone() })?;
        let brought = SecretIssuer::brought(&name.to_string(), &values.data, &snapshot.trust_domain)?;
        let Some(published) = self.bundle().await? else { return Ok(brought) };
        let Some(own) = self.of_before(&name, &brought, &published).await? else { return Ok(brought) };
        let (of_own, of_brought) = (own.roots(), brought.roots());
        let brought = brought.trusting_as_well(&of_own);
        let is_known = bundle::known_for(&published, &brought, &self.clock) >= HEARD;
        Ok(if is_known { brought } else { own.trusting_as_well(&of_brought) })
    }

    /// Our own authority, if nodes trust it, and what it has signed may be alive. One that they do not trust any more is
    /// not trusted anew: what it signs would be refused by whoever has not heard of that.
    async fn of_before(
        &self,
        secret: &ObjectName,
        brought: &SecretIssuer,
        published: &Values,
    ) -> Result<Option<SecretIssuer>, AuthorityError> {
        let name = self.own_secret();
        if name == *secret {
            return Ok(None);
        }
        let Some(values) = self.cluster.values(ValuesKind::Secret, &name).await? else { return Ok(None) };
        // One that cannot be read is no reason to do without the other.
        let own = SecretAuthority::new(name.to_string(), values.data).issuer().ok();
        let trusted = bundle::roots(published)?;
        let trusted = trusted.as_ref().map(Roots::certificates).unwrap_or_default();
        Ok(own.filter(|own| {
            own.trust_domain() == brought.trust_domain()
                && own.is_valid(self.clock.now())
                && own.roots().certificates().iter().any(|root| trusted.contains(root))
        }))
    }
}

/// How long roots have been published when every node has heard of them: agents read them every 30 s, and look whom
/// their issuer vouches for every 10 s.
const HEARD: Duration = Duration::from_mins(1);
