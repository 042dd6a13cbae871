//! The roots that are trusted, where agents read them.

use std::sync::Arc;

use weft_identity::controller::{BUNDLE, BUNDLE_KEY as KEY, Roots};
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
                values.data.insert(KEY.to_owned(), pem);
                self.cluster.replace_values(ValuesKind::ConfigMap, &name, values).await
            }
            None => {
                let values = Values::new([(KEY.to_owned(), pem)].into());
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
