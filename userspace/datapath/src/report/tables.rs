//! `weft bpf`: the maps, read back from the kernel, in words.

use std::collections::HashMap;

use weft_abi::{TCP, algorithm, names::stat, policy_bits, token};
use weft_telemetry::api::{BpfTable, Table};

use super::status::counters;
use crate::{flows::Names, rows, state::State};

/// One table.
pub(crate) fn table(state: &State, names: &Names, table: BpfTable) -> Table {
    match table {
        BpfTable::Services => services(state),
        BpfTable::Backends => backends(state),
        BpfTable::Policy => policy(state, names),
        BpfTable::Pods => pods(state, names),
        BpfTable::Stat => stats(state),
    }
}

fn services(state: &State) -> Table {
    let owners: HashMap<u64, String> =
        state.services.owners().map(|(id, name)| (id, name.to_string())).collect();
    let mut table =
        heading(&["FRONTEND", "PROTOCOL", "SERVICE", "ALGORITHM", "SLOTS", "GENERATION", "AFFINITY", "ID"]);
    for (key, row) in state.maps.services.entries() {
        table.rows.push(vec![
            address(key.addr, key.port),
            protocol(key.protocol).to_owned(),
            owners.get(&row.id).cloned().unwrap_or_default(),
            algorithm_name(row.algorithm).to_owned(),
            row.slots.to_string(),
            row.generation.to_string(),
            if row.affinity_s == 0 { "-".to_owned() } else { format!("{}s", row.affinity_s) },
            hex(row.id),
        ]);
    }
    table.rows.sort();
    table
}

fn backends(state: &State) -> Table {
    let mut table = heading(&["SERVICE", "FRONTEND", "BACKEND", "SHARE", "OPEN", "ID"]);
    let open: HashMap<u64, u64> =
        state.maps.open.entries().into_iter().map(|(key, count)| (key.id, count.n)).collect();
    for (frontend, _, owner) in state.services.frontends() {
        let shares = rows::alias::shares(&frontend.slots);
        for (id, backend) in &frontend.backends {
            table.rows.push(vec![
                owner.to_string(),
                format!(
                    "{}/{}",
                    address(frontend.key.addr, frontend.key.port),
                    protocol(frontend.key.protocol)
                ),
                address(backend.addr, backend.port),
                format!("{:.1}%", shares.get(id).copied().unwrap_or(0.0) * 100.0),
                open.get(id).map_or_else(|| "-".to_owned(), ToString::to_string),
                hex(*id),
            ]);
        }
    }
    table.rows.sort();
    table
}

fn policy(state: &State, names: &Names) -> Table {
    let people = names.tokens();
    let mut table = heading(&["POLICIES", "SOURCE", "PROTOCOL", "PORT", "BITS", "DENY-RULE"]);
    for (key, row) in state.maps.policy.entries() {
        let free = 0xffff_u16.checked_shr(key.length.into()).unwrap_or(0);
        let (first, last) = (key.port.get(), key.port.get() | free);
        let port = match (first, last) {
            (0, u16::MAX) => "any".to_owned(),
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        };
        let source = if key.token == token::ANY {
            "any".to_owned()
        } else {
            people.get(&key.token).cloned().unwrap_or_else(|| hex(key.token))
        };
        let rule = names.rule(row.deny_rule).map_or_else(|| "-".to_owned(), ToString::to_string);
        table.rows.push(vec![
            hex(key.policy),
            source,
            protocol(key.protocol).to_owned(),
            port,
            bits(row.bits),
            rule,
        ]);
    }
    table.rows.sort();
    table
}

fn pods(state: &State, names: &Names) -> Table {
    let people = names.tokens();
    let mut table = heading(&["IP", "POD", "IDENTITY", "NETNS", "POLICIES"]);
    for (addr, row) in state.maps.pod_ips.entries() {
        let ip = addr.to_ip();
        table.rows.push(vec![
            ip.to_string(),
            names.pod(ip).map(|known| known.workload.name.to_string()).unwrap_or_default(),
            people.get(&row.identity).cloned().unwrap_or_else(|| hex(row.identity)),
            if row.netns == 0 { "-".to_owned() } else { row.netns.to_string() },
            if row.policy == 0 { "-".to_owned() } else { hex(row.policy) },
        ]);
    }
    table.rows.sort();
    table
}

fn stats(state: &State) -> Table {
    let counters = counters(state);
    let mut table = heading(&["COUNTER", "VALUE"]);
    let rows = stat::ALL
        .iter()
        .map(|(_, name)| vec![(*name).to_owned(), counters.get(*name).copied().unwrap_or(0).to_string()]);
    table.rows = rows.collect();
    table
}

fn heading(columns: &[&str]) -> Table {
    Table { columns: columns.iter().map(|column| (*column).to_owned()).collect(), rows: Vec::new() }
}

fn address(addr: weft_abi::Addr, port: weft_abi::BePort) -> String {
    std::net::SocketAddr::new(addr.to_ip(), port.get()).to_string()
}

fn protocol(number: u8) -> &'static str {
    if number == TCP { "TCP" } else { "UDP" }
}

fn algorithm_name(number: u32) -> &'static str {
    match number {
        algorithm::ROUND_ROBIN => "RoundRobin",
        algorithm::LEAST_REQUEST => "LeastRequest",
        algorithm::SOURCE_IP => "ConsistentHash",
        _ => "Random",
    }
}

fn bits(bits: u32) -> String {
    let names = [
        (policy_bits::DENY, "DENY"),
        (policy_bits::ALLOW, "ALLOW"),
        (policy_bits::ISOLATED, "ISOLATED"),
        (policy_bits::AUDIT_DENY, "AUDIT-DENY"),
        (policy_bits::AUDIT_ALLOW, "AUDIT-ALLOW"),
        (policy_bits::AUDIT_ISOLATED, "AUDIT-ISOLATED"),
    ];
    names.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect::<Vec<_>>().join(",")
}

fn hex(id: u64) -> String {
    format!("{id:016x}")
}
