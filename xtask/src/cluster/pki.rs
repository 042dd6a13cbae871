//! The cluster's certificates, by openssl(1): one authority, a certificate for each who speaks to the API server, and the
//! kubeconfig that each of them uses. Made once for a cluster and removed with it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;

use super::network::{API_SERVER, API_VIP};
use super::{STATE, state};
use crate::{repo, shell};

/// Who a certificate is for: as the API server sees it, `CN` is the user and `O` the group.
pub(super) struct Holder<'a> {
    /// Of the files.
    pub(super) name: &'a str,
    pub(super) user: &'a str,
    pub(super) group: &'a str,
}

/// Makes the authority, the API server's certificate and the key that signs ServiceAccount tokens.
pub(super) fn provide() -> Result<()> {
    let folder = file("")?;
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let closed = fs::Permissions::from_mode(0o700);
    fs::set_permissions(&folder, closed).with_context(|| format!("close {}", folder.display()))?;
    fs::write(file("openssl.cnf")?, OPENSSL).context("write openssl.cnf")?;
    once("ca.crt", |draft| {
        let mut request = certificate("ca", draft, "/CN=weft-cluster")?;
        request.args(["-addext", "basicConstraints=critical,CA:TRUE"]);
        request.args(["-addext", "keyUsage=critical,keyCertSign,cRLSign"]);
        Ok(request)
    })?;
    once("apiserver.crt", |draft| {
        let names = format!(
            "subjectAltName=DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,\
             DNS:kubernetes.default.svc.cluster.local,DNS:localhost,IP:{API_SERVER},IP:{API_VIP},IP:127.0.0.1"
        );
        let mut request = signed("apiserver", draft, "/CN=kube-apiserver", "serverAuth")?;
        request.args(["-addext", &names]);
        Ok(request)
    })?;
    once("service-accounts.key", |draft| {
        let mut generate = Command::new("openssl");
        generate.args(["genrsa", "-out"]).arg(draft).arg("2048");
        Ok(generate)
    })
}

/// Makes a client's certificate and its kubeconfig, and returns the kubeconfig's path.
pub(super) fn kubeconfig(holder: &Holder<'_>) -> Result<PathBuf> {
    let Holder { name, user, group } = holder;
    once(&format!("{name}.crt"), |draft| {
        signed(name, draft, &format!("/O={group}/CN={user}"), "clientAuth")
    })?;
    let path = file(&format!("{name}.kubeconfig"))?;
    // JSON is YAML. A name of a file is taken relative to the kubeconfig's own folder.
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": CLUSTER, "cluster": {
            "server": format!("https://{API_SERVER}:6443"), "certificate-authority": "ca.crt",
        } }],
        "users": [{ "name": name, "user": {
            "client-certificate": format!("{name}.crt"), "client-key": format!("{name}.key"),
        } }],
        "contexts": [{ "name": CLUSTER, "context": { "cluster": CLUSTER, "user": name } }],
        "current-context": CLUSTER,
    });
    state::write(&path, format!("{config:#}\n"))?;
    Ok(path)
}

/// A file of the cluster's certificates and keys.
pub(super) fn file(name: &str) -> Result<PathBuf> {
    repo::absolute(Path::new(STATE).join("pki").join(name))
}

/// Runs what makes `name`, unless it is there; under another name first, so that half of one never stands there.
fn once(name: &str, make: impl FnOnce(&Path) -> Result<Command>) -> Result<()> {
    let path = file(name)?;
    if path.exists() {
        return Ok(());
    }
    let draft = path.with_extension("draft");
    shell::capture(&mut make(&draft)?).with_context(|| format!("make {name}"))?;
    fs::rename(&draft, &path).with_context(|| format!("put {} in place", path.display()))
}

/// A certificate of a new key, which the authority signs.
fn signed(name: &str, draft: &Path, subject: &str, usage: &str) -> Result<Command> {
    let mut request = certificate(name, draft, subject)?;
    request.arg("-CA").arg(file("ca.crt")?).arg("-CAkey").arg(file("ca.key")?);
    request.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    request.args(["-addext", "keyUsage=critical,digitalSignature"]);
    request.args(["-addext", &format!("extendedKeyUsage={usage}")]);
    Ok(request)
}

fn certificate(name: &str, draft: &Path, subject: &str) -> Result<Command> {
    let mut request = Command::new("openssl");
    request.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
    request.arg("-config").arg(file("openssl.cnf")?).args(["-days", "365", "-subj", subject]);
    request.arg("-keyout").arg(file(&format!("{name}.key"))?).arg("-out").arg(draft);
    Ok(request)
}

const CLUSTER: &str = "weft-cluster";
/// Nothing of the host's configuration: extensions are those that are asked for.
const OPENSSL: &str = "[req]\ndistinguished_name = subject\n[subject]\n";
