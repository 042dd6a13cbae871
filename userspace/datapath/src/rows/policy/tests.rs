use std::sync::Arc;

use weft_model::{
    Action, AuthorizationPolicy, Mode, ObjectName, PolicyTarget, PortRange, Rule, Selector, ServiceAccount,
    Source,
};
use weft_policy::Applied;

use super::*;

fn policy(name: &str, action: Action, rules: Vec<Rule>) -> Applied {
    let name = ObjectName::new("shop", name);
    let target = PolicyTarget::Pods(Selector::default());
    let policy = AuthorizationPolicy { name, action, mode: Mode::Enforce, target, rules };
    Applied { policy: Arc::new(policy), ports: None }
}

fn from(sources: Vec<Source>) -> Rule {
    Rule { sources: Some(sources), ..Rule::default() }
}

fn account(index: usize) -> Source {
    Source::ServiceAccount(ServiceAccount::new("web", format!("client-{index}")))
}

fn cidr(text: &str) -> Source {
    Source::Cidr(text.parse().unwrap())
}

fn rows(policies: Vec<Applied>) -> PolicyRows {
    compile(&Protection { policies, tokens: false })
}

#[test]
fn nothing_that_protects_has_id_zero() {
    assert_eq!(compile(&Protection::default()), PolicyRows::default());
    assert_eq!(rows(vec![policy("nobody", Action::Deny, vec![from(vec![])])]).id, 0);
}

#[test]
fn the_id_is_the_content() {
    let deny = |name: &str, index| rows(vec![policy(name, Action::Deny, vec![from(vec![account(index)])])]);
    assert_eq!(deny("a", 1), deny("a", 1));
    assert_ne!(deny("a", 1).id, deny("a", 2).id, "another source");
    assert_ne!(deny("a", 1).id, deny("b", 1).id, "another name to show");
    let block = |text| rows(vec![policy("a", Action::Allow, vec![from(vec![cidr(text)])])]);
    assert_ne!(block("10.0.0.0/8").id, block("10.0.0.0/9").id);
    assert_ne!(block("10.0.0.0/8").id, block("11.0.0.0/8").id);
}

#[test]
fn every_key_carries_the_id_and_no_bits_behind_its_prefix() {
    let ranges = Some(vec![PortRange { start: 1, end: 1000 }]);
    let rule = Rule {
        sources: Some(vec![account(1), cidr("10.1.2.3/8"), cidr("fd00::1/8")]),
        ports: ranges,
        ..Rule::default()
    };
    let rows = rows(vec![policy("a", Action::Allow, vec![rule])]);
    assert!(rows.id != 0 && !rows.policy.is_empty() && rows.cidr.len() == 2);
    assert_eq!(rows.flags & !pod_flags::OF_POLICIES, 0, "a pod that keeps its policies keeps their flags");
    for (key, _) in &rows.policy {
        assert_eq!(key.policy, rows.id);
        assert_eq!(*key, key.around(key.port, key.length));
        assert_ne!(rows.flags & pod_flags::prefix(key.length), 0, "or nobody would look for it");
    }
    assert!(rows.cidr.iter().all(|((_, key), _)| key.policy == rows.id));
    assert_eq!(rows.cidr[0].0.1.addr, Addr::from(std::net::Ipv4Addr::new(10, 0, 0, 0)));
    assert_eq!((rows.cidr[0].0.0, rows.cidr[0].0.1.family), (CidrMatch::FULL - 24, 4));
    assert_eq!((rows.cidr[1].0.0, rows.cidr[1].0.1.family), (CidrMatch::FULL - 120, 6));
}

#[test]
fn flags_say_which_sources_have_rows() {
    let flags = |source: Option<Source>| {
        rows(vec![policy(
            "a",
            Action::Deny,
            vec![Rule { sources: source.map(|s| vec![s]), ..Rule::default() }],
        )])
        .flags
            & !pod_flags::prefix(0)
    };
    assert_eq!(flags(None), 0);
    assert_eq!(flags(Some(account(1))), pod_flags::BY_IDENTITY);
    assert_eq!(flags(Some(Source::Namespace("web".into()))), pod_flags::BY_NAMESPACE);
    assert_eq!(flags(Some(cidr("10.0.0.0/8"))), pod_flags::BY_CIDR);
}

#[test]
fn a_flag_says_that_policies_do_nothing_but_allow() {
    let only_allows = |policies: Vec<Applied>| rows(policies).flags & pod_flags::ONLY_ALLOWS != 0;
    let allowing =
        || policy("a", Action::Allow, vec![from(vec![account(1)]), from(vec![cidr("10.0.0.0/8")])]);
    assert!(only_allows(vec![allowing(), policy("b", Action::Allow, vec![])]));
    assert!(!only_allows(vec![allowing(), policy("b", Action::Deny, vec![from(vec![account(2)])])]));
    for action in [Action::Allow, Action::Deny] {
        let mut audited = policy("b", action, vec![from(vec![account(2)])]);
        Arc::make_mut(&mut audited.policy).mode = Mode::Audit;
        assert!(!only_allows(vec![allowing(), audited]));
    }
}

#[test]
fn many_sources_of_one_rule_cost_one_row_each_and_protocol() {
    let accounts = rows(vec![policy("a", Action::Deny, vec![from((0..500).map(account).collect())])]);
    assert_eq!(accounts.policy.len(), 1000);
    let blocks = (0..250).map(|n| cidr(&format!("10.{n}.0.0/16"))).collect();
    let blocks = rows(vec![policy("a", Action::Deny, vec![from(blocks)])]);
    assert_eq!(
        (blocks.cidr.len(), blocks.policy.len()),
        (250, 2),
        "blocks with the same rules share a token"
    );
}

#[test]
fn a_row_names_the_first_rule_that_denies() {
    let anybody = || Rule::default();
    let rows = rows(vec![
        policy("a", Action::Allow, vec![anybody()]),
        policy("b", Action::Deny, vec![anybody(), anybody()]),
    ]);
    let named: BTreeMap<_, _> = rows.rules.iter().cloned().collect();
    assert_eq!(named.len(), 2);
    for (_, row) in &rows.policy {
        assert_eq!(named[&row.deny_rule].to_string(), "shop/b rules[0]");
    }
}

#[test]
fn where_tokens_are_looked_at_the_proxy_reads_all_that_tcp_carries() {
    use weft_abi::{TCP, token};
    let rows = compile(&Protection { policies: Vec::new(), tokens: true });
    assert_ne!(rows.id, 0, "no policy, and yet there is something to do");
    assert_ne!(rows.flags & pod_flags::BY_REQUEST, 0);
    let judged = |(key, row): &(PolicyKey, PolicyRow)| {
        (key.token, key.protocol, key.port.get(), key.length, row.bits)
            == (token::ANY, TCP, 0, 0, policy_bits::JUDGED)
    };
    assert!(rows.policy.len() == 1 && judged(&rows.policy[0]), "{rows:?}");
}
