//! Counts below the borders of Istio's histograms.

use prometheus_client::encoding::{MetricEncoder, NoLabelSet};
use std::fmt;

/// A histogram with Istio's (Envoy's default) borders, for milliseconds and for bytes alike.
#[derive(Clone, Debug, Default)]
pub(super) struct Buckets {
    counts: [u64; BORDERS.len() + 1],
    sum: f64,
}

impl Buckets {
    pub(super) fn add(&mut self, value: f64) {
        let place = BORDERS.iter().position(|border| value <= *border).unwrap_or(BORDERS.len());
        self.counts[place] += 1;
        self.sum += value;
    }

    pub(super) fn encode(&self, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        let borders = BORDERS.into_iter().chain([f64::MAX]); // the encoder writes it as +Inf
        let buckets: Vec<_> = borders.zip(self.counts).collect();
        encoder.encode_histogram::<NoLabelSet>(self.sum, self.counts.iter().sum(), &buckets, None)
    }
}

const BORDERS: [f64; 19] = [
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1e3, 2.5e3, 5e3, 1e4, 3e4, 6e4, 3e5, 6e5, 1.8e6,
    3.6e6,
];
