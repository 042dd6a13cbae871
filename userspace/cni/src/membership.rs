//! Whether a pod is in the mesh, where the agent does not say.

use std::time::Duration;

use tokio::time::timeout;

use crate::Pod;

/// Who else knows.
pub trait Membership {
    /// The API server.
    fn ask(&self, pod: &Pod) -> impl Future<Output = Result<bool, String>>;

    /// What the agent has kept; `None` where it says nothing of this very pod.
    fn kept(&self, pod: &Pod) -> Option<bool>;
}

/// Whether `pod` is in the mesh; else why nobody knows.
pub(crate) async fn is_member(pod: &Pod, of: &impl Membership) -> Result<bool, String> {
    let asked = timeout(ASK, of.ask(pod)).await;
    let unsaid = match asked {
        Ok(Ok(member)) => return Ok(member),
        Ok(Err(why)) => why,
        Err(_) => format!("the API server has not answered for {} ms", ASK.as_millis()),
    };
    of.kept(pod).ok_or_else(|| format!("{unsaid}; and the agent of this node has never heard of it"))
}

/// How long the API server may take.
pub(crate) const ASK: Duration = Duration::from_millis(2500);
