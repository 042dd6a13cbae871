//! The container runtime's plugin in this binary: who calls it, and whom it asks beside the agent.

pub(crate) mod node;
pub(crate) mod pods;

use std::{
    collections::HashMap,
    env,
    io::{self, Read as _, Write as _},
    path::Path,
    process::ExitCode,
};

use tokio::runtime;
use weft_cni::{Call, Membership, Pod};
use weft_kubernetes::{Connection, ask_membership, kept_membership};

/// Whether a runtime has called this program by the plugin's name. Who gives it a command means that: on a node whose agent is gone
/// for good, the plugin is all that there is of weft.
pub(crate) fn is_called() -> bool {
    let mut words = env::args_os();
    let name = words.next();
    name.is_some_and(|name| Path::new(&name).file_name().is_some_and(|name| name == weft_cni::NAME))
        && (env::var_os(COMMAND).is_some() || words.next().is_none())
}

/// Answers one call of a container runtime.
pub(crate) fn run() -> ExitCode {
    let variables: HashMap<String, String> = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let mut input = Vec::new();
    // Who calls it by hand has nothing to say, and is told so.
    if variables.contains_key(COMMAND) {
        let _ = io::stdin().read_to_end(&mut input);
    }
    let call = Call::read(|name| variables.get(name).cloned(), &input);
    let version = call.as_ref().ok().and_then(|call| call.config.cni_version.clone());
    let answer = call.and_then(|call| {
        let others = Others { kubeconfig: &call.config.kubeconfig, members: &call.config.members };
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| weft_cni::Error::system(&error))?;
        let answer = runtime.block_on(weft_cni::answer(&call, &others));
        // Whoever has not answered yet is not waited for.
        runtime.shutdown_background();
        answer
    });
    let (text, exit) = match answer {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(error) => (error.to_json(version.as_deref()), ExitCode::FAILURE),
    };
    // A runtime that reads no answer has gone.
    let _ = io::stdout().write_all(text.as_bytes());
    exit
}

/// What a runtime says that it wants in.
const COMMAND: &str = "CNI_COMMAND";

/// Who knows of pods without an agent.
struct Others<'a> {
    kubeconfig: &'a Path,
    members: &'a Path,
}

impl Membership for Others<'_> {
    async fn ask(&self, pod: &Pod) -> Result<bool, String> {
        let connection = Connection::Kubeconfig(self.kubeconfig.to_owned());
        ask_membership(&connection, &pod.name, &pod.uid).await.map_err(|error| error.to_string())
    }

    fn kept(&self, pod: &Pod) -> Option<bool> {
        kept_membership(self.members, &pod.name, &pod.uid)
    }
}
