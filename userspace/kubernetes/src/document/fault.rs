//! What makes a document or one of its fields unreadable.

use std::fmt;

use serde::de;

/// One unreadable thing, with its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The field's path; empty for the document itself.
    pub(crate) field: String,
    /// Its line in the document, from 1; 0 as long as it is not placed, and where there are no lines.
    pub(crate) line: u32,
    /// Its place has been noted.
    pub(super) placed: bool,
    /// What is wrong.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) remedy: String,
}

impl Fault {
    pub(crate) fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { message: message.into(), remedy: remedy.into(), ..Self::default() }
    }

    /// Says where it happened, unless a deeper place has been noted already.
    pub(super) fn placed(mut self, line: u32, path: impl FnOnce() -> String) -> Self {
        if !self.placed {
            (self.placed, self.line) = (true, line);
            let missing = std::mem::replace(&mut self.field, path());
            if !missing.is_empty() {
                self.field = join(&self.field, &missing);
            }
        }
        self
    }
}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string(), "write it as the API reference shows")
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(format!("expected {expected}, found {found}"), "write it as the API reference shows")
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(format!("expected {expected}, found {found}"), format!("write {expected} here"))
    }

    fn missing_field(field: &'static str) -> Self {
        Self { field: field.into(), ..Self::new("required, and not there", format!("add {field}")) }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

fn join(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}
