//! The eBPF object that this build carries.

/// The ELF object, or nothing in a build without a BPF toolchain.
pub(crate) fn object() -> Option<&'static [u8]> {
    (!OBJECT.is_empty()).then_some(OBJECT)
}

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/weft.bpf.o"));
