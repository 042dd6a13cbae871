//! nginx as the server of every path, and as a proxy to compare with.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path as File;

use super::path::{Path, Port};

/// The server: HTTP/1.1, HTTP/2 and gRPC, each answer from memory.
///
/// It has no module that serves gRPC, but that of files can: a POST to one is an error, whose page is the file
/// of the answer's message, with the trailer of a call that went well.
pub(super) fn server(folder: &File) -> String {
    let (http1, http2) = (Port::Http1.of_server(), Port::Http2.of_server());
    let (body, folder) = ("b".repeat(BODY), folder.display());
    let plain = format!("location / {{ return 200 \"{body}\"; }}");
    format!(
        "{}\
         server {{ listen {http1} backlog=4096; {plain} }}\n\
         server {{ listen {http2} http2 backlog=4096; {plain}\n\
           location {CALL} {{ error_page 405 =200 /{MESSAGE}; return 405; }}\n\
           location = /{MESSAGE} {{ root {folder}; types {{}} default_type application/grpc; \
             add_trailer grpc-status 0; open_file_cache max=10; }}\n\
         }}\n}}\n",
        head(&folder, "server")
    )
}

/// The proxy. To its upstream it speaks HTTP/1.1 but for gRPC: more it cannot.
pub(super) fn proxy(folder: &File, server: SocketAddr) -> String {
    let mut text = head(&folder.display(), "proxy");
    for port in Port::ALL {
        let (ip, at) = (server.ip(), port.of_proxy(Path::Nginx));
        let spoken = if port.is_http2() { " http2" } else { "" };
        let (name, upstream) = match port {
            Port::Grpc => ("grpc", port.of_server()),
            // What HTTP/2 is made of on its way.
            Port::Http1 | Port::Http2 => ("proxy", Port::Http1.of_server()),
            Port::Bulk => ("proxy", port.of_server()),
        };
        let pass = match port {
            Port::Grpc => format!("grpc_pass grpc://up-{at};"),
            _ => format!(
                "proxy_pass http://up-{at}; proxy_http_version 1.1; proxy_set_header Connection \"\"; \
                 proxy_request_buffering off;"
            ),
        };
        let _ = write!(
            text,
            "upstream up-{at} {{ server {ip}:{upstream} max_fails=0; keepalive 256; \
               keepalive_requests 1000000000; }}\n\
             server {{ listen 127.0.0.1:{at}{spoken} backlog=4096; location / {{\n\
               if ($http_x_bench != 1) {{ return 404; }}\n\
               {pass} {name}_read_timeout 60s; {name}_next_upstream error timeout http_503; \
               {name}_next_upstream_tries 3;\n\
             }} }}\n"
        );
    }
    text + "}\n"
}

fn head(folder: &impl std::fmt::Display, role: &str) -> String {
    format!(
        "worker_processes 1; daemon off; pid {folder}/nginx-{role}.pid; error_log stderr crit;\n\
         events {{ worker_connections 16384; }}\n\
         http {{ access_log off; client_max_body_size 0; keepalive_timeout 1h; \
           keepalive_requests 1000000000; http2_max_concurrent_streams 1000;\n\
         proxy_buffers 16 64k; proxy_buffer_size 64k; proxy_max_temp_file_size 0; \
         client_body_buffer_size 64k;\n"
    )
}

/// Bytes of an answer's body.
const BODY: usize = 1024;
/// What a call's path begins with.
pub(super) const CALL: &str = "/bench.";
/// The file of a call's message.
pub(super) const MESSAGE: &str = "message";
/// A call's message each way: not compressed, 5 bytes long.
pub(super) const FRAME: &[u8] = b"\0\0\0\0\x05hello";
