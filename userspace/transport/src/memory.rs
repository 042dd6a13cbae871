//! What a process has no use for, back to the system.
#![expect(unsafe_code, reason = "malloc_trim has no safe wrapper, and madvise may take what is in use")]

use std::{ffi::c_void, fs, io, ops::Range};

use rustix::mm::{Advice, madvise};

/// Gives back whole pages that are free between others in use. The allocator does so by itself only at the end of its
/// heap, where a long-lived piece keeps all before it.
///
/// Takes 2 µs for each 16 KiB that go, and half of one for each hole that is there already; the allocator's locks are
/// held meanwhile. Does nothing where the C library is not glibc.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it reads no memory but the allocator's own, under its locks, and no piece that is in use changes.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Unmaps the code of the process. What goes on being used is mapped again by a fault for each 64 KiB, a microsecond each, out
/// of the page cache; the rest counts as resident no longer and is the first that the system takes when it runs short.
///
/// The kernel maps sixteen pages around each that is touched, so most of what a start or a handshake has mapped nobody has
/// ever used (`do_fault_around`, Linux 3.15).
///
/// # Errors
/// `/proc` cannot be read, or the kernel refuses.
pub fn forget_code() -> io::Result<()> {
    for code in code(&fs::read_to_string("/proc/self/maps")?) {
        let start = std::ptr::with_exposed_provenance_mut::<c_void>(code.start);
        // SAFETY: it is a private mapping of a file to which nobody in this process may write, so what comes back with the
        // next fault is what was there.
        unsafe { madvise(start, code.len(), Advice::LinuxDontNeed) }?;
    }
    Ok(())
}

/// Where code is that was mapped from a file, by `/proc/self/maps`.
fn code(maps: &str) -> impl Iterator<Item = Range<usize>> {
    maps.lines().filter_map(|line| {
        let [range, "r-xp", _, _, inode] = line.split_ascii_whitespace().take(5).collect::<Vec<_>>()[..]
        else {
            return None;
        };
        let (start, end) = range.split_once('-').filter(|_| inode != "0")?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        Some(number(start)?..number(end)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
5581c0000000-5581c0200000 r--p 00000000 fe:00 1234                       /usr/bin/weft
5581c0200000-5581c1a00000 r-xp 00200000 fe:00 1234                       /usr/bin/weft
5581c1a00000-5581c1a10000 rw-p 01a00000 fe:00 1234                       /usr/bin/weft
5581c2000000-5581c2001000 rwxp 00000000 00:00 0
7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0                          [vdso]
";

    #[test]
    fn only_what_nobody_can_have_changed_is_code() {
        let mut found = code(MAPS);
        assert_eq!(found.next(), Some(0x5581_c020_0000..0x5581_c1a0_0000));
        assert_eq!(found.next(), None);
    }

    #[test]
    fn code_that_was_forgotten_is_resident_no_longer_and_runs_on() {
        let resident = || {
            let maps = fs::read_to_string("/proc/self/smaps").unwrap();
            let mut of_code = false;
            let mut sum = 0;
            for line in maps.lines() {
                if let Some(kilobytes) = line.strip_prefix("Rss:").filter(|_| of_code) {
                    sum += kilobytes.trim_end_matches("kB").trim().parse::<u64>().unwrap();
                } else if !line.split(' ').next().unwrap().ends_with(':') {
                    of_code = code(line).next().is_some();
                }
            }
            sum
        };
        let before = resident();
        forget_code().unwrap();
        let after = resident();
        assert!(before > 0 && after < before, "{before} kB, then {after}");
    }
}
