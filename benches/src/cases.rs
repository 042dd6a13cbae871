//! What is measured.

mod connect;
mod scale;
mod traffic;

use anyhow::Result;

use crate::{Only, Plan, Report};

/// A group of cases that share their pods.
pub type Case = fn(&Plan, &Only, &mut Report) -> Result<()>;

/// All of them.
pub const ALL: [Case; 3] = [traffic::run, connect::run, scale::run];
