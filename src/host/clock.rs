//! The CPU time of a thread.

#![allow(unsafe_code)]

use std::time::Duration;

/// Returns the CPU time that the calling thread has used; `None` where the system does not tell.
pub(crate) fn thread_cpu_time() -> Option<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is ours and writable.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?);
    (failed == 0).then(|| Duration::new(seconds, nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
