//! What one pod's flood does to another pod's requests.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use weft_tests::{eventually, manifests as objects};

use super::hold::Held;
use super::path::{Path, Port};
use super::pin::Cpu;
use super::stage::{Pair, start_agent};
use super::table::{Row, Table, Unit};
use super::{Bench, load, manifests};
use crate::rounds::{self, Series};
use crate::site;
use crate::work::Work;

/// Measures the quiet pod's p99 through the proxy while the noisy pod floods its server: through the proxy, too, and
/// by the kernel path. The noisy pod and its server are held to a part of a CPU.
pub(super) fn run(bench: &Bench<'_>, name: &str, table: &mut Table) -> Result<()> {
    let world = site::world()?;
    let node = world.node("fair");
    let quiet = Pair::start(&world, &node, "quiet", true)?;
    let noisy = Pair::start(&world, &node, "noisy", true)?;
    node.apply("namespace.yaml", &objects::namespace("shop", true));
    node.apply("quiet.yaml", &manifests::routed("quiet", QUIET));
    node.apply("noisy.yaml", &manifests::routed("noisy", NOISY));
    node.apply("kernel.yaml", &manifests::unrouted("noisy-kernel", "noisy", KERNEL));
    let _agent = start_agent(&node)?;
    let front = |number| SocketAddr::from((manifests::vip(number), Port::Http1.of_proxy(Path::Weft)));
    for (pod, number) in [(&quiet.client, QUIET), (&noisy.client, NOISY), (&noisy.client, KERNEL)] {
        eventually(START, || pod.tcp_connect(front(number)).is_ok());
    }
    let held = [
        Held::new(&noisy.client, &format!("{}-client", world.name()), HELD)?,
        Held::new(&noisy.server, &format!("{}-server", world.name()), HELD)?,
    ];
    let lasts = bench.plan.lasts * LONGER;
    let calm = Work::Paced { to: front(QUIET), connections: 8, rate: RATE, lasts };
    let during = |number| {
        let url = format!("http://{}/", front(number));
        let flood = ["wrk", "-t", "1", "-c", "200", "-d", "60", "-H", load::HEADER, &url];
        let _flood = Cpu::Load.start(&noisy.client, &flood);
        held.iter().try_for_each(Held::catch)?;
        Ok(calm.run_in(&quiet.client)?[1])
    };
    let (proxied, kernel) = (|| during(NOISY), || during(KERNEL));
    let sides: [&dyn Fn() -> Result<f64>; 2] = [&kernel, &proxied];
    let measured = rounds::interleave_all(bench.plan.rounds, name, &sides)?.into_iter().map(Series::new);
    let series = [Path::NoMesh, Path::Weft].into_iter().zip(measured).collect();
    let case = format!("p99 beside a flood held by {} (no mesh: the flood's path)", held[0].by());
    table.add(Row::new(&case, Unit::Microseconds, series).at_most(3.0, Path::NoMesh));
    Ok(())
}

const QUIET: u8 = 1;
const NOISY: u8 = 2;
const KERNEL: u8 = 3;
/// Of one CPU, each of the two.
const HELD: f64 = 0.25;
/// Requests per second of the quiet pod.
const RATE: f64 = 500.0;
/// A p99 takes more requests than a rate.
const LONGER: u32 = 3;
const START: Duration = Duration::from_secs(10);
