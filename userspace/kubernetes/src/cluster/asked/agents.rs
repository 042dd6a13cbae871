//! The agents of a mesh: which pods they are, and a way into them.
//!
//! An agent answers on a unix socket of its own alone. Whoever may exec into its pod may ask it: the API server decides, and
//! no port is open to the other processes of a node.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::SystemTime,
};

use futures_util::future::BoxFuture;
use k8s_openapi::{
    api::{
        apps::v1::DaemonSet,
        core::v1::{Affinity, Container, Pod},
    },
    apimachinery::pkg::apis::meta::v1::Status,
};
use kube::{
    Api,
    api::{AttachParams, AttachedProcess, ListParams, LogParams},
    client::UpgradeConnectionError,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use weft_model::ObjectName;

use super::{AskError, Cluster, answered};

/// The agent of a node, as its pod tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentPod {
    /// The pod.
    pub name: ObjectName,
    /// Its node.
    pub node: String,
    /// Its container runs, and its probe says that it is ready.
    pub ready: bool,
    /// `Running`, `Pending`, `Failed`.
    pub phase: String,
    /// When its container began.
    pub since: Option<SystemTime>,
    /// How often its container began anew.
    pub restarts: u32,
    /// The image of its container.
    pub image: String,
    /// The agent's `--run-dir`.
    pub run_dir: String,
    /// What runs in its container.
    program: String,
}

/// A program in an agent's container: what is written is its input, what is read is its output.
pub struct Process {
    /// Ends the connection when it is dropped.
    _connection: AttachedProcess,
    input: Option<Pin<Box<dyn AsyncWrite + Send>>>,
    output: Pin<Box<dyn AsyncRead + Send>>,
    complaints: Pin<Box<dyn AsyncRead + Send>>,
    status: Option<BoxFuture<'static, Option<Status>>>,
    said: Said,
}

/// What a program complained of, or why it could not run. Clones share it; it is whole when the output has ended.
#[derive(Clone, Debug, Default)]
pub struct Said(Arc<Mutex<Vec<u8>>>);

impl Cluster {
    /// The agents of all nodes, in the order of their nodes: one of each node, of two the one that is ready or began later.
    pub async fn agents(&self) -> Result<Vec<AgentPod>, AskError> {
        let pods: Api<Pod> = Api::namespaced(self.client(), AGENTS);
        let params = ListParams::default().labels(LABELS);
        let what = format!("Pods {LABELS} of namespace {AGENTS}");
        let list = answered("list", what, pods.list(&params)).await?;
        Ok(one_of_each_node(list.items.into_iter().filter_map(AgentPod::of).collect()))
    }

    /// On how many nodes the DaemonSet wants an agent; `None` while that has not been counted.
    ///
    /// # Errors
    /// [`AskError::Missing`] where there is none, and agents were installed in another way.
    pub async fn agents_wanted(&self) -> Result<Option<usize>, AskError> {
        let sets: Api<DaemonSet> = Api::namespaced(self.client(), AGENTS);
        let set = answered("get", format!("DaemonSet {AGENTS}/{DAEMONSET}"), sets.get(DAEMONSET)).await?;
        let status = set.status.unwrap_or_default();
        let is_counted = status.observed_generation >= set.metadata.generation;
        Ok(is_counted.then(|| status.desired_number_scheduled.try_into().unwrap_or_default()))
    }

    /// Runs the agent's own program with `arguments` in its container.
    pub async fn run_in(&self, agent: &AgentPod, arguments: &[&str]) -> Result<Process, AskError> {
        let pods: Api<Pod> = Api::namespaced(self.client(), &agent.name.namespace);
        let params = AttachParams::default().container(CONTAINER).stdin(true).stdout(true).stderr(true);
        // Tables of a large mesh are megabytes; a kibibyte at a time takes a task's turn each.
        let params = params.max_stdout_buf_size(BUFFER);
        let command = [agent.program.as_str()].into_iter().chain(arguments.iter().copied());
        let what = format!("pods/exec of Pod {}", agent.name);
        let refused = |error: &kube::Error| match error {
            kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(status)) => {
                Some(status.as_u16())
            }
            _ => None,
        };
        let asked = async {
            let process = pods.exec(&agent.name.name, command, &params).await;
            Ok(process.map_err(|error| (refused(&error), error)))
        };
        match answered("create", &what, asked).await? {
            Ok(process) => Ok(Process::of(process)),
            Err((Some(403), error)) => {
                Err(AskError::Forbidden { verb: "create", what, error: error.to_string() })
            }
            Err((Some(404), _)) => Err(AskError::Missing { verb: "create", what }),
            Err((_, error)) => Err(AskError::of("create", what, &error)),
        }
    }

    /// The last `lines` of an agent's log.
    pub async fn log(&self, agent: &AgentPod, lines: u32) -> Result<String, AskError> {
        let pods: Api<Pod> = Api::namespaced(self.client(), &agent.name.namespace);
        let params = LogParams {
            container: Some(CONTAINER.to_owned()),
            tail_lines: Some(lines.into()),
            ..LogParams::default()
        };
        answered("get", format!("pods/log of Pod {}", agent.name), pods.logs(&agent.name.name, &params)).await
    }
}

