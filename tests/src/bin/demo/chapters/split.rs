//! Nine of ten to v1.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use crate::http;
use crate::screen::{self, grouped};
use crate::shop::{SPLIT, Shop, WEB};

pub(super) fn tell(shop: &mut Shop) -> Result<()> {
    screen::chapter(3, "A weighted split");
    let (file, yaml) = SPLIT;
    screen::manifest(file, &yaml[yaml.find("spec:").context("split.yaml has a spec")?..]);
    shop.apply(SPLIT);
    let started = Instant::now();
    let mut counts = [0_u32; 2];
    for _ in 0..REQUESTS {
        let answer = http::get(&shop.pods.visitor, WEB.parse()?).context("a request to web")?;
        counts[usize::from(answer.contains("api-v2"))] += 1;
    }
    let took = started.elapsed();
    screen::bars(["api-v1", "api-v2"], counts, REQUESTS);
    // Five standard deviations of a fair draw.
    ensure!((133..=267).contains(&counts[1]), "{} of {REQUESTS} to v2 is no tenth", counts[1]);
    screen::timed(
        &format!(
            "{} requests, each a new connection of web, drawn in the kernel",
            grouped(REQUESTS as usize)
        ),
        took,
    );
    Ok(())
}

const REQUESTS: u32 = 2000;
