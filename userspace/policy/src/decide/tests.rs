use std::{collections::BTreeSet, sync::Arc};

use proptest::{collection::vec, option, prelude::*, sample::select};
use weft_model::{
    AuthorizationPolicy, HttpAttributes, PathRule, PolicyTarget, PortRange, Selector, SpiffeId,
};

use super::*;
use crate::{HttpRequest, path::Readings};

fn account(name: &str) -> ServiceAccount {
    ServiceAccount::parse(name).unwrap()
}

fn policy(name: &str, action: Action, rules: Vec<Rule>) -> AuthorizationPolicy {
    let target = PolicyTarget::Pods(Selector::default());
    AuthorizationPolicy { name: ObjectName::new("shop", name), action, mode: Mode::Enforce, target, rules }
}

fn protection(policies: Vec<AuthorizationPolicy>) -> Protection {
    let applied = policies.into_iter().map(|policy| Applied { policy: Arc::new(policy), ports: None });
    Protection { policies: applied.collect(), tokens: false }
}

fn from(source: Source) -> Rule {
    Rule { sources: Some(vec![source]), ..Rule::default() }
}

fn from_account(name: &str) -> Rule {
    from(Source::ServiceAccount(account(name)))
}

fn on(start: u16, end: u16) -> Rule {
    Rule { ports: Some(vec![PortRange { start, end }]), ..Rule::default() }
}

