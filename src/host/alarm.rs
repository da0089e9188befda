//! Waiting for a time to the microsecond: tokio's own timers ring up to a millisecond late.

#![allow(unsafe_code)]

use std::io;
use std::time::Instant;

#[cfg(target_os = "linux")]
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
#[cfg(target_os = "linux")]
use tokio::io::{Interest, unix::AsyncFd};

/// A timer of the system (timerfd), which a runtime waits for as for a socket.
#[cfg(target_os = "linux")]
pub(crate) struct Alarm(AsyncFd<OwnedFd>);

#[cfg(target_os = "linux")]
impl Alarm {
    /// Makes a timer for the runtime that this is called in.
    pub(crate) fn new() -> io::Result<Alarm> {
        // SAFETY: takes and returns numbers.
        let timer =
            unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        if timer < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it has just been made, so that nothing else owns it.
        let timer = unsafe { OwnedFd::from_raw_fd(timer) };
        // SAFETY: the descriptor is open, and its only owner goes along with it.
        Ok(Alarm(unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) }?))
    }

    /// Waits until `due`; returns at once if that is over.
    pub(crate) async fn until(&mut self, due: Instant) -> io::Result<()> {
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.set(left)?;
            let mut rung = self.0.readable_mut().await?;
            // What an earlier setting has left would end the next wait at once.
            rung.clear_ready();
        }
    }

    /// Sets it; what has rung before is forgotten.
    fn set(&self, left: std::time::Duration) -> io::Result<()> {
        let nothing = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let seconds = libc::time_t::try_from(left.as_secs()).unwrap_or(libc::time_t::MAX);
        let value = libc::timespec { tv_sec: seconds, tv_nsec: libc::c_long::from(left.subsec_nanos()) };
        let setting = libc::itimerspec { it_interval: nothing, it_value: value };
        // SAFETY: the descriptor is open, and `setting` is only read; the former setting is not asked for.
        let failed =
            unsafe { libc::timerfd_settime(self.0.as_raw_fd(), 0, &raw const setting, std::ptr::null_mut()) };
        if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// A timer of tokio's, where the system has no better.
#[cfg(not(target_os = "linux"))]
pub(crate) struct Alarm;

#[cfg(not(target_os = "linux"))]
impl Alarm {
    /// Makes a timer.
    pub(crate) fn new() -> io::Result<Alarm> {
        Ok(Alarm)
    }

    /// Waits until `due`; returns at once if that is over.
    pub(crate) async fn until(&mut self, due: Instant) -> io::Result<()> {
        tokio::time::sleep_until(due.into()).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn it_never_rings_early_and_may_be_set_again() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut alarm = Alarm::new().unwrap();
            alarm.until(Instant::now()).await.unwrap();
            for micros in [300, 50, 2000] {
                let due = Instant::now() + Duration::from_micros(micros);
                alarm.until(due).await.unwrap();
                assert!(Instant::now() >= due);
            }
        });
    }
}
