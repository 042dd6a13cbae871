//! What the agent of a node says that it saw.

use std::collections::HashSet;
use std::fs;
use std::mem::offset_of;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use weft_abi::Config;

use crate::command::text;
use crate::{Node, sweep};

impl Node {
    /// The last flows, oldest first, that `weft observe <arguments>` shows.
    #[track_caller]
    pub fn flows(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.weft(&[&["observe", "--last", "65535", "-o", "json"], arguments].concat());
        assert!(output.status.success(), "weft observe: {}\n{}", output.status, text(&output));
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}")))
            .collect()
    }

    /// Refused and audited flows so far. Stray segments of a connection that was let in and is over, such as
    /// the last acknowledgement after a retransmission, are refused too: those are left out.
    #[track_caller]
    pub fn refusals(&self) -> Vec<Value> {
        let flows = self.flows(&[]);
        let client = |flow: &Value| (flow["source"]["ip"].to_string(), flow["source"]["port"].to_string());
        let let_in: HashSet<_> =
            flows.iter().filter(|flow| flow["verdict"] == "FORWARDED").map(client).collect();
        let stray = |flow: &Value| flow["verdict"] == "DENIED" && let_in.contains(&client(flow));
        flows.iter().filter(|flow| flow["verdict"] != "FORWARDED" && !stray(flow)).cloned().collect()
    }

    /// A counter of `weft bpf stat`.
    #[track_caller]
    pub fn stat(&self, name: &str) -> u64 {
        let table = self.weft_json(&["bpf", "stat"]);
        let row = table.as_array().and_then(|rows| rows.iter().find(|row| row["counter"] == name));
        row.and_then(|row| row["value"].as_u64()).unwrap_or_else(|| panic!("no {name} in {table}"))
    }

    /// What `weft status` says that the node cannot do, a feature and its reason in each line.
    #[track_caller]
    pub fn degradations(&self) -> Vec<String> {
        let status = self.weft_json(&["status"]);
        let all = status["degradations"].as_array().unwrap_or_else(|| panic!("no degradations in {status}"));
        let text = |of: &Value| of.as_str().unwrap_or_default().to_owned();
        all.iter().map(|one| format!("{}: {}", text(&one["feature"]), text(&one["reason"]))).collect()
    }

    /// The process of the node's proxy that is in force.
    #[track_caller]
    pub fn proxy_pid(&self) -> i32 {
        let status = self.weft_json(&["status"]);
        active_proxy(&status).unwrap_or_else(|| panic!("no proxy is in force: {}", status["proxy"]))
    }

    /// Whether a proxy is in force.
    #[track_caller]
    pub fn has_proxy(&self) -> bool {
        active_proxy(&self.weft_json(&["status"])).is_some()
    }

    /// How many entries the map called `name` has.
    #[track_caller]
    pub fn map_entries(&self, name: &str) -> usize {
        let pin = self.map_pin(name);
        let output = Command::new("bpftool").args(["-j", "map", "dump", "pinned"]).arg(pin).output();
        let output = output.expect("these tests need bpftool (`cargo xtask setup` installs it)");
        let entries: Vec<Value> = serde_json::from_slice(&output.stdout).expect("bpftool prints a list");
        entries.len()
    }

    /// The switches of the programs that are in force: `flags` of `weft_cfg`'s one entry.
    #[track_caller]
    pub fn config_flags(&self) -> u32 {
        let pin = self.map_pin("weft_cfg");
        let output = Command::new("bpftool").args(["-j", "map", "dump", "pinned"]).arg(pin).output();
        let output = output.expect("these tests need bpftool (`cargo xtask setup` installs it)");
        let entries: Value = serde_json::from_slice(&output.stdout).expect("bpftool prints a list");
        let bytes = entries[0]["value"].as_array().unwrap_or_else(|| panic!("no value in {entries}"));
        let byte = |at: &Value| {
            let hex = at.as_str().and_then(|hex| hex.strip_prefix("0x"));
            hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).expect("bytes are shown as 0x..")
        };
        let flags: Vec<u8> = bytes[offset_of!(Config, flags)..].iter().take(4).map(byte).collect();
        u32::from_ne_bytes(flags.try_into().expect("flags have four bytes"))
    }

    /// Where the map called `name` is pinned, whatever the version of the layout.
    #[track_caller]
    pub fn map_pin(&self, name: &str) -> PathBuf {
        let versions =
            fs::read_dir(Path::new(sweep::PINS).join(self.name())).expect("the agent pins its maps");
        let mut pins = versions.flatten().map(|version| version.path().join("maps").join(name));
        pins.find(|pin| pin.exists()).unwrap_or_else(|| panic!("{name} is not pinned"))
    }
}

fn active_proxy(status: &Value) -> Option<i32> {
    let generations = status["proxy"]["generations"].as_array()?;
    let active = generations.iter().rfind(|generation| generation["state"] == "Active")?;
    active["pid"].as_i64()?.try_into().ok()
}
