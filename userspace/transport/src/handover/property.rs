//! What holds of whatever comes for a message between agent and proxy: asked by the fuzz target `handover`, and by a bounded
//! test.

use super::channel::Received;
use super::message::{Body, Envelope};
use super::{Peer, Pod};
use crate::seqpacket::{LARGEST_MESSAGE, Message};

/// Reads what may be a message. What is understood reads as itself once it is written again, and what is not can be
/// answered.
pub(crate) fn message(bytes: &[u8]) {
    let Ok(Received { id, kind, body, .. }) = read(bytes) else { return };
    let body = match body {
        Ok(body) => body,
        Err(unfit) => {
            let nack = Received::nack(id, &unfit);
            assert_eq!(nack.of, id);
            let answer = Envelope { id: u64::MAX, body: Body::Nack(nack) }.write();
            assert!(answer.len() <= LARGEST_MESSAGE, "an answer of {} bytes cannot be sent", answer.len());
            return;
        }
    };
    let written = Envelope { id, body }.write();
    let again = read(&written).expect("what is written is a message");
    assert_eq!((again.id, &again.kind), (id, &kind));
    let body = again.body.expect("what was understood is understood");
    if let Body::Pod(fields) | Body::Held(fields) = &body {
        assert!(Pod::read(fields.clone(), Vec::new()).is_err(), "there is no pod without its descriptors");
    }
    assert_eq!(Envelope { id, body }.write(), written, "it changes on its way");
}

fn read(bytes: &[u8]) -> Result<Received, super::Error> {
    Received::read(Peer::Proxy, Message { bytes: bytes.to_vec(), fds: Vec::new() })
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::{LARGEST_MESSAGE, message, read};

    /// A message of each kind, and one of a later version.
    const KINDS: [&str; 15] = [
        r#""hello", "versions": {"min": 2, "max": 3}, "generation": 5, "pid": 42, "build": "weft 1", "draining": false"#,
        r#""held", "name": "shop/web-1", "cookie": 7, "addresses": ["10.0.0.1"], "listeners": ["outbound", "inbound"]"#,
        r#""held-all", "pods": 2"#,
        r#""pod", "name": "shop/web-1", "cookie": 7, "addresses": ["fd00::1"], "listeners": ["later"],
           "service_account": "shop/web", "transparent": {"v4": true, "v6": false}"#,
        r#""pod-gone", "cookie": 7"#,
        r#""snapshot", "version": 3"#,
        r#""maps""#,
        r#""older-maps""#,
        r#""identities", "version": 3"#,
        r#""drain", "within_ms": 1000"#,
        r#""ack", "of": 9"#,
        r#""nack", "of": 9, "reason": "failed", "error": "it is gone""#,
        r#""report", "connections": 3, "pods": 2, "snapshot": null, "draining": true, "certificates": 1,
           "unheard": [{"cookie": 7, "port": 8080}]"#,
        r#""records""#,
        r#""spoken-later", "of": [1, {"any": "thing"}]"#,
    ];

    fn written() -> Vec<Vec<u8>> {
        KINDS.iter().map(|kind| format!(r#"{{"id": 1, "kind": {kind}}}"#).into_bytes()).collect()
    }

    #[test]
    fn whatever_comes_is_understood_as_it_was_meant_or_answered() {
        let understood = |bytes: &Vec<u8>| read(bytes).unwrap().body.is_ok();
        assert_eq!(written().iter().filter(|bytes| understood(bytes)).count(), KINDS.len() - 1);
        for bytes in written() {
            message(&bytes);
        }
        let config = ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() };
        let near = (prop::sample::select(written()), vec((any::<prop::sample::Index>(), any::<u8>()), 0..4));
        proptest!(config, |((mut bytes, changes) in near, noise in vec(any::<u8>(), 0..300))| {
            message(&noise);
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            message(&bytes);
        });
    }

    #[test]
    fn what_is_not_understood_is_answered_however_long_it_is() {
        let kind = "\\u0001".repeat(LARGEST_MESSAGE / 6 - 10);
        message(format!(r#"{{"id": 1, "kind": "{kind}"}}"#).as_bytes());
        message(format!(r#"{{"id": 1, "kind": "nack", "reason": "{kind}", "of": "x"}}"#).as_bytes());
    }
}
