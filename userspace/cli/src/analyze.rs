//! `weft analyze`: the agent's checks, without an agent.

use std::path::PathBuf;

use weft_model::{Problem, Severity};

use crate::{Error, Exit, Screen, output::Format, problem};

/// Manifests to look at.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Exit code: 0 no errors, 1 errors, 2 could not look.

Examples:
  weft analyze manifests/
  weft analyze web.yaml policies.yaml -o json")]
pub struct Args {
    /// Files and directories, taken together
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// How the answer is written: table, json or yaml
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t, hide_possible_values = true)]
    output: Format,
}

pub(crate) fn run(args: &Args, screen: &mut Screen) -> Result<Exit, Error> {
    if let Some(missing) = args.paths.iter().find(|path| !path.exists()) {
        return Err(Error::NoManifest { path: missing.clone() });
    }
    let problems = weft_kubernetes::analyze(&args.paths);
    args.output.write(screen, &problems, |problems, _| table(problems))?;
    Ok(if problems.iter().any(|problem| problem.severity == Severity::Error) { Exit::No } else { Exit::Yes })
}

fn table(problems: &[Problem]) -> String {
    if problems.is_empty() {
        return "no problems found\n".to_owned();
    }
    format!("{}\n{}\n", problem::list(problems), problem::count(problems))
}
