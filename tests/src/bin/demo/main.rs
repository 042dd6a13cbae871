//! `cargo xtask demo`: a shop on two nodes, and what the mesh does for it, told chapter by chapter.
//!
//! Real servers, real clients, real agents. Every figure is measured in this run, and every sentence is
//! checked before it is said: the demo fails where the mesh does not do what it says.
//!
//! ```text
//!  node a                     node b
//!  visitor ──► web (nginx) ──► api-v1, api-v2 (of this binary) ──► db (redis)
//!                              reports, intruder
//! ```
#![forbid(unsafe_code)]

mod api;
mod chapters;
mod end;
mod http;
mod screen;
mod shop;
mod traffic;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use crate::shop::Shop;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        [] => tell(false),
        ["--keep"] => tell(true),
        ["--end"] => end::end_kept(None),
        ["--end", name] => end::end_kept(Some(name)),
        // The demo's own app: this binary, inside a pod.
        ["api", name, db] => api::serve(name, db),
        _ => {
            screen::error(USAGE);
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            end::stand_still_when_interrupted();
            screen::error(&format!("the demo failed: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The whole story. What it made goes at the end, or stays for `--end`.
fn tell(keep: bool) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "it makes network namespaces: run it as root");
    end::clean_up_when_interrupted()?;
    let started = Instant::now();
    let mut shop = Shop::open().context("make the pods")?;
    chapters::tell(&mut shop)?;
    if keep { end::keep(shop) } else { end::close(shop, started.elapsed()) }
}

const USAGE: &str = "\
use: cargo xtask demo [--keep | --end [NAME]]
  --keep        leave everything running at the end, to look around in
  --end [NAME]  end what --keep has left: all of it, or one (weft-demo-...)";
