//! What is compared.

use clap::ValueEnum;
use serde::Serialize;

use super::plot::{NO_MESH, WEFT};

/// One way from the client to the server, in the order of the table's columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum Path {
    /// Straight.
    NoMesh,
    /// The node's proxy, by way of a Service with a route.
    Weft,
    /// One Envoy, beside the client.
    Envoy,
    /// Two of them: a sidecar at either end.
    EnvoyTwice,
    /// One nginx, beside the client.
    Nginx,
}

/// What the server speaks at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    /// HTTP/1.1, answers of 1 KiB.
    Http1,
    /// HTTP/2 with prior knowledge, the same answers.
    Http2,
    /// gRPC: a unary call with a message of 5 bytes each way.
    Grpc,
    /// HTTP/1.1, bodies of any length each way.
    Bulk,
}

impl Path {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::NoMesh, Self::Weft, Self::Envoy, Self::EnvoyTwice, Self::Nginx];

    /// Its column's head.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::NoMesh => "no mesh",
            Self::Weft => "weft",
            Self::Envoy => "Envoy",
            Self::EnvoyTwice => "Envoy twice",
            Self::Nginx => "nginx",
        }
    }

    /// Its bars' colour.
    pub(super) fn colour(self) -> &'static str {
        match self {
            Self::NoMesh => NO_MESH,
            Self::Weft => WEFT,
            Self::Envoy => "#ae3ec9",
            Self::EnvoyTwice => "#da77f2",
            Self::Nginx => "#2f9e44",
        }
    }
}

impl Port {
    pub(super) const ALL: [Self; 4] = [Self::Http1, Self::Http2, Self::Grpc, Self::Bulk];

    /// Where the server listens.
    pub(crate) fn of_server(self) -> u16 {
        match self {
            Self::Http1 => 8080,
            Self::Http2 | Self::Grpc => 8081,
            Self::Bulk => 8082,
        }
    }

    /// Where the proxy of `path` listens, beside the client; weft's is the port of the Service.
    pub(super) fn of_proxy(self, path: Path) -> u16 {
        let number = match self {
            Self::Http1 => 80,
            Self::Http2 => 81,
            Self::Grpc => 82,
            Self::Bulk => 83,
        };
        match path {
            Path::NoMesh => self.of_server(),
            Path::Weft => number,
            Path::Envoy => 15_000 + number,
            Path::EnvoyTwice => 16_000 + number,
            Path::Nginx => 17_000 + number,
        }
    }

    /// Where the second of two Envoys listens, beside the server.
    pub(super) fn of_second_hop(self) -> u16 {
        self.of_proxy(Path::Nginx) + 1_000
    }

    /// Whether HTTP/2 is spoken.
    pub(super) fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Grpc)
    }
}
