//! What a server is told of whose request it is: `x-forwarded-for` and `x-forwarded-client-cert`.
//!
//! Whoever terminates HTTP says it: the client's node proxy, which knows its pod by the listener, on the `http` path; the
//! server's, where it looks into HTTP itself. On the other paths requests pass as bytes, and nothing is added or removed.
//!
//! `x-forwarded-client-cert` has Envoy's form: one element, `By=spiffe://...;Hash=...;URI=spiffe://...`. `Hash` is said by the
//! server's proxy where the client has shown a certificate: SHA-256 of it. The client's proxy has another one after each
//! renewal, and kept connections with the one before it. It is set as by Envoy's `SANITIZE_SET`: what a client sends is removed before anything looks at it, and it
//! is there only where the client has proven to be that account, to this proxy and to whom it tells (an attested pod; mutual
//! TLS to a server on another node). `x-forwarded-for` is a list that every proxy adds to: all but its last member are as
//! trustworthy as the client.

use std::{cell::RefCell, net::IpAddr};

use http::{HeaderMap, HeaderName, HeaderValue};
use weft_model::ServiceAccount;

/// Who asks whom. The server has proven who it is as well.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Proven<'a> {
    /// Who asks.
    pub client: &'a ServiceAccount,
    /// Who is asked.
    pub server: &'a ServiceAccount,
    /// Of both.
    pub trust_domain: &'a str,
    /// SHA-256 of the certificate that the client has shown, in hexadecimal digits.
    pub certificate: Option<&'a str>,
}

/// Removes what a client says of its own identity. To be done before anything looks at the fields.
pub(crate) fn distrust(headers: &mut HeaderMap) {
    headers.remove(CLIENT_CERT);
}

/// What is said of one client, in the form of its fields: requests of a connection mostly say the same.
#[derive(Debug)]
pub(crate) struct Said {
    address: HeaderValue,
    client_cert: RefCell<Option<(Held, Option<HeaderValue>)>>,
}

/// A [`Proven`] that is kept.
#[derive(Debug)]
struct Held {
    client: ServiceAccount,
    server: ServiceAccount,
    trust_domain: Box<str>,
    certificate: Option<Box<str>>,
}

impl Said {
    /// `client` is the address of whoever this proxy has the requests from.
    pub(crate) fn of(client: IpAddr) -> Self {
        let address = HeaderValue::try_from(client.to_canonical().to_string());
        Self { address: address.expect("digits and signs"), client_cert: RefCell::default() }
    }

    /// Says who asks.
    pub(crate) fn tell(&self, headers: &mut HeaderMap, proven: Option<Proven<'_>>) {
        add_address(headers, &self.address);
        match proven.and_then(|proven| self.client_cert(proven)) {
            Some(value) => headers.insert(CLIENT_CERT, value),
            None => headers.remove(CLIENT_CERT),
        };
    }

    fn client_cert(&self, proven: Proven<'_>) -> Option<HeaderValue> {
        let mut kept = self.client_cert.borrow_mut();
        match &*kept {
            Some((held, value)) if held.is(proven) => value.clone(),
            _ => kept.insert((Held::of(proven), proven.client_cert())).1.clone(),
        }
    }
}

impl Held {
    fn of(proven: Proven<'_>) -> Self {
        let Proven { client, server, trust_domain, certificate } = proven;
        Self {
            client: client.clone(),
            server: server.clone(),
            trust_domain: trust_domain.into(),
            certificate: certificate.map(Into::into),
        }
    }

    fn is(&self, proven: Proven<'_>) -> bool {
        self.client == *proven.client
            && self.server == *proven.server
            && *self.trust_domain == *proven.trust_domain
            && self.certificate.as_deref() == proven.certificate
    }
}

impl Proven<'_> {
    fn client_cert(self) -> Option<HeaderValue> {
        let [by, uri] = [self.server, self.client].map(|account| account.spiffe(self.trust_domain));
        // In a SPIFFE ID nothing needs quotes. What is none is not said at all.
        let is_plain = |id: &String| !id.contains([',', ';', '=', '"', '\\']);
        let are_plain = is_plain(&by) && is_plain(&uri);
        let hash = self.certificate.map(|hash| format!("Hash={hash};")).unwrap_or_default();
        HeaderValue::try_from(format!("By={by};{hash}URI={uri}")).ok().filter(|_| are_plain)
    }
}

