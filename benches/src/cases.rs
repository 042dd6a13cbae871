//! What is measured.

mod connect;
mod scale;
mod traffic;

use anyhow::Result;

use crate::{Plan, Report};

/// A group of cases that share their pods.
pub type Case = fn(&Plan, &mut Report) -> Result<()>;

/// All of them, with their names.
pub const ALL: [(&str, Case); 3] =
    [("traffic", traffic::run), ("connect", connect::run), ("scale", scale::run)];
