//! The story, one file a chapter. Each does something, checks what came of it, and only then says so.

mod asked;
mod canary;
mod chain;
mod cut;
mod denied;
mod flows;
mod outage;
mod requests;
mod split;
mod start;
mod wire;

use anyhow::{Context as _, Result};

use crate::screen;
use crate::shop::Shop;

/// All chapters.
pub(crate) fn tell(shop: &mut Shop) -> Result<()> {
    screen::title("weft", "a service mesh in the kernel: two nodes, seven pods, no sidecars");
    start::tell(shop).context("two nodes")?;
    chain::tell(shop).context("the chain of Services")?;
    split::tell(shop).context("the weighted split")?;
    denied::tell(shop).context("the denied client")?;
    cut::tell(shop).context("the cut connection")?;
    let since = outage::tell(shop).context("the killed agents")?;
    flows::tell(shop, since).context("the flows")?;
    requests::tell(shop).context("the HTTPRoute")?;
    canary::tell(shop).context("the canary")?;
    wire::tell(shop).context("mutual TLS")?;
    asked::tell(shop).context("the policy by path")?;
    flows::look_further(shop).context("the last flows")
}
