//! Thread priorities: loading gives way to serving.

#![allow(unsafe_code)]

use crate::error::{Error, Kind, Result};

/// Niceness added to threads that load and unload: next to a thread that is always busy they get 1/70 of a core, so
/// that a load also ends on a server that is never idle. Measured next to loads on the same core, p99 of a small
/// request: 1.4 ms at 10, 0.85 ms at 19 and with idle-class threads, which might never end. For what niceness cannot
/// solve, see `engine/tensorflow/reads.rs`.
#[cfg(target_os = "linux")]
const NICENESS: libc::c_int = 19;

/// Shortest time slice that Linux grants.
#[cfg(target_os = "linux")]
const SLICE_NANOSECONDS: u64 = 100_000;

/// Stack size of a loading thread, in bytes: the default of a process's first thread, because TensorFlow optimises
/// graphs by recursion.
const STACK_BYTES: usize = 8 << 20;

/// Does `work` on a thread of its own and waits for it. If `gives_way` is true, it runs at low priority, and so does
/// every thread that it starts. The thread ends with the work: few processes may raise a priority again.
pub(crate) fn at_low_priority<T: Send>(
    gives_way: bool,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    let builder = std::thread::Builder::new().name("servable-load".to_owned()).stack_size(STACK_BYTES);
    std::thread::scope(|scope| {
        let started = builder.spawn_scoped(scope, || {
            if gives_way {
                give_way();
            }
            work()
        });
        match started.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(result)) => result,
            Ok(Err(_panicked)) => {
                Err(Error::internal("A load or unload failed by a fault of the server; see its log"))
            }
            Err(why) => Err(Error::new(
                Kind::ResourceExhausted,
                format!(
                    "No thread could be started to load or unload in: {why}. Allow the process more threads"
                ),
            )),
        }
    })
}

/// Lowers the priority of the calling thread, on systems where threads have their own.
pub(crate) fn give_way() {
    #[cfg(target_os = "linux")]
    // SAFETY: has no precondition. On Linux this affects the calling thread, not its process, and is always permitted.
    unsafe {
        libc::nice(NICENESS);
    }
}

/// Asks the scheduler to run the calling thread soon after it wakes up; for threads that do little at a time.
///
/// Since 6.6 Linux lets a running thread finish its slice, some milliseconds, before a woken thread of higher priority
/// replaces it; since 6.12 not if that thread has asked for short slices. Measured next to a load on the same core: p99
/// of a small request 1.8 ms without this, 0.9 ms with it. Older kernels ignore it.
pub(crate) fn prompt() {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: every field is a plain number, for which zero is valid.
        let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
        // SAFETY: the attributes are ours and have the size given; 0 is this thread.
        unsafe {
            let (size, this) = (size_of::<libc::sched_attr>(), 0);
            if libc::syscall(libc::SYS_sched_getattr, this, &raw mut attributes, size, 0) == 0 {
                attributes.sched_runtime = SLICE_NANOSECONDS;
                // A refusal changes nothing.
                libc::syscall(libc::SYS_sched_setattr, this, &raw const attributes, 0);
            }
        }
    }
}

/// Returns the niceness of the calling thread, as reported by Linux.
#[cfg(test)]
pub(crate) fn niceness() -> Option<i32> {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(16)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn work_gives_way_with_all_that_it_starts_and_nothing_else_does() {
        let before = niceness().unwrap();
        let inside =
            at_low_priority(true, || Ok((niceness(), std::thread::spawn(niceness).join().unwrap()))).unwrap();
        let nicer = (before + NICENESS).min(19);
        assert_eq!(inside, (Some(nicer), Some(nicer)));
        assert_eq!(niceness(), Some(before));
        assert_eq!(at_low_priority(false, || Ok(niceness())), Ok(Some(before)));
    }

    /// Operators and an end-to-end test look for the thread by this name; Linux shows 15 bytes of it.
    #[test]
    fn its_thread_is_known_by_its_name() {
        let name = at_low_priority(true, || Ok(std::thread::current().name().map(str::to_owned))).unwrap();
        assert_eq!(name.as_deref(), Some("servable-load"));
    }

    #[test]
    fn a_panic_is_an_error() {
        let failed = at_low_priority::<()>(true, || panic!("on purpose"));
        assert_eq!(failed.unwrap_err().kind, Kind::Internal);
    }
}
