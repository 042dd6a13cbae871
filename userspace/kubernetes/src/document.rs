//! YAML and JSON text to typed objects, with the path and the line of whatever is wrong.
//!
//! An object from an API server is JSON without lines; it becomes the same tree.
//!
//! A file is split into documents first, so that one broken document costs no other and only
//! changed ones are parsed again. A document becomes a small tree that keeps line numbers; serde
//! reads types from the tree and reports unknown fields and misspelt values with the nearest right one.

mod fault;
mod json;
mod load;
mod nearest;
mod node;
mod read;
mod split;

pub(crate) use fault::Fault;
pub(crate) use load::load;
pub(crate) use nearest::nearest;
pub(crate) use node::{Node, Value};
pub(crate) use read::{Unknown, read};
pub(crate) use split::{Text, documents};

/// The path of the entry `key` of a mapping at `path`, as messages show it.
pub(crate) fn entry_path(path: &str, key: &str) -> String {
    if key.contains(['.', '/']) { format!("{path}[{key}]") } else { format!("{path}.{key}") }
}
