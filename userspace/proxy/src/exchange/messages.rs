//! How many messages a gRPC body has: each is a flag, its length and so many bytes
//! (grpc/doc/PROTOCOL-HTTP2.md, `Length-Prefixed-Message`).

/// Counts messages as the bytes of a body come, whatever they are cut into.
#[derive(Debug, Default)]
pub(super) struct Messages {
    count: u64,
    /// The prefix of the next message, as far as it is here.
    prefix: [u8; PREFIX],
    had: usize,
    /// Bytes of the current message that are still to come.
    left: usize,
}

impl Messages {
    /// Messages whose prefix was read.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The next bytes of the body.
    pub(super) fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = &bytes[skipped..];
            let taken = (PREFIX - self.had).min(bytes.len());
            self.prefix[self.had..][..taken].copy_from_slice(&bytes[..taken]);
            self.had += taken;
            bytes = &bytes[taken..];
            if self.had == PREFIX {
                let [_, length @ ..] = self.prefix;
                self.left = u32::from_be_bytes(length) as usize;
                self.had = 0;
                self.count += 1;
            }
        }
    }
}

/// A flag and four bytes of length.
const PREFIX: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_whatever_their_bytes_are_cut_into() {
        let mut body = Vec::new();
        for length in [0_u32, 1, 5, 300, 0] {
            body.push(0);
            body.extend(length.to_be_bytes());
            body.extend(vec![7; length as usize]);
        }
        for size in [1, 2, 4, 5, 6, 7, 100, body.len()] {
            let mut messages = Messages::default();
            body.chunks(size).for_each(|piece| messages.read(piece));
            assert_eq!(messages.count(), 5, "in pieces of {size}");
        }
    }
}
