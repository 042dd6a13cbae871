//! Names of maps, programs and counters, as `bpftool` shows them: at most 15 characters, each unique.

macro_rules! names {
    ($($(#[$doc:meta])* $constant:ident = $name:literal;)*) => {
        $($(#[$doc])* pub const $constant: &str = $name;)*
        /// All names of this module.
        pub const ALL: &[&str] = &[$($name),*];
        const _: () = {
            let mut i = 0;
            while i < ALL.len() {
                assert!(ALL[i].len() <= 15, "the kernel cuts names to 15 characters");
                i += 1;
            }
        };
    };
}

/// Maps.
pub mod map {
    names! {
        /// [`crate::Config`], one entry.
        CONFIG = "weft_cfg";
        /// [`crate::NetnsKey`] → [`crate::Pod`].
        PODS = "weft_pod";
        /// [`crate::Addr`] → [`crate::PodRow`].
        POD_IPS = "weft_pod_ip";
        /// [`crate::PodPortKey`] → [`crate::PodPort`].
        POD_PORTS = "weft_pod_port";
        /// [`crate::NetnsKey`] → socket, the pod's inbound listener.
        LISTENERS = "weft_listener";
        /// [`crate::ServiceKey`] → [`crate::ServiceRow`].
        SERVICES = "weft_svc";
        /// [`crate::SlotKey`] → [`crate::Slot`].
        SLOTS = "weft_slot";
        /// [`crate::BackendKey`] → [`crate::Backend`].
        BACKENDS = "weft_backend";
        /// [`crate::MaglevKey`] → [`crate::MaglevChunk`].
        MAGLEV = "weft_maglev";
        /// [`crate::AffinityKey`] → [`crate::Affinity`].
        AFFINITY = "weft_affinity";
        /// [`crate::BackendKey`] → [`crate::Count`].
        OPEN = "weft_open";
        /// [`crate::BackendKey`] (id of a frontend) → [`crate::Count`].
        TURNS = "weft_turn";
        /// [`crate::PolicyKey`] → [`crate::PolicyRow`].
        POLICY = "weft_policy";
        /// [`crate::CidrMatch`] → [`crate::CidrClass`].
        CIDR = "weft_cidr";
        /// [`crate::FlowKey`] → [`crate::FlowRecord`].
        FLOWS = "weft_flow";
        /// [`crate::FlowKey::place`] → [`crate::Attested`].
        ATTESTED = "weft_attested";
        /// [`crate::ReverseKey`] → [`crate::ReverseRow`].
        UDP_REVERSE = "weft_udp_rev";
        /// [`crate::SocketKey`] → [`crate::BackendKey`].
        UDP_CONNECTED = "weft_udp_conn";
        /// [`crate::SocketState`] by socket.
        SOCKETS = "weft_sock";
        /// [`crate::FlowEvent`].
        EVENTS = "weft_events";
        /// [`crate::PairKey`] → [`crate::Pair`].
        PAIRS = "weft_pair";
        /// [`crate::PairEnd`] → socket.
        PAIR_SOCKETS = "weft_pair_sock";
        /// [`crate::PairEnd`] → socket, of a side that never redirects.
        PAIR_READERS = "weft_pair_read";
        /// [`crate::OriginKey`] → [`crate::Origin`].
        ORIGINS = "weft_origin";
        /// [`crate::FlowKey`], one entry for each processor: whom `sk_lookup` has turned away at an address that is no pod's.
        TURNED = "weft_turned";
        /// [`crate::Lease`], one entry, which the proxy writes.
        LEASE = "weft_lease";
        /// Counters by [`super::stat`].
        STATS = "weft_stat";
    }
}

/// Programs.
pub mod program {
    names! {
        /// `cgroup/connect4`.
        CONNECT4 = "weft_connect4";
        /// `cgroup/connect6`.
        CONNECT6 = "weft_connect6";
        /// `cgroup/sendmsg4`.
        SENDMSG4 = "weft_sendmsg4";
        /// `cgroup/sendmsg6`.
        SENDMSG6 = "weft_sendmsg6";
        /// `cgroup/recvmsg4`.
        RECVMSG4 = "weft_recvmsg4";
        /// `cgroup/recvmsg6`.
        RECVMSG6 = "weft_recvmsg6";
        /// `cgroup/getpeername4`.
        PEERNAME4 = "weft_peername4";
        /// `cgroup/getpeername6`.
        PEERNAME6 = "weft_peername6";
        /// `cgroup/sock_release`.
        RELEASE = "weft_release";
        /// `sock_ops`.
        SOCK_OPS = "weft_sock_ops";
        /// `sk_lookup`, one link for each pod's namespace.
        SK_LOOKUP = "weft_sk_lookup";
        /// `cgroup_skb/ingress`, attached only beside a foreign `sk_lookup` program.
        BACKSTOP = "weft_backstop";
        /// `sk_msg`, attached to [`super::map::PAIR_SOCKETS`] while acceleration is on.
        SK_MSG = "weft_sk_msg";
    }
}

/// Indices of `weft_stat`.
pub mod stat {
    macro_rules! stats {
        ($($(#[$doc:meta])* $constant:ident = $index:literal, $name:literal;)*) => {
            $($(#[$doc])* pub const $constant: u32 = $index;)*
            /// Every counter with its name in metrics and `weft bpf stat`.
            pub const ALL: &[(u32, &str)] = &[$(($index, $name)),*];
        };
    }
    stats! {
        /// Connections and datagrams translated.
        TRANSLATED = 0, "translated";
        /// Refused by the connect or sendmsg hook.
        DENIED_CONNECT = 1, "denied_connect";
        /// Refused by the `sk_lookup` program.
        DENIED_LOOKUP = 2, "denied_lookup";
        /// Refused by the backstop.
        DENIED_BACKSTOP = 3, "denied_backstop";
        /// Passed as a probe.
        PROBES = 4, "probes";
        /// Events that found the ring full.
        EVENTS_LOST = 5, "events_lost";
        /// A service row named a slot or backend that was not there; tried again.
        SLOT_MISSES = 6, "slot_misses";
        /// A datagram whose dialled address was forgotten (evicted), or that nobody asked for, reached
        /// a socket that asks Services: it is shown with its sender's own address.
        REVERSE_MISSES = 7, "reverse_misses";
        /// An attestation could not be written.
        FLOWS_LOST = 8, "flows_lost";
        /// A socket had no room for its state.
        SOCKETS_LOST = 9, "sockets_lost";
        /// Connections that an audit policy would have refused.
        AUDITED = 10, "audited";
        /// Directions that began redirected.
        LATCH_REDIRECT = 11, "latch_redirect";
        /// Directions that went native before anything was redirected.
        LATCH_NATIVE = 12, "latch_native";
        /// Directions that went from redirect to native.
        LATCH_LEFT = 13, "latch_left";
        /// Bytes redirected.
        BYTES_REDIRECTED = 14, "bytes_redirected";
        /// Bytes of accelerated Services that TCP carried, counted when their sockets close.
        BYTES_NATIVE = 15, "bytes_native";
        /// A socket could not join the acceleration map.
        PAIR_BUSY = 16, "pair_busy";
        /// Connections sent to the node's proxy.
        PROXIED = 17, "proxied";
        /// Where a connection to the proxy was going could not be written down: the proxy refuses it.
        ORIGINS_LOST = 18, "origins_lost";
        /// Connections from elsewhere that were handed to the server's node proxy.
        CAPTURED = 19, "captured";
        /// TCP connections that the connect hook had refused and that went on all the same: a program beside it took the
        /// refusal back.
        OVERRULED = 20, "overruled";
    }
}
