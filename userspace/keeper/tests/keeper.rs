//! Real proxies and agents, killed in every order, under real connections. Needs root and cgroup v2.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/world.rs"]
mod world;

#[path = "keeper/agent_killed.rs"]
mod agent_killed;
#[path = "keeper/lifetime.rs"]
mod lifetime;
#[path = "keeper/proxy_killed.rs"]
mod proxy_killed;
#[path = "keeper/upgrade.rs"]
mod upgrade;
