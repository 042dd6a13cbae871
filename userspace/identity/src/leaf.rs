//! What a workload's certificate says about itself: an X.509-SVID (SPIFFE X509-SVID standard, sections 2 to 4).

#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod property;

use std::{fmt::Write as _, time::SystemTime};

use rustls::pki_types::CertificateDer;
use weft_model::SpiffeId;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::{Unacceptable, unacceptable::at};

/// What a workload's certificate says. Nothing here says that it is true: [`Trust::verify`](crate::Trust::verify) does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) id: SpiffeId,
    /// Hexadecimal, as openssl prints it.
    pub(crate) serial: String,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    /// The DER of its subjectPublicKeyInfo.
    pub(crate) public_key: Vec<u8>,
}

impl Leaf {
    /// Reads it, and holds it to the standard: one URI that is a SPIFFE ID, no authority, digitalSignature.
    pub(crate) fn read(der: &CertificateDer<'_>) -> Result<Self, Unacceptable> {
        let certificate = parse(der)?;
        check_usage(&certificate)?;
        Ok(Self {
            id: SpiffeId::parse(only_uri(&certificate)?)?,
            serial: serial(&certificate),
            not_before: at(certificate.validity().not_before.timestamp()),
            not_after: at(certificate.validity().not_after.timestamp()),
            public_key: certificate.public_key().raw.to_vec(),
        })
    }
}

/// Parses the DER of one certificate.
pub(crate) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Unacceptable> {
    let malformed = |what: String| Unacceptable::Malformed { what };
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|error| malformed(error.to_string()))?;
    if rest.is_empty() { Ok(certificate) } else { Err(malformed("bytes follow it".to_owned())) }
}

/// The one name of type URI. Names of other types do not count: the standard allows them, and weft reads none.
pub(crate) fn only_uri<'a>(certificate: &X509Certificate<'a>) -> Result<&'a str, Unacceptable> {
    let names = certificate.subject_alternative_name()?;
    let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    let uris: Vec<&str> = names
        .iter()
        .filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None })
        .collect();
    match uris[..] {
        [uri] => Ok(uri),
        _ => Err(Unacceptable::Uris { count: uris.len() }),
    }
}

/// As `openssl x509 -serial` writes it.
pub(crate) fn serial(certificate: &X509Certificate<'_>) -> String {
    hexadecimal(certificate.raw_serial())
}

/// A number of DER, in which a zero stands before a first byte that would make it negative.
fn hexadecimal(number: &[u8]) -> String {
    let digits = if let [0, rest @ ..] = number
        && !rest.is_empty()
    {
        rest
    } else {
        number
    };
    digits.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02X}");
        text
    })
}

fn check_usage(certificate: &X509Certificate<'_>) -> Result<(), Unacceptable> {
    if certificate.is_ca() {
        return Err(Unacceptable::Usage { what: "it is an authority's" });
    }
    let usage = certificate.key_usage()?.map(|extension| extension.value);
    match usage {
        Some(usage) if usage.key_cert_sign() || usage.crl_sign() => {
            Err(Unacceptable::Usage { what: "its keyUsage is an authority's" })
        }
        Some(usage) if usage.digital_signature() => Ok(()),
        _ => Err(Unacceptable::Usage { what: "its keyUsage lacks digitalSignature" }),
    }
}

#[cfg(test)]
mod tests {
    use super::hexadecimal;

    #[test]
    fn a_serial_is_written_as_openssl_writes_it() {
        assert_eq!(hexadecimal(&[0x00, 0x80, 0x0a]), "800A");
        assert_eq!(hexadecimal(&[0x0a, 0x00]), "0A00");
        assert_eq!(hexadecimal(&[0]), "00");
    }
}
