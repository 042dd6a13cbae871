//! Whether the eBPF object and user space mean the same bytes.

use weft_abi::layout::{Layout, all};

use crate::{btf::Btf, object::object};

/// How the object differs from `weft-abi`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The build has no eBPF object.
    #[error("this weft was built without its eBPF programs; build it with `cargo xtask build`")]
    Stub,
    /// The object's BTF cannot be read.
    #[error("the eBPF object has no BTF that can be read; the build is broken")]
    NoBtf,
    /// A type has another size.
    #[error("{name} has {built} bytes in the eBPF object and {expected} here; rebuild both")]
    Size {
        /// The type.
        name: &'static str,
        /// In the object.
        built: u64,
        /// In user space.
        expected: u64,
    },
    /// A field is elsewhere, or missing.
    #[error("{name}.{field} is at {built:?} in the eBPF object and at {expected} here; rebuild both")]
    Field {
        /// The type.
        name: &'static str,
        /// The field.
        field: &'static str,
        /// In the object; `None` where it is missing.
        built: Option<u64>,
        /// In user space.
        expected: u64,
    },
}

/// Compares the types in the built object's BTF with `weft-abi`, which `layout.txt` is the golden copy
/// of. Returns the names of those that the object has: map keys, values and events.
pub fn check_layout() -> Result<Vec<&'static str>, Error> {
    let object = aya_obj::Object::parse(object().ok_or(Error::Stub)?).map_err(|_| Error::NoBtf)?;
    let bytes = object.btf.as_ref().ok_or(Error::NoBtf)?.to_bytes();
    let btf = Btf::parse(bytes).ok_or(Error::NoBtf)?;
    all().filter_map(|layout| compare(&btf, layout).transpose()).collect()
}

/// The type's name, or none where the object does not use it.
fn compare(btf: &Btf, layout: &Layout) -> Result<Option<&'static str>, Error> {
    let Some(built) = btf.size(layout.name) else { return Ok(None) };
    let (name, expected) = (layout.name, layout.size as u64);
    if built != expected {
        return Err(Error::Size { name, built, expected });
    }
    for field in layout.fields {
        let (built, expected) = (btf.offset(name, field.name), field.offset as u64);
        if built != Some(expected) {
            return Err(Error::Field { name, field: field.name, built, expected });
        }
    }
    Ok(Some(name))
}
