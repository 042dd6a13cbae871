//! Header modifiers.

use std::{collections::HashSet, sync::Arc};

use serde::Deserialize;
use weft_model::HeaderModifier;

use super::{Context, check};

#[derive(Debug, Deserialize)]
pub(super) struct HeaderFilter {
    #[serde(default)]
    set: Vec<Header>,
    #[serde(default)]
    add: Vec<Header>,
    #[serde(default)]
    remove: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Header {
    name: String,
    value: String,
}

const MAX_HEADERS: usize = 16;
const MAX_VALUE: usize = 4096;

impl HeaderFilter {
    pub(super) fn check(&self, field: &str, context: &mut Context<'_, '_>) -> HeaderModifier {
        if self.set.is_empty() && self.add.is_empty() && self.remove.is_empty() {
            let remedy = "add set, add or remove, or remove the filter";
            context.report.warning(field, "changes no header", remedy);
        }
        let set = headers(&self.set, &format!("{field}.set"), context);
        let add = headers(&self.add, &format!("{field}.add"), context);
        let field = format!("{field}.remove");
        check::at_most(self.remove.len(), MAX_HEADERS, "headers", &field, context.report);
        let mut seen = HashSet::new();
        let remove = self.remove.iter().enumerate();
        let remove = remove.map(|(i, name)| header_name(name, &format!("{field}[{i}]"), &mut seen, context));
        HeaderModifier { set, add, remove: remove.collect() }
    }
}

fn headers(headers: &[Header], field: &str, context: &mut Context<'_, '_>) -> Vec<(Arc<str>, Arc<str>)> {
    check::at_most(headers.len(), MAX_HEADERS, "headers", field, context.report);
    let mut seen = HashSet::new();
    let mut checked = Vec::new();
    for (i, Header { name, value }) in headers.iter().enumerate() {
        let name = header_name(name, &format!("{field}[{i}].name"), &mut seen, context);
        check::header_value(value, MAX_VALUE, &format!("{field}[{i}].value"), context.report);
        checked.push((name, context.names.share(value)));
    }
    checked
}

fn header_name(
    name: &str,
    field: &str,
    seen: &mut HashSet<String>,
    context: &mut Context<'_, '_>,
) -> Arc<str> {
    check::header(name, field, context.report);
    let name = name.to_ascii_lowercase();
    if !seen.insert(name.clone()) {
        context.report.error(field, format!("{name} is there twice"), "name each header once");
    }
    context.names.share(&name)
}
