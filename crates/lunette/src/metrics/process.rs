//! What the daemon is to the machine: processor time, memory, descriptors. What cannot be seen (a sandbox without /proc) is left
//! out.

use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

static START: LazyLock<SystemTime> = LazyLock::new(SystemTime::now);

/// The daemon starts now.
pub fn starts() {
    LazyLock::force(&START);
}

/// When it started, in seconds since 1970.
pub fn start_seconds() -> f64 {
    START.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as f64 / 1000.0
}

/// Its processor time in seconds.
pub fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Its memory in RAM.
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes << 10)
}

/// Its open descriptors; the one that looks is not among them.
pub fn open_descriptors() -> Option<u64> {
    Some((std::fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1))
}

/// How many it may have.
pub fn descriptors_max() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}
