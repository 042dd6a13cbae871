//! TLS that the app does itself: the name in its ClientHello, and the TLSRoute for that name.

mod hello;

use std::{collections::HashMap, sync::Arc};

use weft_model::TlsRoute;

use super::{
    backend::Backends,
    table::{CompileError, RuleError},
};
pub use hello::{Asked, LIMIT, ServerName, asks_for, server_name};

/// TLSRoutes, ready to be asked.
#[derive(Debug)]
pub struct TlsTable {
    routes: Vec<CompiledTls>,
    exact: HashMap<Arc<str>, usize>,
    /// By what follows the `*`, with its dot.
    wildcards: HashMap<Arc<str>, usize>,
    /// The first route without a hostname.
    any: Option<usize>,
}

/// A TLSRoute, ready to be applied.
#[derive(Debug)]
pub struct CompiledTls {
    /// The route.
    pub route: Arc<TlsRoute>,
    /// Its backendRefs.
    pub backends: Backends,
}

impl TlsTable {
    pub(super) fn compile(routes: &[Arc<TlsRoute>]) -> Result<Self, CompileError> {
        let mut table =
            Self { routes: Vec::new(), exact: HashMap::new(), wildcards: HashMap::new(), any: None };
        for (number, route) in routes.iter().enumerate() {
            let error = |source| CompileError {
                route: route.name.clone(),
                rule: 0,
                source: RuleError::Filter(source),
            };
            let backends = Backends::compile(&route.backends).map_err(error)?;
            table.routes.push(CompiledTls { route: Arc::clone(route), backends });
            if route.hostnames.is_empty() {
                table.any.get_or_insert(number);
            }
            for hostname in &route.hostnames {
                // The oldest route has a name that several claim.
                match hostname.strip_prefix('*') {
                    Some(suffix) => table.wildcards.entry(suffix.into()).or_insert(number),
                    None => table.exact.entry(Arc::clone(hostname)).or_insert(number),
                };
            }
        }
        Ok(table)
    }

    /// The route for a connection: its very name, else the longest wildcard, else a route for every name. A connection
    /// without a name gets the last kind only. `None`: close it.
    pub fn find(&self, name: Option<&str>) -> Option<&CompiledTls> {
        let named = name.and_then(|name| self.exact.get(name).or_else(|| self.wildcard(name)));
        named.copied().or(self.any).map(|number| &self.routes[number])
    }

    /// `*` stands for one label or more.
    fn wildcard(&self, name: &str) -> Option<&usize> {
        let dots = name.match_indices('.').filter(|(place, _)| *place > 0);
        dots.map(|(place, _)| &name[place..]).find_map(|suffix| self.wildcards.get(suffix))
    }
}

#[cfg(test)]
mod tests;
