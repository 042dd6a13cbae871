//! connect(2): what it costs, and whether that grows with the configuration.

use std::net::Ipv4Addr;

use anyhow::Result;
use weft_tests::World;

use crate::report::{Row, Target, Unit};
use crate::rounds::{Series, interleave, progress};
use crate::site::{self, Side};
use crate::work::{QUEUE, Work};
use crate::{Only, Plan, Report, manifests};

/// Measures. Every configuration is a node with its own agent, and all of them run at the same time.
pub(super) fn run(plan: &Plan, only: &Only, report: &mut Report) -> Result<()> {
    let shapes: Vec<_> = SHAPES.iter().filter(|shape| only.takes("connect", &shape.case())).collect();
    if shapes.is_empty() {
        return Ok(());
    }
    let world = site::world()?;
    let bare = Side::new(&world, "plain", false)?;
    let sides = shapes.iter().map(|shape| shape.start(&world)).collect::<Result<Vec<_>>>()?;
    let connect = |side: &Side, first: Ipv4Addr, count, port| {
        side.measure(&Work::Connect { server: side.server_ip(), first, count, port, lasts: plan.lasts })
    };
    let direct = || connect(&bare, bare.server_ip(), 1, QUEUE);
    let meshed: Vec<_> = shapes
        .iter()
        .zip(&sides)
        .map(|(shape, side)| || connect(side, manifests::service_ip(0), shape.used, 83))
        .collect();
    let mut all: Vec<&dyn Fn() -> Result<f64>> = vec![&direct];
    all.extend(meshed.iter().map(|side| side as &dyn Fn() -> Result<f64>));
    let figures = interleave(plan, "connect", &all)?;
    let (bare, meshed) = figures.split_first().expect("the plain side is one");
    for (shape, figures) in shapes.iter().zip(meshed) {
        let small = shapes.iter().position(|other| std::ptr::eq(*other, &raw const SHAPES[shape.small]));
        report.add(shape.row(bare, figures, small.map(|small| &meshed[small])));
    }
    Ok(())
}

/// A configuration, and what a client does with it.
struct Shape {
    name: &'static str,
    services: u32,
    rules: u32,
    /// Among how many of the Services connects take turns.
    used: u32,
    /// Which shape is the small one of its kind.
    small: usize,
}

impl Shape {
    fn start(&self, world: &World) -> Result<Side> {
        progress(&format!("connect: a node with {} services and {} rules", self.services, self.rules));
        let mut side = Side::new(world, self.name, true)?;
        side.apply(manifests::services(self.services, side.server_ip()));
        if self.rules > 0 {
            side.apply(manifests::policies(self.rules));
        }
        side.start_agent()?;
        Ok(side)
    }

    fn case(&self) -> String {
        match (self.rules, self.used) {
            (0, FEW) => format!("connect, {} services", self.services),
            (0, used) => format!("connect, {used} services, all in turn"),
            (rules, _) => format!("connect, {rules} policy rules"),
        }
    }

    /// `small` are the figures of the small shape of its kind, where that runs.
    fn row(&self, plain: &Series, figures: &Series, small: Option<&Series>) -> Row {
        let added = figures.minus(plain).median();
        let row = Row::compared(&self.case(), Unit::Microseconds, plain, figures).target(Target::new(
            "≤ +2 µs",
            added,
            2.0,
            format!("{added:+.2} µs"),
        ));
        let Some(small) = small.filter(|small| !std::ptr::eq(*small, figures)) else { return row };
        let growth = figures.over(small).median();
        row.target(Target::new("≤ 1.10 of that at 10", growth, 1.1, format!("{growth:.3}")))
    }
}

/// What a pod uses of a large mesh.
const FEW: u32 = 10;
static SHAPES: [Shape; 6] = [
    Shape { name: "s10", services: 10, rules: 0, used: FEW, small: 0 },
    Shape { name: "s1k", services: 1_000, rules: 0, used: FEW, small: 0 },
    Shape { name: "s10k", services: 10_000, rules: 0, used: FEW, small: 0 },
    // No cache holds the rows of all Services: this is what a miss in every map costs.
    Shape { name: "all", services: 10_000, rules: 0, used: 10_000, small: 0 },
    Shape { name: "r10", services: 10, rules: 10, used: FEW, small: 4 },
    Shape { name: "r10k", services: 10, rules: 10_000, used: FEW, small: 4 },
];
