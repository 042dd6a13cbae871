//! Table, JSON or YAML.

use clap::ValueEnum;
use serde::Serialize;

use crate::{Error, Screen};

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs; flows one object a line.
    Json,
    /// For both.
    Yaml,
}

impl Format {
    /// Writes `answer`, as a table by `table`.
    pub(crate) fn write<T: Serialize>(
        self,
        screen: &mut Screen,
        answer: &T,
        table: impl FnOnce(&T, &Screen) -> String,
    ) -> Result<(), Error> {
        let text = match self {
            Self::Table => table(answer, screen),
            Self::Json => {
                let mut text = serde_json::to_string_pretty(answer).expect("answers have string keys only");
                text.push('\n');
                text
            }
            Self::Yaml => serde_yaml::to_string(answer)?,
        };
        Ok(screen.write(&text)?)
    }
}
