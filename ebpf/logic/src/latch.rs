//! Which way a message goes: into the peer's socket, or through TCP.
//!
//! A direction starts undecided. Its first message decides: redirected where all is well, else native
//! for good. A redirected direction goes native when anything speaks against it, and stays there:
//!
//! ```text
//! UNDECIDED ──► REDIRECT ──► NATIVE
//!     └────────────────────────┘
//! ```
//!
//! The reader takes what was redirected before what TCP brings, so `REDIRECT → NATIVE` keeps the order
//! and `NATIVE → REDIRECT` would break it.
//!
//! # Edges
//! A reader that epoll tells of edges, and that takes a short read for the last (tokio, nginx, netty), must not find
//! TCP's bytes behind what was redirected: a read ends between the two, and one edge may have told of both. So a
//! direction goes native only while its reader has taken everything ([`Message::unread`] is 0), and whatever speaks
//! against the redirect waits for that. What TCP brings then comes after the read that took the last byte had begun: its
//! edge is a later one than the edge that the read was made for, and no reader may lose such a one. The kernel
//! takes a byte off the count while it copies it, under the lock of the reader's socket; a segment that
//! comes meanwhile waits for that lock.
//!
//! Not waited for: the budget, since memory has to be bounded; and another protocol on the sender's socket (kTLS), whose
//! bytes must not go round it.

use weft_abi::{Config, SHORT_MESSAGES, SocketState, config_flags, latch, socket_flags};

/// A message that is about to be sent, and what is known of both ends.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    /// Its size in bytes.
    pub size: u32,
    /// The peer's socket is in the map.
    pub peer: bool,
    /// TCP has sent nothing in this direction, has nothing to send, and nobody encrypts below us.
    pub untouched: bool,
    /// Bytes that wait in the peer's socket for its app to read them.
    pub unread: u32,
    /// The `SO_PRIORITY` of the sender's socket.
    pub priority: u32,
    /// The app's end of a connection with the node's proxy ([`App`]) waits in its calls.
    pub blocks: bool,
}

/// The way of a message.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Into the peer's socket, first of its direction.
    First,
    /// Into the peer's socket.
    Redirect,
    /// Through TCP: decided now, before anything was redirected.
    Never,
    /// Through TCP: decided now, after something was redirected.
    Leave,
    /// Through TCP, as those before.
    Native,
}

impl Way {
    /// Whether the message goes into the peer's socket.
    #[inline(always)]
    pub fn redirects(self) -> bool {
        matches!(self, Self::First | Self::Redirect)
    }
}

/// Whether each [`weft_abi::side`] of a connection may redirect what it sends, by its client's
/// [`socket_flags`].
///
/// Redirection is not TCP to whoever reads. A Service's annotation says that its apps can do with that. Of a
/// connection to the node's proxy, or of its own, the proxy's end can; its apps' ends can with what [`decide`] lets the
/// proxy send.
#[must_use]
#[inline(always)]
pub fn may_redirect(flags: u32, config: &Config) -> [bool; 2] {
    if config.flags & config_flags::ACCELERATE == 0 {
        return [false; 2];
    }
    let proxied = flags & socket_flags::PROXIED != 0;
    let by_proxy = flags & socket_flags::BY_PROXY != 0;
    let apps = flags & socket_flags::ACCELERATE != 0
        || (proxied || by_proxy) && config.flags & config_flags::ACCELERATE_APPS != 0;
    let reads = config.flags & config_flags::ACCELERATE_PROXY != 0;
    [apps || proxied && reads, apps || by_proxy && reads]
}

/// Which end of a connection with the node's proxy is an app's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum App {
    /// The sender.
    Sender,
    /// Whoever it sends to.
    Peer,
    /// The proxy has no part in it.
    Both,
}

impl App {
    /// By the [`socket_flags`] of the sender.
    #[inline(always)]
    pub const fn of(flags: u32) -> Self {
        if is_the_proxys(flags) {
            Self::Peer
        } else if is_read_by_the_proxy(flags) {
            Self::Sender
        } else {
            Self::Both
        }
    }
}

/// Decides about a message and remembers it. Called under the lock of the sender's socket.
///
/// What is redirected, and what it takes to hold it, stays within [`Config::accelerate_budget`] of what
/// the reader has taken; there is no other limit, since a redirect never waits.
///
/// The node's proxy knows how long its messages are, and says so ([`SHORT_MESSAGES`]) while all that it may have sent
/// before its reader has taken it is far below the budget.
///
/// Nobody has asked on behalf of its apps: one that waits in its calls is left to TCP. In a map the kernel wakes it with
/// EAGAIN for a reset (`tcp_msg_wait_data`, to 6.18 and later), and `MSG_WAITALL` does not wait; who polls sees neither.
#[inline(always)]
pub fn decide(state: &mut SocketState, config: &Config, message: &Message) -> Way {
    if state.latch >= latch::NATIVE {
        return Way::Native;
    }
    let first = state.latch == latch::UNDECIDED;
    if message.unread == 0 {
        state.messages = 0;
    }
    let fits =
        u64::from(message.unread) + MESSAGE_COST * (u64::from(state.messages) + 1) + u64::from(message.size)
            <= u64::from(config.accelerate_budget);
    let can = message.peer && message.untouched && fits;
    let wanted = config.flags & config_flags::ACCELERATE != 0
        && message.size <= config.accelerate_write
        && (!is_the_proxys(state.flags) || message.priority == SHORT_MESSAGES)
        && !message.blocks;
    let waits = !first && message.unread > 0;
    if !(can && (wanted || waits)) {
        state.latch = latch::NATIVE;
        return if first { Way::Never } else { Way::Leave };
    }
    state.latch = latch::REDIRECT;
    state.redirected += u64::from(message.size);
    state.messages += 1;
    if first { Way::First } else { Way::Redirect }
}

/// Whether the node's proxy sends, by the [`socket_flags`] of the sender.
#[inline(always)]
const fn is_the_proxys(flags: u32) -> bool {
    flags & (socket_flags::BY_PROXY | socket_flags::ACCEPTED_BY_PROXY) != 0
}

/// Whether the node's proxy reads what is sent, by the [`socket_flags`] of the sender.
#[inline(always)]
const fn is_read_by_the_proxy(flags: u32) -> bool {
    flags & (socket_flags::PROXIED | socket_flags::DIALLED_BY_PROXY) != 0
}

/// Takes back a decision to redirect: the peer's socket was gone. The message goes through TCP, which
/// knows what to tell the app.
#[inline(always)]
pub fn take_back(state: &mut SocketState, message: &Message) {
    state.latch = latch::NATIVE;
    state.redirected -= u64::from(message.size);
}

/// What the kernel needs for one redirected message apart from its bytes: `struct sk_msg`, rounded up as
/// the allocator does.
const MESSAGE_COST: u64 = 1024;

#[cfg(test)]
mod tests;
