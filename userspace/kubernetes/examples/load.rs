//! How long a directory takes to read, and one change in it.
//!
//! ```text
//! cargo run --release -p weft-kubernetes --example load -- [SERVICES] [ENDPOINTS] [FILES] [pods]
//! ```
#![expect(clippy::print_stdout, reason = "printing figures is what this is for")]

use std::{
    error::Error,
    fmt::Write as _,
    fs, io,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use weft_kubernetes::{ManifestSource, Options, Source as _};
use weft_model::{ObjectName, Snapshot};

const CHANGES: usize = 50;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // With `pods`, endpoints come from pods that the Services select instead of EndpointSlices.
    let by_pods = std::env::args().any(|word| word == "pods");
    let mut numbers =
        std::env::args().skip(1).filter(|word| word != "pods").map(|text| text.parse::<usize>());
    let services = numbers.next().transpose()?.unwrap_or(10_000);
    let endpoints = numbers.next().transpose()?.unwrap_or(100_000);
    let files = numbers.next().transpose()?.unwrap_or(200).min(services);
    let directory = tempfile::tempdir()?;
    let load = Load { services, per_service: endpoints / services, files, by_pods };
    for file in 0..files {
        replace(directory.path(), file, &load.file(file, None))?;
    }
    let bytes: u64 =
        fs::read_dir(directory.path())?.map(|entry| Ok(entry?.metadata()?.len())).sum::<io::Result<_>>()?;
    println!("{services} services, {endpoints} endpoints, {files} files, {} MiB", bytes >> 20);

    let before = resident()?;
    let start = Instant::now();
    let (source, mut snapshots) = ManifestSource::open(directory.path(), Options::of("node-0"))?;
    println!("cold read            {:>8.1} ms", millis(start.elapsed()));
    let snapshot = Arc::clone(&snapshots.borrow_and_update());
    println!("services in snapshot {:>8}   problems {}", snapshot.services.len(), snapshot.problems.len());
    drop(snapshot);
    println!("resident memory      {:>8.1} MiB (before: {:.1})", mebi(resident()?), mebi(before));

    let refresh = source.refresh_handle();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let changes = async move {
        // Files are quiet for a moment before they change, as they are in real life.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let (mut seen, mut scans) = (Vec::new(), Vec::new());
        for round in 0..CHANGES {
            let address = Ipv4Addr::from(0x0b00_0000 + u32::try_from(round)?);
            let changed = round % files;
            replace(directory.path(), changed, &load.file(changed, Some(address)))?;
            let start = Instant::now();
            snapshots.wait_for(|snapshot| holds(snapshot, changed, address.into())).await?;
            seen.push(start.elapsed());
            tokio::time::sleep(Duration::from_millis(30)).await;
            let start = Instant::now();
            refresh.refresh().await;
            scans.push(start.elapsed());
        }
        report("change -> snapshot", &mut seen);
        report("scan, no change", &mut scans);
        drop(stop);
        Ok::<_, Box<dyn Error>>(())
    };
    let shutdown = async {
        let _ = stopped.await;
    };
    let (done, ()) = tokio::join!(changes, Box::new(source).run(Box::pin(shutdown)));
    println!("resident memory      {:>8.1} MiB", mebi(resident()?));
    done
}

struct Load {
    services: usize,
    per_service: usize,
    files: usize,
    by_pods: bool,
}

impl Load {
    /// Service `s` is in file `s % files`; `first` replaces the first endpoint of the file's first Service.
    fn file(&self, file: usize, first: Option<Ipv4Addr>) -> String {
        let mut text = String::new();
        for service in (file..self.services).step_by(self.files) {
            self.service(&mut text, service, first.filter(|_| service == file));
        }
        text
    }

    fn service(&self, text: &mut String, service: usize, first: Option<Ipv4Addr>) {
        let ip = address(0x0a60_0000, service);
        let _ = write!(
            text,
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: svc-{service}\n  namespace: shop\nspec:\n  \
             selector: {{app: svc-{service}}}\n  clusterIP: {ip}\n  clusterIPs:\n  - {ip}\n  ports:\n  - name: http\n    \
             port: 80\n    targetPort: 8080\n    protocol: TCP\n---\n"
        );
        if !self.by_pods {
            let _ = write!(
                text,
                "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: svc-{service}-x\n  \
                 namespace: shop\n  labels:\n    kubernetes.io/service-name: svc-{service}\naddressType: IPv4\n\
                 ports:\n- name: http\n  port: 8080\n  protocol: TCP\nendpoints:\n"
            );
        }
        for i in 0..self.per_service {
            let k = service * self.per_service + i;
            let address = first.filter(|_| i == 0).unwrap_or_else(|| address(0x0a00_0000, k));
            let (node, zone) = (k % 100, k % 3);
            let name = format!("svc-{service}-7d9f8b6c5-{i:05}");
            let _ = if self.by_pods {
                write!(
                    text,
                    "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: shop\n  labels:\n    \
                     app: svc-{service}\n    pod-template-hash: 7d9f8b6c5\nspec:\n  nodeName: node-{node}\nstatus:\n  \
                     podIPs:\n  - ip: {address}\n---\n"
                )
            } else {
                write!(
                    text,
                    "- addresses:\n  - {address}\n  conditions:\n    ready: true\n    serving: true\n    \
                     terminating: false\n  nodeName: node-{node}\n  zone: zone-{zone}\n  targetRef:\n    kind: Pod\n    \
                     name: {name}\n    namespace: shop\n"
                )
            };
        }
        text.push_str("---\n");
    }
}

fn address(base: u32, index: usize) -> Ipv4Addr {
    Ipv4Addr::from(base + u32::try_from(index).unwrap_or(0))
}

fn replace(directory: &Path, file: usize, text: &str) -> io::Result<()> {
    let (new, name): (PathBuf, _) = (directory.join(".new"), directory.join(format!("load-{file:04}.yaml")));
    fs::write(&new, text)?;
    fs::rename(new, name)
}

fn holds(snapshot: &Snapshot, service: usize, address: IpAddr) -> bool {
    let service = snapshot.services.get(&ObjectName::new("shop", format!("svc-{service}")));
    service.is_some_and(|s| s.ports[0].groups[0].endpoints.iter().any(|e| e.address.ip() == address))
}

fn report(what: &str, times: &mut [Duration]) {
    times.sort();
    let at = |share: usize| millis(times[(times.len() - 1) * share / 100]);
    println!("{what:<20} {:>8.1} ms median, {:.1} ms p99, {:.1} ms least", at(50), at(99), at(0));
}

fn resident() -> io::Result<usize> {
    let pages = fs::read_to_string("/proc/self/statm")?;
    Ok(pages.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0) * 4096)
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn mebi(bytes: usize) -> f64 {
    bytes as f64 / 1_048_576.0
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
