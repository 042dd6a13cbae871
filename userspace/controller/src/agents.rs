//! Who asks: an agent, and of which node. Its token says so, and the API server says whether that is true.
//!
//! Demanded are, each of them: a token for our audience that the API server takes; the ServiceAccount of agents; that it
//! is bound to a pod on a node; and that this very pod is there, runs on that node and is an agent's. So a token that is
//! bound to a Node alone, or to nothing, is nobody's, and one that was taken from a node speaks for that node only.

mod tokens;

use std::sync::Arc;

use weft_identity::controller::AUDIENCE;
use weft_kubernetes::{AskError, Cluster, PodFacts, TokenAnswer, TokenUser};
use weft_model::ObjectName;

use self::tokens::Tokens;
use crate::{metrics::Metrics, refused::Refused};

/// An agent that has proven who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Agent {
    /// Its node.
    pub(crate) node: Arc<str>,
    /// Its pod.
    pub(crate) pod: Arc<str>,
}

/// Tells agents by their tokens. Clones share what is remembered.
#[derive(Clone)]
pub(crate) struct Agents {
    asked: Arc<Asked>,
    tokens: Arc<Tokens<Result<Agent, Refused>>>,
}

struct Asked {
    cluster: Cluster,
    namespace: Arc<str>,
    metrics: Arc<Metrics>,
}

impl Agents {
    /// Those whose ServiceAccount is `weft-agent` in `namespace`.
    pub(crate) fn new(cluster: Cluster, namespace: Arc<str>, metrics: Arc<Metrics>) -> Self {
        let asked = Arc::new(Asked { cluster, namespace, metrics });
        Self { asked, tokens: Arc::default() }
    }

    /// Which agent has this token; what is known of it for some seconds is not asked again.
    pub(crate) async fn prove(&self, token: &str) -> Result<Agent, Refused> {
        if token.is_empty() {
            return Err(Refused::TokenMissing);
        }
        let (asked, owned) = (Arc::clone(&self.asked), token.to_owned());
        self.tokens.known(token, move || async move { asked.prove(&owned).await }).await
    }
}

impl Asked {
    async fn prove(&self, token: &str) -> Result<Agent, Refused> {
        let answer = self.cluster.review_token(token, AUDIENCE).await;
        self.metrics.reviewed(answer.is_ok());
        let user = match answer.map_err(|error| unverified(&error))? {
            TokenAnswer::Good(user) => user,
            TokenAnswer::Bad(why) => return Err(Refused::TokenBad { why: why.into() }),
        };
        let (agent, pod, uid) = bound(user, &self.namespace)?;
        let facts = self
            .cluster
            .pod(&ObjectName::new(&*self.namespace, &*pod))
            .await
            .map_err(|error| unverified(&error))?;
        is_there(&agent, &uid, facts)?;
        Ok(agent)
    }
}

/// The agent that the token was given to, its pod's name and UID.
fn bound(user: TokenUser, namespace: &str) -> Result<(Agent, String, String), Refused> {
    let agent = format!("system:serviceaccount:{namespace}:{SERVICE_ACCOUNT}");
    if user.name != agent {
        return Err(Refused::NotAnAgent { user: user.name.into(), agent: agent.into() });
    }
    match user {
        TokenUser { node: Some(node), pod: Some(pod), pod_uid: Some(uid), .. } => {
            let agent = Agent { node: node.into(), pod: pod.as_str().into() };
            Ok((agent, pod, uid))
        }
        _ => Err(Refused::TokenUnbound),
    }
}

/// The API server takes the token of a pod that is gone for some seconds more, so it is asked for the pod itself.
fn is_there(agent: &Agent, uid: &str, pod: Option<PodFacts>) -> Result<(), Refused> {
    let gone = |why| {
        let Agent { node, pod } = agent.clone();
        Err(Refused::AgentGone { pod, node, why })
    };
    let Some(pod) = pod else { return gone("is not there any more") };
    if pod.uid != uid {
        return gone("is another pod of that name by now");
    }
    if pod.node.as_deref() != Some(&*agent.node) {
        return gone("runs on another node");
    }
    if pod.service_account.as_deref() != Some(SERVICE_ACCOUNT) {
        return gone("is no agent's");
    }
    if pod.over { gone("has run to its end") } else { Ok(()) }
}

fn unverified(error: &AskError) -> Refused {
    Refused::ApiServer { error: error.to_string().into() }
}

/// The ServiceAccount of agents, as `weft install` makes it.
const SERVICE_ACCOUNT: &str = "weft-agent";

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> TokenUser {
        TokenUser {
            name: "system:serviceaccount:weft-system:weft-agent".to_owned(),
            node: Some("n1".to_owned()),
            pod: Some("weft-x".to_owned()),
            pod_uid: Some("1-2".to_owned()),
        }
    }

    fn pod() -> PodFacts {
        PodFacts {
            uid: "1-2".to_owned(),
            node: Some("n1".to_owned()),
            service_account: Some("weft-agent".to_owned()),
            over: false,
        }
    }

    #[test]
    fn an_agent_is_who_has_its_account_and_a_token_of_a_pod_on_a_node() {
        let (agent, pod, uid) = bound(user(), "weft-system").unwrap();
        assert_eq!((&*agent.node, pod.as_str(), uid.as_str()), ("n1", "weft-x", "1-2"));
        let others = [
            "system:serviceaccount:shop:weft-agent",
            "system:serviceaccount:weft-system:weft-controller",
            "system:node:n1",
            "",
        ];
        for name in others {
            let refused = bound(TokenUser { name: name.to_owned(), ..user() }, "weft-system").unwrap_err();
            assert_eq!(refused.reason(), "NotAnAgent", "{name}");
        }
        // As a token is that is bound to a Node, and one that is bound to nothing.
        let of_a_node = TokenUser { pod: None, pod_uid: None, ..user() };
        for loose in
            [TokenUser { node: None, ..of_a_node.clone() }, of_a_node, TokenUser { node: None, ..user() }]
        {
            assert_eq!(bound(loose, "weft-system").unwrap_err(), Refused::TokenUnbound);
        }
    }

    #[test]
    fn that_pod_has_to_be_there_and_on_that_node() {
        let agent = Agent { node: "n1".into(), pod: "weft-x".into() };
        assert_eq!(is_there(&agent, "1-2", Some(pod())), Ok(()));
        let others = [
            None,
            Some(PodFacts { uid: "1-3".to_owned(), ..pod() }),
            Some(PodFacts { node: Some("n2".to_owned()), ..pod() }),
            Some(PodFacts { node: None, ..pod() }),
            Some(PodFacts { service_account: Some("default".to_owned()), ..pod() }),
            Some(PodFacts { over: true, ..pod() }),
        ];
        for other in others {
            let refused = is_there(&agent, "1-2", other.clone()).unwrap_err();
            assert_eq!(refused.reason(), "AgentGone", "{other:?}");
        }
    }
}
