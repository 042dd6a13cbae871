//! What the node's proxy is told about the connections that come to it, and what it says of itself.

use crate::{Addr, BePort};

abi_struct! {
    /// Key of `weft_origin`: who a connection to the proxy comes from.
    pub struct OriginKey {
        /// Network namespace of the pod.
        pub netns: u64,
        /// The client's address, as the listener sees it: the pod's own, or that of who dials the pod.
        pub addr: Addr,
        /// Its port.
        pub port: BePort,
        /// The pod's port that others dial; 0 for a connection of the pod's own.
        pub to: BePort,
        /// Zero.
        pub _pad: [u8; 4],
    }
}

abi_struct! {
    /// Value of `weft_origin`: whom it dialled. Written before the SYN leaves; the proxy takes it away, or the
    /// hook, when the connection breaks off. Of a connection that others make to the pod, `sk_lookup` writes it where
    /// the kernel attests the client, and takes it away where it does not.
    pub struct Origin {
        /// The address.
        pub dialled: Addr,
        /// Id of the frontend; of a connection that others make to the pod, the token of the client's ServiceAccount.
        pub service: u64,
        /// Id of the pair that the app's socket wants to form with the proxy's; 0 for none. Of a connection that others
        /// make to the pod, 1 where the client's own proxy has made it.
        pub pair: u64,
        /// The pod that it is to reach by mutual TLS; [`Addr::ANY`] where the proxy chooses.
        pub chosen: Addr,
        /// The port.
        pub port: BePort,
        /// The port of `chosen`.
        pub chosen_port: BePort,
        /// Zero.
        pub _pad: [u8; 4],
    }
}

abi_struct! {
    /// The one entry of `weft_lease`.
    pub struct Lease {
        /// When the proxy was last known to be there, in nanoseconds since boot (`CLOCK_MONOTONIC`).
        pub renewed_ns: u64,
    }
}
