//! Tracing set-up, metrics registry, admin API.
