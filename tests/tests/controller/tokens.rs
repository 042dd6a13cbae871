//! Tokens of ServiceAccounts: as a kubelet asks for them, and as nobody gives them.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{Api, api::PostParams};
use serde_json::Value;

use super::api_server::ApiServer;

/// What a token is bound to: kind, name, UID.
pub(crate) type Bound<'a> = (&'a str, &'a str, &'a str);

/// A token of `weft-system/account`, for `audience`; `None` is the API server itself.
pub(crate) async fn token(
    server: &ApiServer,
    account: &str,
    audience: Option<&str>,
    bound: Option<Bound<'_>>,
) -> String {
    let bound_object_ref = bound.map(|(kind, name, uid)| BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some(kind.to_owned()),
        name: Some(name.to_owned()),
        uid: Some(uid.to_owned()),
    });
    let spec = TokenRequestSpec {
        audiences: audience.map(|audience| vec![audience.to_owned()]),
        bound_object_ref,
        expiration_seconds: Some(3600),
    };
    let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
    let accounts: Api<ServiceAccount> = Api::namespaced(server.client().await, "weft-system");
    let answer = accounts.create_token_request(account, &PostParams::default(), &request).await.unwrap();
    answer.status.unwrap().token.unwrap()
}

/// The same token with other claims, signed by the very key of the API server.
pub(crate) fn with_claims(server: &ApiServer, token: &str, change: impl FnOnce(&mut Value)) -> String {
    let parts: Vec<_> = token.split('.').collect();
    let mut claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
    change(&mut claims);
    let said = format!("{}.{}", parts[0], URL_SAFE_NO_PAD.encode(claims.to_string()));
    let pem = server.token_key();
    let key = rcgen::KeyPair::from_pem(&pem).unwrap();
    let algorithm = &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    let key = aws_lc_rs::signature::EcdsaKeyPair::from_pkcs8(algorithm, &key.serialize_der()).unwrap();
    let signature = key.sign(&aws_lc_rs::rand::SystemRandom::new(), said.as_bytes()).unwrap();
    format!("{said}.{}", URL_SAFE_NO_PAD.encode(signature))
}
