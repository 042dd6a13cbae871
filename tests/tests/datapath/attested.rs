//! What the kernel attests of TCP connections.

use std::fmt::Write as _;
use std::mem::{offset_of, size_of};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use weft_abi::{Addr, Attested, BePort, FlowKey, FlowRecord, TCP, attested_by};
use weft_tests::{Node, SocketRequest};

use super::stage::{Stage, from, listen, policy};

#[test]
fn a_connection_whose_place_another_has_is_attested_beside_it() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, api, node, .. } = &stage;
    node.apply("policy.yaml", &policy("shop/api", "ALLOW", &from("web/front")));
    let listener = listen(api, 8080);
    let _agent = node.agent();
    let to = api.addr(8080);
    let place = |port: &u16| key(front.addr(*port), to).place();
    let [one, other, third] = *(20_000..u16::MAX)
        .filter(|port| place(port) == place(&20_000))
        .take(3)
        .collect::<Vec<_>>()
        .as_slice()
    else {
        panic!("64 Ki ports do not fit 16 Ki places")
    };
    let connect = |port| {
        let connected = front.open(&SocketRequest::tcp(to).from(front.addr(port))).unwrap();
        listener.accept().unwrap();
        connected
    };
    let seen = |port| attested(node, front.addr(port), to).map(|attested| attested.has_place);

    let first = connect(one);
    let second = connect(other);
    assert_eq!((seen(one), seen(other)), (Some(true), Some(false)));
    drop(first);
    weft_tests::eventually(SOON, || seen(one).is_none());
    assert_eq!(seen(other), Some(false), "another's end is not its own");
    let _third = connect(third);
    assert_eq!((seen(other), seen(third)), (Some(false), Some(true)), "the place was free again");
    drop(second);
    weft_tests::eventually(SOON, || seen(other).is_none());
    assert_eq!(seen(third), Some(true));
}

/// What is attested of the connection from `from` to `to`.
pub(super) struct Seen {
    /// Which policies are known to let it in.
    pub(super) allowed: u64,
    /// Whether it is in its place of `weft_attested`, and not in `weft_flow`.
    pub(super) has_place: bool,
}

/// What the kernel attests of a TCP connection, by its client's and its server's address.
#[track_caller]
pub(super) fn attested(node: &Node, from: SocketAddr, to: SocketAddr) -> Option<Seen> {
    let key = key(from, to);
    let row =
        look_up(&node.map_pin("weft_attested"), &key.place().to_ne_bytes()).expect("every place is there");
    let (own, record) = row.split_at(offset_of!(Attested, record));
    let used_ns = word(record, offset_of!(FlowRecord, used_ns));
    if own == bytes(&key) && used_ns > attested_by::COMING {
        return Some(Seen { allowed: word(record, offset_of!(FlowRecord, allowed)), has_place: true });
    }
    let record = look_up(&node.map_pin("weft_flow"), &bytes(&key))?;
    Some(Seen { allowed: word(&record, offset_of!(FlowRecord, allowed)), has_place: false })
}

fn key(from: SocketAddr, to: SocketAddr) -> FlowKey {
    FlowKey {
        src: Addr::from(from.ip()),
        dst: Addr::from(to.ip()),
        src_port: BePort::new(from.port()),
        dst_port: BePort::new(to.port()),
        protocol: TCP,
        _pad: [0; 3],
    }
}

/// As it stands in a map.
fn bytes(key: &FlowKey) -> [u8; size_of::<FlowKey>()] {
    let mut bytes = [0; size_of::<FlowKey>()];
    bytes[..16].copy_from_slice(&key.src.octets());
    bytes[16..32].copy_from_slice(&key.dst.octets());
    bytes[32..34].copy_from_slice(&key.src_port.be.to_ne_bytes());
    bytes[34..36].copy_from_slice(&key.dst_port.be.to_ne_bytes());
    bytes[36] = key.protocol;
    bytes
}

fn word(record: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(record[at..at + 8].try_into().unwrap())
}

/// The value of a pinned map's entry.
fn look_up(pin: &Path, key: &[u8]) -> Option<Vec<u8>> {
    let mut hex = String::new();
    for byte in key {
        write!(hex, "{byte:02x} ").unwrap();
    }
    let command =
        ["-j", "map", "lookup", "pinned", &pin.display().to_string(), "key", "hex"].map(str::to_owned);
    let key = hex.split_whitespace().map(str::to_owned);
    let output = Command::new("bpftool").args(command.into_iter().chain(key)).output().unwrap();
    let entry: Value = serde_json::from_slice(&output.stdout).unwrap();
    let byte = |byte: &Value| u8::from_str_radix(byte.as_str()?.strip_prefix("0x")?, 16).ok();
    let value = entry.get("value")?.as_array()?;
    Some(value.iter().map(|shown| byte(shown).unwrap()).collect())
}

const SOON: std::time::Duration = std::time::Duration::from_secs(1);
