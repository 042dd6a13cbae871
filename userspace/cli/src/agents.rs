//! Those that are asked: the agent of a run directory, or the agents of a cluster, all at the same time.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::timeout;
use weft_kubernetes::{AgentPod, Cluster, Connection};
use weft_telemetry::api::{PodDescription, Status};

use crate::{
    Client, Error, Screen,
    ask::{Name, Whom},
};

/// Those that are asked, in the order of their nodes.
#[derive(Debug)]
pub(crate) struct Agents {
    pub(crate) list: Vec<Agent>,
    /// The API server that knows them.
    pub(crate) cluster: Option<Cluster>,
    /// One was named: its answer is shown as it is.
    alone: bool,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Agent {
    /// The name of its node; of an agent that does not tell, its run directory.
    pub(crate) node: Arc<str>,
    pub(crate) client: Client,
    /// The pod that it runs in.
    pub(crate) pod: Option<AgentPod>,
}

/// What was answered, and who did not, each with its node.
#[derive(Debug)]
pub(crate) struct Told<T> {
    pub(crate) answers: Vec<(Arc<str>, T)>,
    pub(crate) silent: Vec<(Arc<str>, Error)>,
}

impl Agents {
    /// `--run-dir` asks these agents; else a kubeconfig means the whole cluster; else it is this machine's agent. In an agent's own
    /// pod it is that agent: it may not reach others.
    pub(crate) async fn of(whom: &Whom) -> Result<Self, Error> {
        let mut agents = match whom.run_dir.as_slice() {
            [] => match Connection::meant(whom.kubeconfig.clone()) {
                Some(Connection::InCluster) if is_here() => Self::of_run_dir(Path::new(DEFAULT)),
                Some(connection) => Self::of_cluster(&connection).await?,
                None => Self::of_run_dir(Path::new(DEFAULT)),
            },
            [run_dir] => Self::of_run_dir(run_dir),
            run_dirs => Self::of_machine(run_dirs).await,
        };
        if !whom.node.is_empty() {
            agents.choose(&whom.node).await?;
        }
        Ok(agents)
    }

    fn of_run_dir(run_dir: &Path) -> Self {
        let node = run_dir.display().to_string().into();
        let list = vec![Agent { node, client: Client::new(run_dir), pod: None }];
        Self { list, cluster: None, alone: true }
    }

    async fn of_machine(run_dirs: &[PathBuf]) -> Self {
        let named = join_all(run_dirs.iter().map(async |run_dir| {
            let mut agent = Self::of_run_dir(run_dir).list.remove(0);
            agent.learn_node().await;
            agent
        }));
        let mut list = named.await;
        list.sort_by(|a, b| a.node.cmp(&b.node));
        Self { list, cluster: None, alone: false }
    }

    async fn of_cluster(connection: &Connection) -> Result<Self, Error> {
        let cluster = Cluster::connect(connection).await?;
        let pods = cluster.agents().await?;
        if pods.is_empty() {
            return Err(Error::NoAgents { server: cluster.server().to_owned() });
        }
        let agent = |pod: AgentPod| Agent {
            node: pod.node.as_str().into(),
            client: Client::of_pod(cluster.clone(), pod.clone()),
            pod: Some(pod),
        };
        let list = pods.into_iter().map(agent).collect();
        Ok(Self { list, cluster: Some(cluster), alone: false })
    }

    /// Keeps those of `nodes`.
    async fn choose(&mut self, nodes: &[String]) -> Result<(), Error> {
        if self.alone {
            self.list[0].learn_node().await;
        }
        if let Some(node) = nodes.iter().find(|node| self.of_node(node).is_none()) {
            return Err(Error::NoSuchNode { node: node.clone(), known: self.nodes() });
        }
        self.list.retain(|agent| nodes.iter().any(|node| **node == *agent.node));
        self.alone = self.list.len() == 1;
        Ok(())
    }

    /// The only one, whose answers are shown as they are; `None` where several are asked, though only one may be there.
    pub(crate) fn alone(&self) -> Option<&Client> {
        self.list.first().filter(|_| self.alone).map(|agent| &agent.client)
    }

