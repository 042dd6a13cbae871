//! `RequestMirror`: which requests are copied.

use weft_model::Fraction;

/// Whether `random` is within `share`: of all numbers it is that share of them, rounded up by less than one number.
pub fn drawn(share: Fraction, random: u32) -> bool {
    u64::from(random) * u64::from(share.denominator) < u64::from(share.numerator) << u32::BITS
}

#[cfg(test)]
mod tests {
    use weft_model::Fraction;

    use super::drawn;

    #[test]
    fn a_share_is_exact_over_the_numbers() {
        let of = |numerator, denominator, random| drawn(Fraction { numerator, denominator }, random);
        assert!(of(1, 1, u32::MAX) && of(100, 100, u32::MAX));
        assert!(!of(0, 100, 0));
        assert!(of(1, 2, (1 << 31) - 1) && !of(1, 2, 1 << 31));
        assert!(of(u32::MAX, u32::MAX, u32::MAX));
        let drawn = (0..1000).filter(|step| of(5, 1000, u32::MAX / 1000 * step)).count();
        assert!((5..=6).contains(&drawn), "{drawn}");
    }
}