impl AgentPod {
    /// `None` for one that is for no node, or whose node is done with it.
    fn of(pod: Pod) -> Option<Self> {
        let (spec, status) = (pod.spec?, pod.status.unwrap_or_default());
        let container = spec.containers.iter().find(|container| container.name == CONTAINER)?;
        let state =
            status.container_statuses.iter().flatten().find(|container| container.name == CONTAINER).cloned();
        let running = state.as_ref().and_then(|state| state.state.as_ref()?.running.as_ref());
        let since = running.and_then(|running| Some(running.started_at.as_ref()?.0.into()));
        let phase = status.phase.unwrap_or_default();
        if phase == "Succeeded" || pod.metadata.deletion_timestamp.is_some() && running.is_none() {
            return None;
        }
        Some(Self {
            name: ObjectName::new(
                pod.metadata.namespace.unwrap_or_default(),
                pod.metadata.name.unwrap_or_default(),
            ),
            ready: state.as_ref().is_some_and(|state| state.ready),
            restarts: state.as_ref().map_or(0, |state| state.restart_count.unsigned_abs()),
            phase,
            since,
            image: container.image.clone().unwrap_or_default(),
            run_dir: run_dir(container),
            program: container.command.as_deref().and_then(<[_]>::first).map_or(PROGRAM, |it| it).to_owned(),
            node: spec.node_name.or_else(|| meant_for(spec.affinity?))?,
        })
    }
}

/// The node that a DaemonSet has made a pod for, before it is bound to it, or where it cannot be.
fn meant_for(affinity: Affinity) -> Option<String> {
    let required = affinity.node_affinity?.required_during_scheduling_ignored_during_execution?;
    let mut fields =
        required.node_selector_terms.into_iter().flat_map(|term| term.match_fields.unwrap_or_default());
    fields.find(|field| field.key == "metadata.name")?.values?.into_iter().next()
}

fn run_dir(container: &Container) -> String {
    let mut words = container.command.iter().chain(&container.args).flatten();
    while let Some(word) = words.next() {
        match word.strip_prefix("--run-dir") {
            Some("") => return words.next().cloned().unwrap_or_default(),
            Some(rest) if rest.starts_with('=') => return rest[1..].to_owned(),
            _ => {}
        }
    }
    RUN_DIR.to_owned()
}

fn one_of_each_node(mut agents: Vec<AgentPod>) -> Vec<AgentPod> {
    agents.sort_by(|a, b| {
        let better = |agent: &AgentPod| (agent.ready, agent.since);
        a.node.cmp(&b.node).then_with(|| better(b).cmp(&better(a)))
    });
    agents.dedup_by(|later, first| later.node == first.node);
    agents
}

impl Process {
    fn of(mut process: AttachedProcess) -> Self {
        let asked = "all three streams were asked for";
        Self {
            input: Some(Box::pin(process.stdin().expect(asked))),
            output: Box::pin(process.stdout().expect(asked)),
            complaints: Box::pin(process.stderr().expect(asked)),
            status: process.take_status().map(|status| Box::pin(status) as _),
            said: Said::default(),
            _connection: process,
        }
    }

    /// What it complains of.
    pub fn said(&self) -> Said {
        self.said.clone()
    }

    /// What it complains of has to be read: it would wait.
    fn listen(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let mut space = [0; 1024];
            let mut buffer = ReadBuf::new(&mut space);
            match ready!(self.complaints.as_mut().poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => self.said.add(buffer.filled()),
                _ => return Poll::Ready(()),
            }
        }
    }

    /// How it ended, as the node tells.
    fn end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(status) = &mut self.status else { return Poll::Ready(()) };
        let status = ready!(status.as_mut().poll(cx));
        self.status = None;
        if let Some(why) = status.filter(|status| status.status.as_deref() == Some("Failure")) {
            self.said.add(why.message.unwrap_or_default().as_bytes());
        }
        Poll::Ready(())
    }
}

