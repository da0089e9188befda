//! Threads that give way to those that serve.

#![allow(unsafe_code)]

use crate::error::{Error, Kind, Result};

/// How much nicer threads are that load and unload: beside a thread that never rests they get a seventieth of a core,
/// so that a load ends on a server that is busy all the time, too. Measured beside loads on the same core, p99 of a small
/// request: 1.4 ms at 10, 0.85 ms at 19 and as idle threads, which might never end. What no niceness helps against is in
/// `engine/tensorflow/reads.rs`.
#[cfg(target_os = "linux")]
const NICENESS: libc::c_int = 19;

/// The shortest slice that Linux grants.
#[cfg(target_os = "linux")]
const SLICE_NANOSECONDS: u64 = 100_000;

/// TensorFlow optimises graphs by recursion: as much as a process's first thread has by default.
const STACK_BYTES: usize = 8 << 20;

/// Does `work` on a thread of its own and waits for it. If it `gives_way`, it runs at low priority, and so does every
/// thread that it starts. The thread ends with the work: the system lets few processes raise a priority again.
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

/// Lowers the priority of the calling thread, where a thread has one of its own.
fn give_way() {
    #[cfg(target_os = "linux")]
    // SAFETY: has no precondition. On Linux this is about the calling thread and not its process. Nobody is refused.
    unsafe {
        libc::nice(NICENESS);
    }
}

/// Asks for the calling thread, which does little at a time, to be let in soon whenever it wakes up.
///
/// Since 6.6 Linux lets a thread go on for its slice, some milliseconds, before one of higher rank that has woken up
/// takes its place; since 6.12 not where that one has asked for short slices. Measured beside a load on the same core:
/// p99 of a small request 1.8 ms without this, 0.9 ms with it. Older kernels take no notice.
pub(crate) fn prompt() {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: all of it is plain numbers, for which zero is a value.
        let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
        // SAFETY: the attributes are ours and as large as is said; 0 is this thread.
        unsafe {
            let (size, this) = (size_of::<libc::sched_attr>(), 0);
            if libc::syscall(libc::SYS_sched_getattr, this, &raw mut attributes, size, 0) == 0 {
                attributes.sched_runtime = SLICE_NANOSECONDS;
                // What is refused changes nothing.
                libc::syscall(libc::SYS_sched_setattr, this, &raw const attributes, 0);
            }
        }
    }
}

/// The niceness of the calling thread, as Linux tells it.
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

    /// Operators, and an end-to-end test, look for the thread by this name, of which Linux shows 15 bytes.
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
