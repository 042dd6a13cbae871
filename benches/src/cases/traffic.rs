//! Requests, connections and bytes per second: no mesh, the kernel path, and the accelerated path.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Result;

use crate::report::{Row, Unit};
use crate::rounds::{Series, interleave};
use crate::site::{self, Side};
use crate::work::{ANSWER_AND_CLOSE, ANSWER_AND_KEEP, DISCARD, Work};
use crate::{Only, Plan, Report, manifests};

/// Measures.
pub(super) fn run(plan: &Plan, only: &Only, report: &mut Report) -> Result<()> {
    let cases: Vec<_> = CASES.iter().filter(|case| only.takes("traffic", case.name)).collect();
    if cases.is_empty() {
        return Ok(());
    }
    let world = site::world()?;
    let bare = Side::new(&world, "plain", false)?;
    let mut mesh = Side::new(&world, "mesh", true)?;
    mesh.apply(manifests::services(SERVICES, mesh.server_ip()));
    mesh.apply([manifests::accelerated_service(SERVICES, mesh.server_ip())]);
    mesh.start_agent()?;
    let paths = Paths { plan, bare, acceleration_off: acceleration_off(&mesh), mesh };
    for case in cases {
        let work = |to| (case.work)(to, plan.lasts);
        let figures = paths.measure(case.name, case.ports, &work)?;
        figures.report(report, case.unit, case.mesh, case.accelerated);
    }
    Ok(())
}

struct Case {
    name: &'static str,
    ports: Ports,
    work: fn(SocketAddr, Duration) -> Work,
    unit: Unit,
    /// The least ratio of the mesh that is wanted.
    mesh: f64,
    /// The same of the accelerated path; without one there is no row of it.
    accelerated: Option<f64>,
}

const CASES: [Case; 5] = [
    requests("requests, c=1", |to, lasts| Work::Requests { to, connections: 1, lasts }, None),
    requests("requests, c=32", |to, lasts| Work::Requests { to, connections: 32, lasts }, Some(1.6)),
    requests("requests, c=128", |to, lasts| Work::Requests { to, connections: 128, lasts }, None),
    Case {
        name: "connections",
        ports: CONNECTIONS,
        work: |to, lasts| Work::Connections { to, lasts },
        unit: Unit::PerSecond,
        mesh: 0.95,
        accelerated: None,
    },
    Case {
        name: "bulk",
        ports: BULK,
        work: |to, lasts| Work::Bulk { to, lasts },
        unit: Unit::BytesPerSecond,
        mesh: 0.98,
        accelerated: Some(0.9),
    },
];

const fn requests(
    name: &'static str,
    work: fn(SocketAddr, Duration) -> Work,
    accelerated: Option<f64>,
) -> Case {
    Case { name, ports: REQUESTS, work, unit: Unit::PerSecond, mesh: 0.98, accelerated }
}

struct Paths<'a> {
    plan: &'a Plan,
    bare: Side,
    mesh: Side,
    acceleration_off: Option<String>,
}

/// A port of the server, and that of the Services which leads there.
type Ports = (u16, u16);

struct Figures {
    case: String,
    plain: Series,
    again: Series,
    mesh: Series,
    accelerated: Result<Series, String>,
}

impl Paths<'_> {
    fn measure(
        &self,
        case: &str,
        (port, front): Ports,
        work: &dyn Fn(SocketAddr) -> Work,
    ) -> Result<Figures> {
        let service = |index| SocketAddr::from((IpAddr::from(manifests::service_ip(index)), front));
        let direct = || self.bare.measure(&work((self.bare.server_ip(), port).into()));
        let mesh = || self.mesh.measure(&work(service(0)));
        let accelerated = || self.mesh.measure(&work(service(SERVICES)));
        let off = self.acceleration_off.as_ref().map(|reason| format!("off: {reason}"));
        let off = off.or_else(|| accelerated().err().map(|error| format!("NOT reached: {error}")));
        let mut sides: Vec<&dyn Fn() -> Result<f64>> = vec![&direct, &mesh, &direct];
        if off.is_none() {
            sides.push(&accelerated);
        }
        let mut series = interleave(self.plan, case, &sides)?.into_iter();
        let mut next = || series.next().expect("each side has its series");
        let (plain, mesh, again) = (next(), next(), next());
        let accelerated = off.map_or_else(|| Ok(next()), Err);
        Ok(Figures { case: case.into(), plain, again, mesh, accelerated })
    }
}

impl Figures {
    /// Targets are ratios; without one for the accelerated path there is no row of it.
    fn report(&self, report: &mut Report, unit: Unit, mesh: f64, accelerated: Option<f64>) {
        let case = &self.case;
        let row = Row::compared(case, unit, &self.plain, &self.mesh);
        report.add(row.ratio_at_least(mesh));
        match (&self.accelerated, accelerated) {
            (Ok(figures), Some(least)) => report.add(
                Row::compared(&format!("{case}, accelerated"), unit, &self.plain, figures)
                    .ratio_at_least(least),
            ),
            (Err(reason), Some(_)) => {
                report.add(Row::off(&format!("{case}, accelerated"), unit, reason.clone()));
            }
            (_, None) => {}
        }
        let control =
            Row::compared(&format!("{case}, no mesh on either side"), unit, &self.plain, &self.again);
        report.add(control.note("control: 1 but for noise".into()));
    }
}

/// What `weft status` says of acceleration where it is off.
fn acceleration_off(mesh: &Side) -> Option<String> {
    let status = mesh.node.weft_json(&["status"]);
    let degradations = status["degradations"].as_array()?;
    let said = |what: &serde_json::Value| what["feature"].as_str().unwrap_or_default().contains("accel");
    let found = degradations.iter().find(|degradation| said(degradation))?;
    Some(found["reason"].as_str().unwrap_or("no reason given").to_owned())
}

const REQUESTS: Ports = (ANSWER_AND_KEEP, 80);
const CONNECTIONS: Ports = (ANSWER_AND_CLOSE, 81);
const BULK: Ports = (DISCARD, 82);
const SERVICES: u32 = 10;
