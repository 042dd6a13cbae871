//! Port ranges as prefixes.

use std::collections::BTreeSet;

use weft_abi::{PolicyRow, policy_bits};
use weft_model::PortRange;

use super::effects::Effect;

/// A protocol's ports that share their first `length` bits with `start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Prefix {
    pub(super) protocol: u8,
    pub(super) start: u16,
    pub(super) length: u8,
}

/// The rows of one token: for each prefix of the listed effects, the bits of all that cover it. The
/// rule that a row names is the first one.
pub(super) fn table(all: &[Effect], list: &BTreeSet<usize>) -> Vec<(Prefix, PolicyRow)> {
    let mut table: Vec<(Prefix, Sum)> = Vec::new();
    let mut around: Vec<usize> = Vec::new(); // in this order a prefix comes right after what is around it
    for (prefix, effect) in prefixes(all, list) {
        let own = Sum::of(effect, &all[effect]);
        if let Some((_, sum)) = table.last_mut().filter(|(last, _)| *last == prefix) {
            *sum = sum.with(own);
            continue;
        }
        while around.pop_if(|outer| !table[*outer].0.contains(prefix)).is_some() {}
        let sum = around.last().map_or(own, |&outer| own.with(table[outer].1));
        around.push(table.len());
        table.push((prefix, sum));
    }
    table.into_iter().map(|(prefix, sum)| (prefix, sum.row(all))).collect()
}

impl Prefix {
    fn contains(self, other: Self) -> bool {
        let differs = u32::from(self.start ^ other.start) >> (16 - self.length) != 0;
        self.protocol == other.protocol && self.length <= other.length && !differs
    }
}

/// Bits of several effects, and the first of them that denies.
#[derive(Clone, Copy)]
struct Sum {
    bits: u32,
    denying: Option<usize>,
    audited: Option<usize>,
}

impl Sum {
    fn of(index: usize, effect: &Effect) -> Self {
        let with = |bit| (effect.bits & bit != 0).then_some(index);
        let (denying, audited) = (with(policy_bits::DENY), with(policy_bits::AUDIT_DENY));
        Self { bits: effect.bits, denying, audited }
    }

    fn with(self, other: Self) -> Self {
        let first = |a: Option<usize>, b: Option<usize>| a.into_iter().chain(b).min();
        Self {
            bits: self.bits | other.bits,
            denying: first(self.denying, other.denying),
            audited: first(self.audited, other.audited),
        }
    }

    fn row(self, all: &[Effect]) -> PolicyRow {
        let rule = |index: Option<usize>| index.map_or(0, |index| all[index].rule);
        PolicyRow { bits: self.bits, deny_rule: rule(self.denying), audit_rule: rule(self.audited), _pad: 0 }
    }
}

/// All prefixes of the listed effects, a shorter one before those in it.
fn prefixes(all: &[Effect], list: &BTreeSet<usize>) -> Vec<(Prefix, usize)> {
    let mut prefixes = Vec::new();
    for &index in list {
        for &(protocol, range) in &all[index].ports {
            split(range, |start, length| prefixes.push((Prefix { protocol, start, length }, index)));
        }
    }
    prefixes.sort_unstable();
    prefixes
}

/// Splits a range into its largest prefixes of the lengths that there are.
fn split(range: PortRange, mut each: impl FnMut(u16, u8)) {
    let (mut start, end) = (u32::from(range.start), u32::from(range.end) + 1);
    while start < end {
        let aligned = if start == 0 { 16 } else { start.trailing_zeros() };
        let fitting = (end - start).ilog2();
        let size = aligned.min(fitting) / 4 * 4;
        let length = u8::try_from(16 - size).expect("at most 16");
        each(u16::try_from(start).expect("below the end of a range of u16"), length);
        start += 1 << size;
    }
}

#[cfg(test)]
mod tests {
    use weft_abi::PolicyKey;

    use super::{PortRange, split};

    fn parts(start: u16, end: u16) -> Vec<(u16, u8)> {
        let mut parts = Vec::new();
        split(PortRange { start, end }, |start, length| parts.push((start, length)));
        parts
    }

    #[test]
    fn a_range_is_split_into_its_largest_prefixes() {
        assert_eq!(parts(0, u16::MAX), [(0, 0)]);
        assert_eq!(parts(80, 80), [(80, 16)]);
        assert_eq!(parts(65535, 65535), [(65535, 16)]);
        assert_eq!(parts(8000, 8003), [(8000, 16), (8001, 16), (8002, 16), (8003, 16)]);
        assert_eq!(parts(0x1fff, 0x3000), [(0x1fff, 16), (0x2000, 4), (0x3000, 16)]);
        assert_eq!(parts(0x1ff0, 0x20ff), [(0x1ff0, 12), (0x2000, 8)]);
        assert_eq!(parts(1, u16::MAX).len(), 4 * 15);
        assert_eq!(parts(1, u16::MAX - 1).len(), 2 * 3 * 15 + 14);
        assert!(parts(1, u16::MAX - 1).iter().all(|(_, length)| PolicyKey::LENGTHS.contains(length)));
    }
}
