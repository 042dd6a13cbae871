//! The text of a network configuration, with the plugin in it and without.
//!
//! Other plugins' parts stay as they are, byte for byte: only what lies between them is written.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::NAME;

/// Why a file is no configuration of a network.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotANetwork {
    /// It cannot be read.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// It names no plugin.
    #[error("it has no plugins")]
    Empty,
}

/// A list of plugins, and where each stands in the text.
struct List<'t> {
    text: &'t str,
    plugins: Vec<Plugin<'t>>,
}

struct Plugin<'t> {
    kind: String,
    raw: &'t str,
    /// Where it begins and ends in the text.
    from: usize,
    to: usize,
}

#[derive(Deserialize)]
struct Named<'t> {
    #[serde(borrow)]
    name: Option<&'t RawValue>,
    #[serde(borrow, rename = "cniVersion")]
    version: Option<&'t RawValue>,
    #[serde(borrow)]
    plugins: Option<&'t RawValue>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// The types of the plugins that the network consists of, be it one or a list.
pub(crate) fn plugins(text: &str) -> Result<Vec<String>, NotANetwork> {
    match List::read(text) {
        Ok(list) => Ok(list.plugins.into_iter().map(|plugin| plugin.kind).collect()),
        Err(NotANetwork::Empty) => single(text).map(|(kind, ..)| vec![kind]),
        Err(error) => Err(error),
    }
}

/// The list with `entry` in it: where an older one of the plugin was, else at the end.
pub(crate) fn with(text: &str, entry: &str) -> Result<String, NotANetwork> {
    let list = List::read(text)?;
    if let Some(own) = list.plugins.iter().find(|plugin| plugin.kind == NAME) {
        return Ok(list.replaced(own.from, own.to, entry));
    }
    let end = list.plugins.last().ok_or(NotANetwork::Empty)?;
    let before = &text[..end.from];
    let indent = &before[before.rfind('\n').map_or(before.len(), |at| at + 1)..];
    let between = if indent.trim().is_empty() && before.contains('\n') {
        format!(",\n{indent}{entry}")
    } else {
        format!(", {entry}")
    };
    Ok(list.replaced(end.to, end.to, &between))
}

/// The list as it was before [`with`]; the same where the plugin is not in it.
pub(crate) fn without(text: &str) -> Result<String, NotANetwork> {
    let list = List::read(text)?;
    let Some(at) = list.plugins.iter().position(|plugin| plugin.kind == NAME) else {
        return Ok(text.to_owned());
    };
    let own = &list.plugins[at];
    let (from, to) =
        match (at.checked_sub(1).and_then(|before| list.plugins.get(before)), list.plugins.get(at + 1)) {
            (Some(before), _) => (before.to, own.to),
            (None, Some(after)) => (own.from, after.from),
            (None, None) => return Err(NotANetwork::Empty),
        };
    Ok(list.replaced(from, to, ""))
}

/// The configuration of a single plugin as a list of that and `entry`.
pub(crate) fn wrapped(text: &str, entry: &str) -> Result<String, NotANetwork> {
    let (_, name, version) = single(text)?;
    let name = name.unwrap_or(r#""default""#);
    let version = version.map(|version| format!("  \"cniVersion\": {version},\n")).unwrap_or_default();
    let text = text.trim();
    Ok(format!("{{\n{version}  \"name\": {name},\n  \"plugins\": [\n{text},\n    {entry}\n  ]\n}}\n"))
}

/// Type, name and version of a single plugin's configuration, the latter two as they are written.
fn single(text: &str) -> Result<(String, Option<&str>, Option<&str>), NotANetwork> {
    let Named { name, version, kind, .. } = serde_json::from_str(text)?;
    Ok((kind.ok_or(NotANetwork::Empty)?, name.map(RawValue::get), version.map(RawValue::get)))
}

impl<'t> List<'t> {
    fn read(text: &'t str) -> Result<Self, NotANetwork> {
        let Named { plugins, .. } = serde_json::from_str(text)?;
        let parts: Vec<&RawValue> = serde_json::from_str(plugins.ok_or(NotANetwork::Empty)?.get())?;
        let plugin = |raw: &'t RawValue| {
            let raw = raw.get();
            let Named { kind, .. } = serde_json::from_str(raw)?;
            // What was read without a copy lies in the text.
            let from = raw.as_ptr().addr() - text.as_ptr().addr();
            Ok(Plugin { kind: kind.ok_or(NotANetwork::Empty)?, raw, from, to: from + raw.len() })
        };
        let plugins: Vec<_> = parts.into_iter().map(plugin).collect::<Result<_, NotANetwork>>()?;
        if plugins.is_empty() { Err(NotANetwork::Empty) } else { Ok(Self { text, plugins }) }
    }

    fn replaced(&self, from: usize, to: usize, by: &str) -> String {
        debug_assert!(self.plugins.iter().all(|plugin| plugin.raw == &self.text[plugin.from..plugin.to]));
        [&self.text[..from], by, &self.text[to..]].concat()
    }
}

#[cfg(test)]
mod tests;
