//! What the admin API asks of the agent.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use weft_model::Snapshot;

use crate::{
    api::{
        Attached, Attachment, AuthzAnswer, AuthzQuery, BpfTable, CertificatesView, ConnectionView,
        ExplainQuery, Explanation, Failure, ProxyUpgraded, Sandboxes, Status, Table,
    },
    flows::FlowLog,
    metrics::Metrics,
    observer::Observer,
};

/// A running agent. Everything else that the API shows is derived from these.
///
/// Functions that are not `async` may block: they read the kernel, and are called on a thread that
/// may wait.
pub trait Agent: Send + Sync + 'static {
    /// How it is doing.
    fn status(&self) -> Status;

    /// Whether what was read is enforced, for the first time or still: else what is missing.
    fn ready(&self) -> Result<(), Failure>;

    /// Reads the configuration now. The answer is the version that holds everything that was there
    /// when this was called, whether or not that is enforced yet.
    fn sync(&self) -> BoxFuture<'_, Result<u64, Failure>>;

    /// Replaces the node's proxy by the next generation. Returns when that alone accepts connections; when it
    /// cannot, the one before goes on.
    fn upgrade_proxy(&self) -> BoxFuture<'_, Result<ProxyUpgraded, Failure>>;

    /// The container runtime has made a pod's network. Returns when what protects the pod there is in the kernel, or when that
    /// takes too long for a runtime that waits.
    fn attach(&self, attachment: Attachment) -> BoxFuture<'_, Result<Attached, Failure>>;

    /// Whether the pod is still as [`Agent::attach`] has left it.
    fn attached(&self, attachment: Attachment) -> BoxFuture<'_, Result<Attached, Failure>>;

    /// The container runtime takes these sandboxes away.
    fn detach(&self, sandboxes: Sandboxes) -> BoxFuture<'_, Result<(), Failure>>;

    /// The container runtime has no sandboxes but these.
    fn keep_attached(&self, sandboxes: Sandboxes) -> BoxFuture<'_, Result<(), Failure>>;

    /// The configuration that was read last.
    fn snapshot(&self) -> Arc<Snapshot>;

    /// The live connections of the enrolled pods of this node.
    fn connections(&self) -> Result<Vec<ConnectionView>, Failure>;

    /// The certificates of this node's pods; `None` where the agent issues none.
    fn certificates(&self) -> Option<CertificatesView>;

    /// What the kernel holds.
    fn bpf(&self, table: BpfTable) -> Result<Table, Failure>;

    /// What would become of a request, by the very engine that routes real ones. A failure is about the
    /// question.
    fn explain(&self, query: &ExplainQuery) -> Result<Explanation, Failure>;

    /// What the policies say to a connection, or a request, that nobody has made.
    fn authz(&self, query: &AuthzQuery) -> Result<AuthzAnswer, Failure>;

    /// The last flows.
    fn flows(&self) -> &FlowLog;

    /// What became of the proxy's records.
    fn observer(&self) -> &Observer;

    /// Its metrics.
    fn metrics(&self) -> &Metrics;
}
