//! The authority that controllers make: created or read, never two; renewed in time.

use weft_identity::{
    ca::{Due, SecretAuthority, SecretIssuer},
    controller::Roots,
};
use weft_kubernetes::{Values, ValuesKind};
use weft_model::{ObjectName, Snapshot};

use super::{Authority, AuthorityError};

impl Authority {
    /// What signs, of our own authority: of that which is there, or which is made now. Of replicas that begin together one
    /// makes it, and the others read that.
    pub(super) async fn own(&self, snapshot: &Snapshot) -> Result<SecretIssuer, AuthorityError> {
        let name = self.secret(snapshot);
        if let Some(values) = self.cluster.values(ValuesKind::Secret, &name).await? {
            return Ok(SecretAuthority::new(name.to_string(), values.data).issuer()?);
        }
        let made = self.make(&name, snapshot).await?;
        let values = Values::new(made.into_values());
        match self.cluster.create_values(ValuesKind::Secret, &name, values).await {
            Ok(values) => {
                tracing::info!(secret = %name, trust_domain = %snapshot.trust_domain, "a certificate authority was made");
                Ok(SecretAuthority::new(name.to_string(), values.data).issuer()?)
            }
            Err(error) if error.is_conflict() => {
                let values = self.cluster.values(ValuesKind::Secret, &name).await?;
                let data = values.map(|values| values.data).unwrap_or_default();
                Ok(SecretAuthority::new(name.to_string(), data).issuer()?)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A new authority. Where roots are trusted already its Secret was lost, and its certificates live: the new root is
    /// trusted beside those, as in a rotation.
    async fn make(&self, name: &ObjectName, snapshot: &Snapshot) -> Result<SecretAuthority, AuthorityError> {
        let trusted = match self.bundle().await? {
            Some(values) => super::bundle::roots(&values)?,
            None => None,
        };
        if trusted.is_some() {
            tracing::warn!(secret = %name, "the authority's Secret is gone, and its roots are trusted: a new root is trusted beside them");
        }
        let before = trusted.as_ref().map(Roots::certificates).unwrap_or_default();
        Ok(SecretAuthority::make(name.to_string(), &snapshot.trust_domain, before, &self.clock)?)
    }

    /// Does what is due to our own authority by now. Whoever else does it at the same time was first, and that is as good.
    pub(super) async fn renew(&self, snapshot: &Snapshot) -> Result<Option<Due>, AuthorityError> {
        if snapshot.brought_authority.is_some() {
            return Ok(None);
        }
        let name = self.secret(snapshot);
        let Some(mut values) = self.cluster.values(ValuesKind::Secret, &name).await? else { return Ok(None) };
        let mut authority = SecretAuthority::new(name.to_string(), std::mem::take(&mut values.data));
        let Some(due) = authority.due(&self.clock)? else { return Ok(None) };
        authority.carry_out(due, &self.clock)?;
        values.data = authority.into_values();
        match self.cluster.replace_values(ValuesKind::Secret, &name, values).await {
            Ok(_) => {
                tracing::info!(secret = %name, ?due, "the certificate authority was renewed");
                Ok(Some(due))
            }
            Err(error) if error.is_conflict() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
