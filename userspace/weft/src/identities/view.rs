//! What people see of the certificates.

use std::time::{Duration, SystemTime};

use weft_identity::{CertificateStatus, Failure, Signer, Status, ca::Keeping};
use weft_telemetry::api::{CertificateFailure, CertificateView, CertificatesView, IssuerView};

/// How the certificates are at `now` that the authority which is kept there issues.
pub(super) fn view(status: &Status, keeping: &Keeping, now: SystemTime) -> CertificatesView {
    CertificatesView {
        trust_domain: status.trust_domain.clone(),
        issuer: status.issuer.as_ref().map(|signer| issuer(signer, keeping, now)),
        roots: status.roots,
        failure: failure(status, keeping, now),
        certificates: status.certificates.iter().map(|one| certificate(one, now)).collect(),
    }
}

/// Why nothing can be issued, however long what was issued is valid yet.
fn failure(status: &Status, keeping: &Keeping, now: SystemTime) -> Option<CertificateFailure> {
    if let Some(why) = &status.failure {
        return Some(failed(why));
    }
    if let Some(signer) = status.issuer.as_ref().filter(|signer| signer.not_after < now) {
        let error = format!("{} has ended: {}", signer.name, rotation(keeping));
        return Some(CertificateFailure { error, since: signer.not_after.into(), tries: 0 });
    }
    let failing = status.certificates.iter().find_map(|one| Some((one, one.failure.as_ref()?)))?;
    let (CertificateStatus { account, .. }, why) = failing;
    let failure = failed(why);
    Some(CertificateFailure { error: format!("{account} gets none: {}", failure.error), ..failure })
}

fn issuer(signer: &Signer, keeping: &Keeping, now: SystemTime) -> IssuerView {
    let Signer { name, serial, not_before, not_after } = signer.clone();
    let left = signer.left(now);
    let days = left.as_secs() / DAY.as_secs();
    IssuerView {
        warning: signer
            .ends_soon(now)
            .then(|| format!("{name} ends within {} days: {}", days + 1, rotation(keeping))),
        name,
        serial,
        not_before: not_before.into(),
        not_after: not_after.into(),
        age_seconds: signer.age(now).as_secs(),
        expires_in_seconds: left.as_secs(),
    }
}

fn certificate(status: &CertificateStatus, now: SystemTime) -> CertificateView {
    CertificateView {
        namespace: status.account.namespace.to_string(),
        service_account: status.account.name.to_string(),
        identity: status.id.to_string(),
        serial: status.serial.clone(),
        not_before: status.not_before.map(Into::into),
        not_after: status.not_after.map(Into::into),
        expires_in_seconds: status.expiry_seconds(now),
        renewals: status.renewals,
        failure: status.failure.as_ref().map(failed),
    }
}

fn failed(failure: &Failure) -> CertificateFailure {
    let Failure { error, since, tries } = failure.clone();
    CertificateFailure { error, since: since.into(), tries }
}

fn rotation(keeping: &Keeping) -> String {
    keeping.rotate("issuer")
}

const DAY: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests {
    use weft_model::{ServiceAccount, SpiffeId};

    use super::*;

    const NOW: Duration = Duration::from_hours(1_000_000);

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + NOW
    }

    /// Of an issuer that has so many days left, or has ended so many days ago.
    fn status(days: i64) -> Status {
        let (from, span) = (now() - 400 * DAY, DAY * u32::try_from(400 + days).unwrap());
        let account = ServiceAccount::new("shop", "web");
        let id = SpiffeId::parse(&account.spiffe("cluster.local")).unwrap();
        Status {
            trust_domain: "cluster.local".to_owned(),
            issuer: Some(Signer {
                name: "weft issuer 77aa01bc".to_owned(),
                serial: "0a".to_owned(),
                not_before: from,
                not_after: from + span,
            }),
            roots: 1,
            failure: None,
            certificates: vec![CertificateStatus {
                account,
                id,
                serial: Some("0b".to_owned()),
                not_before: Some(now() - DAY / 2),
                not_after: Some(now() + DAY / 2),
                renewals: 3,
                failure: None,
            }],
        }
    }

    fn seen(status: &Status) -> CertificatesView {
        view(status, &Keeping::Directory("/etc/weft/ca".into()), now())
    }

    #[test]
    fn a_certificate_says_whose_it_is_and_how_long_it_lasts() {
        let view = seen(&status(100));
        let web = &view.certificates[0];
        assert_eq!(web.identity, "spiffe://cluster.local/ns/shop/sa/web");
        assert_eq!((web.expires_in_seconds, web.renewals, view.valid()), (Some(43_200), 3, 1));
        assert_eq!((view.failure, view.roots), (None, 1));
    }

    #[test]
    fn an_issuer_is_warned_of_from_sixty_days_on() {
        let warning = |days| seen(&status(days)).issuer.unwrap().warning;
        assert_eq!(warning(60), None);
        let expected = "weft issuer 77aa01bc ends within 60 days: weft ca rotate --dir /etc/weft/ca issuer";
        assert_eq!(warning(59).as_deref(), Some(expected));
        let issuer = seen(&status(59)).issuer.unwrap();
        assert_eq!((issuer.age_seconds, issuer.expires_in_seconds), (400 * 86_400, 59 * 86_400));
    }

    #[test]
    fn an_issuer_that_has_ended_is_a_failure_before_anything_is_to_be_renewed() {
        let view = seen(&status(-2));
        let failure = view.failure.clone().unwrap();
        assert_eq!(failure.error, "weft issuer 77aa01bc has ended: weft ca rotate --dir /etc/weft/ca issuer");
        assert_eq!(failure.since, (now() - 2 * DAY).into());
        assert_eq!(view.valid(), 1, "what it has issued is valid all the same");
    }

    #[test]
    fn one_certificate_that_cannot_be_renewed_is_a_failure_of_all() {
        let mut status = status(100);
        let why = Failure { error: "no".to_owned(), since: now(), tries: 2 };
        status.certificates[0].failure = Some(why.clone());
        assert_eq!(seen(&status).failure.unwrap().error, "shop/web gets none: no");
        status.failure = Some(Failure { error: "away".to_owned(), ..why });
        assert_eq!(seen(&status).failure.unwrap().error, "away");
    }
}
