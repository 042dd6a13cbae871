use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use weft_abi::BePort;
use weft_model::{Mtls, ServiceAccount, Snapshot, Workload};

use super::*;

const OWN: [u8; 4] = [10, 0, 0, 1];
const HERE: [u8; 4] = [10, 0, 0, 2];
const THERE: [u8; 4] = [10, 0, 0, 3];
const PLAIN: [u8; 4] = [10, 0, 0, 4];
const NOBODY: [u8; 4] = [192, 0, 2, 1];

/// A pod of this node, one beside it, one of another node, and one that is not enrolled.
fn names(mode: MtlsMode) -> Names {
    let pod = |(name, ip, local, enrolled): (&str, [u8; 4], bool, bool)| {
        let name = ObjectName::new("shop", name);
        let workload = Workload {
            service_account: ServiceAccount::new("shop", &*name.name),
            owner: Arc::clone(&name.name),
            ips: vec![IpAddr::from(ip)],
            node: None,
            local,
            labels: Arc::default(),
            enrolled,
            netns: None,
            ports: vec![],
            ready: true,
            passage: weft_model::Passage::Done,
            terminating: false,
            created: 0,
            name: name.clone(),
        };
        (name, Arc::new(workload))
    };
    let pods = [
        ("own", OWN, true, true),
        ("here", HERE, true, true),
        ("there", THERE, false, true),
        ("plain", PLAIN, true, false),
    ];
    let workloads: BTreeMap<_, _> = pods.map(pod).into();
    let mtls = Arc::new(Mtls { on: true, mesh: mode, pods: BTreeMap::new() });
    let snapshot = Snapshot { workloads: Arc::new(workloads), mtls, ..Snapshot::default() };
    Names::new(&snapshot, HashMap::new(), &HashMap::new(), None)
}

/// A connection of the pod with `remote`: as a hook has seen it, or none has.
struct Case {
    protocol: Protocol,
    remote: [u8; 4],
    is_server: bool,
    flags: Option<u32>,
    state: State,
    is_older: bool,
    group: u64,
    is_kept_out: bool,
    mode: MtlsMode,
    peer: Option<u16>,
}

impl Case {
    fn client(remote: [u8; 4], flags: u32) -> Self {
        let flags = Some(flags | socket_flags::CLIENT);
        Self {
            protocol: Protocol::Tcp,
            remote,
            is_server: false,
            flags,
            state: State::Established,
            is_older: false,
            group: 0,
            is_kept_out: false,
            mode: MtlsMode::Permissive,
            peer: None,
        }
    }

    fn server(remote: [u8; 4], flags: u32) -> Self {
        let flags = Some(flags | socket_flags::SERVER);
        Self { is_server: true, flags, ..Self::client(remote, 0) }
    }

    fn unseen(remote: [u8; 4]) -> Self {
        Self { flags: None, ..Self::client(remote, 0) }
    }

    fn why(&self) -> Option<Unprotected> {
        let known = self.flags.map(|flags| SocketState {
            flags,
            peer: IpAddr::from(self.remote).into(),
            peer_port: BePort::new(self.peer.unwrap_or(443)),
            ..SocketState::zeroed()
        });
        let below = OnceCell::from(HashSet::from([7]));
        why(&Seen {
            pod: &ObjectName::new("shop", "own"),
            protocol: self.protocol,
            local: (OWN, 8080).into(),
            remote: (self.remote, 443).into(),
            state: self.state,
            inode: 0,
            group: self.group,
            is_server: self.is_server,
            known: known.as_ref(),
            carried: None,
            age_ns: 0,
            is_older: self.is_older,
            has_foreign_lookup: false,
            is_kept_out: self.is_kept_out,
            groups: &Groups { root: Path::new("/nowhere"), below },
            names: &names(self.mode),
        })
    }
}

#[test]
fn what_no_hook_saw_is_told_by_its_group_then_by_its_age_then_by_who_holds_the_hooks() {
    use Unprotected::{ForeignHook, HostPath, OlderThanEnrolment, Unmanaged};
    let unseen = || Case::unseen(NOBODY);
    assert_eq!(Case { group: 9, is_older: true, ..unseen() }.why(), Some(HostPath));
    assert_eq!(Case { group: 7, is_older: true, ..unseen() }.why(), Some(OlderThanEnrolment));
    assert_eq!(Case { group: 7, is_kept_out: true, ..unseen() }.why(), Some(ForeignHook));
    assert_eq!(unseen().why(), Some(Unmanaged));
    let mirrored = Case { is_server: true, ..Case::unseen(HERE) };
    assert_eq!(mirrored.why(), None, "the client's end is remembered");
    let left = Case { is_server: true, ..Case::unseen(PLAIN) };
    assert_eq!(left.why(), Some(Unprotected::ClientOutside), "its client may have left the mesh");
    assert_eq!(Case::unseen(HERE).why(), Some(Unmanaged), "this is the client's end");
}

#[test]
fn of_a_connected_udp_socket_is_told_what_can_be_known() {
    use Unprotected::{HostPath, OlderThanEnrolment};
    let datagrams = || Case { protocol: Protocol::Udp, ..Case::unseen(NOBODY) };
    assert_eq!(Case { group: 9, is_older: true, ..datagrams() }.why(), Some(HostPath));
    assert_eq!(Case { group: 7, is_older: true, ..datagrams() }.why(), Some(OlderThanEnrolment));
    assert_eq!(Case { group: 7, is_kept_out: true, ..datagrams() }.why(), None);
}

#[test]
fn between_nodes_clear_bytes_are_unprotected_unless_the_mode_asks_for_them() {
    use Unprotected::{ForeignHook, OlderThanMutualTls};
    for case in [Case::client(THERE, 0), Case::server(THERE, 0)] {
        assert_eq!(case.why(), Some(OlderThanMutualTls));
        let case = Case { is_kept_out: true, ..case };
        assert_eq!(case.why(), Some(ForeignHook));
        let case = Case { mode: MtlsMode::Disabled, ..case };
        assert_eq!(case.why(), None);
    }
    assert_eq!(Case::client(THERE, socket_flags::PROXIED | socket_flags::TLS).why(), None);
}

#[test]
fn a_client_from_outside_is_unprotected_and_a_server_outside_is_nobodys_fault() {
    for remote in [PLAIN, NOBODY] {
        assert_eq!(Case::server(remote, 0).why(), Some(Unprotected::ClientOutside));
        assert_eq!(Case::server(remote, socket_flags::PROBE).why(), None);
        assert_eq!(Case::client(remote, 0).why(), None);
    }
    assert_eq!(Case::server(HERE, 0).why(), None);
    assert_eq!(Case::server(OWN, 0).why(), None, "within the pod");
}

#[test]
fn a_translation_that_does_not_show_in_the_socket_is_a_foreign_programs_work() {
    let translated = || Case::client(HERE, socket_flags::TRANSLATED);
    assert_eq!(translated().why(), None);
    assert_eq!(Case { peer: Some(80), ..translated() }.why(), Some(Unprotected::ForeignHook));
}

#[test]
fn what_is_over_or_not_yet_made_is_not_counted() {
    for state in [State::NewSynReceived, State::SynReceived, State::LastAck, State::TimeWait, State::FinWait2]
    {
        assert_eq!(Case { state, ..Case::unseen(NOBODY) }.why(), None, "{state:?}");
    }
}
