//! Commands as typed, an agent's real API, and what comes out.

mod commands;
mod golden;
mod nodes;
#[cfg(test)]
mod shop;
