//! Envoy's configuration: listeners, each with one route to one cluster.

use std::net::SocketAddr;
use std::path::Path as File;

use serde_json::{Value, json};

/// From a listener to a server.
pub(super) struct Hop {
    /// Where it listens.
    pub(super) at: SocketAddr,
    /// Where it leads.
    pub(super) to: SocketAddr,
    /// Whether HTTP/2 is spoken to the server.
    pub(super) http2: bool,
}

/// A configuration file's text.
pub(super) fn configuration(hops: &[Hop]) -> String {
    let listeners: Vec<_> = hops.iter().map(listener).collect();
    let clusters: Vec<_> = hops.iter().map(cluster).collect();
    let all = json!({"static_resources": {"listeners": listeners, "clusters": clusters}});
    format!("{all:#}\n")
}

/// A command line. One worker; without hot restart nothing is shared with other Envoys of the machine.
pub(super) fn command<'a>(binary: &'a File, configuration: &'a File) -> [&'a str; 8] {
    let text = |file: &'a File| file.to_str().expect("the bench's own paths are UTF-8");
    let (binary, configuration) = (text(binary), text(configuration));
    [binary, "-c", configuration, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
}

fn listener(hop: &Hop) -> Value {
    let route = json!({
        "match": {"prefix": "/", "headers": [{"name": "x-bench", "string_match": {"exact": "1"}}]},
        "route": {
            "cluster": name(hop),
            "timeout": "60s",
            "retry_policy": {
                "retry_on": "connect-failure,retriable-status-codes",
                "retriable_status_codes": [503],
                "num_retries": 2,
            },
        },
    });
    let manager = json!({
        "@type": format!("{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": name(hop),
        "codec_type": "AUTO",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": format!("{TYPES}.filters.http.router.v3.Router")},
        }],
    });
    let filter = json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": manager});
    json!({"name": name(hop), "address": address(hop.at), "filter_chains": [{"filters": [filter]}]})
}

fn cluster(hop: &Hop) -> Value {
    let protocol = if hop.http2 { "http2_protocol_options" } else { "http_protocol_options" };
    let options = json!({
        "@type": format!("{TYPES}.upstreams.http.v3.HttpProtocolOptions"),
        "explicit_http_config": {protocol: {}},
    });
    let endpoint = json!({"endpoint": {"address": address(hop.to)}});
    json!({
        "name": name(hop),
        "type": "STATIC",
        "connect_timeout": "10s",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        "load_assignment": {"cluster_name": name(hop), "endpoints": [{"lb_endpoints": [endpoint]}]},
    })
}

fn address(at: SocketAddr) -> Value {
    json!({"socket_address": {"address": at.ip(), "port_value": at.port()}})
}

fn name(hop: &Hop) -> String {
    format!("port-{}", hop.at.port())
}

const TYPES: &str = "type.googleapis.com/envoy.extensions";
