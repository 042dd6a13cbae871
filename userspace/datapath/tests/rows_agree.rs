//! Rows, read as the kernel reads them, mean what `weft_policy::open` says.

#[path = "rows_agree/memory.rs"]
mod memory;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use proptest::{
    collection::{btree_set, vec},
    option,
    prelude::*,
    sample::select,
};
use weft_abi::Reason;
use weft_datapath::rows::policy::compile;
use weft_ebpf_logic::Denial;
use weft_model::{
    Action, AuthorizationPolicy, Mode, ObjectName, PolicyTarget, PortRange, Protocol, Rule, Selector,
    ServiceAccount, Source, SpiffeId,
};
use weft_policy::{Applied, Identity, Opening, Protection, Request, Requests, open};

use self::memory::Memory;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn rows_and_openings_agree(protection in protections(), clients in vec(clients(), 20)) {
        let rows = compile(&protection);
        let memory = Memory::new(&rows);
        for client in &clients {
            let request = client.request();
            let Opening { decision, requests } = open(&protection, &request);
            let ruling = memory.ruling(&request);
            let audit = decision.audit.as_ref().map_or(Reason::NONE, |audit| audit.reason);
            prop_assert_eq!(ruling.verdict.reason, decision.reason, "{:?} of {:?}", request, decision);
            prop_assert_eq!(ruling.audit.reason, audit, "audit of {:?}", request);
            let read = match requests {
                _ if !decision.allowed() => ruling.verdict,
                Requests::Unread => Denial::NONE,
                Requests::Watched => Denial::WATCHED,
                Requests::Judged => Denial::JUDGED,
            };
            prop_assert_eq!(ruling.verdict, read, "who reads {:?}", request);
        }
    }

    #[test]
    fn the_rule_that_rows_name_is_one_that_denies(protection in protections(), clients in vec(clients(), 20)) {
        let rows = compile(&protection);
        let memory = Memory::new(&rows);
        let names: BTreeMap<_, _> = rows.rules.iter().cloned().collect();
        for client in &clients {
            let ruling = memory.ruling(&client.request());
            for (mode, denial) in [(Mode::Enforce, ruling.verdict), (Mode::Audit, ruling.audit)] {
                if denial.reason == Reason::NONE {
                    continue;
                }
                prop_assert_eq!(denial.rule != 0, denial.reason == Reason::POLICY_DENIED);
                if let Some(name) = names.get(&denial.rule) {
                    let alone = only(&protection, name, mode);
                    prop_assert_eq!(open(&alone, &client.request()).decision.reason, Reason::POLICY_DENIED, "{}", name);
                }
            }
        }
    }

    #[test]
    fn rows_do_not_depend_on_the_run(protection in protections()) {
        prop_assert_eq!(compile(&protection), compile(&protection.clone()));
    }
}

/// The protection by one rule, enforced.
fn only(protection: &Protection, name: &weft_policy::RuleName, mode: Mode) -> Protection {
    let applied = protection
        .policies
        .iter()
        .find(|applied| applied.policy.name == name.policy)
        .expect("rows name rules of these policies");
    assert_eq!((applied.policy.action, applied.policy.mode), (Action::Deny, mode));
    let mut policy = AuthorizationPolicy::clone(&applied.policy);
    policy.mode = Mode::Enforce;
    policy.rules = vec![policy.rules[name.index].clone()];
    let applied = Applied { policy: Arc::new(policy), ports: applied.ports.clone() };
    Protection { policies: vec![applied], tokens: false }
}

#[derive(Clone, Debug)]
struct Client {
    source: IpAddr,
    account: Option<ServiceAccount>,
    proven: bool,
    protocol: Protocol,
    port: u16,
}

impl Client {
    fn request(&self) -> Request<'_> {
        let identity = match &self.account {
            Some(account) if self.proven => Identity::Proven(account),
            Some(account) => Identity::FromAddress(account),
            None => Identity::Unknown,
        };
        Request { source: self.source, identity, protocol: self.protocol, port: self.port, http: None }
    }
}

