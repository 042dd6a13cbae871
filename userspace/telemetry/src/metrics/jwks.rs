//! `weft_jwks_*`: how the keys of providers of tokens are.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, LabelSetEncoder},
    metrics::{MetricType, gauge::ConstGauge},
    registry::Registry,
};

use super::{agent::gauge, peer::pair};
use crate::api::JwksView;

/// All of it follows from what `weft status` shows: a place that nobody names any more has no series.
#[derive(Clone, Debug, Default)]
pub(super) struct JwksMetrics {
    shown: Arc<Mutex<Vec<JwksView>>>,
}

impl JwksMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register_collector(Box::new(metrics.clone()));
        metrics
    }

    pub(super) fn show(&self, jwks: &[JwksView]) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = jwks.to_vec();
    }
}

impl Collector for JwksMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (name, help) = ("weft_jwks_age_seconds", "Age of the keys of a provider of tokens");
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for place in &shown {
            let Some(age) = place.age_seconds else { continue };
            ConstGauge::new(gauge(age)).encode(metric.encode_family(&Of(place))?)?;
        }
        let (name, help) = ("weft_jwks_failing", "1 where the last try to fetch the keys failed");
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for place in &shown {
            let failing = i64::from(place.failure.is_some());
            ConstGauge::new(failing).encode(metric.encode_family(&Of(place))?)?;
        }
        Ok(())
    }
}

struct Of<'a>(&'a JwksView);

impl EncodeLabelSet for Of<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        pair(encoder, "location", &self.0.location)
    }
}
