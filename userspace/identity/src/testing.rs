//! Authorities, honest and forged, for the tests of this crate; and openssl, which judges independently.

use std::{
    path::Path,
    process::{Command, Output},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;
use weft_model::ServiceAccount;
use zeroize::Zeroizing;

use crate::{
    Clock, Endpoint, Issuer as _, Order, PrivateKey, Svid, Trust, TrustDomains,
    ca::{self, DirectoryIssuer},
};

pub(crate) const DAY: Duration = Duration::from_hours(24);

pub(crate) fn web() -> ServiceAccount {
    ServiceAccount::new("shop", "web")
}

pub(crate) fn api() -> ServiceAccount {
    ServiceAccount::new("shop", "api")
}

/// An authority of `mesh.example` in a folder of its own.
pub(crate) struct Authority {
    pub(crate) dir: TempDir,
    pub(crate) clock: Clock,
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self::at(Clock::system())
    }

    pub(crate) fn at(clock: Clock) -> Self {
        let dir = tempfile::tempdir().unwrap();
        ca::init(dir.path(), "mesh.example", &clock).unwrap();
        Self { dir, clock }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn issuer(&self) -> DirectoryIssuer {
        DirectoryIssuer::new(self.path(), self.clock.clone())
    }

    pub(crate) fn issue(&self, account: ServiceAccount) -> Arc<Svid> {
        let order = Order { account, ttl: DAY };
        Arc::new(futures_util::FutureExt::now_or_never(self.issuer().issue(order)).unwrap().unwrap())
    }

    /// Whom a node trusts that reads the directory now.
    pub(crate) fn trust(&self) -> Arc<Trust> {
        self.trust_with(&[])
    }

    pub(crate) fn trust_with(&self, aliases: &[&str]) -> Arc<Trust> {
        let authority = futures_util::FutureExt::now_or_never(self.issuer().authority()).unwrap().unwrap();
        let domains = TrustDomains::new("mesh.example", aliases.iter().copied()).unwrap();
        Arc::new(Trust::new(domains, authority.roots).unwrap())
    }

    pub(crate) fn endpoint(&self, account: ServiceAccount) -> Endpoint {
        Endpoint::new(self.issue(account), self.trust(), Clock::system()).unwrap()
    }
}

/// A root that signs whatever it is asked to.
pub(crate) struct Forger {
    params: CertificateParams,
    key: KeyPair,
    pub(crate) root: CertificateDer<'static>,
}

impl Forger {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().into();
        Self { params, key, root }
    }

    pub(crate) fn trust(&self) -> Arc<Trust> {
        self.trust_with(&[])
    }

    pub(crate) fn trust_with(&self, aliases: &[&str]) -> Arc<Trust> {
        let domains = TrustDomains::new("mesh.example", aliases.iter().copied()).unwrap();
        Arc::new(Trust::new(domains, vec![self.root.clone()]).unwrap())
    }

    /// A good certificate with these URIs, but for what `change` changes.
    pub(crate) fn svid(&self, uris: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Arc<Svid> {
        let (params, key) = leaf(uris, change);
        let signer = rcgen::Issuer::from_params(&self.params, &self.key);
        shown(params.signed_by(&key, &signer).unwrap().into(), &key)
    }
}

impl Forger {
    /// A good certificate, but for who signs it.
    pub(crate) fn svid_by(signer: &rcgen::Issuer<'_, &KeyPair>, uri: &str) -> Arc<Svid> {
        let (params, key) = leaf(&[uri], |_| ());
        shown(params.signed_by(&key, signer).unwrap().into(), &key)
    }
}

/// A certificate that nobody vouches for but itself.
pub(crate) fn self_signed(uri: &str) -> Arc<Svid> {
    let (params, key) = leaf(&[uri], |_| ());
    shown(params.self_signed(&key).unwrap().into(), &key)
}

fn leaf(uris: &[&str], change: impl FnOnce(&mut CertificateParams)) -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let now = SystemTime::now();
    (params.not_before, params.not_after) = ((now - DAY).into(), (now + DAY).into());
    change(&mut params);
    (params, KeyPair::generate().unwrap())
}

fn shown(certificate: CertificateDer<'static>, key: &KeyPair) -> Arc<Svid> {
    let key = PrivateKey::from_pkcs8(Zeroizing::new(key.serialized_der().to_vec()));
    Arc::new(Svid::unchecked(vec![certificate], key))
}

/// Runs openssl. A machine without it fails the test: `cargo xtask setup` installs it.
pub(crate) fn openssl(args: &[&str], folder: &Path) -> Output {
    let ran = Command::new("openssl").args(args).current_dir(folder).output();
    ran.unwrap_or_else(|error| panic!("cannot run openssl ({error}); cargo xtask setup installs it"))
}

/// What openssl says that has succeeded.
pub(crate) fn openssl_says(args: &[&str], folder: &Path) -> String {
    let output = openssl(args, folder);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "openssl {args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Writes an SVID as `NAME.crt`, `NAME.chain` and `NAME.key` for openssl.
pub(crate) fn write_svid(svid: &Svid, name: &str, folder: &Path) {
    let pem = |label: &str, der: &[u8]| pem::encode(&pem::Pem::new(label, der));
    let certificates: Vec<_> = svid.chain().iter().map(|der| pem("CERTIFICATE", der)).collect();
    let write = |kind: &str, text: &str| std::fs::write(folder.join(format!("{name}.{kind}")), text).unwrap();
    write("crt", &certificates[0]);
    write("chain", &certificates[1..].concat());
    write("key", &pem("PRIVATE KEY", svid.key().pkcs8()));
}
