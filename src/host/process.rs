//! What Linux tells of this process (proc(5)). `None` where the system does not tell.

#![allow(unsafe_code)]

use super::clock;
use std::time::Duration;

/// Memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// In RAM.
    pub(crate) resident: u64,
    /// Of the address space.
    pub(crate) mapped: u64,
}

/// Returns the CPU time of all threads so far.
pub(crate) fn cpu_time() -> Option<Duration> {
    clock::process_cpu_time()
}

pub(crate) fn memory() -> Option<Memory> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let page = system_value(libc::_SC_PAGESIZE)?;
    let mut pages = statm.split(' ').map_while(|field| field.trim().parse::<u64>().ok());
    let (mapped, resident) = (pages.next()? * page, pages.next()? * page);
    Some(Memory { resident, mapped })
}

/// Returns the number of open descriptors, without the one that this takes.
pub(crate) fn open_descriptors() -> Option<u64> {
    let entries = std::fs::read_dir("/proc/self/fd").ok()?.count();
    (entries as u64).checked_sub(1)
}

/// Returns the limit on open descriptors; the largest number if there is none.
pub(crate) fn most_descriptors() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let soft = line.split_whitespace().next()?;
    if soft == "unlimited" { Some(u64::MAX) } else { soft.parse().ok() }
}

/// Returns when the process began, in seconds of Unix time.
pub(crate) fn started() -> Option<f64> {
    let boot = std::fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    let ticks: f64 = stat(22)?.parse().ok()?;
    #[allow(clippy::cast_precision_loss)] // About 100.
    let each_second = system_value(libc::_SC_CLK_TCK)? as f64;
    Some(boot + ticks / each_second)
}

/// Returns the number of threads.
pub(crate) fn threads() -> Option<u64> {
    stat(20)?.parse().ok()
}

/// Returns a field of `/proc/self/stat`, by its number in proc(5), from the third on.
fn stat(field: usize) -> Option<String> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name, the second field, may hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(field.checked_sub(3)?).map(str::to_owned)
}

fn system_value(name: libc::c_int) -> Option<u64> {
    // SAFETY: takes and returns numbers.
    u64::try_from(unsafe { libc::sysconf(name) }).ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn the_system_tells() {
        let memory = memory().unwrap();
        assert!(memory.resident > 1 << 20 && memory.mapped >= memory.resident, "{memory:?}");
        assert!(threads().unwrap() >= 1 && cpu_time().is_some());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((now - 86400.0..now + 2.0).contains(&started().unwrap()));
        assert!(open_descriptors().unwrap() >= 3 && most_descriptors() > open_descriptors());
    }
}
