//! The authority in a Secret, as controllers make it, rotated by who may change that Secret.

use std::path::PathBuf;

use weft_identity::{
    Clock,
    ca::{CaError, OVERLAP, SecretAuthority, Standing},
};
use weft_kubernetes::{Cluster, Connection, ValuesKind};
use weft_model::ObjectName;

use super::Step;
use crate::Error;

/// Does `step` to the authority in the Secret `name`. A controller that is at it at the same moment was first; then it is
/// looked at anew.
pub(super) async fn rotate(
    name: &ObjectName,
    kubeconfig: Option<PathBuf>,
    step: Step,
    clock: &Clock,
) -> Result<Result<Standing, CaError>, Error> {
    let connection = kubeconfig.map_or(Connection::AsKubectl, Connection::Kubeconfig);
    let cluster = Cluster::connect(&connection).await?;
    let overlap = match step {
        Step::Finish { overlap: None } => cluster.certificate_ttl().await?.max(OVERLAP),
        Step::Finish { overlap: Some(overlap) } => overlap,
        Step::Issuer | Step::Root => OVERLAP,
    };
    loop {
        let values = cluster.values(ValuesKind::Secret, name).await?;
        let mut values = values.ok_or_else(|| Error::NoSecret { name: name.clone() })?;
        let mut authority = SecretAuthority::new(name.to_string(), std::mem::take(&mut values.data));
        let done = match step {
            Step::Issuer => authority.rotate_issuer(clock),
            Step::Root => authority.rotate_root(clock),
            Step::Finish { .. } => authority.finish_root(overlap, clock),
        };
        let standing = match done {
            Ok(standing) => standing,
            Err(error) => return Ok(Err(error)),
        };
        values.data = authority.into_values();
        match cluster.replace_values(ValuesKind::Secret, name, values).await {
            Ok(_) => return Ok(Ok(standing)),
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The name of a Secret, as a flag has it.
pub(super) fn name(text: &str) -> Result<ObjectName, &'static str> {
    let name = ObjectName::parse(text).filter(|name| !name.namespace.is_empty() && !name.name.is_empty());
    name.ok_or("NAMESPACE/NAME, like weft-system/weft-ca")
}
