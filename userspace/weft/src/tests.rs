//! The command line as a whole. What each command shows is tested in `weft-cli`.

use std::path::Path;

use clap::{CommandFactory, Parser};

use super::{Cli, Command};
use crate::settings::ServiceScope;

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_and_every_flag_is_documented() {
    fn check(command: &clap::Command, path: &str) {
        assert!(command.get_about().is_some(), "{path} has no description");
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{path} {} has no help", argument.get_id());
        }
        for inner in command.get_subcommands() {
            check(inner, &format!("{path} {}", inner.get_name()));
        }
    }
    check(&Cli::command(), "weft");
}

/// All that answer a question; the others do something, or show what is always text.
#[test]
fn every_command_that_shows_something_takes_an_output_format() {
    fn check(command: &clap::Command, path: &str, found: &mut Vec<String>) {
        let format = command.get_arguments().find(|argument| argument.get_id() == "output");
        if let Some(format) = format {
            let values = format.get_possible_values();
            let values: Vec<_> = values.iter().map(clap::builder::PossibleValue::get_name).collect();
            assert_eq!((format.get_short(), values), (Some('o'), vec!["table", "json", "yaml"]), "{path}");
        } else if !command.has_subcommands() {
            found.push(path.trim_start().to_owned());
        }
        for inner in command.get_subcommands() {
            check(inner, &format!("{path} {}", inner.get_name()), found);
        }
    }
    let mut without = Vec::new();
    check(&Cli::command(), "", &mut without);
    assert_eq!(
        without,
        [
            "agent",
            "controller",
            "diagnose",
            "uninstall",
            "probe",
            "install",
            "cleanup",
            "cni",
            "tunnel",
            "socket-storage",
            "completion"
        ]
    );
}

#[test]
fn help_fits_a_terminal_of_80_columns() {
    fn check(command: &mut clap::Command, path: &str) {
        let help = command.clone().term_width(80).render_long_help().to_string();
        for line in help.lines().filter(|line| !line.starts_with("Usage:")) {
            assert!(line.chars().count() <= 80, "{path}: {line}");
        }
        for inner in command.get_subcommands_mut() {
            let path = format!("{path} {}", inner.get_name());
            check(inner, &path);
        }
    }
    let mut command = Cli::command();
    command.build();
    check(&mut command, "weft");
}

#[test]
fn an_agent_has_one_source_and_a_default_for_the_rest() {
    let parsed = Cli::try_parse_from(["weft", "agent", "--manifests", "m"]).unwrap();
    let Command::Agent(args) = parsed.command else { panic!("no agent") };
    assert_eq!(args.run_dir, Path::new("/run/weft"));
    assert_eq!(args.state_dir, Path::new("/var/lib/weft"));
    assert_eq!(args.metrics, "127.0.0.1:9470".parse().unwrap());
    assert!(matches!(args.service_scope, ServiceScope::Enrolled));
    assert!(Cli::try_parse_from(["weft", "agent"]).is_ok(), "in a pod of a cluster");
    let both = ["weft", "agent", "--manifests", "m", "--kubeconfig", "k"];
    let error = Cli::try_parse_from(both).map(drop).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("--manifests <DIR>"), "{error}");
    let error =
        Cli::try_parse_from(["weft", "agent", "--manifests", "m", "--node", "../n1"]).map(drop).unwrap_err();
    assert!(error.to_string().contains("like worker-1.example"), "{error}");
}
