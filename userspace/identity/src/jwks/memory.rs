//! The last good keys in a file, so that an agent that starts while a provider is away has them. They are public.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use weft_model::Jwks;

/// Good keys, and when they were fetched.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) jwks: Arc<Jwks>,
    pub(super) fetched: SystemTime,
}

pub(super) struct Memory {
    path: Option<PathBuf>,
    /// What an agent before this one has left.
    left: BTreeMap<Arc<str>, Kept>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    location: Arc<str>,
    /// Seconds since 1970.
    fetched: u64,
    jwks: Arc<Jwks>,
}

impl Memory {
    /// Reads what an agent before this one has left in `path`; what cannot be read is not there.
    pub(super) async fn open(path: Option<PathBuf>) -> Self {
        let left = match &path {
            Some(path) => read(path).await.unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "the last good keys of providers cannot be read");
                BTreeMap::new()
            }),
            None => BTreeMap::new(),
        };
        Self { path, left }
    }

    /// What is left of this place.
    pub(super) fn kept(&self, location: &str) -> Option<Kept> {
        self.left.get(location).cloned()
    }

    /// Keeps these, and no others.
    pub(super) async fn keep(&mut self, good: BTreeMap<Arc<str>, Kept>) {
        self.left.clear();
        let Some(path) = &self.path else { return };
        if let Err(error) = write(path, good).await {
            tracing::warn!(path = %path.display(), %error, "the last good keys of providers cannot be kept for the next agent");
        }
    }
}

async fn read(path: &Path) -> io::Result<BTreeMap<Arc<str>, Kept>> {
    let text = match tokio::fs::read(path).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        read => read?,
    };
    let lines: Vec<Line> = serde_json::from_slice(&text)?;
    let kept = |line: Line| {
        let fetched = SystemTime::UNIX_EPOCH + Duration::from_secs(line.fetched.min(u32::MAX.into()));
        (line.location, Kept { jwks: line.jwks, fetched })
    };
    Ok(lines.into_iter().map(kept).collect())
}

/// Writes beside the file, then puts that in its place: a reader, or a crash, meets the old one or the new one whole.
async fn write(path: &Path, good: BTreeMap<Arc<str>, Kept>) -> io::Result<()> {
    let line = |(location, kept): (Arc<str>, Kept)| {
        let age = kept.fetched.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Line { location, fetched: age.as_secs(), jwks: kept.jwks }
    };
    let text = serde_json::to_vec(&good.into_iter().map(line).collect::<Vec<_>>())?;
    let beside = path.with_extension("new");
    if let Some(folder) = path.parent() {
        tokio::fs::create_dir_all(folder).await?;
    }
    tokio::fs::write(&beside, text).await?;
    tokio::fs::rename(&beside, path).await
}
