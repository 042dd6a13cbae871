//! A histogram of latencies that can be merged: over slots, Services, nodes.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Counts of microseconds in buckets that grow with their values: eight for each power of two, so that a quantile is
/// off by 1/16 of itself at most. From an hour on all is one bucket.
#[derive(Clone, PartialEq, Eq)]
pub struct Latency {
    counts: Box<[u32; BUCKETS]>,
    total: u64,
}

impl Latency {
    /// Adds one of so many microseconds.
    pub fn add(&mut self, micros: u64) {
        let count = &mut self.counts[bucket(micros)];
        *count = count.saturating_add(1);
        self.total += 1;
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts.iter()) {
            *count = count.saturating_add(*more);
        }
        self.total += other.total;
    }

    /// The latency that this share of all is not above, in microseconds; 0 where there is none.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a count, which is between 0 and it"
    )]
    pub fn quantile(&self, share: f64) -> u64 {
        if self.total == 0 {
            return 0;
        }
        let rank = ((self.total as f64 * share).ceil() as u64).clamp(1, self.total);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= rank {
                return middle(index);
            }
        }
        middle(BUCKETS - 1)
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self { counts: Box::new([0; BUCKETS]), total: 0 }
    }
}

impl std::fmt::Debug for Latency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Latency({} of p50 {} us)", self.total, self.quantile(0.5))
    }
}

/// Pairs of a bucket's middle and its count, those that are not empty.
impl Serialize for Latency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let counts = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        serializer.collect_seq(counts.map(|(index, count)| (middle(index), *count)))
    }
}

impl<'de> Deserialize<'de> for Latency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut latency = Self::default();
        for (micros, more) in Vec::<(u64, u32)>::deserialize(deserializer)? {
            let count = &mut latency.counts[bucket(micros)];
            *count = count.saturating_add(more);
            latency.total += u64::from(more);
        }
        Ok(latency)
    }
}

fn bucket(micros: u64) -> usize {
    if micros < EACH {
        return usize::try_from(micros).expect("below eight");
    }
    let power = u64::from(micros.ilog2()) - u64::from(EACH.ilog2());
    let index = EACH * (power + 1) + ((micros >> power) - EACH);
    usize::try_from(index).map_or(BUCKETS - 1, |index| index.min(BUCKETS - 1))
}

/// The middle of a bucket, which is in it.
fn middle(index: usize) -> u64 {
    let index = index as u64;
    if index < EACH {
        return index;
    }
    let power = index / EACH - 1;
    ((EACH + index % EACH) << power) + (1 << power) / 2
}

/// Buckets for each power of two.
const EACH: u64 = 8;

/// Up to 2^32 microseconds, more than an hour.
const BUCKETS: usize = 8 * 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_middle_is_in_its_bucket_and_off_by_a_sixteenth_at_most() {
        for index in 0..BUCKETS {
            assert_eq!(bucket(middle(index)), index);
        }
        for micros in (0..40).flat_map(|power| [(1_u64 << power) - 1, 1 << power, (1 << power) * 3 / 2]) {
            let (told, index) = (middle(bucket(micros)), bucket(micros));
            assert!(told.abs_diff(micros) * 16 <= micros || index == BUCKETS - 1, "{micros}: {told}");
        }
    }

    #[test]
    fn quantiles_of_merged_histograms_are_those_of_all() {
        let (mut low, mut high) = (Latency::default(), Latency::default());
        (1..=500).for_each(|ms| low.add(ms * 1_000));
        (501..=1_000).for_each(|ms| high.add(ms * 1_000));
        low.merge(&high);
        for (share, expected) in [(0.5, 500_000_u64), (0.95, 950_000), (0.99, 990_000), (1.0, 1_000_000)] {
            let told = low.quantile(share);
            assert!(told.abs_diff(expected) * 16 <= expected, "{share}: {told}");
        }
        assert_eq!(Latency::default().quantile(0.5), 0);
    }

    #[test]
    fn a_histogram_reads_back_as_it_is_written() {
        let mut latency = Latency::default();
        for micros in [0, 7, 8, 12_345, u64::MAX] {
            latency.add(micros);
        }
        let text = serde_json::to_string(&latency).unwrap();
        assert_eq!(serde_json::from_str::<Latency>(&text).unwrap(), latency);
    }
}
