//! What agents ask controllers of another release for, and get.

#[path = "../../../tests/releases/release.rs"]
mod release;

use weft_identity::controller::{
    AUDIENCE, AUTHORITY, AuthorityAnswer, BUNDLE, BUNDLE_KEY, CERTIFICATES, CertificateAnswer,
    CertificateOrder, Refusal, SECRET, SERVICE, SERVICE_PORT, host,
};
use weft_model::ServiceAccount;

#[test]
fn questions_and_answers_about_certificates_are_the_same_ones() {
    let order = CertificateOrder {
        service_account: ServiceAccount::new("shop", "web"),
        request: "-----BEGIN CERTIFICATE REQUEST-----".to_owned(),
        ttl_seconds: 86_400,
    };
    release::agrees("certificate-order.json", &order, &[]);
    let chain = "-----BEGIN CERTIFICATE-----".to_owned();
    release::agrees("certificate-answer.json", &CertificateAnswer { chain: chain.clone() }, &[]);
    let authority = AuthorityAnswer { trust_domain: "mesh.example".to_owned(), issuer: chain };
    release::agrees("authority-answer.json", &authority, &[]);
    let refusal = Refusal { reason: "NoPodThere".to_owned(), error: "no pod of it runs there".to_owned() };
    release::agrees("refusal.json", &refusal, &[]);
}

#[test]
fn where_they_find_each_other_stays() {
    let places = vec![
        AUDIENCE.to_owned(),
        SECRET.to_owned(),
        SERVICE.to_owned(),
        SERVICE_PORT.to_owned(),
        BUNDLE.to_owned(),
        BUNDLE_KEY.to_owned(),
        AUTHORITY.to_owned(),
        CERTIFICATES.to_owned(),
        host("weft-system"),
    ];
    release::agrees("places.json", &places, &[]);
}
