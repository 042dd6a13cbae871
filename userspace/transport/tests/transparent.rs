//! Connections from an address that the namespace does not have. Needs root.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/namespace.rs"]
mod namespace;

use std::iter::zip;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;
use std::{fs, io, thread};

use namespace::namespace;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use weft_transport::{Netns, Transparent};

#[tokio::test]
async fn a_server_sees_the_clients_address_and_its_answers_come_back() {
    let inside = ready();
    for (from, to) in FAMILIES {
        for wildcard in [false, true] {
            let address: IpAddr = if wildcard { "::" } else { to }.parse().unwrap();
            let (seen, said) = exchange(&inside, from, to, address).await.unwrap();
            assert_eq!((seen.ip().to_canonical(), seen.port()), (from.parse().unwrap(), PORT), "{to}");
            assert_eq!(said, *b"answer");
        }
    }
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_refuses_at_once() {
    let inside = ready();
    for (from, to) in FAMILIES {
        let (from, to) = [from, to].map(|address| SocketAddr::new(address.parse().unwrap(), PORT)).into();
        let socket = inside.outgoing_from(from, to).unwrap();
        let refused = tokio::time::timeout(AT_ONCE, socket.connect(to)).await;
        let refused = refused.unwrap_or_else(|_| panic!("{to} says nothing")).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused, "{to}");
    }
}

#[tokio::test]
async fn a_port_serves_again_as_soon_as_its_connection_is_over() {
    let inside = ready();
    for _ in 0..5 {
        exchange(&inside, "192.0.2.7", "10.77.0.2", "10.77.0.2".parse().unwrap()).await.unwrap();
    }
}

#[test]
fn all_that_was_put_into_a_namespace_can_be_put_there_twice_and_is_gone_afterwards() {
    for found in [["0", "0", "0"], ["1", "0", "0"], ["0", "1", "0"], ["0", "0", "1"], ["1", "1", "1"]] {
        let inside = with_addresses();
        inside
            .run(|| zip(SETTINGS, found).for_each(|(name, value)| fs::write(name, value).unwrap()))
            .unwrap();
        let before = routing(&inside);
        for _ in 0..2 {
            let made = inside.make_transparent();
            assert_eq!(made.families(), BOTH, "{made:?}");
            assert_eq!(settings_of(&inside), ["1", "1", "1"]);
        }
        let with = routing(&inside);
        assert_eq!(
            with.matches("0x77656674").count(),
            SETTINGS.len(),
            "a rule for each setting, once: {with}"
        );
        // By whoever comes after the process that made it.
        for _ in 0..2 {
            inside.end_transparent().unwrap();
            assert_eq!(routing(&inside), before);
            assert_eq!(settings_of(&inside), found, "as they were found");
        }
    }
}

#[test]
fn a_namespace_is_made_ready_where_proc_sys_is_read_only_as_it_is_in_a_container() {
    let inside = with_addresses();
    inside.run(|| fs::write(SETTINGS[0], "0").unwrap()).unwrap();
    let made = thread::scope(|scope| {
        let in_a_container = scope.spawn(|| {
            let nowhere = None::<&str>;
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            mount(nowhere, "/", nowhere, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nowhere).unwrap();
            mount(Some("/proc/sys"), "/proc/sys", nowhere, MsFlags::MS_BIND, nowhere).unwrap();
            let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
            mount(nowhere, "/proc/sys", nowhere, read_only, nowhere).unwrap();
            let refused = inside.run(|| fs::write(SETTINGS[0], "0").unwrap_err().kind()).unwrap();
            assert_eq!(refused, io::ErrorKind::ReadOnlyFilesystem);
            inside.make_transparent()
        });
        in_a_container.join().unwrap()
    });
    assert_eq!(made.families(), BOTH, "{made:?}");
    assert_eq!(settings_of(&inside), ["1", "1", "1"]);
}

#[test]
fn a_family_that_cannot_be_made_ready_says_why_and_the_other_one_is_ready() {
    let inside = namespace();
    inside.run(|| ip("link set lo down")).unwrap();
    let made = inside.make_transparent();
    assert_eq!(made.families(), Transparent { v4: true, v6: false });
    let why = made.v6.unwrap_err().to_string();
    assert!(why.contains("route") && why.contains("ENETDOWN"), "{why}");
}

/// With an address of each family, and ready.
fn ready() -> Netns {
    let inside = with_addresses();
    let made = inside.make_transparent();
    assert_eq!(made.families(), BOTH, "{made:?}");
    inside
}

/// Connects from an address of nobody's here; what the server sees of it, and what it answers.
async fn exchange(inside: &Netns, from: &str, to: &str, listen: IpAddr) -> io::Result<(SocketAddr, [u8; 6])> {
    let listener = tokio::net::TcpListener::from_std(inside.listen((listen, 0).into()).unwrap()).unwrap();
    let to = SocketAddr::new(to.parse().unwrap(), listener.local_addr().unwrap().port());
    let socket = inside.outgoing_from(SocketAddr::new(from.parse().unwrap(), PORT), to).unwrap();
    let mut client = socket.connect(to).await?;
    let (mut server, seen) = listener.accept().await?;
    server.write_all(b"answer").await?;
    let mut said = [0; 6];
    client.read_exact(&mut said).await?;
    // The client ends first: its port is in TIME_WAIT then.
    drop(client);
    assert_eq!(server.read(&mut [0]).await?, 0);
    Ok((seen, said))
}

fn with_addresses() -> Netns {
    let inside = namespace();
    inside
        .run(|| {
            ip("link add eth0 type veth peer name eth1");
            ip("addr add 10.77.0.2/24 dev eth0");
            ip("addr add fd77::2/64 dev eth0 nodad");
            ip("link set eth0 up");
            ip("link set eth1 up");
        })
        .unwrap();
    inside
}

fn routing(inside: &Netns) -> String {
    let commands = ["rule", "-6 rule", "route show table 30565", "-6 route show table 30565"];
    inside.run(|| commands.map(ip).concat()).unwrap()
}

fn settings_of(inside: &Netns) -> [String; 3] {
    inside.run(|| SETTINGS.map(|name| fs::read_to_string(name).unwrap().trim().to_owned())).unwrap()
}

/// What it prints; a table that nobody has made yet is empty.
fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    let is_absent = String::from_utf8_lossy(&output.stderr).contains("FIB table does not exist");
    assert!(output.status.success() || is_absent, "ip {arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

const BOTH: Transparent = Transparent { v4: true, v6: true };
const FAMILIES: [(&str, &str); 2] = [("192.0.2.7", "10.77.0.2"), ("2001:db8::7", "fd77::2")];
const PORT: u16 = 40_001;
const SETTINGS: [&str; 3] = [
    "/proc/sys/net/ipv4/tcp_fwmark_accept",
    "/proc/sys/net/ipv4/fwmark_reflect",
    "/proc/sys/net/ipv6/fwmark_reflect",
];
/// Below a second, after which TCP sends a SYN again that nobody has answered.
const AT_ONCE: Duration = Duration::from_millis(900);
