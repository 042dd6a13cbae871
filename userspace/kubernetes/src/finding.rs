//! What is wrong with one object, before anyone knows which file it came from.

use weft_model::{RouteReason, Severity};

use crate::document::{Fault, Node};

/// A [`weft_model::Problem`] without its file and object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    pub(crate) field: String,
    /// The line in the object's document, from 1; 0 when unknown.
    pub(crate) line: u32,
    pub(crate) message: String,
    pub(crate) remedy: String,
}

impl From<Fault> for Finding {
    fn from(fault: Fault) -> Self {
        let Fault { field, line, message, remedy, .. } = fault;
        Self { severity: Severity::Error, field, line, message, remedy }
    }
}

/// Collects the findings of one object.
pub(crate) struct Report<'n> {
    document: Option<&'n Node<'n>>,
    findings: Vec<Finding>,
    incompatible: bool,
}

impl<'n> Report<'n> {
    /// For an object read from `document`, or from elsewhere.
    pub(crate) fn new(document: Option<&'n Node<'n>>) -> Self {
        Self { document, findings: Vec::new(), incompatible: false }
    }

    /// The object is refused.
    pub(crate) fn error(&mut self, field: &str, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Error, field, message.into(), remedy.into());
    }

    /// The object is refused: two of its filters exclude each other.
    pub(crate) fn incompatible(
        &mut self,
        field: &str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.incompatible = true;
        self.error(field, message, remedy);
    }

    /// Why the object is refused, as the Gateway API says it.
    pub(crate) fn refusal(&self) -> Option<RouteReason> {
        let reason =
            if self.incompatible { RouteReason::IncompatibleFilters } else { RouteReason::UnsupportedValue };
        self.refused().then_some(reason)
    }

    /// The object is used, but not as its owner may expect.
    pub(crate) fn warning(&mut self, field: &str, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Warning, field, message.into(), remedy.into());
    }

    /// Whether the object is refused.
    pub(crate) fn refused(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// All findings; of a refused object only what it is refused for.
    pub(crate) fn into_findings(mut self) -> Vec<Finding> {
        if self.refused() {
            self.findings.retain(|finding| finding.severity == Severity::Error);
        }
        self.findings
    }

    /// Takes over a finding that knows its line.
    pub(crate) fn push(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    fn add(&mut self, severity: Severity, field: &str, message: String, remedy: String) {
        let line = self.document.map_or(0, |document| document.line_of(field));
        self.findings.push(Finding { severity, field: field.to_owned(), line, message, remedy });
    }
}
