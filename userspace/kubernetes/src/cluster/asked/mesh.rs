//! The mesh's settings, for who asks once.

use std::time::Duration;

use kube::{Client, api::GetParams, core::Request};
use serde_json::Value;
use weft_model::ObjectName;

use super::{AskError, Cluster, answered};
use crate::{
    assembly::Assembly,
    cluster::resource::Resource,
    decode::versions,
    object::{Key, Kind},
};

impl Cluster {
    /// How long certificates are valid, as MeshConfig has it now, or by default.
    pub async fn certificate_ttl(&self) -> Result<Duration, AskError> {
        let (kind, name) = (Kind::MeshConfig, ObjectName::new("", "default"));
        let version = versions(kind).first().copied().unwrap_or_default();
        let path = Resource::optional(kind, version).path();
        let mut assembly = Assembly::new("".into(), false);
        if let Some(object) =
            answered("get", "MeshConfig default", get(self.client(), &path, &name.name)).await?
        {
            assembly.catalog.put_object(&Key { kind, name }.to_string().into(), &object);
        }
        Ok(assembly.snapshot().certificate_ttl)
    }
}

/// One object; `None` where it is not there, or its kind is not.
async fn get(client: Client, path: &str, name: &str) -> Result<Option<Value>, kube::Error> {
    let request = Request::new(path).get(name, &GetParams::default()).map_err(kube::Error::BuildRequest)?;
    match client.request(request).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        found => found.map(Some),
    }
}
