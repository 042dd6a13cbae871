//! What the kernel is told of the messages that go to an app: whether they are short.
//!
//! Short ones may pass from socket to socket, where the app is on this node (ARCHITECTURE.md, "Same-node acceleration").
//! Nothing holds up a redirect, so a reader that takes its time must never have much before it; and from a redirect to TCP
//! the kernel goes only while the reader has taken everything. An HTTP/1 message is announced by its head: whoever
//! sends one that is long, or of unknown length, says so before its first byte, when the reader has asked for it, and so
//! has taken what came before. Every other protocol says nothing and goes through TCP.
//!
//! # Bounds
//! [`MOST`] and a head are all that is redirected before a reader must have taken it, but for a client that sends
//! requests without waiting for answers.

use http_body::SizeHint;
use tokio::net::TcpStream;

/// The messages on `socket` are short, until [`are_long`].
pub(crate) fn are_short(socket: &TcpStream) {
    tell(socket, weft_abi::SHORT_MESSAGES);
}

/// A message comes that is not, or what is no message.
pub(crate) fn are_long(socket: &TcpStream) {
    tell(socket, 0);
}

/// Whether a body of this size makes a short message.
pub(crate) fn is_short(size: &SizeHint) -> bool {
    size.upper().is_some_and(|bytes| bytes <= MOST)
}

fn tell(socket: &TcpStream, priority: u32) {
    // Without it the kernel goes on as it was told before: slower, or in pieces that a slow reader may find late. It
    // cannot fail on a socket for a priority that needs no privilege.
    if let Err(error) = weft_transport::set_priority(socket, priority) {
        tracing::warn!(%error, priority, "cannot tell the kernel what is sent");
    }
}

/// Bytes of the longest body of a short message.
const MOST: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_short_where_its_length_is_known_and_small() {
        assert!(is_short(&SizeHint::with_exact(0)) && is_short(&SizeHint::with_exact(MOST)));
        assert!(!is_short(&SizeHint::with_exact(MOST + 1)) && !is_short(&SizeHint::default()));
    }
}
