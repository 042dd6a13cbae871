//! How certificates are made: who may sign what, and for how long.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType,
};
use rustls::pki_types::CertificateDer;
use weft_model::SpiffeId;
use zeroize::Zeroizing;

use super::{CaError, chain::Keyed};
use crate::{PrivateKey, leaf, unacceptable::at};

/// A root for `trust_domain`: ten years.
pub(super) fn root(trust_domain: &str, now: SystemTime) -> Result<Keyed, CaError> {
    let made = Making { what: "root" };
    let (key, pair) = made.key()?;
    let mut params = made.authority("root", &pair, trust_domain, BasicConstraints::Unconstrained)?;
    (params.not_before, params.not_after) = ((now - SKEW).into(), (now + ROOT_TIME).into());
    let certificate = made.done(params.self_signed(&*pair))?;
    Ok(Keyed { key, chain: vec![certificate.into()] })
}

/// The certificate of the root `new` as the root `old` signs it: of the same name, key and time.
pub(super) fn cross(
    new: &Keyed,
    old: &Keyed,
    trust_domain: &str,
) -> Result<CertificateDer<'static>, CaError> {
    let made = Making { what: "root" };
    let pair = made.done(new.key.pair())?;
    let own = leaf::parse(&new.chain[0]).expect("it was made or read here").validity().clone();
    let mut params = made.authority("root", &pair, trust_domain, BasicConstraints::Constrained(1))?;
    params.not_before = at(own.not_before.timestamp()).into();
    params.not_after = at(own.not_after.timestamp()).into();
    made.sign(&params, &*pair, old)
}

/// An issuer that `root` signs: one year, and no longer than the root.
pub(super) fn issuer(root: &Keyed, trust_domain: &str, now: SystemTime) -> Result<Keyed, CaError> {
    let made = Making { what: "issuer" };
    let (key, pair) = made.key()?;
    let mut params = made.authority("issuer", &pair, trust_domain, BasicConstraints::Constrained(0))?;
    let not_after = (now + ISSUER_TIME).min(end(&root.chain[0]));
    (params.not_before, params.not_after) = ((now - SKEW).into(), not_after.into());
    let certificate = made.sign(&params, &*pair, root)?;
    // What the root has beside itself is for peers who do not know it yet.
    let cross = root.chain[1..].iter().cloned();
    Ok(Keyed { key, chain: std::iter::once(certificate).chain(cross).collect() })
}

/// A workload's certificate, and no longer than its issuer's.
pub(super) fn workload(
    issuer: &Keyed,
    id: &SpiffeId,
    of: &impl PublicKeyData,
    ttl: Duration,
    now: SystemTime,
) -> Result<CertificateDer<'static>, CaError> {
    let made = Making { what: "workload" };
    let mut params = CertificateParams::default();
    // No subject: the ID is all that it says, and the standard then wants the ID marked critical.
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.subject_alt_names = vec![made.uri(&id.to_string())?];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = (now - SKEW).into();
    params.not_after = (now + ttl.min(ISSUER_TIME)).min(end(&issuer.chain[0])).into();
    made.sign(&params, of, issuer)
}

/// The certificate by which controllers are known to agents: for `host`, and for no workload.
pub(super) fn serving(
    issuer: &Keyed,
    host: &str,
    of: &impl PublicKeyData,
    ttl: Duration,
    now: SystemTime,
) -> Result<CertificateDer<'static>, CaError> {
    let made = Making { what: "controller" };
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.subject_alt_names = vec![SanType::DnsName(made.done(host.try_into())?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = (now - SKEW).into();
    params.not_after = (now + ttl).min(end(&issuer.chain[0])).into();
    made.sign(&params, of, issuer)
}

/// A key for what is made next.
pub(super) fn key(what: &'static str) -> Result<(PrivateKey, Zeroizing<KeyPair>), CaError> {
    Making { what }.key()
}

/// What is being made, for what goes wrong.
struct Making {
    what: &'static str,
}

impl Making {
    fn done<T>(&self, result: Result<T, rcgen::Error>) -> Result<T, CaError> {
        result.map_err(|source| CaError::Make { what: self.what, source })
    }

    fn key(&self) -> Result<(PrivateKey, Zeroizing<KeyPair>), CaError> {
        let pair = Zeroizing::new(self.done(KeyPair::generate())?);
        let der = Zeroizing::new(pair.serialized_der().to_vec());
        Ok((PrivateKey::from_pkcs8(der), pair))
    }

    fn uri(&self, text: &str) -> Result<SanType, CaError> {
        Ok(SanType::URI(self.done(text.try_into())?))
    }

    /// Named after its key, so that no two of them are taken for each other.
    fn authority(
        &self,
        role: &str,
        pair: &KeyPair,
        trust_domain: &str,
        constraints: BasicConstraints,
    ) -> Result<CertificateParams, CaError> {
        let mut params = CertificateParams::default();
        let mut name = format!("weft {role} ");
        for byte in params.key_identifier(pair).iter().take(4) {
            let _ = write!(name, "{byte:02x}");
        }
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![self.uri(&format!("spiffe://{trust_domain}"))?];
        params.is_ca = IsCa::Ca(constraints);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }

    /// Signs with the key of `by`, which does not outlive this call.
    fn sign(
        &self,
        params: &CertificateParams,
        of: &impl PublicKeyData,
        by: &Keyed,
    ) -> Result<CertificateDer<'static>, CaError> {
        let pair = self.done(by.key.pair())?;
        let signer = self.done(rcgen::Issuer::from_ca_cert_der(&by.chain[0], &*pair))?;
        Ok(self.done(params.signed_by(of, &signer))?.into())
    }
}

/// When a certificate ends that was read or made before.
fn end(der: &CertificateDer<'_>) -> SystemTime {
    leaf::parse(der).map_or(SystemTime::UNIX_EPOCH, |parsed| at(parsed.validity().not_after.timestamp()))
}

/// How far the clock of a node may be behind that of the issuer's.
pub(super) const SKEW: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);
pub(super) const ROOT_TIME: Duration = DAY.saturating_mul(3650);
const ISSUER_TIME: Duration = DAY.saturating_mul(365);
