//! `weft_certificate_*` and `weft_issuer_*`: how long the node's certificates last.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, LabelSetEncoder},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use super::{agent::gauge, peer::pair};
use crate::api::{CertificateView, CertificatesView};

/// All of it follows from what `weft get certificates` shows: an identity that is given up has no series any more.
#[derive(Clone, Debug, Default)]
pub(super) struct CertificateMetrics {
    shown: Arc<Mutex<CertificatesView>>,
}

impl CertificateMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register_collector(Box::new(metrics.clone()));
        metrics
    }

    pub(super) fn show(&self, certificates: Option<&CertificatesView>) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) =
            certificates.cloned().unwrap_or_default();
    }
}

impl Collector for CertificateMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (name, help) =
            ("weft_certificate_expiry_seconds", "Time until the certificate of an identity ends");
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for certificate in &shown.certificates {
            let Some(left) = certificate.expires_in_seconds else { continue };
            ConstGauge::new(gauge(left)).encode(metric.encode_family(&Of(certificate))?)?;
        }
        let (name, help) = ("weft_certificate_renewals", "Times that a certificate was renewed");
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for certificate in &shown.certificates {
            ConstCounter::new(certificate.renewals).encode(metric.encode_family(&Of(certificate))?)?;
        }
        let help = "1 where the last try to issue or renew the certificate failed";
        let mut metric =
            encoder.encode_descriptor("weft_certificate_failing", help, None, MetricType::Gauge)?;
        for certificate in &shown.certificates {
            let failing = i64::from(certificate.failure.is_some());
            ConstGauge::new(failing).encode(metric.encode_family(&Of(certificate))?)?;
        }
        let Some(issuer) = &shown.issuer else { return Ok(()) };
        for (name, help, value) in [
            (
                "weft_issuer_expiry_seconds",
                "Time until the issuer's own certificate ends",
                gauge(issuer.expires_in_seconds),
            ),
            (
                "weft_issuer_failing",
                "1 where no certificate can be issued now",
                shown.failure.is_some().into(),
            ),
        ] {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            metric.encode_gauge(&value)?;
        }
        Ok(())
    }
}

struct Of<'a>(&'a CertificateView);

impl EncodeLabelSet for Of<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        pair(encoder, "identity", &self.0.identity)
    }
}