fn request(identity: Identity<'_>) -> Request<'_> {
    Request {
        source: "10.77.1.1".parse().unwrap(),
        identity,
        protocol: Protocol::Tcp,
        port: 8080,
        http: None,
    }
}

fn reason(policies: Vec<AuthorizationPolicy>, identity: Identity<'_>) -> Reason {
    decide(&protection(policies), &request(identity)).reason
}

/// What a DENY policy with this one rule says of an unknown client at `source`, on port 8080.
fn denied(rule: Rule, source: &str) -> bool {
    let request = Request { source: source.parse().unwrap(), ..request(Identity::Unknown) };
    !decide(&protection(vec![policy("deny", Action::Deny, vec![rule])]), &request).allowed()
}

#[test]
fn without_policies_everybody_may_connect() {
    let decision = decide(&Protection::default(), &request(Identity::Unknown));
    assert_eq!(decision, Decision { reason: Reason::NONE, rule: None, audit: None });
    assert!(decision.allowed());
}

#[test]
fn a_deny_rule_wins_in_any_order() {
    let web = account("web/front");
    let allow = policy("allow", Action::Allow, vec![from_account("web/front")]);
    let deny = policy("deny", Action::Deny, vec![from(Source::Namespace("web".into()))]);
    for policies in [vec![allow.clone(), deny.clone()], vec![deny, allow]] {
        assert_eq!(reason(policies, Identity::Proven(&web)), Reason::POLICY_DENIED);
    }
}

#[test]
fn an_allow_policy_refuses_whom_it_does_not_name() {
    let (web, other) = (account("web/front"), account("web/other"));
    let allow = || vec![policy("allow", Action::Allow, vec![from_account("web/front")])];
    assert_eq!(reason(allow(), Identity::Proven(&web)), Reason::NONE);
    assert_eq!(reason(allow(), Identity::Proven(&other)), Reason::NOT_ALLOWED);
    assert_eq!(reason(allow(), Identity::Unknown), Reason::NOT_ALLOWED);
    assert_eq!(
        reason(vec![policy("empty", Action::Allow, vec![])], Identity::Proven(&web)),
        Reason::NOT_ALLOWED
    );
    assert_eq!(reason(vec![policy("empty", Action::Deny, vec![])], Identity::Proven(&web)), Reason::NONE);
}

#[test]
fn an_identity_from_an_address_is_enough_to_deny_and_not_to_allow() {
    let web = account("web/front");
    for rule in [from_account("web/front"), from(Source::Namespace("web".into()))] {
        let policy = |action| vec![policy("p", action, vec![rule.clone()])];
        assert_eq!(reason(policy(Action::Deny), Identity::FromAddress(&web)), Reason::POLICY_DENIED);
        assert_eq!(reason(policy(Action::Allow), Identity::FromAddress(&web)), Reason::IDENTITY_UNPROVEN);
        assert_eq!(reason(policy(Action::Allow), Identity::Unknown), Reason::NOT_ALLOWED);
        assert_eq!(reason(policy(Action::Deny), Identity::Unknown), Reason::NONE);
    }
}

#[test]
fn the_rule_that_decides_is_named() {
    let web = account("web/front");
    let rules = || vec![from_account("web/other"), from_account("web/front"), Rule::default()];
    let rule =
        |action, identity| decide(&protection(vec![policy("p", action, rules())]), &request(identity)).rule;
    let named = |index| Some(RuleName { policy: ObjectName::new("shop", "p"), index });
    assert_eq!(rule(Action::Deny, Identity::Proven(&web)), named(1));
    assert_eq!(rule(Action::Allow, Identity::Proven(&web)), named(1));
    assert_eq!(rule(Action::Allow, Identity::FromAddress(&web)), named(2), "anybody needs no proof");
    assert_eq!(named(1).unwrap().to_string(), "shop/p rules[1]");
    let unproven = protection(vec![policy("p", Action::Allow, vec![from_account("web/front")])]);
    assert_eq!(decide(&unproven, &request(Identity::FromAddress(&web))).rule, named(0));
}

#[test]
fn no_sources_is_anybody_and_an_empty_list_is_nobody() {
    assert!(denied(Rule::default(), "192.0.2.1"));
    assert!(!denied(Rule { sources: Some(vec![]), ..Rule::default() }, "192.0.2.1"));
    assert!(!denied(Rule { ports: Some(vec![]), ..Rule::default() }, "192.0.2.1"));
}

#[test]
fn a_foreign_spiffe_id_is_nobody_here() {
    let id = SpiffeId::parse("spiffe://partner.example/ns/web/sa/front").unwrap();
    let web = account("web/front");
    let rule = from(Source::Spiffe(id));
    assert_eq!(
        reason(vec![policy("p", Action::Deny, vec![rule.clone()])], Identity::Proven(&web)),
        Reason::NONE
    );
    assert_eq!(
        reason(vec![policy("p", Action::Allow, vec![rule])], Identity::Proven(&web)),
        Reason::NOT_ALLOWED
    );
}

#[test]
fn ports_are_ranges_with_both_ends() {
    for (rule, expected) in [
        (on(8080, 8080), true),
        (on(8000, 8080), true),
        (on(8080, 9000), true),
        (on(8081, 9000), false),
        (on(1, 8079), false),
    ] {
        assert_eq!(denied(rule.clone(), "192.0.2.1"), expected, "{:?}", rule.ports);
    }
}

#[test]
fn sources_and_ports_must_both_match() {
    let cidr = || Some(vec![Source::Cidr("10.0.0.0/8".parse().unwrap())]);
    assert!(denied(Rule { sources: cidr(), ..on(8080, 8080) }, "10.1.1.1"));
    assert!(!denied(Rule { sources: cidr(), ..on(80, 80) }, "10.1.1.1"));
    assert!(!denied(Rule { sources: cidr(), ..on(8080, 8080) }, "11.1.1.1"));
}

#[test]
fn a_block_covers_its_own_family_only_and_a_mapped_address_is_ipv4() {
    let block = |text: &str| from(Source::Cidr(text.parse().unwrap()));
    assert!(denied(block("0.0.0.0/0"), "10.0.0.1"));
    assert!(denied(block("10.0.0.0/8"), "::ffff:10.0.0.1"));
    assert!(denied(block("::/0"), "2001:db8::1"));
    assert!(!denied(block("::/0"), "10.0.0.1"));
    assert!(!denied(block("::/0"), "::ffff:10.0.0.1"));
    assert!(!denied(block("0.0.0.0/0"), "2001:db8::1"));
}

#[test]
fn what_a_rule_asks_of_a_request_fails_closed() {
    let rule = || Rule { l7: true, ..Rule::default() };
    assert_eq!(
        reason(vec![policy("p", Action::Allow, vec![rule()])], Identity::Unknown),
        Reason::NOT_ALLOWED
    );
    assert_eq!(
        reason(vec![policy("p", Action::Deny, vec![rule()])], Identity::Unknown),
        Reason::POLICY_DENIED
    );
    let web = account("web/front");
    let unseen = Rule { l7: true, ..from_account("web/front") };
    let unseen = vec![policy("p", Action::Allow, vec![unseen])];
    assert_eq!(reason(unseen, Identity::FromAddress(&web)), Reason::NOT_ALLOWED, "proof would not help");
}

#[test]
fn a_policy_limited_to_ports_denies_and_isolates_only_those() {
    let limited = |action| {
        let mut protection = protection(vec![policy("p", action, vec![from_account("web/front")])]);
        protection.policies[0].ports = Some(BTreeSet::from([(Protocol::Tcp, 8080)]));
        protection
    };
    let (web, other) = (account("web/front"), account("web/other"));
    let on = |action, account, protocol, port| {
        let request = Request { protocol, port, ..request(Identity::Proven(account)) };
        decide(&limited(action), &request).reason
    };
    assert_eq!(on(Action::Deny, &web, Protocol::Tcp, 8080), Reason::POLICY_DENIED);
    assert_eq!(on(Action::Deny, &web, Protocol::Udp, 8080), Reason::NONE);
    assert_eq!(on(Action::Deny, &web, Protocol::Tcp, 8081), Reason::NONE);
    assert_eq!(on(Action::Allow, &other, Protocol::Tcp, 8080), Reason::NOT_ALLOWED);
    assert_eq!(on(Action::Allow, &other, Protocol::Udp, 8080), Reason::NONE);
}

#[test]
fn audited_policies_are_judged_by_themselves_and_never_decide() {
    let audited = |mut policy: AuthorizationPolicy| {
        policy.mode = Mode::Audit;
        policy
    };
    let nobody = || policy("nobody", Action::Allow, vec![]);
    let everybody = || policy("everybody", Action::Deny, vec![Rule::default()]);
    let decide = |policies| decide(&protection(policies), &request(Identity::Unknown));

    let decision = decide(vec![audited(everybody())]);
    assert_eq!(decision.reason, Reason::NONE);
    let rule = Some(RuleName { policy: ObjectName::new("shop", "everybody"), index: 0 });
    assert_eq!(decision.audit, Some(Audit { reason: Reason::POLICY_DENIED, rule }));

    let decision = decide(vec![audited(nobody())]);
    assert_eq!(decision.reason, Reason::NONE);
    assert_eq!(decision.audit, Some(Audit { reason: Reason::NOT_ALLOWED, rule: None }));

    let allow = audited(policy("all", Action::Allow, vec![Rule::default()]));
    let decision = decide(vec![nobody(), allow]);
    assert_eq!((decision.reason, decision.audit), (Reason::NOT_ALLOWED, None));
}

fn get(path: &str) -> Rule {
    let http = HttpAttributes {
        methods: vec!["GET".into()],
        paths: vec![PathRule::Prefix(path.into())],
        ..HttpAttributes::default()
    };
    Rule { l7: true, http: Some(http), ..Rule::default() }
}

/// What is decided about a request for `path`.
fn asked(policies: Vec<AuthorizationPolicy>, identity: Identity<'_>, path: &str) -> Reason {
    let (path, none): (_, Vec<(String, String)>) = (Readings::of(path).unwrap(), Vec::new());
    let http = HttpRequest { method: "GET", path: &path, host: None, headers: &none, claims: None };
    decide(&protection(policies), &Request { http: Some(http), ..request(identity) }).reason
}

#[test]
fn a_rule_is_about_the_requests_that_it_names() {
    let deny = || vec![policy("p", Action::Deny, vec![get("/admin")])];
    assert_eq!(asked(deny(), Identity::Unknown, "/admin/x"), Reason::POLICY_DENIED);
    assert_eq!(asked(deny(), Identity::Unknown, "/x"), Reason::NONE);
    let web = account("web/front");
    let allow = || vec![policy("p", Action::Allow, vec![Rule { ..from_account("web/front") }])];
    assert_eq!(asked(allow(), Identity::Proven(&web), "/x"), Reason::NONE);
    let named = || {
        vec![policy(
            "p",
            Action::Allow,
            vec![Rule { sources: from_account("web/front").sources, ..get("/a") }],
        )]
    };
    assert_eq!(asked(named(), Identity::Proven(&web), "/a/b"), Reason::NONE);
    assert_eq!(asked(named(), Identity::FromAddress(&web), "/a/b"), Reason::IDENTITY_UNPROVEN);
    assert_eq!(asked(named(), Identity::Proven(&web), "/b"), Reason::NOT_ALLOWED);
    assert_eq!(asked(named(), Identity::FromAddress(&web), "/b"), Reason::NOT_ALLOWED);
}

#[test]
fn a_connection_on_which_requests_are_judged_is_refused_for_what_none_could_change() {
    let web = account("web/front");
    let opens = |policies| open(&protection(policies), &request(Identity::Proven(&web)));
    let by_request = |action, mode| AuthorizationPolicy { mode, ..policy("r", action, vec![get("/a")]) };
    for action in [Action::Allow, Action::Deny] {
        let opening = opens(vec![by_request(action, Mode::Enforce)]);
        assert_eq!((opening.decision.reason, opening.requests), (Reason::NONE, Requests::Judged));
        let deny = policy("d", Action::Deny, vec![from_account("web/front")]);
        let opening = opens(vec![by_request(action, Mode::Enforce), deny]);
        assert_eq!((opening.decision.reason, opening.requests), (Reason::POLICY_DENIED, Requests::Judged));
        assert_eq!(opening.decision.rule.unwrap().policy.name, "d".into());
        let only_others = policy("a", Action::Allow, vec![from_account("a/x")]);
        let opening = opens(vec![by_request(action, Mode::Audit), only_others]);
        assert_eq!((opening.decision.reason, opening.requests), (Reason::NOT_ALLOWED, Requests::Watched));
    }
    let elsewhere = Rule { ports: Some(vec![80.into()]), ..get("/a") };
    let opening = opens(vec![policy("p", Action::Deny, vec![elsewhere])]);
    assert_eq!((opening.decision.reason, opening.requests), (Reason::NONE, Requests::Unread));
    let udp = Request { protocol: Protocol::Udp, ..request(Identity::Proven(&web)) };
    let opening = open(&protection(vec![by_request(Action::Deny, Mode::Enforce)]), &udp);
    assert_eq!((opening.decision.reason, opening.requests), (Reason::POLICY_DENIED, Requests::Unread));
}

proptest! {
    #[test]
    fn a_deny_policy_more_never_lets_anybody_in(mut policies in policies(), more in rules(), client in clients()) {
        let before = decide(&protection(policies.clone()), &client.request());
        policies.push(policy("more", Action::Deny, more));
        let after = decide(&protection(policies), &client.request());
        prop_assert!(before.allowed() || !after.allowed());
    }

    #[test]
    fn an_allow_rule_more_never_keeps_anybody_out(
        mut policies in policies(), mut allow in rules(), more in rules(), client in clients()
    ) {
        policies.push(policy("allow", Action::Allow, allow.clone()));
        let before = decide(&protection(policies.clone()), &client.request());
        allow.extend(more);
        *policies.last_mut().unwrap() = policy("allow", Action::Allow, allow);
        let after = decide(&protection(policies), &client.request());
        prop_assert!(!before.allowed() || after.allowed());
    }

    #[test]
    fn an_allow_policy_more_never_keeps_anybody_out_of_an_isolated_pod(
        mut policies in policies(), allow in rules(), more in rules(), client in clients()
    ) {
        policies.push(policy("allow", Action::Allow, allow));
        let before = decide(&protection(policies.clone()), &client.request());
        policies.push(policy("more", Action::Allow, more));
        let after = decide(&protection(policies), &client.request());
        prop_assert!(!before.allowed() || after.allowed());
    }

    #[test]
    fn less_proof_never_lets_anybody_in(policies in policies(), mut client in clients()) {
        client.proven = false;
        let claimed = decide(&protection(policies.clone()), &client.request());
        client.proven = true;
        let proven = decide(&protection(policies), &client.request());
        prop_assert!(proven.allowed() || !claimed.allowed());
        prop_assert_eq!(claimed.reason == Reason::IDENTITY_UNPROVEN, proven.allowed() && !claimed.allowed());
    }

    #[test]
    fn the_order_of_policies_changes_nothing(policies in policies(), client in clients()) {
        let forward = decide(&protection(policies.clone()), &client.request());
        let backward = decide(&protection(policies.into_iter().rev().collect()), &client.request());
        prop_assert_eq!(forward.reason, backward.reason);
        prop_assert_eq!(forward.audit.map(|audit| audit.reason), backward.audit.map(|audit| audit.reason));
    }

    #[test]
    fn no_request_is_answered_on_a_connection_that_is_refused(policies in policies(), client in clients()) {
        let (path, none): (_, Vec<(String, String)>) = (Readings::of("/").unwrap(), Vec::new());
        let http = HttpRequest { method: "GET", path: &path, host: None, headers: &none, claims: None };
        let all = protection(policies);
        let opening = open(&all, &client.request());
        let asked = decide(&all, &Request { http: Some(http), ..client.request() });
        prop_assert!(opening.decision.allowed() || !asked.allowed());
        if opening.requests == Requests::Unread {
            prop_assert_eq!(opening.decision, decide(&all, &client.request()));
        }
    }

    #[test]
    fn audited_policies_change_no_verdict(policies in policies(), client in clients()) {
        let enforced = policies.iter().filter(|policy| policy.mode == Mode::Enforce).cloned().collect();
        let all = decide(&protection(policies), &client.request());
        prop_assert_eq!(all.reason, decide(&protection(enforced), &client.request()).reason);
    }
}

#[derive(Clone, Debug)]
struct Client {
    source: IpAddr,
    account: ServiceAccount,
    proven: bool,
    port: u16,
}

impl Client {
    fn request(&self) -> Request<'_> {
        let identity =
            if self.proven { Identity::Proven(&self.account) } else { Identity::FromAddress(&self.account) };
        Request { source: self.source, identity, protocol: Protocol::Tcp, port: self.port, http: None }
    }
}

