//! Which generation of each object is in force, and what that comes to in one word.

use std::{collections::BTreeMap, sync::Arc};

use sha2::{Digest as _, Sha256};

/// The `metadata.generation` of objects by [`incarnation`], as they are in force in a [`crate::Snapshot`]: of one whose newest
/// version is refused, that of its last good one.
pub type Generations = BTreeMap<Arc<str>, i64>;

/// By what [`Generations`] know `object` (`Kind namespace/name`): with its `uid`, for the generations of an object that was
/// deleted and made anew begin at 1 again.
pub fn incarnation(object: &str, uid: &str) -> String {
    format!("{object} {uid}")
}

/// What `generations` are called: equal for equal ones alone, whoever computes it. Half of a SHA-256 is enough for that.
pub fn digest(generations: &Generations) -> String {
    let mut hash = Sha256::new();
    for (object, generation) in generations {
        // Names have no line breaks, so no two maps have one text.
        hash.update(format!("{object}\n{generation}\n"));
    }
    let whole = hash.finalize();
    let (half, _) = whole.split_first_chunk().expect("SHA-256 has 32 bytes");
    format!("{:032x}", u128::from_be_bytes(*half))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_generations_have_one_digest_and_others_another() {
        let of = |pairs: &[(&str, i64)]| {
            digest(&pairs.iter().map(|(name, generation)| ((*name).into(), *generation)).collect())
        };
        let one = of(&[("TrafficPolicy shop/a", 1), ("TrafficPolicy shop/b", 12)]);
        assert_eq!(one, of(&[("TrafficPolicy shop/b", 12), ("TrafficPolicy shop/a", 1)]));
        assert_eq!(one.len(), 32);
        for other in [
            &[][..],
            &[("TrafficPolicy shop/a", 1)],
            &[("TrafficPolicy shop/a", 11), ("TrafficPolicy shop/b", 2)],
        ] {
            assert_ne!(one, of(other));
        }
    }
}
