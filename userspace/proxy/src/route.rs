//! The Gateway API's meaning of a request: which rule, which backend, what is changed on the way.
//!
//! Pure functions over the types of the `http` crate: no IO, no clock, no randomness of its own (callers give the
//! numbers). Compiled once for a Snapshot, asked once for a request.
//!
//! ```text
//! bytes ──► detect, tls ──► request ──► path::normalise_uri ──► Asked
//!                                                                 │
//! PortRouting ──► PortRoutes ──for_client──► Routes ──► Table::find ──► CompiledRule
//!                                                                 │
//!         answer ◄── none, or a refusal      Filters::on_request ◄┴─► Backends::draw ──► its Filters
//! ```

pub mod answer;
mod asked;
pub mod backend;
pub mod detect;
pub mod filters;
pub mod grpc;
pub mod path;
mod pattern;
pub mod table;
pub mod tls;

use std::{collections::BTreeMap, sync::Arc};

use weft_model::{PortRouting, RouteSet};

pub use asked::Asked;
pub use pattern::PatternError;
use table::{CompileError, Table};
use tls::TlsTable;

/// The routes of one Service port, ready to be asked.
#[derive(Debug)]
pub struct PortRoutes {
    producer: Routes,
    consumers: BTreeMap<Arc<str>, Routes>,
}

/// The routes that hold together, ready to be asked.
#[derive(Debug)]
pub enum Routes {
    /// None: plain Service behaviour.
    Plain,
    /// HTTPRoutes. A request without a rule is answered with 404.
    Http(Table),
    /// GRPCRoutes. A call without a rule is `UNIMPLEMENTED`; what is no gRPC call is matched by its path all the same.
    Grpc(Table),
    /// TLSRoutes.
    Tls(TlsTable),
}

impl PortRoutes {
    /// Compiles all sets of `routing`.
    ///
    /// # Errors
    /// The first thing that does not compile. The caller keeps what it had: a port never has half of its routes.
    pub fn compile(routing: &PortRouting) -> Result<Self, CompileError> {
        let consumers = routing.consumers.iter();
        let consumers = consumers.map(|(namespace, set)| Ok((Arc::clone(namespace), Routes::compile(set)?)));
        Ok(Self {
            producer: Routes::compile(&routing.producer)?,
            consumers: consumers.collect::<Result<_, _>>()?,
        })
    }

    /// The routes for a client of `namespace`: its own, else the producer's, never both.
    pub fn for_client(&self, namespace: &str) -> &Routes {
        self.consumers.get(namespace).unwrap_or(&self.producer)
    }
}

impl Routes {
    /// Compiles one set.
    ///
    /// # Errors
    /// See [`PortRoutes::compile`].
    pub fn compile(set: &RouteSet) -> Result<Self, CompileError> {
        Ok(match set {
            RouteSet::None => Self::Plain,
            RouteSet::Http(routes) => Self::Http(Table::compile(routes)?),
            RouteSet::Grpc(routes) => Self::Grpc(Table::compile(routes)?),
            RouteSet::Tls(routes) => Self::Tls(TlsTable::compile(routes)?),
        })
    }
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
