//! Which backendRef a request goes to.

use weft_model::{Backend, BackendTarget};

use super::filters::{FilterError, Filters};

/// The backendRefs of a rule, at most 16.
#[derive(Debug)]
pub struct Backends(Vec<CompiledBackend>);

/// A backendRef, ready to be used.
#[derive(Debug)]
pub struct CompiledBackend {
    /// Its place among the rule's `backendRefs`.
    pub index: usize,
    /// Where it leads. [`BackendTarget::Invalid`]: answer with 500, a gRPC call with `UNAVAILABLE`.
    pub target: BackendTarget,
    /// Its share.
    pub weight: u32,
    /// Filters for what goes here, after the rule's.
    pub filters: Filters,
}

impl Backends {
    pub(super) fn compile(backends: &[Backend]) -> Result<Self, FilterError> {
        let compile = |(index, backend): (usize, &Backend)| {
            let Backend { target, weight, filters } = backend;
            Ok(CompiledBackend {
                index,
                target: target.clone(),
                weight: *weight,
                filters: Filters::compile(filters)?,
            })
        };
        backends.iter().enumerate().map(compile).collect::<Result<_, _>>().map(Self)
    }

    /// The backendRef for a request, by weight: of all `random` numbers each gets its share, exactly.
    ///
    /// `None`: no backendRef, or none with a weight; answer with 500.
    pub fn draw(&self, random: u64) -> Option<&CompiledBackend> {
        self.draw_among(random, |_| true)
    }

    /// As [`Backends::draw`], among those that `may` be drawn: for a retry, those that have an endpoint not tried yet.
    /// Invalid ones are for the caller to leave out, so that a first draw can meet one.
    pub fn draw_among(
        &self,
        random: u64,
        may: impl Fn(&CompiledBackend) -> bool,
    ) -> Option<&CompiledBackend> {
        let candidates = || self.0.iter().filter(|backend| may(backend));
        let total: u64 = candidates().map(|backend| u64::from(backend.weight)).sum();
        let mut point = (u128::from(random) * u128::from(total)) >> u64::BITS;
        candidates().find(|backend| {
            let weight = u128::from(backend.weight);
            let here = point < weight;
            point = point.saturating_sub(weight);
            here
        })
    }

    /// All of them, in the rule's order.
    pub fn all(&self) -> &[CompiledBackend] {
        &self.0
    }
}

impl CompiledBackend {
    /// Whether it leads somewhere.
    pub fn is_valid(&self) -> bool {
        matches!(self.target, BackendTarget::Service { .. })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Backends, CompiledBackend};
    use crate::route::fixture::{backend, invalid_backend, random_numbers};

    fn backends(weights: &[u32]) -> Backends {
        let backends: Vec<_> = weights.iter().map(|weight| backend("b", *weight)).collect();
        Backends::compile(&backends).unwrap()
    }

    #[test]
    fn mesh_http_route_weight() {
        let split = backends(&[70, 30, 0]);
        assert_eq!(split.draw(0).unwrap().index, 0);
        assert_eq!(split.draw(u64::MAX).unwrap().index, 1);
        // The border of 70 of 100, to the number.
        let border = (u128::from(u64::MAX) + 1).div_ceil(10) * 7;
        let border = u64::try_from(border).unwrap();
        assert_eq!(split.draw(border - 8).unwrap().index, 0);
        assert_eq!(split.draw(border).unwrap().index, 1);
    }

    #[test]
    fn mesh_grpc_route_weight_with_a_missing_backend_of_weight_0() {
        let split = [backend("echo-v1", 70), backend("echo-v2", 30), invalid_backend(0)];
        let split = Backends::compile(&split).unwrap();
        assert!(random_numbers(1).take(1000).all(|random| split.draw(random).unwrap().is_valid()));
    }

    #[test]
    fn an_invalid_backend_is_drawn_for_its_share() {
        let split = Backends::compile(&[backend("echo-v1", 1), invalid_backend(1)]).unwrap();
        assert!(split.draw(0).unwrap().is_valid());
        assert!(!split.draw(u64::MAX).unwrap().is_valid());
        assert_eq!(split.draw_among(u64::MAX, CompiledBackend::is_valid).unwrap().index, 0);
    }

    #[test]
    fn without_weight_nothing_is_drawn() {
        assert!(backends(&[]).draw(7).is_none());
        assert!(backends(&[0, 0]).draw(u64::MAX).is_none());
    }

    #[test]
    fn a_retry_goes_elsewhere_by_weight() {
        let split = backends(&[98, 1, 1]);
        let drawn = |random| split.draw_among(random, |backend| backend.index != 0).unwrap().index;
        assert_eq!([drawn(0), drawn(u64::MAX / 2), drawn(u64::MAX / 2 + 2)], [1, 1, 2]);
        assert!(split.draw_among(5, |_| false).is_none());
    }

    #[test]
    fn shares_are_within_two_points_over_10_000_draws() {
        for weights in [&[70, 30][..], &[1, 1, 1], &[90, 5, 5], &[1_000_000, 1], &[1; 16]] {
            let split = backends(weights);
            let mut drawn = vec![0u32; weights.len()];
            random_numbers(42).take(10_000).for_each(|random| drawn[split.draw(random).unwrap().index] += 1);
            let total: f64 = weights.iter().copied().map(f64::from).sum();
            for (weight, drawn) in weights.iter().zip(drawn) {
                let off = f64::from(drawn) / 100.0 - f64::from(*weight) * 100.0 / total;
                assert!(off.abs() <= 2.0, "{weights:?}: {drawn} of 10000 for {weight}");
            }
        }
    }

    proptest! {
        /// 1000 numbers in even steps: a share can be off by its two borders only.
        #[test]
        fn shares_are_exact_over_the_numbers(weights in prop::collection::vec(0u32..=1_000_000, 1..=16)) {
            let split = backends(&weights);
            let total: u64 = weights.iter().copied().map(u64::from).sum();
            prop_assume!(total > 0);
            let mut drawn = vec![0u64; weights.len()];
            (0..1000).for_each(|step| drawn[split.draw(u64::MAX / 1000 * step).unwrap().index] += 1);
            for (weight, drawn) in weights.iter().zip(drawn) {
                let least = u64::from(*weight) * 1000 / total;
                prop_assert!((least.saturating_sub(1)..=least + 2).contains(&drawn), "{weights:?}: {drawn}");
                prop_assert!(*weight > 0 || drawn == 0);
            }
        }
    }
}