fn clients() -> impl Strategy<Value = Client> {
    let source = select(&["10.77.1.1", "10.1.1.1", "fd77::1"][..]).prop_map(|text| text.parse().unwrap());
    (source, accounts(), any::<bool>(), 80..84_u16).prop_map(|(source, account, proven, port)| Client {
        source,
        account,
        proven,
        port,
    })
}

fn policies() -> impl Strategy<Value = Vec<AuthorizationPolicy>> {
    let action = select(&[Action::Allow, Action::Deny][..]);
    let mode = select(&[Mode::Enforce, Mode::Audit][..]);
    let policy = (action, mode, rules())
        .prop_map(|(action, mode, rules)| AuthorizationPolicy { mode, ..policy("p", action, rules) });
    vec(policy, 0..4)
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let source = prop_oneof![
        accounts().prop_map(Source::ServiceAccount),
        select(&["a", "ab"][..]).prop_map(|name| Source::Namespace(name.into())),
        select(&["10.0.0.0/8", "10.77.0.0/16", "::/0"][..])
            .prop_map(|text| Source::Cidr(text.parse().unwrap())),
    ];
    let range = (80..84_u16, 0..3_u16).prop_map(|(start, more)| PortRange { start, end: start + more });
    let rule = (option::of(vec(source, 0..3)), option::of(vec(range, 0..3)), prop::bool::weighted(0.1));
    vec(rule.prop_map(|(sources, ports, l7)| Rule { sources, ports, l7, ..Rule::default() }), 0..4)
}

fn accounts() -> impl Strategy<Value = ServiceAccount> {
    select(&["a/x", "a/y", "ab/x"][..]).prop_map(account)
}

#[test]
fn a_connection_is_opened_by_what_is_known_of_it() {
    let judged = || policy("r", Action::Deny, vec![get("/a")]);
    let path = Readings::of("/a").unwrap();
    let none: Vec<(String, String)> = Vec::new();
    let http = HttpRequest { method: "GET", path: &path, host: None, headers: &none, claims: None };
    let with_request = Request { http: Some(http), ..request(Identity::Unknown) };
    let opening = open(&protection(vec![judged()]), &with_request);
    assert_eq!(opening.decision.reason, Reason::NONE, "nothing has come of it");
    let mapped = Request { source: "::ffff:10.1.2.3".parse().unwrap(), ..request(Identity::Unknown) };
    let block = policy("d", Action::Deny, vec![from(Source::Cidr("10.0.0.0/8".parse().unwrap()))]);
    let opening = open(&protection(vec![judged(), block]), &mapped);
    assert_eq!(opening.decision.reason, Reason::POLICY_DENIED, "a mapped address is the IPv4 address");
}
