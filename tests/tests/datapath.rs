//! The kernel data path: balancing and policy, from the app's point of view.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "datapath/balance.rs"]
mod balance;
