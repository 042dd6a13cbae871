//! The golden layout: `layout.txt` is what [`all`] lists.

/// One shared type.
pub struct Layout {
    /// Its name.
    pub name: &'static str,
    /// Its size in bytes.
    pub size: usize,
    /// Its fields in order.
    pub fields: &'static [Field],
}

/// One field of a shared type.
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Its offset in bytes.
    pub offset: usize,
    /// Its size in bytes.
    pub size: usize,
}

/// Every shared type.
pub fn all() -> impl Iterator<Item = &'static Layout> {
    ALL.iter()
}

macro_rules! list {
    ($($name:ident),* $(,)?) => {
        static ALL: &[Layout] = &[$(crate::$name::LAYOUT),*];
    };
}

list! {
    Addr, BePort, Reason, Config, NetnsKey, Pod, PodRow, PolicyKey, PolicyRow, CidrMatch, CidrClass, ServiceKey,
    ServiceRow, SlotKey, Slot, BackendKey, Backend, AffinityKey, Affinity, Count, MaglevKey, MaglevChunk,
    SocketKey, SocketState, ReverseKey, ReverseRow, FlowKey, FlowRecord, Attested, FlowEvent, PairKey, Pair, PairEnd,
    OriginKey, Origin, Lease,
}
