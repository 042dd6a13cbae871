//! A kubeconfig for a program beside the agent, with the rights of a ServiceAccount of its own.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1 as api,
};
use kube::{Api, Client, Config, api::PostParams};
use serde_json::json;
use weft_model::ServiceAccount;

use super::{Connection, trouble::Trouble};
use crate::Error;

/// Writes a kubeconfig for the API server of `connection`, with a token of `account`, to `file`, in one step; how long the token
/// is good for.
///
/// Whoever reads the file has all rights of the account: only its owner can.
pub async fn lend(connection: &Connection, account: &ServiceAccount, file: &Path) -> Result<Duration, Error> {
    let config = connection.config().await?;
    let (cluster, server) = (cluster(&config)?, config.cluster_url.to_string());
    let refused = |message: String| Error::Token { account: account.clone(), message };
    let client =
        Client::try_from(config).map_err(|error| Error::Client { server, message: error.to_string() })?;
    let accounts: Api<api::ServiceAccount> = Api::namespaced(client, &account.namespace);
    let spec = TokenRequestSpec { expiration_seconds: Some(VALID), ..TokenRequestSpec::default() };
    let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
    let granted = accounts.create_token_request(&account.name, &PostParams::default(), &request).await;
    let granted = granted.map_err(|error| refused(Trouble::of(&error).to_string()))?;
    let status = granted.status.unwrap_or_default();
    let token = status.token.ok_or_else(|| refused("it answers without a token".to_owned()))?;
    let ends = status.expiration_timestamp.map_or(SystemTime::now(), |time| time.0.into());
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "cluster",
        "clusters": [{"name": "cluster", "cluster": cluster}],
        "users": [{"name": "weft", "user": {"token": token}}],
        "contexts": [{"name": "cluster", "context": {"cluster": "cluster", "user": "weft"}}],
    });
    write(file, &format!("{text:#}\n")).map_err(|source| Error::Lent { path: file.to_owned(), source })?;
    Ok(ends.duration_since(SystemTime::now()).unwrap_or_default())
}

/// The server, and by what it is known.
fn cluster(config: &Config) -> Result<serde_json::Value, Error> {
    let mut cluster = json!({"server": config.cluster_url.to_string()});
    let authorities = match (&config.root_cert_file, &config.root_cert) {
        (Some(file), _) => Some(fs::read(file).map_err(|source| Error::Lent { path: file.clone(), source })?),
        (None, Some(certificates)) => {
            let all: Vec<_> =
                certificates.iter().map(|der| pem::Pem::new("CERTIFICATE", der.clone())).collect();
            Some(pem::encode_many(&all).into_bytes())
        }
        (None, None) => None,
    };
    if let Some(text) = authorities {
        cluster["certificate-authority-data"] = BASE64_STANDARD.encode(text).into();
    }
    if let Some(name) = &config.tls_server_name {
        cluster["tls-server-name"] = name.as_str().into();
    }
    if config.accept_invalid_certs {
        cluster["insecure-skip-tls-verify"] = true.into();
    }
    Ok(cluster)
}

fn write(file: &Path, text: &str) -> io::Result<()> {
    let draft = file.with_extension("draft");
    let mut options = fs::OpenOptions::new();
    let mut to = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    to.write_all(text.as_bytes())?;
    to.sync_data()?;
    fs::rename(&draft, file)
}

/// How long a token is asked for, in seconds. Some API servers give none for longer.
const VALID: i64 = 24 * 60 * 60;
