//! The time that work took its thread, whatever else the machine does meanwhile.

#![allow(unsafe_code)]

use std::time::Duration;

/// What a thread has used so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    cpu: Duration,
    /// The number of times it went to sleep; not those when it had to leave its core to another.
    sleeps: u64,
}

impl Usage {
    /// Returns the calling thread's; `None` where the system does not tell.
    pub(crate) fn of_this_thread() -> Option<Usage> {
        Some(Usage { cpu: thread_cpu_time()?, sleeps: thread_sleeps()? })
    }

    /// Returns how long work of this thread took that began at this usage and took `wall` by the clock: without the
    /// time in which others had its core. If the thread slept, it waited for a part of its work that is done elsewhere
    /// (other threads, an accelerator): then all of it counts.
    pub(crate) fn took(self, wall: Duration) -> Option<Duration> {
        Some(self.between(Usage::of_this_thread()?, wall))
    }

    fn between(self, end: Usage, wall: Duration) -> Duration {
        if end.sleeps == self.sleeps { wall.min(end.cpu.saturating_sub(self.cpu)) } else { wall }
    }
}

/// Returns the CPU time of all threads of this process so far; `None` where the system does not tell.
pub(crate) fn process_cpu_time() -> Option<Duration> {
    time_of(libc::CLOCK_PROCESS_CPUTIME_ID)
}

pub(crate) fn thread_cpu_time() -> Option<Duration> {
    time_of(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn time_of(clock: libc::clockid_t) -> Option<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is ours and writable.
    let failed = unsafe { libc::clock_gettime(clock, &raw mut time) };
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?);
    (failed == 0).then(|| Duration::new(seconds, nanoseconds))
}

#[cfg(target_os = "linux")]
fn thread_sleeps() -> Option<u64> {
    // SAFETY: numbers only.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is ours and writable.
    let failed = unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
    (failed == 0).then(|| u64::try_from(usage.ru_nvcsw).ok()).flatten()
}

#[cfg(not(target_os = "linux"))]
fn thread_sleeps() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn counts_work_and_not_waiting() {
        let begun = thread_cpu_time().unwrap();
        let other = std::thread::spawn(|| {
            let begun = thread_cpu_time().unwrap();
            while thread_cpu_time().unwrap() < begun + Duration::from_millis(20) {}
        });
        other.join().unwrap();
        assert!(thread_cpu_time().unwrap() - begun < Duration::from_millis(10));
    }

    #[test]
    fn another_threads_turn_does_not_count_and_a_wait_does() {
        let took = |cpu: u64, sleeps: u64, wall: u64| {
            let begun = Usage { cpu: Duration::from_micros(1000), sleeps: 3 };
            let end = Usage { cpu: Duration::from_micros(1000 + cpu), sleeps: 3 + sleeps };
            begun.between(end, Duration::from_micros(wall)).as_micros()
        };
        assert_eq!(took(80, 0, 90), 80);
        assert_eq!(took(80, 0, 5000), 80, "it was put off");
        assert_eq!(took(80, 1, 5000), 5000, "it waited");
        assert_eq!(took(90, 0, 80), 80, "the clocks differ");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_thread_that_sleeps_is_seen_to() {
        let (begun, usage) = (Instant::now(), Usage::of_this_thread().unwrap());
        std::thread::sleep(Duration::from_millis(5));
        let wall = begun.elapsed();
        assert_eq!(usage.took(wall), Some(wall));
    }
}
