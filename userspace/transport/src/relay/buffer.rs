//! Buffers that are only held while bytes are in them.

use std::cell::RefCell;

/// Bytes that one way of a relay may hold.
pub const BUFFER: usize = 64 << 10;

/// A buffer of [`BUFFER`] bytes, or a small one; a large one goes back to its thread when dropped.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
}

impl Buffer {
    /// An empty one.
    #[must_use]
    pub fn take() -> Self {
        let spare = SPARE.with_borrow_mut(Vec::pop);
        Self { bytes: spare.unwrap_or_else(|| Vec::with_capacity(BUFFER)) }
    }

    /// One with a few bytes.
    pub(crate) fn small(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec() }
    }

    /// Where to read to. To be read to once: a full vector would grow.
    pub fn space(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Bytes that it has room for.
    #[must_use]
    pub fn room(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }

    /// What is in it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        if bytes.capacity() < BUFFER {
            return;
        }
        bytes.clear();
        // While the thread ends there is no pool any more, and the buffer is freed.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < MOST_SPARE {
                spare.push(bytes);
            }
        });
    }
}

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// 1 MiB a thread: ways that hold bytes at the same moment are those with slow readers.
const MOST_SPARE: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_empty_and_a_thread_keeps_a_bounded_number() {
        let mut all: Vec<Buffer> = (0..40).map(|_| Buffer::take()).collect();
        for buffer in &mut all {
            buffer.space().extend_from_slice(b"secret");
        }
        drop(all);
        assert_eq!(SPARE.with_borrow(Vec::len), MOST_SPARE);
        let again = Buffer::take();
        assert_eq!((again.bytes(), again.bytes.capacity()), (&[][..], BUFFER));
    }
}
