//! Addresses and ports in the one form that maps use.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

abi_struct! {
    /// An IP address: IPv6, or IPv4 as `::ffff:a.b.c.d`.
    pub struct Addr {
        /// Its 16 bytes in network byte order, as four words: hooks read and compare them so.
        pub words: [u32; 4],
    }
}

abi_struct! {
    /// A port in network byte order.
    pub struct BePort {
        /// As it stands in memory.
        pub be: u16,
    }
}

impl Addr {
    /// The unspecified address.
    pub const ANY: Self = Self::zeroed();

    /// From an IPv4 address as hooks see it: a u32 whose memory is in network byte order.
    #[inline(always)]
    pub const fn from_v4_word(word: u32) -> Self {
        Self { words: [0, 0, MAPPED, word] }
    }

    /// From an IPv6 address as hooks see it.
    #[inline(always)]
    pub const fn from_v6_words(words: [u32; 4]) -> Self {
        Self { words }
    }

    /// The IPv4 part, as hooks write it.
    #[inline(always)]
    pub const fn v4_word(&self) -> u32 {
        self.words[3]
    }

    /// The four words of the address, as hooks write them.
    #[inline(always)]
    pub const fn v6_words(&self) -> [u32; 4] {
        self.words
    }

    /// Whether `self` and `other` are the same address. Unlike `==`, no call of `memcmp` in BPF.
    #[inline(always)]
    pub const fn is(&self, other: &Self) -> bool {
        let (a, b) = (&self.words, &other.words);
        a[3] == b[3] && a[2] == b[2] && a[1] == b[1] && a[0] == b[0]
    }

    /// The 16 bytes.
    pub fn octets(&self) -> [u8; 16] {
        let mut octets = [0; 16];
        for (four, word) in octets.chunks_exact_mut(4).zip(self.words) {
            four.copy_from_slice(&word.to_ne_bytes());
        }
        octets
    }

    /// From 16 bytes.
    pub const fn from_octets(o: [u8; 16]) -> Self {
        Self {
            words: [
                u32::from_ne_bytes([o[0], o[1], o[2], o[3]]),
                u32::from_ne_bytes([o[4], o[5], o[6], o[7]]),
                u32::from_ne_bytes([o[8], o[9], o[10], o[11]]),
                u32::from_ne_bytes([o[12], o[13], o[14], o[15]]),
            ],
        }
    }

    /// Whether this is an IPv4 address.
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        let words = self.v6_words();
        words[0] == 0 && words[1] == 0 && words[2] == MAPPED
    }

    /// Whether this is `fe80::/10`, which means something on one link only.
    #[inline(always)]
    pub const fn is_link_local(&self) -> bool {
        self.v6_words()[0] & u32::from_be(0xffc0_0000) == u32::from_be(0xfe80_0000)
    }

    /// Whether this is `::` or `0.0.0.0`.
    #[inline(always)]
    pub const fn is_unspecified(&self) -> bool {
        let words = self.v6_words();
        words[0] == 0 && words[1] == 0 && words[3] == 0 && (words[2] == 0 || words[2] == MAPPED)
    }

    /// As a standard address; a mapped one comes out as IPv4.
    pub fn to_ip(self) -> IpAddr {
        Ipv6Addr::from_octets(self.octets()).to_canonical()
    }
}

impl From<IpAddr> for Addr {
    fn from(ip: IpAddr) -> Self {
        let octets = match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        Self::from_octets(octets)
    }
}

impl From<Ipv4Addr> for Addr {
    fn from(ip: Ipv4Addr) -> Self {
        IpAddr::V4(ip).into()
    }
}

impl BePort {
    /// From a port in host byte order.
    #[inline(always)]
    pub const fn new(port: u16) -> Self {
        Self { be: port.to_be() }
    }

    /// The port in host byte order.
    #[inline(always)]
    pub const fn get(self) -> u16 {
        u16::from_be(self.be)
    }
}

/// The third word of an IPv4-mapped address (RFC 4291, section 2.5.5.2).
const MAPPED: u32 = 0xffff_u32.to_be();
