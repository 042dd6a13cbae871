//! Every bound of the proxy, in one place.
//!
//! | what | bound | over it |
//! |---|---|---|
//! | connections of a pod | [`Limits::pod_connections`] | reset, [`Reason::POD_CONNECTIONS`](crate::Reason::POD_CONNECTIONS) |
//! | requests of a pod under way | [`Limits::pod_requests`] | 503, [`Reason::POD_REQUESTS`](crate::Reason::POD_REQUESTS) |
//! | connections that wait to be accepted | the listener's backlog, 4096 | the kernel drops the SYN, the client tries again |
//! | head of a request: line, fields, bytes | [`http1::Limits`] | 414, 431 |
//! | head of an HTTP/2 request | [`Limits::h2_head`] | 431 by hyper |
//! | time for a head | [`Limits::head_time`] | reset, [`Reason::SLOW_HEAD`](crate::Reason::SLOW_HEAD) |
//! | time that a request's body stands still before there is an answer | [`Limits::body_time`] | 408, [`Reason::SLOW_BODY`](crate::Reason::SLOW_BODY) |
//! | time that a client takes nothing of its answer | [`Limits::body_time`] | reset, [`Reason::SLOW_BODY`](crate::Reason::SLOW_BODY) |
//! | silence of a connection | `timeouts.idle` of the Service, else [`Limits::idle`] | ends in order between requests, else reset, [`Reason::IDLE`](crate::Reason::IDLE) |
//! | time that hyper keeps an HTTP/1 connection with nothing under way | [`Limits::park_time`] | parked: its socket and its accounts are left |
//! | HTTP/2 streams of a connection | [`Limits::h2_streams`] | refused stream |
//! | HTTP/2 streams that the client resets before they are served | [`Limits::h2_resets`] | GOAWAY `ENHANCE_YOUR_CALM` |
//! | HTTP/2 streams that we reset for what comes on them, in the life of a connection | [`Limits::h2_errors`] | GOAWAY `ENHANCE_YOUR_CALM` |
//! | HTTP/2 frames that ask for nothing: SETTINGS, PING, `WINDOW_UPDATE`, PRIORITY, unknown ones; of clients and of servers | [`Limits::h2_frames`] | reset, and 502 for a server's requests, [`Reason::FLOOD`](crate::Reason::FLOOD) |
//! | CONTINUATION frames of a head, DATA frames without bytes | h2's: as many as [`Limits::h2_head`] needs, 100 | GOAWAY `ENHANCE_YOUR_CALM`, [`Reason::FLOOD`](crate::Reason::FLOOD) |
//! | bytes of a stream not yet read, each way | [`Limits::h2_window`] | flow control |
//! | bytes of a connection read ahead (HTTP/1) | [`Limits::http1_buffer`] | flow control |
//! | idle upstream connections of a pod on a worker | [`Limits::pool_idle`] | the one that came back last is closed |
//! | time that an upstream connection is idle | [`Limits::pool_time`], and `timeouts.idle` of its Service | closed |
//! | requests that wait for a connection over `maxConnections` | `maxPendingRequests`, and `timeouts.connect` each | 503, [`Reason::BREAKER_PENDING`](crate::Reason::BREAKER_PENDING), [`Reason::BREAKER_CONNECTIONS`](crate::Reason::BREAKER_CONNECTIONS) |
//! | requests that wait for an HTTP/2 connection that another one opens | `timeouts.connect`, and [`Limits::pod_requests`] | 503, [`Reason::CONNECT_TIMEOUT`](crate::Reason::CONNECT_TIMEOUT) |
//! | how often a request that no server has seen is sent again | 16 | 502, [`Reason::UPSTREAM_RESET`](crate::Reason::UPSTREAM_RESET) |
//! | streams of an upstream HTTP/2 connection | the server's own, [`Limits::h2_streams`] | another connection |
//! | bytes of a body kept for another try | [`KEPT_BODY`](crate::limits::retry::KEPT_BODY) | no further try |
//! | copies under way for mirrors, of a pod on a worker | [`Limits::mirrors`] | not copied, counted |
//! | bytes of a body that a mirror is behind | [`Limits::mirror_behind`], and one piece of any size | the copy is cut, counted |
//! | bytes looked at to tell the protocol | [`detect::LIMIT`](crate::route::detect::LIMIT) | decided by what there is |
//! | records that wait for a reader | [`Limits::records`] | dropped, counted |
//! | messages to a worker | 64 | the sender waits |

use std::time::Duration;

use crate::http1;

/// See the module.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections of one pod, all workers together: 16 384.
    pub pod_connections: u32,
    /// Requests of one pod under way, all workers together: 16 384.
    pub pod_requests: u32,
    /// Heads of HTTP/1.
    pub http1: http1::Limits,
    /// Bytes that are read ahead of an HTTP/1 connection: 128 KiB, so that the largest head fits.
    pub http1_buffer: usize,
    /// From a head's first byte to its last: 15 s.
    pub head_time: Duration,
    /// Without a byte of a body that the proxy waits for or has for the client: 5 min, as Envoy's `stream_idle_timeout`.
    ///
    /// An answer that its server makes the client wait for is no such body, nor is a request's body once there is an
    /// answer: streams, server-sent events and tunnels last. Calls of gRPC have deadlines of their own: a client may
    /// listen before there is an answer.
    pub body_time: Duration,
    /// Without a byte either way: 1 h.
    pub idle: Duration,
    /// After so long without a byte a connection of HTTP/1 between requests gives back its buffers: 1 s.
    pub park_time: Duration,
    /// Bytes of an HTTP/2 head, as RFC 9113 counts them: 64 KiB.
    pub h2_head: u32,
    /// Streams at once on one HTTP/2 connection: 250.
    pub h2_streams: u32,
    /// See the table: 64.
    pub h2_resets: usize,
    /// See the table: 1024. A body that still comes where its request was answered early, or a piece of an answer that
    /// nobody waits for any more, is such an error, too, once h2 has forgotten the stream: it must not be few.
    pub h2_errors: usize,
    /// How many frames that ask for nothing a client, or a server, may be ahead: 1024, which are given back within 10 s; one for each
    /// part of a request, ten for each part of an answer.
    pub h2_frames: u32,
    /// See the table: 1 MiB.
    pub h2_window: u32,
    /// See the table: 256.
    pub pool_idle: usize,
    /// See the table: 60 s.
    pub pool_time: Duration,
    /// See the table: 64.
    pub mirrors: usize,
    /// See the table: 512 KiB, four of the largest pieces that are read at once ([`Limits::http1_buffer`]).
    pub mirror_behind: usize,
    /// See the table: 8192.
    pub records: usize,
    /// How long a client that began like HTTP may be silent before it is taken for something else: 5 s.
    pub detect_time: Duration,
    /// How long a drained proxy leaves idle HTTP/1 connections open for a last request: 10 s.
    pub drain_idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pod_connections: 16_384,
            pod_requests: 16_384,
            http1: http1::Limits::default(),
            http1_buffer: 128 << 10,
            head_time: Duration::from_secs(15),
            body_time: Duration::from_mins(5),
            idle: Duration::from_hours(1),
            park_time: Duration::from_secs(1),
            h2_head: 64 << 10,
            h2_streams: 250,
            h2_resets: 64,
            h2_errors: 1024,
            h2_frames: 1024,
            h2_window: 1 << 20,
            pool_idle: 256,
            pool_time: Duration::from_mins(1),
            mirrors: 64,
            mirror_behind: 512 << 10,
            records: 8192,
            detect_time: Duration::from_secs(5),
            drain_idle: Duration::from_secs(10),
        }
    }
}
