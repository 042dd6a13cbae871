//! Objects that hold values under keys: Secrets and ConfigMaps.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, api::PostParams};
use weft_model::ObjectName;

use super::{AskError, Cluster, answered};

/// Which kind of object holds the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValuesKind {
    /// A Secret.
    Secret,
    /// A ConfigMap.
    ConfigMap,
}

/// What a Secret or a ConfigMap holds.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Values {
    /// By key.
    pub data: BTreeMap<String, Vec<u8>>,
    /// The version that was read, which a change is of; empty for one that is to be made.
    pub version: String,
    /// Labels and annotations go on as they are.
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    /// A Secret's type, which cannot be changed.
    type_: Option<String>,
}

impl Cluster {
    /// The values of `name`, if it is there.
    pub async fn values(&self, kind: ValuesKind, name: &ObjectName) -> Result<Option<Values>, AskError> {
        let asked = async {
            let found = match kind {
                ValuesKind::Secret => self.secrets(name).get_opt(&name.name).await?.map(Values::of_secret),
                ValuesKind::ConfigMap => {
                    self.config_maps(name).get_opt(&name.name).await?.map(Values::of_config_map)
                }
            };
            Ok(found)
        };
        answered("get", words(kind, name), asked).await
    }

    /// Makes `name` with these values; [`AskError::Conflict`] where it is there already.
    pub async fn create_values(
        &self,
        kind: ValuesKind,
        name: &ObjectName,
        values: Values,
    ) -> Result<Values, AskError> {
        let params = PostParams::default();
        let values =
            Values { labels: Some(LABELS.map(|(k, v)| (k.to_owned(), v.to_owned())).into()), ..values };
        let asked = async {
            Ok(match kind {
                ValuesKind::Secret => {
                    Values::of_secret(self.secrets(name).create(&params, &values.into_secret(name)).await?)
                }
                ValuesKind::ConfigMap => Values::of_config_map(
                    self.config_maps(name).create(&params, &values.into_config_map(name)).await?,
                ),
            })
        };
        answered("create", words(kind, name), asked).await
    }

    /// Replaces what was read by `values`; [`AskError::Conflict`] where somebody has changed it since.
    pub async fn replace_values(
        &self,
        kind: ValuesKind,
        name: &ObjectName,
        values: Values,
    ) -> Result<Values, AskError> {
        let params = PostParams::default();
        let asked = async {
            Ok(match kind {
                ValuesKind::Secret => {
                    let secret = values.into_secret(name);
                    Values::of_secret(self.secrets(name).replace(&name.name, &params, &secret).await?)
                }
                ValuesKind::ConfigMap => {
                    let map = values.into_config_map(name);
                    Values::of_config_map(self.config_maps(name).replace(&name.name, &params, &map).await?)
                }
            })
        };
        answered("update", words(kind, name), asked).await
    }

    fn secrets(&self, name: &ObjectName) -> Api<Secret> {
        Api::namespaced(self.client(), &name.namespace)
    }

    fn config_maps(&self, name: &ObjectName) -> Api<ConfigMap> {
        Api::namespaced(self.client(), &name.namespace)
    }
}

impl Values {
    /// New ones, that nobody has made yet.
    pub fn new(data: BTreeMap<String, Vec<u8>>) -> Self {
        Self { data, ..Self::default() }
    }

    fn of_secret(secret: Secret) -> Self {
        let data = secret.data.unwrap_or_default().into_iter();
        let data = data.map(|(key, ByteString(value))| (key, value)).collect();
        Self { type_: secret.type_, ..Self::of(secret.metadata, data) }
    }

    fn of_config_map(map: ConfigMap) -> Self {
        let data = map.data.unwrap_or_default().into_iter();
        Self::of(map.metadata, data.map(|(key, value)| (key, value.into_bytes())).collect())
    }

    fn of(metadata: ObjectMeta, data: BTreeMap<String, Vec<u8>>) -> Self {
        let ObjectMeta { resource_version, labels, annotations, .. } = metadata;
        Self { data, version: resource_version.unwrap_or_default(), labels, annotations, type_: None }
    }

    fn into_secret(self, name: &ObjectName) -> Secret {
        let metadata = self.metadata(name);
        let data = self.data.into_iter().map(|(key, value)| (key, ByteString(value))).collect();
        Secret { metadata, data: Some(data), type_: self.type_, ..Secret::default() }
    }

    fn into_config_map(self, name: &ObjectName) -> ConfigMap {
        let metadata = self.metadata(name);
        let text = |(key, value): (_, Vec<u8>)| (key, String::from_utf8_lossy(&value).into_owned());
        ConfigMap { metadata, data: Some(self.data.into_iter().map(text).collect()), ..ConfigMap::default() }
    }

    fn metadata(&self, name: &ObjectName) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.name.to_string()),
            namespace: Some(name.namespace.to_string()),
            resource_version: Some(self.version.clone()).filter(|version| !version.is_empty()),
            labels: self.labels.clone(),
            annotations: self.annotations.clone(),
            ..ObjectMeta::default()
        }
    }
}

/// Keys alone: values may be private keys.
impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Values")
            .field("keys", &self.data.keys())
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// How people are told of an object.
fn words(kind: ValuesKind, name: &ObjectName) -> String {
    format!("{kind:?} {name}")
}

/// What tells ours.
const LABELS: [(&str, &str); 2] =
    [("app.kubernetes.io/name", "weft"), ("app.kubernetes.io/component", "controller")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_replaced_keeps_what_others_wrote_beside_the_values() {
        let name = ObjectName::new("weft-system", "weft-ca");
        let metadata = ObjectMeta {
            resource_version: Some("7".to_owned()),
            labels: Some([("team".to_owned(), "a".to_owned())].into()),
            ..ObjectMeta::default()
        };
        let data = Some([("a".to_owned(), ByteString(b"1".to_vec()))].into());
        let secret =
            Secret { metadata, data, type_: Some("kubernetes.io/tls".to_owned()), ..Secret::default() };
        let mut values = Values::of_secret(secret);
        values.data.insert("b".to_owned(), b"2".to_vec());
        let secret = values.into_secret(&name);
        assert_eq!(secret.metadata.resource_version.as_deref(), Some("7"));
        assert_eq!(secret.metadata.labels.unwrap()["team"], "a");
        assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/tls"));
        assert_eq!(secret.data.unwrap().len(), 2);
    }

    #[test]
    fn what_is_shown_of_values_is_their_keys() {
        let values = Values::new([("root.pem".to_owned(), b"secret".to_vec())].into());
        let shown = format!("{values:?}");
        assert!(shown.contains("root.pem") && !shown.contains("115"), "{shown}");
    }
}
