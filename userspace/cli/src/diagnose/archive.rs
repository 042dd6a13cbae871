//! A tar file that only its owner reads.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    time::SystemTime,
};

use tar::{Builder, Header};

use crate::Error;

/// What is being written.
pub(super) struct Archive {
    path: PathBuf,
    builder: Builder<BufWriter<File>>,
    /// Since 1970.
    seconds: u64,
}

impl Archive {
    /// A new file; one that is there already is left alone.
    pub(super) fn new(path: PathBuf, now: SystemTime) -> Result<Self, Error> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|source| Error::Archive { path: path.clone(), source })?;
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(Self { path, builder: Builder::new(BufWriter::new(file)), seconds: since.as_secs() })
    }

    /// A file of it.
    pub(super) fn add(&mut self, name: &str, text: &str) -> Result<(), Error> {
        let mut header = Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.seconds);
        self.builder
            .append_data(&mut header, format!("weft-diagnose/{name}"), text.as_bytes())
            .map_err(|source| self.failed(source))
    }

    /// Ends it.
    pub(super) fn finish(self) -> Result<(), Error> {
        let Self { path, builder, .. } = self;
        let done = builder.into_inner().and_then(|mut file| file.flush());
        done.map_err(|source| Error::Archive { path, source })
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Archive { path: self.path.clone(), source }
    }
}
