//! Logs: `tracing`, to standard error. What is logged can be changed while the process runs.

use std::sync::{Mutex, OnceLock, PoisonError};

use tracing_subscriber::{EnvFilter, reload};

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why logging could not be set up, or changed.
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
    /// Nobody has set up logging in this process.
    #[error("logging was not set up")]
    Never,
    /// The subscriber is gone.
    #[error("the log's filter cannot be changed: {0}")]
    Change(#[from] reload::Error),
}

/// Logs what `filter` keeps (as in `RUST_LOG`: `info`, `weft_datapath=debug,info`).
pub fn start(filter: &str, format: Format) -> Result<(), Error> {
    let lines = tracing_subscriber::fmt().with_env_filter(parse(filter)?).with_writer(std::io::stderr);
    let change: Change = match format {
        Format::Text => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
            let lines = lines.with_ansi(colour).with_filter_reloading();
            let handle = lines.reload_handle();
            lines.try_init().map_err(|_| Error::Twice)?;
            Box::new(move |filter| handle.reload(filter))
        }
        Format::Json => {
            let lines = lines.json().flatten_event(true).with_filter_reloading();
            let handle = lines.reload_handle();
            lines.try_init().map_err(|_| Error::Twice)?;
            Box::new(move |filter| handle.reload(filter))
        }
    };
    // Only the first subscriber of a process comes so far.
    let _ = CHOSEN.set(Chosen { change, filter: Mutex::new(filter.to_owned()) });
    Ok(())
}

/// What is logged now, as it was given last.
pub fn filter() -> Result<String, Error> {
    let chosen = CHOSEN.get().ok_or(Error::Never)?;
    Ok(chosen.filter.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

/// Logs what `filter` keeps from now on, until the process ends.
pub fn change(filter: &str) -> Result<(), Error> {
    let chosen = CHOSEN.get().ok_or(Error::Never)?;
    let mut now = chosen.filter.lock().unwrap_or_else(PoisonError::into_inner);
    (chosen.change)(parse(filter)?)?;
    let before = std::mem::replace(&mut *now, filter.to_owned());
    drop(now);
    tracing::info!(filter, before, "what is logged has been changed");
    Ok(())
}

/// What [`start`] has set up.
struct Chosen {
    change: Change,
    filter: Mutex<String>,
}

type Change = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

static CHOSEN: OnceLock<Chosen> = OnceLock::new();

fn parse(filter: &str) -> Result<EnvFilter, Error> {
    let parsed =
        EnvFilter::try_new(filter).map_err(|source| Error::Filter { filter: filter.to_owned(), source })?;
    if filter.contains(CLIENT) {
        return Ok(parsed);
    }
    // It calls each failure an error and does not say of what; whoever has asked does.
    Ok(parsed.add_directive(format!("{CLIENT}=off").parse().expect("a target and a level")))
}

/// What speaks to API servers.
const CLIENT: &str = "kube_client";

#[cfg(test)]
mod tests {
    use super::{Format, change, filter, start};

    #[test]
    fn a_bad_filter_is_refused_with_an_example() {
        let error = start("weft=loud=er", Format::Text).unwrap_err().to_string();
        assert!(error.contains("\"weft=loud=er\"") && error.contains("try info"), "{error}");
    }

    #[test]
    fn logging_is_set_up_once_and_what_is_logged_may_change_from_then_on() {
        assert_eq!(filter().unwrap_err().to_string(), "logging was not set up");
        start("info", Format::Json).unwrap();
        assert_eq!(start("info", Format::Text).unwrap_err().to_string(), "logging was set up before");
        assert!(!tracing::enabled!(target: "weft_test", tracing::Level::DEBUG));
        change("weft_test=debug,warn").unwrap();
        assert!(tracing::enabled!(target: "weft_test", tracing::Level::DEBUG));
        assert!(!tracing::enabled!(target: "kube_client", tracing::Level::ERROR));
        assert!(change("weft=loud=er").is_err());
        assert_eq!(filter().unwrap(), "weft_test=debug,warn", "a filter that is refused changes nothing");
        change("kube_client=info").unwrap();
        assert!(tracing::enabled!(target: "kube_client", tracing::Level::ERROR), "who asks for it has it");
    }
}
