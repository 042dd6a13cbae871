//! Whether weft is being removed, asked by an agent that is asked to end.
//!
//! Its DaemonSet is watched all the time: whoever deletes an installation deletes the agents' rights with it, and a watch
//! that has begun outlives them.

mod placement;

use std::{fmt, sync::Arc, time::Duration};

use futures_util::future::join;
use serde_json::Value;
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use weft_model::ObjectName;

use super::{
    Connection,
    follow::{Listener, Told, follow},
    resource::Resource,
    server::Remote,
    trouble::Trouble,
};
use crate::{Error, object::Kind};

/// The DaemonSet of a node's agent, and the namespace that it is in.
#[derive(Debug)]
pub struct Installation {
    daemonset: Watched,
    namespace: Watched,
    node: Watched,
}

/// What becomes of an agent's node when the agent ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays in the mesh: another agent follows.
    Stays,
    /// It leaves the mesh.
    Removed {
        /// What has been taken away.
        why: String,
    },
    /// The API server does not tell.
    Unknown {
        /// Why not.
        why: String,
    },
}

/// One object, as it was asked for and told of.
struct Watched {
    server: Remote,
    name: String,
    last: watch::Sender<Seen>,
}

/// What is known of an object.
#[derive(Clone, Debug, Default, PartialEq)]
enum Seen {
    /// Nothing.
    #[default]
    Never,
    /// It is like this.
    There(Value),
    /// It is not there.
    Gone,
}

impl Installation {
    /// The agent of `node` belongs to `daemonset`. Asks nothing yet.
    pub async fn open(connection: &Connection, daemonset: &ObjectName, node: &str) -> Result<Self, Error> {
        let (client, _) = connection.client().await?;
        let watched = |resource, name: &str| Watched {
            server: Remote::new(client.clone(), resource),
            name: name.to_owned(),
            last: watch::Sender::default(),
        };
        let (namespace, name) = (&daemonset.namespace, &daemonset.name);
        Ok(Self {
            daemonset: watched(Resource::daemonset(namespace, name), name),
            namespace: watched(Resource::only(Kind::Namespace, namespace), namespace),
            node: watched(Resource::only(Kind::Node, node), node),
        })
    }

    /// Follows what becomes of it, for ever.
    pub fn follow(self: &Arc<Self>) -> impl Future<Output = ()> + use<> {
        let this = Arc::clone(self);
        async move {
            join(this.daemonset.follow(), this.namespace.follow()).await;
        }
    }

    /// Whether both watches have told how things are: from then on they tell what becomes of them.
    pub fn follows(&self) -> bool {
        [&self.daemonset, &self.namespace].iter().all(|watched| *watched.last.borrow() != Seen::Never)
    }

    /// What is to become of the node. Answers within 20 s.
    pub async fn fate(&self) -> Fate {
        let (daemonset, namespace) = join(self.daemonset.ask(), self.namespace.ask()).await;
        if let Some(why) = removed(&daemonset, &namespace, &self.daemonset.name) {
            return Fate::Removed { why };
        }
        match (&daemonset, &namespace) {
            (Ok(Seen::There(daemonset)), Ok(_)) => self.placed(daemonset).await,
            // The rights may be gone before what they were for: the watches tell.
            (Err(trouble), _) | (_, Err(trouble)) => {
                let is_away = matches!(trouble, Trouble::Away(_));
                match self.told_within(if is_away { Duration::ZERO } else { LATE }).await {
                    Some(why) => Fate::Removed { why },
                    None => Fate::Unknown { why: trouble.to_string() },
                }
            }
            (Ok(_), _) => Fate::Unknown { why: "the API server tells nothing of the DaemonSet".to_owned() },
        }
    }

    async fn placed(&self, daemonset: &Value) -> Fate {
        let name = &self.daemonset.name;
        match self.node.ask().await {
            Ok(Seen::There(node)) if placement::wants(daemonset, &node) => Fate::Stays,
            Ok(Seen::There(_)) => {
                Fate::Removed { why: format!("the DaemonSet {name} wants this node no longer") }
            }
            Ok(Seen::Gone) => Fate::Removed { why: format!("there is no Node {} any more", self.node.name) },
            Ok(Seen::Never) => Fate::Stays,
            Err(trouble) => Fate::Unknown { why: trouble.to_string() },
        }
    }

