//! The agent's answers: a JSON API on a unix socket, and metrics and health on TCP.

mod agent;

pub use agent::Agent;
