//! The issuer that signs with the key in an authority's directory.

use std::path::PathBuf;

use futures_util::future::{BoxFuture, ready};

use super::{files::Folder, signing::Signing};
use crate::{Authority, Clock, IssueError, Issuer, Order, PrivateKey, Svid};

/// Signs with `issuer.pem` of a directory. Reads it anew each time, which takes well below a millisecond: a rotation
/// needs no other word, and no key of the authority stays in memory.
#[derive(Clone, Debug)]
pub struct DirectoryIssuer {
    folder: Folder,
    clock: Clock,
}

impl DirectoryIssuer {
    /// The issuer of the authority in `dir`, which need not be there yet.
    pub fn new(dir: impl Into<PathBuf>, clock: Clock) -> Self {
        Self { folder: Folder(dir.into()), clock }
    }

    fn sign(&self, order: &Order) -> Result<Svid, IssueError> {
        let signing = Signing::read(&self.folder)?;
        let key = PrivateKey::generate()?;
        let pair = key.pair().map_err(|source| super::CaError::Make { what: "workload", source })?;
        let chain = signing.workload(&order.account, &*pair, order.ttl, self.clock.now())?;
        Ok(Svid::new(chain, key)?)
    }
}

impl Issuer for DirectoryIssuer {
    fn authority(&self) -> BoxFuture<'_, Result<Authority, IssueError>> {
        let looked = Signing::read(&self.folder).and_then(|signing| signing.authority());
        Box::pin(ready(looked.map_err(Into::into)))
    }

    fn issue(&self, order: Order) -> BoxFuture<'_, Result<Svid, IssueError>> {
        Box::pin(ready(self.sign(&order)))
    }
}