/// At the end of the list, unless it is there: another proxy of the mesh may have been first.
fn add_address(headers: &mut HeaderMap, address: &HeaderValue) {
    if !headers.contains_key(FOR) {
        headers.insert(FOR, address.clone());
        return;
    }
    let mut list = Vec::new();
    for value in headers.get_all(FOR) {
        if !list.is_empty() && !value.is_empty() {
            list.extend_from_slice(b", ");
        }
        list.extend_from_slice(value.as_bytes());
    }
    let tail = list.rsplit(|byte| *byte == b',').next().unwrap_or_default();
    if tail.trim_ascii() != address.as_bytes() {
        if !list.is_empty() {
            list.extend_from_slice(b", ");
        }
        list.extend_from_slice(address.as_bytes());
    }
    headers.insert(FOR, HeaderValue::from_bytes(&list).expect("made of header values and an address"));
}

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    fn headers(lines: &[(HeaderName, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    fn told(lines: &[(HeaderName, &str)], client: &str, proven: Option<Proven<'_>>) -> HeaderMap {
        let mut headers = headers(lines);
        Said::of(client.parse().unwrap()).tell(&mut headers, proven);
        headers
    }

    #[test]
    fn the_client_cert_names_both_ends_as_envoy_writes_it() {
        let (web, api) = (ServiceAccount::new("shop", "web"), ServiceAccount::new("shop", "api"));
        let proven = Proven { client: &web, server: &api, trust_domain: "cluster.local", certificate: None };
        let headers = told(&[], "10.0.0.2", Some(proven));
        let expected = "By=spiffe://cluster.local/ns/shop/sa/api;URI=spiffe://cluster.local/ns/shop/sa/web";
        assert_eq!(headers[CLIENT_CERT], expected);
        let shown = told(&[], "10.0.0.2", Some(Proven { certificate: Some("00ff"), ..proven }));
        assert_eq!(shown[CLIENT_CERT], expected.replace(";URI", ";Hash=00ff;URI"));
    }

    #[test]
    fn what_a_client_says_of_itself_never_arrives() {
        let forged =
            [(CLIENT_CERT, "By=a;URI=spiffe://cluster.local/ns/kube-system/sa/admin"), (CLIENT_CERT, "x")];
        assert!(told(&forged, "10.0.0.2", None).get(CLIENT_CERT).is_none());
        let mut seen = headers(&forged);
        distrust(&mut seen);
        assert!(seen.is_empty());
        let (web, api) = (ServiceAccount::new("shop", "web"), ServiceAccount::new("shop", "api"));
        let proven = Proven { client: &web, server: &api, trust_domain: "cluster.local", certificate: None };
        let all = told(&forged, "10.0.0.2", Some(proven));
        let all: Vec<_> = all.get_all(CLIENT_CERT).iter().collect();
        assert_eq!((all.len(), all[0].to_str().unwrap().contains("admin")), (1, false));
    }

    #[test]
    fn each_server_is_told_of_itself_and_of_the_certificate_that_was_shown_last() {
        let [web, api, db] = ["web", "api", "db"].map(|name| ServiceAccount::new("shop", name));
        let said = Said::of(CLIENT);
        let ask = |server, trust_domain, certificate| {
            let mut headers = HeaderMap::new();
            said.tell(&mut headers, Some(Proven { client: &web, server, trust_domain, certificate }));
            headers[CLIENT_CERT].to_str().unwrap().to_owned()
        };
        for _ in 0..2 {
            assert!(ask(&api, "one", None).starts_with("By=spiffe://one/ns/shop/sa/api;URI="));
            assert!(ask(&db, "one", None).starts_with("By=spiffe://one/ns/shop/sa/db;URI="));
            assert!(ask(&db, "two", None).starts_with("By=spiffe://two/ns/shop/sa/db;URI="));
            assert!(ask(&db, "two", Some("0a")).contains(";Hash=0a;"));
            assert!(ask(&db, "two", Some("0b")).contains(";Hash=0b;"));
        }
    }

    #[test]
    fn a_name_that_would_be_another_element_is_not_said() {
        let (web, api) = (ServiceAccount::new("shop", "web,By=x"), ServiceAccount::new("shop", "api"));
        let proven = Proven { client: &web, server: &api, trust_domain: "cluster.local", certificate: None };
        assert!(told(&[], "10.0.0.2", Some(proven)).get(CLIENT_CERT).is_none());
    }

    #[test]
    fn the_address_comes_last_and_once() {
        for (lines, client, list) in [
            (&[][..], "10.0.0.2", "10.0.0.2"),
            (&["192.0.2.1"], "10.0.0.2", "192.0.2.1, 10.0.0.2"),
            (&["192.0.2.1, 192.0.2.2", "192.0.2.3"], "10.0.0.2", "192.0.2.1, 192.0.2.2, 192.0.2.3, 10.0.0.2"),
            (&["192.0.2.1,10.0.0.2"], "10.0.0.2", "192.0.2.1,10.0.0.2"),
            (&["10.0.0.2, 192.0.2.1"], "10.0.0.2", "10.0.0.2, 192.0.2.1, 10.0.0.2"),
            (&["110.0.0.2"], "10.0.0.2", "110.0.0.2, 10.0.0.2"),
            (&["", "192.0.2.1"], "::ffff:10.0.0.2", "192.0.2.1, 10.0.0.2"),
            (&["192.0.2.1"], "fd00::2", "192.0.2.1, fd00::2"),
        ] {
            let lines: Vec<_> = lines.iter().map(|value| (FOR, *value)).collect();
            let headers = told(&lines, client, None);
            assert_eq!(headers.get_all(FOR).iter().collect::<Vec<_>>(), [list], "{lines:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_kept_as_they_are() {
        let mut headers = HeaderMap::new();
        headers.insert(FOR, HeaderValue::from_bytes(b"caf\xe9").unwrap());
        Said::of(CLIENT).tell(&mut headers, None);
        assert_eq!(headers[FOR].as_bytes(), b"caf\xe9, 10.0.0.2");
    }
}
