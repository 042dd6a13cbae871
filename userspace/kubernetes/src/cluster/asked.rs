//! An API server, for what is asked of it one by one: the objects of a controller, and not those of a mesh.

mod agents;
mod controllers;
mod error;
mod joined;
mod mesh;
mod tokens;
mod values;

use std::{fmt, time::Duration};

use kube::Client;
use tokio::time::timeout;

pub use self::{
    agents::{AgentPod, Process, Said},
    controllers::{Replica, Replicas},
    error::AskError,
    tokens::{PodFacts, TokenAnswer, TokenUser},
    values::{Values, ValuesKind},
};
use super::Connection;
use crate::Error;

/// The way to an API server. Clones share it.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    server: String,
}

impl Cluster {
    /// Asks nothing yet.
    pub async fn connect(connection: &Connection) -> Result<Self, Error> {
        let (client, server) = connection.client().await?;
        Ok(Self { client, server })
    }

    /// Where the API server is.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The client, for questions about `kube`'s own types.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("server", &self.server).finish_non_exhaustive()
    }
}

/// An answer within [`ANSWER`], or why there is none. `verb` and `what` say what is asked, as RBAC has it and for people.
pub(crate) async fn answered<T>(
    verb: &'static str,
    what: impl fmt::Display,
    answer: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, AskError> {
    match timeout(ANSWER, answer).await {
        Ok(answer) => answer.map_err(|error| AskError::of(verb, what.to_string(), &error)),
        Err(_) => Err(AskError::Away {
            verb,
            what: what.to_string(),
            error: format!("it has not answered for {} s", ANSWER.as_secs()),
        }),
    }
}

/// How long an answer may take: an API server that takes longer is as good as away.
const ANSWER: Duration = Duration::from_secs(5);
