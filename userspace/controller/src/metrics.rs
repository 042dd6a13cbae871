//! What `/metrics` of a controller shows.

use prometheus_client::{encoding::text, metrics::info::Info, registry::Registry};

/// All metrics of a controller.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// The metrics of a controller of this version.
    pub(crate) fn new(version: &str) -> Self {
        let mut registry = Registry::default();
        let build = Info::new(vec![("version", version.to_owned())]);
        registry.register("weft_controller_build", "The controller's version", build);
        Self { registry }
    }

    /// OpenMetrics text.
    pub(crate) fn encode(&self) -> String {
        let mut text = String::new();
        text::encode(&mut text, &self.registry).expect("writing to a String cannot fail");
        text
    }
}
