//! Commands as typed, an agent's real API, and what comes out.

mod commands;
mod golden;
#[cfg(test)]
mod shop;