impl AsyncRead for Process {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let listened = self.listen(cx);
        let before = buffer.filled().len();
        ready!(self.output.as_mut().poll_read(cx, buffer))?;
        if buffer.filled().len() == before && buffer.remaining() > 0 {
            ready!(listened);
            ready!(self.end(cx));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Process {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.input {
            Some(input) => input.as_mut().poll_write(cx, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input.as_mut().map_or(Poll::Ready(Ok(())), |input| input.as_mut().poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input = None;
        Poll::Ready(Ok(()))
    }
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").field("said", &self.said).finish_non_exhaustive()
    }
}

impl Said {
    /// In one line; empty where it said nothing.
    pub fn text(&self) -> String {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&said).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn add(&self, bytes: &[u8]) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = LONGEST.saturating_sub(said.len()).min(bytes.len());
        said.extend_from_slice(&bytes[..room]);
        said.push(b' ');
    }
}

/// As `weft install` has them.
const AGENTS: &str = "weft-system";
const DAEMONSET: &str = "weft";
const LABELS: &str = "app.kubernetes.io/name=weft,app.kubernetes.io/component=agent";
const CONTAINER: &str = "agent";
const RUN_DIR: &str = "/run/weft";
/// Where the image has it.
const PROGRAM: &str = "/weft";

/// Bytes of a program's output that are held.
const BUFFER: usize = 64 * 1024;
/// Bytes of complaints that are kept.
const LONGEST: usize = 4096;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(change: impl FnOnce(&mut Value)) -> Option<AgentPod> {
        let mut pod = json!({
            "metadata": {"namespace": "weft-system", "name": "weft-1"},
            "spec": {"nodeName": "n1", "containers": [{"name": "agent", "args": ["agent", "--run-dir=/run/other"]}]},
            "status": {"phase": "Running", "containerStatuses": [{
                "name": "agent", "ready": true, "restartCount": 2, "image": "", "imageID": "",
                "state": {"running": {"startedAt": "1970-01-01T00:00:07Z"}}}]},
        });
        change(&mut pod);
        AgentPod::of(serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn an_agent_is_what_its_pod_says() {
        let agent = pod(|_| {}).unwrap();
        assert_eq!((agent.node.as_str(), agent.name.to_string()), ("n1", "weft-system/weft-1".to_owned()));
        assert_eq!((agent.ready, agent.restarts, agent.program.as_str()), (true, 2, "/weft"));
        let seven = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(7);
        assert_eq!((agent.since, agent.run_dir.as_str()), (Some(seven), "/run/other"));
    }

    #[test]
    fn a_run_directory_is_given_in_one_word_or_in_two_or_not_at_all() {
        let of = |args: Value| pod(|pod| pod["spec"]["containers"][0]["args"] = args).unwrap().run_dir;
        assert_eq!(of(json!(["agent", "--run-dir", "/run/two"])), "/run/two");
        assert_eq!(of(json!(["agent"])), "/run/weft");
    }

    #[test]
    fn a_pod_that_is_on_no_node_yet_is_of_the_node_that_it_was_made_for() {
        let pending = pod(|pod| {
            pod["spec"]["nodeName"] = Value::Null;
            pod["spec"]["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchFields": [
                    {"key": "metadata.name", "operator": "In", "values": ["n3"]}]}]}}});
            pod["status"] = json!({"phase": "Pending"});
        });
        let pending = pending.unwrap();
        assert_eq!((pending.node.as_str(), pending.ready, pending.since), ("n3", false, None));
    }

    #[test]
    fn what_has_no_node_or_is_over_is_no_agent() {
        assert_eq!(pod(|pod| drop(pod["spec"].as_object_mut().unwrap().remove("nodeName"))), None);
        assert_eq!(pod(|pod| pod["status"]["phase"] = "Succeeded".into()), None);
        let over = pod(|pod| {
            pod["metadata"]["deletionTimestamp"] = "1970-01-01T00:00:07Z".into();
            pod["status"]["containerStatuses"] = json!([]);
        });
        assert_eq!(over, None);
    }

    #[test]
    fn of_two_pods_of_a_node_the_ready_one_answers_and_else_the_later_one() {
        let agent = |name: &str, node: &str, ready, since| AgentPod {
            name: ObjectName::new("weft-system", name),
            node: node.to_owned(),
            ready,
            since: Some(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(since)),
            ..pod(|_| {}).unwrap()
        };
        let all = vec![
            agent("late", "n2", false, 9),
            agent("ready", "n2", true, 1),
            agent("old", "n1", true, 1),
            agent("new", "n1", true, 2),
        ];
        let names: Vec<_> = one_of_each_node(all).into_iter().map(|agent| agent.name.name).collect();
        assert_eq!(names.iter().map(|name| &**name).collect::<Vec<_>>(), ["new", "ready"]);
    }

    #[test]
    fn complaints_are_one_line_and_have_a_bound() {
        let said = Said::default();
        said.add(b"weft: no agent answers\n  start one\n");
        said.add(b"exit code 1");
        assert_eq!(said.text(), "weft: no agent answers start one exit code 1");
        said.add(&[b'x'; 2 * LONGEST]);
        assert!(said.text().len() <= LONGEST);
    }
}
