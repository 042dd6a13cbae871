//! Case 49: a kernel without the fixes is not asked to accelerate, and status says why.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime;
use tokio::sync::watch;
use weft_datapath::Acceleration::{self, All, Auto, ProxyReads, Services};
use weft_datapath::{Enforcer, Settings, Tenancy, cleanup};
use weft_model::{LoadBalancer, ObjectName, Service, ServiceKind, Snapshot};
use weft_runtime::Tasks;
use weft_telemetry::api::Status;
use weft_tests::{World, soon};

#[test]
fn a_kernel_without_the_fixes_is_not_accelerated_and_says_why() {
    let Some(status) = status_on(Auto, true, None) else { return };
    let off = status.degradations.iter().find(|one| one.feature == "same-node acceleration").unwrap();
    assert!(off.reason.contains("6.18.13 is older than 6.18.14"), "{}", off.reason);
    assert!(off.remedy.contains("6.18.14"), "{}", off.remedy);
    assert_eq!(program(&status), "off");
}

#[test]
fn the_nodes_proxy_is_reason_to_look_at_the_kernel_unless_the_agent_is_told_otherwise() {
    for (wanted, outbound) in [(Auto, None), (All, None), (Services, Some(15001))] {
        let Some(status) = status_on(wanted, false, outbound) else { return };
        assert_eq!((program(&status), status.degradations.len()), ("not needed", 0), "{wanted:?}");
    }
    for wanted in [ProxyReads, All] {
        let Some(status) = status_on(wanted, false, Some(15001)) else { return };
        assert!(status.degradations.iter().any(|one| one.reason.contains("6.18.13 is older than 6.18.14")));
        assert_eq!(program(&status), "off");
    }
}

#[test]
fn an_old_kernel_is_no_degradation_where_nobody_has_asked_for_acceleration() {
    let Some(status) = status_on(Auto, false, Some(15001)) else { return };
    assert_eq!((program(&status), status.degradations.len()), ("off", 0));
}

/// What `weft status` says on kernel 6.18.13, once a Service is enforced that asks for acceleration or does not, and a
/// pod's connections come to the proxy by this port, if any.
fn status_on(acceleration: Acceleration, asks: bool, outbound: Option<u16>) -> Option<Status> {
    let world = World::new()?;
    let node = world.node("a");
    let tenancy = Tenancy::take(&node.run_dir(), node.name(), &node.state_dir()).unwrap();
    let settings = Settings {
        node: node.name().to_owned(),
        version: "test".to_owned(),
        cgroup: Some(node.cgroup().to_owned()),
        balance_everyone: false,
        probe_cgroup: None,
        proxy: false,
        acceleration,
        kernel: Some((6, 18, 13)),
        map_sizes: BTreeMap::default(),
        storage_maker: Vec::new(),
    };
    let snapshot = Arc::new(one_service(asks));
    let (_sender, snapshots) = watch::channel(Arc::clone(&snapshot));
    let runtime = runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let status = runtime.block_on(async {
        let tasks = Tasks::new();
        let enforcer = Enforcer::open(settings, weft_telemetry::live::Live::default()).unwrap();
        enforcer.start(&tasks, snapshots, watch::channel(u64::MAX).1);
        let asked = enforcer.clone();
        tokio::task::spawn_blocking(move || {
            soon(|| asked.enforced().is_ok());
            asked.listen(NOBODYS, outbound).unwrap();
        })
        .await
        .unwrap();
        let status = enforcer.status(&snapshot);
        tasks.drain(Duration::from_secs(5)).await;
        status
    });
    drop((runtime, tenancy));
    cleanup(&node.run_dir()).unwrap();
    Some(status)
}

fn program(status: &Status) -> &str {
    &status.programs.iter().find(|program| program.name == "weft_sk_msg").unwrap().state
}

/// One Service, with the annotation or without.
fn one_service(accelerate: bool) -> Snapshot {
    let name = ObjectName::new("shop", "fast");
    let service = Service {
        name: name.clone(),
        kind: ServiceKind::ClusterIp,
        ips: vec!["10.96.0.1".parse().unwrap()],
        ports: Vec::new(),
        session_affinity: None,
        load_balancer: LoadBalancer::Random,
        accelerate,
        proxy_failure: weft_model::ProxyFailure::default(),
        traffic: Arc::default(),
    };
    let services = Arc::new([(name, Arc::new(service))].into());
    Snapshot { version: 1, services, ..Snapshot::default() }
}

/// The cookie of a network namespace that no pod has.
const NOBODYS: u64 = u64::MAX;
