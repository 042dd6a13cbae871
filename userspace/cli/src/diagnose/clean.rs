//! What nobody but its owner may have: taken out, should an app or a log have let it out.

use std::{borrow::Cow, sync::LazyLock};

use regex::Regex;

/// `text` without private keys and tokens.
pub(super) fn cleaned(text: &str) -> Cow<'_, str> {
    SECRET.replace_all(text, "(removed)")
}

/// A private key as PEM, also where its line ends are written `\n`; a JSON web token, as ServiceAccounts have; what follows
/// `Bearer`.
static SECRET: LazyLock<Regex> = LazyLock::new(|| {
    let pem = r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)-----END [A-Z ]*PRIVATE KEY-----";
    let token = r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*";
    let bearer = r"(?i:bearer)(?:\s|%20|\+)+[A-Za-z0-9._~+/=-]{8,}";
    Regex::new(&format!("{pem}|{token}|{bearer}")).expect("it is ours, and a test uses it")
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_tokens_are_taken_out_and_nothing_else() {
        let key = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQ\n-----END EC PRIVATE KEY-----";
        let token = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlIn0.c2lnbmF0dXJl";
        let told = |text: String| cleaned(&text).into_owned();
        assert_eq!(told(format!("a\n{key}\nb")), "a\n(removed)\nb");
        assert_eq!(
            told(format!("{{\"key\": \"{}\"}}", key.replace('\n', "\\n"))),
            "{\"key\": \"(removed)\"}"
        );
        assert_eq!(told(format!("GET /v1?access_token={token}&x=1")), "GET /v1?access_token=(removed)&x=1");
        assert_eq!(told("authorization: Bearer 0123456789abcdef".into()), "authorization: (removed)");
        let harmless =
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\nbearer of news, eyJ.a.b";
        assert_eq!(told(harmless.into()), harmless);
    }
}
