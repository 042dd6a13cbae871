//! Kubernetes' own kinds, checked and made compact.

mod endpoint_slice;
mod metadata;
mod pod;
mod service;

pub(crate) use endpoint_slice::endpoint_slice;
pub(crate) use metadata::{ENROLMENT, created, namespace, node, object_meta};
pub(crate) use pod::{JOINED, NETNS, NO_INSTALLATION, pod};
pub(crate) use service::service;

use std::net::IpAddr;

use weft_model::Protocol;

use crate::finding::Report;

/// A port number from an integer field.
fn port(number: i32, field: &str, report: &mut Report<'_>) -> Option<u16> {
    let port = u16::try_from(number).ok().filter(|port| *port != 0);
    if port.is_none() {
        report.error(field, format!("{number} is no port"), "write a number from 1 to 65535");
    }
    port
}

/// A protocol from its field; `None` for one that weft does not carry.
fn protocol(name: Option<&str>, field: &str, report: &mut Report<'_>) -> Option<Protocol> {
    match name.unwrap_or("TCP") {
        "TCP" => return Some(Protocol::Tcp),
        "UDP" => return Some(Protocol::Udp),
        "SCTP" => {
            report.warning(
                field,
                "SCTP is not carried by the mesh",
                "the port is left to the cluster: nothing to do",
            );
        }
        other => {
            report.error(field, format!("\"{other}\" is no protocol"), spelt(other, &["TCP", "UDP", "SCTP"]));
        }
    }
    None
}

fn address(text: &str, field: &str, report: &mut Report<'_>) -> Option<IpAddr> {
    let address = text.parse();
    if address.is_err() {
        report.error(field, format!("\"{text}\" is no IP address"), "write an IPv4 or IPv6 address");
    }
    address.ok()
}

/// The remedy for a value that is none of `words`.
fn spelt(value: &str, words: &[&str]) -> String {
    match crate::document::nearest(value, words.iter().copied()) {
        Some(word) => format!("did you mean {word}?"),
        None => format!("write one of {}", words.join(", ")),
    }
}