    /// Waits for a watch to tell that something is taken away.
    async fn told_within(&self, time: Duration) -> Option<String> {
        let (mut daemonset, mut namespace) =
            (self.daemonset.last.subscribe(), self.namespace.last.subscribe());
        let told = async {
            loop {
                let now =
                    (Ok(daemonset.borrow_and_update().clone()), Ok(namespace.borrow_and_update().clone()));
                if let Some(why) = removed(&now.0, &now.1, &self.daemonset.name) {
                    return Some(why);
                }
                tokio::select! {
                    changed = daemonset.changed() => changed.ok()?,
                    changed = namespace.changed() => changed.ok()?,
                }
            }
        };
        timeout(time, told).await.ok().flatten()
    }
}

/// What of the two is taken away, if anything is.
fn removed(
    daemonset: &Result<Seen, Trouble>,
    namespace: &Result<Seen, Trouble>,
    name: &str,
) -> Option<String> {
    match (daemonset, namespace) {
        (Ok(Seen::Gone), _) => Some(format!("the DaemonSet {name} is gone")),
        (Ok(Seen::There(object)), _) if is_going(object) => {
            Some(format!("the DaemonSet {name} is being deleted"))
        }
        (_, Ok(Seen::Gone)) => Some(format!("the namespace of the DaemonSet {name} is gone")),
        (_, Ok(Seen::There(object))) if is_going(object) => {
            Some(format!("the namespace of the DaemonSet {name} is being deleted"))
        }
        _ => None,
    }
}

fn is_going(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some_and(|at| !at.is_null())
}

impl Watched {
    async fn follow(&self) {
        let (to, mut from) = mpsc::channel(MOST_WAITING);
        let listener = Listener { id: 0, to };
        let tell = async {
            // Whether the object has been told of since a list began.
            let mut listed = false;
            while let Some((_, told)) = from.recv().await {
                match told {
                    Told::Listing => listed = false,
                    Told::Is(object) => {
                        listed = true;
                        self.last.send_replace(Seen::There(object));
                    }
                    Told::Was(_) => drop(self.last.send_replace(Seen::Gone)),
                    Told::Listed if !listed => drop(self.last.send_replace(Seen::Gone)),
                    Told::Failed(trouble) => {
                        tracing::debug!(name = self.name, %trouble, "what becomes of it is not told");
                    }
                    Told::Listed | Told::Answered => {}
                }
            }
        };
        tokio::select! {
            () = follow(&self.server, &listener) => {}
            () = tell => {}
        }
    }

    /// As it is now; else as it was told last, if that was its end.
    async fn ask(&self) -> Result<Seen, Trouble> {
        match timeout(SOON, self.server.get(&self.name)).await {
            Ok(Ok(Some(object))) => Ok(Seen::There(object)),
            Ok(Ok(None)) => Ok(Seen::Gone),
            Ok(Err(trouble)) => self.told(trouble),
            Err(_) => self.told(Trouble::Away(format!("the API server has not answered for {SOON:?}"))),
        }
    }

    fn told(&self, trouble: Trouble) -> Result<Seen, Trouble> {
        match &*self.last.borrow() {
            Seen::There(object) if is_going(object) => Ok(Seen::There(object.clone())),
            Seen::Gone => Ok(Seen::Gone),
            _ => Err(trouble),
        }
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("name", &self.name).finish_non_exhaustive()
    }
}

/// How long an answer may take. Whoever ends has little time.
const SOON: Duration = Duration::from_secs(3);
/// How long after the agents' rights the end of their DaemonSet may be told.
const LATE: Duration = Duration::from_secs(10);
const MOST_WAITING: usize = 16;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_being_deleted_is_as_good_as_gone_and_what_nobody_tells_is_there() {
        let there = || Ok(Seen::There(json!({"metadata": {"name": "weft"}})));
        let going = || Ok(Seen::There(json!({"metadata": {"deletionTimestamp": "2026-11-27T10:00:00Z"}})));
        let denied = || Err(Trouble::Forbidden("daemonsets is forbidden".to_owned()));
        let why = |daemonset, namespace| removed(&daemonset, &namespace, "weft");
        assert_eq!(why(there(), there()), None);
        assert_eq!(why(denied(), denied()), None);
        assert_eq!(why(Ok(Seen::Never), there()), None);
        assert!(why(Ok(Seen::Gone), there()).unwrap().contains("weft is gone"));
        assert!(why(going(), there()).unwrap().contains("weft is being deleted"));
        assert!(why(there(), going()).unwrap().contains("namespace"));
        assert!(why(denied(), Ok(Seen::Gone)).unwrap().contains("namespace"));
    }
}
