//! Files of the authority's directory: replaced in one step, readable by their owner only.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{
    CaError,
    shelf::{Keeping, Part, Shelf},
};

const LOCK: &str = ".lock";

/// The directory of an authority.
#[derive(Clone, Debug)]
pub(super) struct Folder(pub(super) PathBuf);

impl Shelf for Folder {
    fn keeping(&self) -> Keeping {
        Keeping::Directory(self.0.clone())
    }

    fn read(&self, part: Part) -> Result<Zeroizing<String>, CaError> {
        read(self, part)
    }

    fn write(&mut self, part: Part, text: &str) -> Result<(), CaError> {
        replace(&self.0.join(part.file()), text)
    }
}

/// Makes the directory, and those above it, if they are not there.
pub(crate) fn make_folder(dir: &Path) -> Result<(), CaError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|source| CaError::Io { attempt: "make", path: dir.to_owned(), source })
}

/// Keeps another `weft ca` out until it is dropped.
pub(super) struct Locked(File);

impl Drop for Locked {
    fn drop(&mut self) {
        // Closing it would not do: a child that another thread has forked holds it, too, until it executes something.
        let _ = self.0.unlock();
    }
}

/// Locks the directory.
pub(super) fn lock(dir: &Path) -> Result<Locked, CaError> {
    let path = dir.join(LOCK);
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.map_err(|source| CaError::Io { attempt: "open", path: path.clone(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(Locked(file)),
        Err(TryLockError::WouldBlock) => Err(CaError::Busy { path }),
        Err(TryLockError::Error(source)) => Err(CaError::Io { attempt: "lock", path, source }),
    }
}

/// The same, of a directory that has to be there.
pub(super) fn lock_existing(dir: &Path) -> Result<Locked, CaError> {
    if dir.join(Part::Roots.file()).symlink_metadata().is_err() {
        return Err(CaError::Missing { place: Folder(dir.to_owned()).place(Part::Roots) });
    }
    lock(dir)
}

/// Writes beside the file, then puts that in its place: a reader, or a crash, meets the old one or the new one whole.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), CaError> {
    let beside = path.with_extension("pem.new");
    let tried = |attempt: &'static str, at: &Path| {
        let path = at.to_owned();
        move |source| CaError::Io { attempt, path, source }
    };
    write_new(&beside, text).map_err(tried("write", &beside))?;
    fs::rename(&beside, path).map_err(tried("replace", path))?;
    let dir = path.parent().unwrap_or(path);
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(tried("write back", dir))
}

/// Reads a file. One that holds a private key must be its owner's alone.
fn read(folder: &Folder, part: Part) -> Result<Zeroizing<String>, CaError> {
    let (path, secret) = (&folder.0.join(part.file()), part != Part::Roots);
    let tried = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => CaError::Missing { place: folder.place(part) },
        _ => CaError::Io { attempt: "read", path: path.to_owned(), source },
    };
    let file = File::open(path).map_err(tried)?;
    let about = file.metadata().map_err(tried)?;
    let mode = about.permissions().mode() & 0o7777;
    if secret && mode & 0o077 != 0 {
        return Err(CaError::Open { path: path.to_owned(), mode });
    }
    // As large as the file: a buffer that grows leaves copies of the key behind.
    let size = usize::try_from(about.len()).unwrap_or(0).min(LARGEST);
    let mut text = Zeroizing::new(String::with_capacity(size + 1));
    file.take(LARGEST as u64).read_to_string(&mut text).map_err(tried)?;
    Ok(text)
}

/// Fails if any of the authority's files is there.
pub(super) fn none_there(dir: &Path) -> Result<(), CaError> {
    let there = |path: &PathBuf| path.symlink_metadata().is_ok();
    match [Part::Root, Part::Issuer, Part::Roots].map(|part| dir.join(part.file())).into_iter().find(there) {
        Some(path) => Err(CaError::Exists { path }),
        None => Ok(()),
    }
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    // What a crash left behind may have another mode.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Bytes of a file that are read: some hundred times what any of them has.
const LARGEST: usize = 1 << 20;
