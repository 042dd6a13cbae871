//! Settings of a network namespace: files below `/proc/sys/net`.
//!
//! In a container that is not privileged `/proc/sys` is read-only. Whose settings such a file shows is up to the thread
//! that opens it and not to the mount, so that any proc will do: where the usual one cannot be written, it is one that is
//! mounted nowhere.

use std::{fs, io};

use rustix::{
    fs::{Mode, OFlags, openat},
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen},
};

/// Reads the setting `name`, such as `net/ipv4/ip_forward`, of the thread's network namespace.
pub(crate) fn read(name: &str) -> io::Result<String> {
    Ok(fs::read_to_string(format!("/proc/sys/{name}"))?.trim().to_owned())
}

/// Writes it.
///
/// # Kernel
/// Where `/proc/sys` is read-only this takes `CAP_SYS_ADMIN` and Linux 5.2 (`fsopen`).
pub(crate) fn write(name: &str, value: &str) -> io::Result<()> {
    match fs::write(format!("/proc/sys/{name}"), value) {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => write_elsewhere(name, value),
        done => done,
    }
}

fn write_elsewhere(name: &str, value: &str) -> io::Result<()> {
    let proc = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&proc)?;
    let proc = fsmount(&proc, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    let file = openat(&proc, format!("sys/{name}"), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, value.as_bytes()).map(drop).map_err(Into::into)
}
