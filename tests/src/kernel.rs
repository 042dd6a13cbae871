//! The machine's kernel.

/// Major, minor and patch version of this machine's kernel.
pub fn kernel() -> (u32, u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("/proc is mounted");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next(), next())
}

/// How many times slower than a real one this machine may be: 10 where the kernel matrix emulates it, else 1.
pub fn slowness() -> u32 {
    if std::env::var_os("WEFT_KERNEL_MATRIX").is_some() { 10 } else { 1 }
}
