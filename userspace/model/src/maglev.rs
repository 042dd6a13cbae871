//! Maglev lookup tables (Eisenbud et al., NSDI 2016, section 3.4), with weights: the kernel's and the proxy's.

/// Two hashes of one choice's name, independent of each other and the same on every node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaglevSeeds {
    /// Where the choice begins to walk.
    pub offset: u64,
    /// How far it steps.
    pub skip: u64,
}

/// A table of `size` (a prime) slots, each the index of a choice. Each choice fills its share by walking
/// its own permutation, so a change of one choice moves few of the others' entries.
///
/// Nothing to choose from, or no weight at all, is an empty table.
pub fn maglev_table(choices: &[MaglevSeeds], weights: &[f64], size: usize) -> Vec<u16> {
    let heaviest = weights.iter().copied().fold(0.0, f64::max);
    if choices.is_empty() || heaviest <= 0.0 || size < 2 {
        return Vec::new();
    }
    let mut walks: Vec<Walk> = choices.iter().map(|choice| Walk::of(*choice, size)).collect();
    let mut credit = vec![0.0; choices.len()];
    let mut table = vec![NOBODY; size];
    let mut left = size;
    loop {
        for (slot, walk) in walks.iter_mut().enumerate() {
            credit[slot] += weights[slot] / heaviest;
            if credit[slot] < 1.0 {
                continue;
            }
            credit[slot] -= 1.0;
            let entry = walk.next_free(&table);
            table[entry] = u16::try_from(slot).unwrap_or(NOBODY - 1);
            left -= 1;
            if left == 0 {
                return table;
            }
        }
    }
}

struct Walk {
    at: usize,
    skip: usize,
    size: usize,
}

impl Walk {
    fn of(choice: MaglevSeeds, size: usize) -> Self {
        let below = |n: u64, limit: usize| usize::try_from(n % limit as u64).expect("below a usize");
        Self { at: below(choice.offset, size), skip: below(choice.skip, size - 1) + 1, size }
    }

    /// The size is a prime, so the walk visits every entry.
    fn next_free(&mut self, table: &[u16]) -> usize {
        loop {
            let entry = self.at;
            self.at = (self.at + self.skip) % self.size;
            if table[entry] == NOBODY {
                return entry;
            }
        }
    }
}

const NOBODY: u16 = u16::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    /// Choices named by numbers, their seeds far from each other.
    fn table(choices: &[u64], weights: &[f64], size: usize) -> Vec<u16> {
        let spread = |n: u64| (n ^ (n >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        let seeds = |n: &u64| {
            let offset = spread(spread(*n));
            MaglevSeeds { offset, skip: spread(offset) }
        };
        maglev_table(&choices.iter().map(seeds).collect::<Vec<_>>(), weights, size)
    }

    fn count(table: &[u16], slot: u16) -> usize {
        table.iter().filter(|entry| **entry == slot).count()
    }

    #[test]
    fn every_choice_gets_its_share() {
        let table = table(&[1, 2, 3], &[1.0, 1.0, 2.0], 1009);
        assert!(count(&table, 0).abs_diff(252) <= 2 && count(&table, 2).abs_diff(505) <= 2);
        assert_eq!(count(&table, NOBODY), 0);
    }

    #[test]
    fn few_entries_move_when_a_choice_goes() {
        let names =
            |table: &[u16], of: &[u64]| table.iter().map(|slot| of[*slot as usize]).collect::<Vec<_>>();
        let (all, fewer) = ([10, 20, 30, 40, 50], [10, 20, 40, 50]);
        let before = names(&table(&all, &[1.0; 5], 5003), &all);
        let after = names(&table(&fewer, &[1.0; 4], 5003), &fewer);
        let moved = before.iter().zip(&after).filter(|(b, a)| **b != 30 && b != a).count();
        assert!(moved < 5003 / 10, "{moved} of 5003 entries moved though their choice stayed");
    }

    #[test]
    fn nothing_to_choose_from_is_an_empty_table() {
        assert!(table(&[], &[], 1009).is_empty());
    }
}
