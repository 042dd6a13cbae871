//! The matches of all routes of a set, in the Gateway API's order of precedence, and the rule behind each.
//!
//! HTTPRoute: exact path, then regular expression, then the longest prefix; then a method, more headers, more query
//! parameters. GRPCRoute: the longest service, the longest method, more headers. Ties: the set's order of routes (the
//! oldest first), then of rules, then of matches. Where the API leaves the place of regular expressions open: a longer
//! one goes before a shorter one, and all go before every prefix, or a rule for `/` would hide them; for gRPC a name goes
//! before an expression.

mod entry;
mod index;

use std::{cmp::Reverse, sync::Arc};

use thiserror::Error;
use weft_model::{ObjectName, Route, RouteRule};

use super::{
    Asked, backend::Backends, filters::FilterError, filters::Filters, path::PathError, pattern::PatternError,
};
use entry::Entry;
use index::Index;

/// Rules of one kind of route, ready to be asked.
#[derive(Debug)]
pub struct Table {
    rules: Vec<CompiledRule>,
    /// All matches, what takes precedence first.
    entries: Vec<Entry>,
    index: Index,
}

/// A rule, ready to be applied.
#[derive(Debug)]
pub struct CompiledRule {
    /// Its route.
    pub route: Arc<Route>,
    /// Its place in the route's `rules`.
    pub index: usize,
    /// Its filters.
    pub filters: Filters,
    /// Its backendRefs.
    pub backends: Backends,
}

/// A route cannot be used. Whoever reads the objects has refused such a route before.
#[derive(Debug, Error)]
#[error("compile route {route}, rule {rule}: {source}")]
pub struct CompileError {
    /// The route.
    pub route: ObjectName,
    /// The rule's place in it.
    pub rule: usize,
    /// What is wrong.
    pub source: RuleError,
}

/// What can be wrong with a rule.
#[derive(Debug, Error)]
pub enum RuleError {
    /// A regular expression.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A path that is matched on.
    #[error("match on path `{path}`: {source}")]
    Path {
        /// The path.
        path: Arc<str>,
        /// What is wrong with it.
        source: PathError,
    },
    /// The name of a header that is matched on.
    #[error("match on header `{0}`: a header's name is made of letters, digits and !#$%&'*+-.^_`|~")]
    Header(Arc<str>),
    /// A method that is matched on.
    #[error("match on method `{0}`: a method is made of letters, as GET")]
    Method(Arc<str>),
    /// A filter.
    #[error(transparent)]
    Filter(#[from] FilterError),
}

impl Table {
    /// Compiles `routes`, the oldest first.
    ///
    /// # Errors
    /// The first rule that does not compile.
    pub fn compile(routes: &[Arc<Route>]) -> Result<Self, CompileError> {
        let mut table = Self { rules: Vec::new(), entries: Vec::new(), index: Index::default() };
        let mut found = Vec::new();
        for route in routes {
            for (index, rule) in route.rules.iter().enumerate() {
                let number = table.rules.len();
                table.rules.push(CompiledRule::compile(route, index)?);
                found.extend(rule.matches.iter().map(|wanted| (number, wanted)));
            }
        }
        found.sort_by_cached_key(|(_, wanted)| entry::precedence(wanted)); // stable: ties keep the order
        for (number, (rule, wanted)) in found.into_iter().enumerate() {
            let (entry, place) =
                Entry::compile(rule, wanted).map_err(|source| table.rules[rule].error(source))?;
            table.entries.push(entry);
            table.index.insert(place, number);
        }
        Ok(table)
    }

    /// The rule for a request. `None`: 404, for a gRPC call `UNIMPLEMENTED`.
    ///
    /// Costs one hash of the path, one of each of its elements as far as prefixes go, and what the matches on these
    /// very paths ask for; every regular expression on paths is tried unless the path is an exact one.
    pub fn find(&self, asked: &Asked<'_>) -> Option<&CompiledRule> {
        let number = self.index.find(&asked.path, &|number| self.entries[number].holds(asked))?;
        Some(&self.rules[self.entries[number].rule])
    }

    /// All rules, by route and place.
    pub fn rules(&self) -> &[CompiledRule] {
        &self.rules
    }
}

impl CompiledRule {
    fn compile(route: &Arc<Route>, index: usize) -> Result<Self, CompileError> {
        let rule = &route.rules[index];
        let compiled = || -> Result<_, FilterError> {
            Ok((Filters::compile(&rule.filters)?, Backends::compile(&rule.backends)?))
        };
        match compiled() {
            Ok((filters, backends)) => Ok(Self { route: Arc::clone(route), index, filters, backends }),
            Err(source) => {
                Err(CompileError { route: route.name.clone(), rule: index, source: source.into() })
            }
        }
    }

    /// The rule as it was written: timeouts, retry, session, traffic settings.
    pub fn rule(&self) -> &RouteRule {
        &self.route.rules[self.index]
    }

    fn error(&self, source: RuleError) -> CompileError {
        CompileError { route: self.route.name.clone(), rule: self.index, source }
    }
}

/// What takes precedence sorts first.
type Precedence = (u8, Reverse<usize>, u8, Reverse<usize>, Reverse<usize>, Reverse<usize>);

#[cfg(test)]
mod tests;
