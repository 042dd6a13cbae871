//! What a TrafficPolicy says of the sections that are merged field by field, before defaults stand in for what no level
//! says: a default that is filled in too early would beat what a less specific policy says.

use std::time::Duration;

use weft_model::{Retry, RetryBudget, TrafficSettings};

/// `retry`, as far as it is said.
#[derive(Clone, Debug, Default)]
pub(crate) struct RetryFields {
    pub(crate) attempts: Option<u32>,
    pub(crate) codes: Option<Vec<u16>>,
    pub(crate) grpc_codes: Option<Vec<u32>>,
    pub(crate) backoff: Option<Duration>,
}

/// `retryConstraint`, as far as it is said.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BudgetFields {
    pub(crate) percent: Option<u8>,
    pub(crate) interval: Option<Duration>,
    pub(crate) min_retries: Option<u32>,
    pub(crate) min_interval: Option<Duration>,
}

/// Both, of one policy or of several merged.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields {
    pub(crate) retry: Option<RetryFields>,
    pub(crate) retry_budget: Option<BudgetFields>,
}

impl RetryFields {
    /// These, and what they do not say from `less`.
    pub(crate) fn over(self, less: Self) -> Self {
        Self {
            attempts: self.attempts.or(less.attempts),
            codes: self.codes.or(less.codes),
            grpc_codes: self.grpc_codes.or(less.grpc_codes),
            backoff: self.backoff.or(less.backoff),
        }
    }

    /// With defaults for what nobody says.
    pub(crate) fn filled(self) -> Retry {
        Retry {
            attempts: self.attempts.unwrap_or(Retry::ATTEMPTS),
            codes: self.codes.unwrap_or_else(|| Retry::CODES.to_vec()),
            grpc_codes: self.grpc_codes.unwrap_or_default(),
            backoff: self.backoff.unwrap_or(Retry::BACKOFF),
        }
    }
}

impl BudgetFields {
    fn over(self, less: Self) -> Self {
        Self {
            percent: self.percent.or(less.percent),
            interval: self.interval.or(less.interval),
            min_retries: self.min_retries.or(less.min_retries),
            min_interval: self.min_interval.or(less.min_interval),
        }
    }

    fn filled(self) -> RetryBudget {
        let default = RetryBudget::default();
        RetryBudget {
            percent: self.percent.unwrap_or(default.percent),
            interval: self.interval.unwrap_or(default.interval),
            min_retries: self.min_retries.unwrap_or(default.min_retries),
            min_interval: self.min_interval.unwrap_or(default.min_interval),
        }
    }
}

impl Fields {
    /// These, and what they do not say from `less`.
    pub(crate) fn over(&self, less: Self) -> Self {
        let more = self.clone();
        Self {
            retry: both(more.retry, less.retry, RetryFields::over),
            retry_budget: both(more.retry_budget, less.retry_budget, BudgetFields::over),
        }
    }

    /// `settings` with these sections, filled.
    pub(crate) fn within(&self, settings: TrafficSettings) -> TrafficSettings {
        TrafficSettings {
            retry: self.retry.clone().map(RetryFields::filled),
            retry_budget: self.retry_budget.map(BudgetFields::filled),
            ..settings
        }
    }
}

fn both<T>(more: Option<T>, less: Option<T>, over: impl FnOnce(T, T) -> T) -> Option<T> {
    match (more, less) {
        (Some(more), Some(less)) => Some(over(more, less)),
        (more, less) => more.or(less),
    }
}
