//! The story, one file a chapter. Each does something, checks what came of it, and only then says so.

mod chain;
mod cut;
mod denied;
mod flows;
mod outage;
mod split;
mod start;

use anyhow::{Context as _, Result};

use crate::screen::Screen;
use crate::shop::Shop;

/// All chapters.
pub(crate) fn tell(shop: &mut Shop, screen: &mut Screen) -> Result<()> {
    screen.title("weft", "a service mesh in the kernel: two nodes, seven pods, no sidecars");
    start::tell(shop, screen).context("two nodes")?;
    chain::tell(shop, screen).context("the chain of Services")?;
    split::tell(shop, screen).context("the weighted split")?;
    denied::tell(shop, screen).context("the denied client")?;
    cut::tell(shop, screen).context("the cut connection")?;
    let since = outage::tell(shop, screen).context("the killed agents")?;
    flows::tell(shop, screen, since).context("the flows")
}
