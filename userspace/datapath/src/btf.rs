//! Where fields stand in this kernel's structs, from its BTF.
//!
//! Rust cannot emit CO-RE relocations yet, so the few offsets that no context shows are read here and
//! handed to the programs as constants.

use std::{collections::HashMap, fs, path::Path};

/// The types of a kernel. Format: kernel documentation, `Documentation/bpf/btf.rst`.
pub(crate) struct Btf {
    data: Vec<u8>,
    types: Vec<usize>,
    strings: usize,
    structs: HashMap<Vec<u8>, usize>,
}

impl Btf {
    /// Reads the running kernel's BTF; `None` where it has none or it cannot be understood.
    pub(crate) fn running() -> Option<Self> {
        Self::parse(fs::read(Path::new(VMLINUX)).ok()?)
    }

    /// Reads BTF as it stands in a file or a section.
    pub(crate) fn parse(data: Vec<u8>) -> Option<Self> {
        let word = |at: usize| read(&data, at);
        if u16::try_from(word(0)? & 0xffff).ok()? != MAGIC {
            return None;
        }
        let header = word(4)? as usize;
        let (type_at, type_len, string_at) = (word(8)? as usize, word(12)? as usize, word(16)? as usize);
        let (mut at, end) = (header + type_at, header + type_at + type_len);
        let mut btf = Self { types: vec![0], strings: header + string_at, structs: HashMap::new(), data };
        while at < end {
            let info = btf.word(at + 4)?;
            if info.kind == STRUCT {
                let name = btf.string(btf.raw(at)?)?.to_vec();
                btf.structs.entry(name).or_insert(at);
            }
            btf.types.push(at);
            at += 12 + info.tail();
        }
        Some(btf)
    }

    /// Offset in bytes of `field` in `struct name`, through anonymous members.
    pub(crate) fn offset(&self, name: &str, field: &str) -> Option<u64> {
        self.find(*self.structs.get(name.as_bytes())?, field.as_bytes()).map(|bits| bits / 8)
    }

    /// Size in bytes of `struct name`.
    pub(crate) fn size(&self, name: &str) -> Option<u64> {
        self.raw(*self.structs.get(name.as_bytes())? + 8).map(u64::from)
    }

    fn find(&self, at: usize, field: &[u8]) -> Option<u64> {
        let info = self.word(at + 4)?;
        (0..info.length).find_map(|i| {
            let member = at + 12 + i * 12;
            let (name, ty, place) = (self.raw(member)?, self.raw(member + 4)?, self.raw(member + 8)?);
            // With the kind flag set, the top byte is the width of a bit-field.
            let bits = u64::from(if info.flag { place & 0x00ff_ffff } else { place });
            match self.string(name)? {
                found if found == field => Some(bits),
                [] => {
                    let inner = *self.types.get(ty as usize)?;
                    matches!(self.word(inner + 4)?.kind, STRUCT | UNION)
                        .then(|| self.find(inner, field))
                        .flatten()
                        .map(|inner| bits + inner)
                }
                _ => None,
            }
        })
    }

    fn raw(&self, at: usize) -> Option<u32> {
        read(&self.data, at)
    }

    fn word(&self, at: usize) -> Option<Info> {
        let info = self.raw(at)?;
        Some(Info { kind: (info >> 24) & 0x1f, length: (info & 0xffff) as usize, flag: info >> 31 != 0 })
    }

    fn string(&self, at: u32) -> Option<&[u8]> {
        let text = self.data.get(self.strings + at as usize..)?;
        text.split(|&byte| byte == 0).next()
    }
}

/// `info` of a `struct btf_type`.
struct Info {
    kind: u32,
    length: usize,
    flag: bool,
}

impl Info {
    /// Bytes behind the twelve that every type has.
    fn tail(&self) -> usize {
        match self.kind {
            INT | VAR | DECL_TAG => 4,
            ARRAY => 12,
            STRUCT | UNION | DATASEC | ENUM64 => self.length * 12,
            ENUM | FUNC_PROTO => self.length * 8,
            _ => 0,
        }
    }
}

fn read(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*data.get(at..)?.first_chunk()?))
}

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
const MAGIC: u16 = 0xeb9f;
const INT: u32 = 1;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const DECL_TAG: u32 = 17;
const ENUM64: u32 = 19;

#[cfg(test)]
mod tests {
    use super::Btf;

    #[test]
    fn the_running_kernel_tells_where_its_byte_counters_are() {
        let btf = Btf::running().expect("this test needs a kernel with BTF (CONFIG_DEBUG_INFO_BTF)");
        let sent = btf.offset("tcp_sock", "bytes_sent").unwrap();
        let again = btf.offset("tcp_sock", "bytes_retrans").unwrap();
        assert!(sent > 0 && sent.is_multiple_of(8) && again.is_multiple_of(8) && sent != again);
        assert!(btf.offset("sock_common", "skc_flags").unwrap() > 0);
        assert_eq!(btf.offset("tcp_sock", "no_such_field"), None);
        assert_eq!(btf.offset("no_such_struct", "x"), None);
    }
}
