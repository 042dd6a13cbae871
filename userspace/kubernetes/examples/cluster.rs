//! How long a cluster takes to read, what that takes of memory, and how long a change of one endpoint is under way.
//!
//! ```text
//! cargo run --release -p weft-kubernetes --example cluster -- KUBECONFIG [NAMESPACE/SLICE]
//! ```
//! With the name of an EndpointSlice, its first endpoint's address is changed again and again.
#![expect(clippy::print_stdout, reason = "printing figures is what this is for")]

use std::{
    error::Error,
    fs, io,
    net::Ipv4Addr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use kube::{
    Api, Client, Config,
    api::{DynamicObject, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::json;
use tokio::{sync::watch, time::sleep};
use weft_kubernetes::{ClusterSource, Connection, Options, Source as _};
use weft_model::{ObjectName, Snapshot};

const CHANGES: u32 = 50;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let kubeconfig = PathBuf::from(words.next().ok_or("which kubeconfig?")?);
    let slice = words.next().and_then(|name| ObjectName::parse(&name));
    let folder = tempfile::tempdir()?;
    let options = Options {
        node: "node-0".into(),
        last_good: Some(folder.path().to_owned()),
        mutual_tls: false,
        system: None,
        trust_domain: None,
    };
    let before = resident()?;
    let began = Instant::now();
    let connection = Connection::Kubeconfig(kubeconfig.clone());
    let (source, mut snapshots) = ClusterSource::open(&connection, "/sys/fs/cgroup".into(), options).await?;
    let figures = async move {
        snapshots.wait_for(|snapshot| snapshot.version > 0).await?;
        println!("in sync after        {:>8.1} ms", began.elapsed().as_secs_f64() * 1e3);
        let snapshot = Arc::clone(&snapshots.borrow_and_update());
        let endpoints =
            |s: &Snapshot| s.services.values().map(|s| s.ports[0].groups[0].endpoints.len()).sum::<usize>();
        println!(
            "in the snapshot      {:>8} services, {} endpoints, {} pods, {} problems",
            snapshot.services.len(),
            endpoints(&snapshot),
            snapshot.workloads.len(),
            snapshot.problems.len()
        );
        drop(snapshot);
        println!("resident memory      {:>8.1} MiB (before: {:.1})", mebi(resident()?), mebi(before));
        if let Some(slice) = slice {
            changes(&kubeconfig, &slice, &mut snapshots).await?;
        }
        // The first snapshot is kept by then.
        sleep(Duration::from_secs(12)).await;
        let kept: u64 =
            fs::read_dir(folder.path())?.map(|file| Ok(file?.metadata()?.len())).sum::<io::Result<_>>()?;
        println!(
            "resident memory      {:>8.1} MiB, {:.1} MiB are kept",
            mebi(resident()?),
            mebi(usize::try_from(kept)?)
        );
        Ok::<_, Box<dyn Error>>(())
    };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let ends = async {
        let _ = stopped.await;
    };
    let (done, ()) = tokio::join!(
        async {
            let done = figures.await;
            drop(stop);
            done
        },
        Box::new(source).run(Box::pin(ends))
    );
    done
}

async fn changes(
    kubeconfig: &PathBuf,
    slice: &ObjectName,
    snapshots: &mut watch::Receiver<Arc<Snapshot>>,
) -> Result<(), Box<dyn Error>> {
    let file = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("discovery.k8s.io", "v1", "EndpointSlice"));
    let api: Api<DynamicObject> = Api::namespaced_with(Client::try_from(config)?, &slice.namespace, &kind);
    let mut times = Vec::new();
    for round in 1..=CHANGES {
        let address = Ipv4Addr::from(0x0c00_0000 + round);
        let endpoint = json!({"addresses": [address], "conditions": {"ready": true}});
        let patch = Patch::Merge(json!({"endpoints": [endpoint]}));
        api.patch(&slice.name, &PatchParams::default(), &patch).await?;
        // The API server has it now.
        let began = Instant::now();
        let holds = |snapshot: &Arc<Snapshot>| {
            let mut all =
                snapshot.services.values().flat_map(|service| &service.ports[0].groups[0].endpoints);
            all.any(|endpoint| endpoint.address.ip() == address)
        };
        snapshots.wait_for(holds).await?;
        times.push(began.elapsed());
        sleep(Duration::from_millis(50)).await;
    }
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
    println!("change -> snapshot   {:>8.1} ms median, {:.1} ms p99", at(50), at(99));
    Ok(())
}

fn resident() -> io::Result<usize> {
    let pages = fs::read_to_string("/proc/self/statm")?;
    Ok(pages.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0) * 4096)
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn mebi(bytes: usize) -> f64 {
    bytes as f64 / 1_048_576.0
}