fn clients() -> impl Strategy<Value = Client> {
    let source = select(ADDRESSES).prop_map(|text| text.parse().expect("it is written below"));
    (source, option::weighted(0.8, accounts()), any::<bool>(), protocols(), ports()).prop_map(
        |(source, account, proven, protocol, port)| Client { source, account, proven, protocol, port },
    )
}

fn protections() -> impl Strategy<Value = Protection> {
    let policy = (
        action(),
        mode(),
        option::weighted(0.3, btree_set((protocols(), ports()), 0..4)),
        vec(rules(), 0..4),
    );
    vec(policy, 0..5).prop_map(|policies| {
        let applied = policies.into_iter().enumerate().map(|(index, (action, mode, ports, rules))| {
            let name = ObjectName::new("shop", format!("policy-{index}"));
            let target = PolicyTarget::Pods(Selector::default());
            Applied { policy: Arc::new(AuthorizationPolicy { name, action, mode, target, rules }), ports }
        });
        Protection { policies: applied.collect(), tokens: false }
    })
}

fn rules() -> impl Strategy<Value = Rule> {
    let sources = option::weighted(0.8, vec(sources(), 0..4));
    let ports = option::weighted(0.6, vec(ranges(), 0..4));
    (sources, ports, prop::bool::weighted(0.1)).prop_map(|(sources, ports, l7)| Rule {
        sources,
        ports,
        l7,
        ..Rule::default()
    })
}

fn sources() -> impl Strategy<Value = Source> {
    prop_oneof![
        4 => accounts().prop_map(Source::ServiceAccount),
        3 => select(NAMESPACES).prop_map(|name| Source::Namespace(name.into())),
        1 => Just(Source::Spiffe(SpiffeId::parse("spiffe://partner.example/ns/a/sa/x").expect("it is one"))),
        5 => select(BLOCKS).prop_map(|text| Source::Cidr(text.parse().expect("it is written below"))),
    ]
}

fn accounts() -> impl Strategy<Value = ServiceAccount> {
    (select(NAMESPACES), select(&["x", "y"][..]))
        .prop_map(|(namespace, name)| ServiceAccount::new(namespace, name))
}

fn action() -> impl Strategy<Value = Action> {
    select(&[Action::Allow, Action::Deny][..])
}

fn mode() -> impl Strategy<Value = Mode> {
    select(&[Mode::Enforce, Mode::Enforce, Mode::Audit][..])
}

fn protocols() -> impl Strategy<Value = Protocol> {
    select(&[Protocol::Tcp, Protocol::Udp][..])
}

/// Few enough that ranges and requests meet, and the ends of the space.
fn ports() -> impl Strategy<Value = u16> {
    prop_oneof![8 => 76_u16..90, 1 => 0_u16..3, 1 => 65533..=u16::MAX, 1 => any::<u16>()]
}

fn ranges() -> impl Strategy<Value = PortRange> {
    prop_oneof![
        ports().prop_map(PortRange::from),
        (ports(), ports()).prop_map(|(a, b)| PortRange { start: a.min(b), end: a.max(b) }),
        Just(PortRange { start: 0, end: u16::MAX }),
    ]
}

const NAMESPACES: &[&str] = &["a", "ab", "weft-system"];
const BLOCKS: &[&str] = &[
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.77.0.0/16",
    "10.77.1.9/16",
    "10.77.1.0/24",
    "10.77.1.1/32",
    "10.77.2.0/24",
    "128.0.0.0/1",
    "::/0",
    "fd00::/8",
    "fd77::/64",
    "fd77::1/128",
    "::/1",
    "::ffff:0:0/96",
];
const ADDRESSES: &[&str] = &[
    "10.77.1.1",
    "10.77.1.2",
    "10.77.2.1",
    "10.1.1.1",
    "11.0.0.1",
    "192.168.0.1",
    "::ffff:10.77.1.1",
    "fd77::1",
    "fd77::2",
    "fd00::1",
    "2001:db8::1",
    "::1",
];
