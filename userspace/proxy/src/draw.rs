//! Chance, as an argument: a worker draws from its own [`Dice`], a test from numbers that it wrote down.

/// A source of numbers. Not for secrets.
pub trait Draw {
    /// Any number, each as likely.
    fn number(&mut self) -> u64;

    /// A number below `limit`, 0 where `limit` is 0. The bias is below 2^-32 for limits below 2^32.
    fn below(&mut self, limit: u64) -> u64 {
        let product = u128::from(self.number()) * u128::from(limit);
        u64::try_from(product >> 64).expect("the upper half of 128 bits")
    }

    /// An index into `len` things. `len` must not be 0.
    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a usize")
    }

    /// A number from 0 to 1, without 1.
    fn unit(&mut self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits are what an f64 holds")]
        let bits = (self.number() >> 11) as f64;
        bits * (f64::EPSILON / 2.0)
    }
}

/// `SplitMix64` (Steele, Lea, Flood, OOPSLA 2014): a multiply-and-shift chain, no state but a counter.
#[derive(Clone, Debug)]
pub struct Dice {
    state: u64,
}

impl Dice {
    /// Draws the same numbers for the same seed. Workers must not share one.
    pub const fn seeded(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Draws what nobody foresees: from the keys that the standard library takes from the kernel.
    pub fn new() -> Self {
        use std::hash::{BuildHasher, Hasher, RandomState};
        Self::seeded(RandomState::new().build_hasher().finish())
    }
}

impl Default for Dice {
    fn default() -> Self {
        Self::new()
    }
}

impl Draw for Dice {
    fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.state)
    }
}

/// Spreads the bits of a number over all of them, one to one (the finalizer of `SplitMix64`).
pub(crate) const fn mixed(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Draws as fractions of everything: `Script(vec![0.5])` draws 5 of 10.
    pub(crate) struct Script(pub(crate) Vec<f64>);

    impl Draw for Script {
        fn number(&mut self) -> u64 {
            let fraction = self.0.remove(0);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "written by a test")]
            let whole = (fraction * 2_f64.powi(32)) as u64;
            whole << 32
        }
    }

    #[test]
    fn what_a_test_writes_down_is_what_is_drawn() {
        let mut script = Script(vec![0.0, 0.5, 0.999, 0.25]);
        assert_eq!([script.below(10), script.below(10), script.below(10)], [0, 5, 9]);
        assert!((script.unit() - 0.25).abs() < 1e-9);
    }

    #[test]
    fn every_number_below_the_limit_is_as_likely() {
        let (mut dice, mut seen) = (Dice::seeded(1), [0_u32; 7]);
        for _ in 0..70_000 {
            seen[dice.index(7)] += 1;
        }
        assert!(seen.iter().all(|n| n.abs_diff(10_000) < 400), "{seen:?}");
        assert_eq!(dice.below(0), 0);
        assert!((0..1000).all(|_| (0.0..1.0).contains(&dice.unit())));
        assert_ne!(Dice::new().number(), Dice::new().number());
    }
}
