//! The eBPF object that this build carries.

/// The ELF object, or nothing in a build without a BPF toolchain.
pub(crate) fn object() -> Option<&'static [u8]> {
    (!OBJECT.is_empty()).then_some(OBJECT)
}

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/weft.bpf.o"));

#[cfg(test)]
mod tests {
    use std::fs;

    use super::object;
    use crate::{
        load::{self, Error, MapSizes},
        pins::Node,
    };

    /// What the build script was told, or found.
    fn is_a_stub() -> bool {
        let recorded =
            || fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/tools/route"));
        match option_env!("WEFT_EBPF") {
            Some(wish) => wish == "stub",
            None => !recorded().is_ok_and(|route| route.contains("rustc=")),
        }
    }

    /// `cargo xtask ci` runs this in a build of either kind.
    #[test]
    fn a_build_has_its_programs_or_is_a_stub_that_the_loader_refuses_by_name() {
        assert_eq!(object().is_none(), is_a_stub());
        if is_a_stub() {
            let refused = load::load(&Node::new("stub"), &MapSizes::new(), &[]).map(drop).unwrap_err();
            assert!(matches!(refused, Error::Stub), "{refused}");
            let said = refused.to_string();
            assert!(said.contains("WEFT_EBPF=stub") && said.contains("cargo xtask build"), "{said}");
        }
    }
}