    /// The only one, where `what` is of one node.
    pub(crate) fn only(&self, what: &'static str) -> Result<&Client, Error> {
        let one = self.list.first().filter(|_| self.list.len() == 1);
        one.map(|agent| &agent.client).ok_or_else(|| Error::OneNode { what, known: self.nodes() })
    }

    pub(crate) fn of_node(&self, node: &str) -> Option<&Agent> {
        self.list.iter().find(|agent| *agent.node == *node)
    }

    fn nodes(&self) -> Vec<String> {
        self.list.iter().map(|agent| agent.node.to_string()).collect()
    }

    /// What each of them answers to `question`. One that does not within [`PATIENCE`] is silent.
    pub(crate) async fn told<T>(&self, question: impl AsyncFn(&Client) -> Result<T, Error>) -> Told<T> {
        let question = &question;
        let asked = join_all(self.list.iter().map(async |agent| {
            let answer = timeout(PATIENCE, question(&agent.client)).await;
            let late = |_| Error::Late { agent: agent.client.way().to_string(), seconds: PATIENCE.as_secs() };
            (Arc::clone(&agent.node), answer.map_err(late).flatten())
        }));
        Told::of(asked.await)
    }

    /// As [`Agents::told`], where some answer; those that do not are named beside it.
    ///
    /// # Errors
    /// Nobody answered; where all say no for the same reason, that reason.
    pub(crate) async fn each<T>(
        &self,
        screen: &mut Screen,
        question: impl AsyncFn(&Client) -> Result<T, Error>,
    ) -> Result<Vec<(Arc<str>, T)>, Error> {
        self.told(question).await.some(screen)
    }

    /// The agent of the node of the pod `name`: what the kernel of that node holds is known there alone.
    pub(crate) async fn of_pod(&self, name: &Name, screen: &mut Screen) -> Result<&Agent, Error> {
        if self.alone {
            return Ok(&self.list[0]);
        }
        let path = format!("/v1/pods/{}", name.0);
        let asked = self.told(async |client| client.get::<PodDescription>(&path).await).await;
        let mut answers = asked.some(screen)?;
        let own = answers.iter().position(|(_, found)| found.status.is_some()).unwrap_or_default();
        let (teller, found) = answers.swap_remove(own);
        let own = found.workload.node.and_then(|node| self.of_node(&node));
        Ok(own.or_else(|| self.of_node(&teller)).expect("who answered is one of them"))
    }
}

impl Agent {
    async fn learn_node(&mut self) {
        let status = timeout(PATIENCE, self.client.get::<Status>("/v1/status")).await;
        if let Ok(Ok(status)) = status {
            self.node = status.node.into();
        }
    }
}

impl<T> Told<T> {
    pub(crate) fn of(all: Vec<(Arc<str>, Result<T, Error>)>) -> Self {
        let mut told = Self { answers: Vec::new(), silent: Vec::new() };
        for (node, answer) in all {
            match answer {
                Ok(answer) => told.answers.push((node, answer)),
                Err(error) => told.silent.push((node, error)),
            }
        }
        told
    }

    /// The answers, if there are any.
    pub(crate) fn some(mut self, screen: &mut Screen) -> Result<Vec<(Arc<str>, T)>, Error> {
        if self.answers.is_empty() {
            // What is not there is not there for all of them.
            let refused = self.silent.iter().all(|(_, error)| matches!(error, Error::Refused(_)));
            return Err(match self.silent.len() {
                0 => Error::NoneAnswered(Vec::new()),
                1 => self.silent.remove(0).1,
                _ if refused => self.silent.remove(0).1,
                _ => Error::NoneAnswered(self.silent),
            });
        }
        for (node, error) in &self.silent {
            screen.note(&format!("weft: {node}: {error}"))?;
        }
        Ok(self.answers)
    }
}

/// Whether this is an agent's own pod: it has the folder of its node, before the agent answers there.
fn is_here() -> bool {
    Path::new(DEFAULT).is_dir()
}

/// Where an agent is that was started without `--run-dir`.
const DEFAULT: &str = "/run/weft";
/// How long one answer may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);
