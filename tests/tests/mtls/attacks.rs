//! Attacks on a pod's inbound listener, many times over: what each of them cost is given back.

use std::io::Read as _;
use std::net::TcpStream;
use std::time::{Duration, SystemTime};

use rcgen::SanType;
use weft_tests::{eventually, text};

use crate::forged::{Forger, hello, resident};
use crate::path::SECRET;
use crate::stage::API;

#[test]
fn attacks_that_are_repeated_leave_no_more_memory_behind_than_a_stated_amount() {
    let Some(forger) = Forger::open() else { return };
    let attacks = Attack::all(&forger);
    // What is kept for good, however many come, is there after some of each.
    for attack in &attacks {
        attack.happens(&forger, attack.times / 4);
    }
    let pid = forger.stage.b.proxy_pid();
    let before = resident(pid);
    for attack in &attacks {
        let refused = forger.counted(attack.reason);
        attack.happens(&forger, attack.times);
        let wanted = refused + f64::from(attack.times);
        eventually(Duration::from_mins(1), || forger.counted(attack.reason) >= wanted);
        eprintln!("{} times {}: {} KiB", attack.times, attack.reason, resident(pid) >> 10);
    }
    let all: u32 = attacks.iter().map(|attack| attack.times).sum();
    let grown = resident(pid).saturating_sub(before);
    assert!(grown < MOST, "{all} attacks have left {} KiB", grown >> 10);
    assert_eq!(forger.stage.b.proxy_pid(), pid, "it is the same process");
    forger.stage.echoes(API, SECRET).unwrap();
}

/// What a stranger does, and why it is refused.
struct Attack {
    reason: &'static str,
    times: u32,
    how: How,
}

enum How {
    /// Sends these bytes, and waits for the end.
    Bytes(Vec<u8>),
    /// Sends these bytes, and goes.
    Leaves(Vec<u8>),
    /// A client of openssl with these arguments shakes hands.
    Client(Vec<String>),
}

impl Attack {
    fn all(forger: &Forger) -> Vec<Self> {
        let [hello, older] = ["-tls1_3", "-tls1_2"].map(hello);
        let behind = |rest: &[u8]| [&hello[..], rest].concat();
        let web = SanType::URI("spiffe://cluster.local/ns/shop/sa/web".try_into().unwrap());
        let (now, day) = (SystemTime::now(), Duration::from_hours(24));
        let unknown = forger.certificate("unknown", vec![web], now - day, now + day, false);
        let tls13 = vec!["-tls1_3".to_owned()];
        let cheap = |reason, how| Self { reason, times: 400, how };
        // A process each.
        let dear = |reason, how| Self { reason, times: 100, how };
        vec![
            cheap("Plaintext", How::Bytes(vec![0xff; 600])),
            cheap("TlsMalformed", How::Bytes(behind(&[0xff; 600]))),
            cheap("TlsDecrypt", How::Bytes(behind(&[&[0x17, 3, 3, 1, 0][..], &[7; 256]].concat()))),
            cheap("TlsBroken", How::Leaves(behind(&[0x17, 3, 3, 0x40, 0, 1, 2, 3]))),
            cheap("TlsVersion", How::Bytes(older)),
            dear("CertificateMissing", How::Client(tls13.clone())),
            dear("CertificateUntrusted", How::Client([tls13, unknown.to_vec()].concat())),
        ]
    }

    fn happens(&self, forger: &Forger, times: u32) {
        match &self.how {
            How::Bytes(bytes) => (0..times).for_each(|_| ends(&forger.send(bytes))),
            How::Leaves(bytes) => (0..times).for_each(|_| drop(forger.send(bytes))),
            How::Client(arguments) => {
                let to = forger.stage.api.addr(8080);
                let ask = format!(
                    "for i in $(seq {times}); do openssl s_client -connect {to} -alpn weft/1 {} </dev/null; done",
                    arguments.join(" ")
                );
                let said = text(&forger.stranger.exec(&["sh", "-c", &ask]));
                assert!(said.contains("CONNECTED"), "{said}");
            }
        }
    }
}

/// Waits for its end.
fn ends(mut stream: &TcpStream) {
    let mut bytes = [0; 8192];
    while stream.read(&mut bytes).is_ok_and(|read| read > 0) {}
}

/// Of 2200 attacks: 1 KiB that each of them left would be too much.
const MOST: usize = 2 << 20;
