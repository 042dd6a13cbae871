//! Says of every object that asks for the http path that nobody walks it yet.
//!
//! The node's proxy is not there: connections to a port that has a `routing` still take the kernel path.
//! This is the one place that says so. With the proxy go this file and the calls of [`note`].

use super::notice::Notice;
use crate::object::Key;

/// `key` has no effect before the proxy is there.
pub(super) fn note(key: Key, notices: &mut Vec<Notice>) {
    let message = format!("{} is not enforced yet: it needs the http path", key.kind.name());
    let remedy = "connections take the kernel path, as if it were not there";
    notices.push(Notice::warning(key, "kind", message, remedy));
}
