//! Logs: `tracing`, to standard error.

use tracing_subscriber::EnvFilter;

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter is not one.
    #[error("log filter {filter:?} is not valid: {source}; try info, or weft_datapath=debug,info")]
    Filter {
        /// The filter as given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Someone else has set up logging in this process.
    #[error("logging was set up before")]
    Twice,
}

/// Logs what `filter` keeps (as in `RUST_LOG`: `info`, `weft_datapath=debug,info`).
pub fn start(filter: &str, format: Format) -> Result<(), Error> {
    let filter =
        EnvFilter::try_new(filter).map_err(|source| Error::Filter { filter: filter.to_owned(), source })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        Format::Text => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
            lines.with_ansi(colour).try_init()
        }
        Format::Json => lines.json().flatten_event(true).try_init(),
    }
    .map_err(|_| Error::Twice)
}

#[cfg(test)]
mod tests {
    use super::{Format, start};

    #[test]
    fn a_bad_filter_is_refused_with_an_example() {
        let error = start("weft=loud=er", Format::Text).unwrap_err().to_string();
        assert!(error.contains("\"weft=loud=er\"") && error.contains("try info"), "{error}");
    }

    #[test]
    fn logging_is_set_up_once() {
        start("info", Format::Json).unwrap();
        assert_eq!(start("info", Format::Text).unwrap_err().to_string(), "logging was set up before");
    }
}
