//! A proxy that speaks the protocol in earnest and carries nothing: it answers each line by who it is.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;
use weft_keeper::{Entered, enter};
use weft_runtime::{Stop, Tasks};
use weft_telemetry::records::RecordBatch;
use weft_transport::handover::{FromAgent, Hello, Nack, NackReason, Pod, ProxyEnd, Role, SOCKET, Versions};
use weft_transport::memfd::Sealed;

use crate::Done;

/// Does what the file `behaviour` in the run directory says: nothing, `die`, `newer`, `refuse`, or `one-layout`.
pub(crate) fn run(run_dir: &Path) -> Done {
    // First, so that a test that sees this process in its cgroup may change the file.
    let behaviour = fs::read_to_string(run_dir.join("behaviour")).unwrap_or_default();
    let entered = enter(run_dir, |_| None)?;
    if behaviour == "die" {
        return Err("it dies at once, as it was told".into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(Proxy::new(&entered, &behaviour).serve(run_dir))
}

#[expect(clippy::struct_excessive_bools, reason = "each may be with or without the others")]
struct Proxy {
    hello: Hello,
    refuses: bool,
    /// As one of a build that does not know what `older-maps` are.
    holds_one: bool,
    has_maps: bool,
    has_snapshot: bool,
    pods: BTreeMap<u64, Serving>,
    open: watch::Sender<usize>,
    tasks: Tasks,
}

struct Serving {
    pod: Pod,
    accepting: Stop,
    /// Ends what the pod's connections carry.
    gone: Stop,
}

impl Proxy {
    fn new(entered: &Entered, behaviour: &str) -> Self {
        let mut hello = Hello::of_this_process(entered.generation, "trial");
        if behaviour == "newer" {
            hello.versions = Versions { min: 5, max: 6 };
        }
        Self {
            hello,
            refuses: behaviour == "refuse",
            holds_one: behaviour == "one-layout",
            has_maps: false,
            has_snapshot: false,
            pods: BTreeMap::new(),
            open: watch::channel(0).0,
            tasks: Tasks::new(),
        }
    }

    async fn serve(mut self, run_dir: &Path) -> Done {
        let mut open = self.open.subscribe();
        loop {
            let end = tokio::select! {
                end = ProxyEnd::connect(run_dir.join(SOCKET), &self.hello) => end,
                () = drained(self.hello.draining, &mut open) => return Ok(()),
            };
            match end {
                Ok(end) => {
                    if self.converse(end).await? {
                        return Ok(());
                    }
                }
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Whether it is drained; else the agent is gone.
    async fn converse(&mut self, end: ProxyEnd) -> Result<bool, Box<dyn std::error::Error>> {
        if end.hand_back(self.pods.values().map(|serving| &serving.pod)).await.is_err() {
            return Ok(false);
        }
        self.tell(&end).await?;
        let mut open = self.open.subscribe();
        loop {
            tokio::select! {
                said = end.receive() => match said {
                    Ok(Some((_, FromAgent::Ack { .. } | FromAgent::Nack(_)))) => {}
                    Ok(Some((of, message))) => match self.take(message) {
                        Ok(()) => end.ack(of).await?,
                        Err(error) => end.nack(Nack { of, reason: NackReason::Failed, error }).await?,
                    },
                    _ => return Ok(false),
                },
                () = drained(self.hello.draining, &mut open) => return Ok(true),
            }
        }
    }

    /// Two batches on each connection: one of records, and one that is none.
    async fn tell(&self, end: &ProxyEnd) -> Done {
        // An agent knows the generation by itself.
        let batch = RecordBatch { generation: 1, lost: self.hello.pid.into(), ..RecordBatch::default() };
        for bytes in [batch.to_bytes(), b"no records".to_vec()] {
            end.records(&Sealed::of(&bytes)?).await?;
        }
        Ok(())
    }

    fn take(&mut self, message: FromAgent) -> Result<(), String> {
        match message {
            FromAgent::OlderMaps { .. } if self.holds_one => {
                return Err("a message of kind `older-maps`".to_owned());
            }
            FromAgent::Maps { .. } => self.has_maps = true,
            FromAgent::Snapshot { bytes, .. } => {
                let text = bytes.read().map_err(|error| error.to_string())?;
                if self.refuses || text == b"bad" {
                    return Err("it is no good".to_owned());
                }
                self.has_snapshot = true;
            }
            FromAgent::Pod(pod) => {
                let gone = self.pods.remove(&pod.cookie).map(|before| {
                    before.accepting.cancel();
                    before.gone
                });
                let serving = Serving { pod, accepting: Stop::new(), gone: gone.unwrap_or_default() };
                self.accept(&serving)?;
                self.pods.insert(serving.pod.cookie, serving);
            }
            FromAgent::PodGone { cookie } => {
                if let Some(gone) = self.pods.remove(&cookie) {
                    gone.accepting.cancel();
                    gone.gone.cancel();
                }
            }
            FromAgent::Drain { .. } => {
                self.hello.draining = true;
                for serving in self.pods.values_mut() {
                    serving.accepting.cancel();
                    serving.pod.listeners.clear();
                }
            }
            FromAgent::OlderMaps { .. }
            | FromAgent::Identities { .. }
            | FromAgent::Ack { .. }
            | FromAgent::Nack(_) => {}
            FromAgent::Unfit(nack) => return Err(nack.error),
        }
        Ok(())
    }

    fn accept(&self, serving: &Serving) -> Result<(), String> {
        if !(self.has_maps && self.has_snapshot) {
            return Err("a pod came before maps and a snapshot".to_owned());
        }
        for listening in serving.pod.listeners.iter().filter(|listening| listening.role == Role::Outbound) {
            let socket = listening.socket.try_clone().map_err(|error| error.to_string())?;
            let listener = TcpListener::from_std(socket).map_err(|error| error.to_string())?;
            let (accepting, gone) = (serving.accepting.clone(), serving.gone.clone());
            let (tasks, open) = (self.tasks.clone(), self.open.clone());
            let who = Arc::from(format!("{}\n", self.hello.pid));
            self.tasks.spawn("listener", async move {
                loop {
                    tokio::select! {
                        () = accepting.cancelled() => return Ok::<_, Infallible>(()),
                        accepted = listener.accept() => if let Ok((client, _)) = accepted {
                            tasks.spawn("connection", answer(client, Arc::clone(&who), gone.clone(), open.clone()));
                        }
                    }
                }
            });
        }
        Ok(())
    }
}

/// Returns once this proxy was told to finish and carries nothing.
async fn drained(draining: bool, open: &mut watch::Receiver<usize>) {
    if !draining || open.wait_for(|open| *open == 0).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn answer(
    mut client: TcpStream,
    who: Arc<str>,
    gone: Stop,
    open: watch::Sender<usize>,
) -> Result<(), Infallible> {
    open.send_modify(|open| *open += 1);
    let (read, mut write) = client.split();
    let mut lines = BufReader::new(read).lines();
    let speak = async {
        while let Ok(Some(_)) = lines.next_line().await {
            if write.write_all(who.as_bytes()).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = speak => {}
        () = gone.cancelled() => {}
    }
    open.send_modify(|open| *open -= 1);
    Ok(())
}
