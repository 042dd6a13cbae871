//! The files of other plugins, and our own beside them. Each is replaced in one step.

use std::{
    ffi::OsStr,
    fs, io,
    io::{Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

use super::{Ensured, Error};
use crate::{NAME, conflist};

/// Puts a copy of `program` at `place`, unless it is there.
pub(super) fn place(program: &Path, place: &Path) -> Result<(), Error> {
    if is_same(program, place).map_err(failed("read", program))? {
        return Ok(());
    }
    // Runtimes run whatever they find: it is whole when it gets its name.
    let draft = place.with_file_name(format!(".{NAME}.draft"));
    let copy = || {
        fs::copy(program, &draft)?;
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o755))?;
        fs::File::open(&draft)?.sync_all()?;
        fs::rename(&draft, place)
    };
    copy().map_err(failed("write", place))
}

fn is_same(program: &Path, place: &Path) -> io::Result<bool> {
    let Ok(there) = fs::metadata(place) else { return Ok(false) };
    let own = fs::metadata(program)?;
    if own.len() != there.len() || there.permissions().mode() & 0o111 != 0o111 {
        return Ok(false);
    }
    let (mut own, mut there) = (fs::File::open(program)?, fs::File::open(place)?);
    let (mut left, mut right) = (vec![0; CHUNK], vec![0; CHUNK]);
    loop {
        let read = own.read(&mut left)?;
        if read == 0 {
            return Ok(true);
        }
        if there.read_exact(&mut right[..read]).is_err() || left[..read] != right[..read] {
            return Ok(false);
        }
    }
}

/// Makes `entry` a part of the network that runtimes use: the first by name.
pub(super) fn join(conf_dir: &Path, entry: &str) -> Result<Ensured, Error> {
    for file in networks(conf_dir)? {
        let text = fs::read_to_string(&file).map_err(failed("read", &file))?;
        // Runtimes take the next one, too.
        let Ok(plugins) = conflist::plugins(&text) else { continue };
        if let Ok(now) = conflist::with(&text, entry) {
            let anew = now != text;
            if anew {
                replace(&file, &text, &now)?;
            }
            return Ok(Ensured::In { file, anew });
        }
        if plugins.len() == 1
            && let Ok(list) = conflist::wrapped(&text, entry)
        {
            let around = around(&file);
            write(&around, &list, Some(&file))?;
            // Until now runtimes have used the one that is wrapped: it is the first of the two.
            let aside = aside(&file);
            fs::rename(&file, &aside).map_err(failed("rename", &file))?;
            return Ok(Ensured::In { file: around, anew: true });
        }
    }
    Ok(Ensured::NoNetwork)
}

/// Takes our part out of every network; `program` is what must stay where that cannot be done.
pub(super) fn leave(conf_dir: &Path, program: &Path) -> Result<(), Error> {
    for file in networks(conf_dir)? {
        let text = fs::read_to_string(&file).map_err(failed("read", &file))?;
        if !conflist::plugins(&text).is_ok_and(|plugins| plugins.iter().any(|plugin| plugin == NAME)) {
            continue;
        }
        if let Some(wrapped) = inside(&file) {
            let aside = aside(&wrapped);
            // First by name again, before the list around it goes.
            if aside.exists() && !wrapped.exists() {
                fs::rename(&aside, &wrapped).map_err(failed("rename", &aside))?;
            }
            if wrapped.exists() {
                remove(&file)?;
                let _ = fs::remove_file(&aside);
                continue;
            }
        }
        let now = conflist::without(&text).map_err(|error| Error::List {
            path: file.clone(),
            source: error.into(),
            program: program.to_owned(),
        })?;
        replace(&file, &text, &now)?;
    }
    Ok(())
}

pub(super) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

/// What runtimes take for networks, in their order (libcni's `ConfFiles`).
pub(crate) fn networks(conf_dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match fs::read_dir(conf_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed("list", conf_dir))?,
    };
    let files = entries.filter_map(io::Result::ok).map(|entry| entry.path());
    let extension = |path: &PathBuf| path.extension().and_then(OsStr::to_str).map(ToOwned::to_owned);
    let is_network =
        |path: &PathBuf| matches!(extension(path).as_deref(), Some("conf" | "conflist" | "json"));
    let mut files: Vec<_> = files.filter(|path| is_network(path) && path.is_file()).collect();
    files.sort();
    Ok(files)
}

/// Writes `now` in the place of `text`, unless somebody has written something else there meanwhile: then it is looked at again.
fn replace(file: &Path, text: &str, now: &str) -> Result<(), Error> {
    if fs::read_to_string(file).map_err(failed("read", file))? != text {
        return Ok(());
    }
    write(file, now, Some(file))
}

/// Writes a file whole, with the owner and the rights that `like` has.
fn write(file: &Path, text: &str, like: Option<&Path>) -> Result<(), Error> {
    let name = file.file_name().and_then(OsStr::to_str).unwrap_or_default();
    // With no extension of a network's.
    let draft = file.with_file_name(format!(".{name}.{NAME}-draft"));
    let put = || {
        let mut to = fs::File::create(&draft)?;
        to.write_all(text.as_bytes())?;
        if let Some(like) = like {
            let like = fs::metadata(like)?;
            fs::set_permissions(&draft, like.permissions())?;
            let made = to.metadata()?;
            if (made.uid(), made.gid()) != (like.uid(), like.gid()) {
                chown(&draft, Some(like.uid()), Some(like.gid()))?;
            }
        }
        to.sync_all()?;
        fs::rename(&draft, file)
    };
    put().map_err(failed("write", file))
}

/// The list around the single plugin in `file`: it sorts behind that, and before all other names that begin alike.
fn around(file: &Path) -> PathBuf {
    with_suffix(file, AROUND)
}

/// Where that is kept meanwhile.
fn aside(file: &Path) -> PathBuf {
    with_suffix(file, ".weft-cni")
}

/// What `file` is around, if it is such a list.
fn inside(file: &Path) -> Option<PathBuf> {
    let inside = file.with_file_name(file.file_name()?.to_str()?.strip_suffix(AROUND)?);
    let is_single = matches!(inside.extension()?.to_str()?, "conf" | "json");
    is_single.then_some(inside)
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    file.with_file_name(name)
}

fn failed(attempt: &'static str, path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { attempt, path: path.clone(), source }
}

const AROUND: &str = ".conflist";
const CHUNK: usize = 64 * 1024;
