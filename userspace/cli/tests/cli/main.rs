//! Commands as typed, an agent's real API, and what comes out.

mod commands;
mod golden;
mod nodes;
#[path = "../../../../tests/releases/release.rs"]
mod release;
#[cfg(test)]
mod releases;
#[cfg(test)]
mod shop;
