//! What holds a request back, breaks it on purpose or gives it another try.
//!
//! Each part takes the time as an argument, counts in atomics or under a lock held for nanoseconds, and has
//! a bound. None of them waits: whoever is told to wait does so itself.

pub mod breaker;
pub mod budget;
pub mod fault;
pub mod outlier;
pub mod rate;
pub mod retry;

pub use breaker::{Breaker, Held, Limit};
pub use budget::Budget;
pub use outlier::Observed;
pub use rate::RateLimit;
