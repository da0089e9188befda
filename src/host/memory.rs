//! Returns memory to the system.
//!
//! Relocating TensorFlow's libraries when they are opened reads their symbol and relocation tables once and faults in
//! the pages around them: about 285 MB of clean, file-backed pages. They are dropped from this process (not from the
//! page cache); a minor fault brings back those whose code or data is really used. Loading and compiling models touches
//! much that serving them does not.

#![allow(unsafe_code)]

use super::libraries;
use crate::memory::{leave_behind, take_left_behind};
use std::collections::BTreeSet;
use std::ffi::{c_int, c_void};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// The libraries of the engines that are open.
static LIBRARIES: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Drops the clean pages of the library at `library`, which was just opened and stays open, and of its neighbours in the
/// same folder.
pub(crate) fn drop_relocation_pages(library: &Path) {
    LIBRARIES.lock().unwrap_or_else(PoisonError::into_inner).insert(library.to_owned());
    drop_pages_beside(library);
}

/// Drops the clean pages of all libraries of engines: once models have moved to another engine, little of either is used.
pub(crate) fn drop_library_pages() {
    let libraries = LIBRARIES.lock().unwrap_or_else(PoisonError::into_inner).clone();
    libraries.iter().for_each(|library| drop_pages_beside(library));
}

fn drop_pages_beside(library: &Path) {
    libraries::beside(library, &mut |loaded| {
        for (start, bytes, flags) in loaded.segments(libc::PT_LOAD) {
            if flags & libc::PF_W == 0 {
                drop_pages(start, bytes);
            }
        }
    });
}

/// Drops the pages that lie entirely inside `start..start + length`.
fn drop_pages(start: usize, length: usize) {
    const PAGE: usize = 4096;
    let first = start.next_multiple_of(PAGE);
    let last = (start + length) / PAGE * PAGE;
    if first < last {
        // SAFETY: the range lies in one segment of a library that stays open; the segment was never writable, so its
        // pages equal the file's and are read again when touched. Failure changes nothing.
        unsafe { libc::madvise(first as *mut c_void, last - first, libc::MADV_DONTNEED) };
    }
}

/// Makes the C library's allocator keep what a run has freed for the next one, unless the environment sets it
/// otherwise; [`trim`] returns it later. Call before TensorFlow allocates.
///
/// Measured with photos to MobileNetV2, 16 clients (glibc 2.36, 2 cores; CPU time and minor faults of a request,
/// resident after 10 s of rest):
///
/// | | CPU | faults | resident |
/// | --- | --- | --- | --- |
/// | blocks mapped from 32 MB, at most 8 MB left free | 32.6 ms | 2,492 | 215 MB |
/// | these thresholds | 25.5 ms | 0 | 222 MB |
/// | these, and 2 arenas | 28.5 ms | 1 | 213 MB |
/// | jemalloc 5.3, tcmalloc 2.10, mimalloc 2.0 for the whole process | 30.6, 31.0, 30.2 ms | 399, 15, 2 | 202, 261, 274 MB |
pub(crate) fn keep_freed_memory() {
    #[cfg(target_env = "gnu")]
    {
        for (variable, setting, values) in [
            ("MALLOC_MMAP_THRESHOLD_", libc::M_MMAP_THRESHOLD, &MAPPED_FROM[..]),
            ("MALLOC_TRIM_THRESHOLD_", libc::M_TRIM_THRESHOLD, &[KEPT_FREE]),
            ("MALLOC_ARENA_MAX", libc::M_ARENA_MAX, &[arenas()]),
        ] {
            if !is_set(variable) && !is_set("GLIBC_TUNABLES") {
                // If all are refused, the C library's own way stays.
                values.iter().any(|value| set(setting, *value));
            }
        }
    }
}

/// Larger blocks are mapped each time, in bytes. Up to here they are taken from an arena. The C library before 2.35 takes
/// at most the second value; without one, setting the other threshold would freeze this at 128 KB.
#[cfg(target_env = "gnu")]
const MAPPED_FROM: [c_int; 2] = [1 << 30, 32 << 20];

/// The threads that read weights now.
#[cfg(target_env = "gnu")]
static READING: Mutex<usize> = Mutex::new(0);

/// While this lives, the C library maps large blocks, so that they go back when they are freed.
///
/// For reading and packing weights: they are freed with their model, and [`after_unload`] leaves what arenas hold for some
/// time where models come and go. Measured with 20 loads and unloads of 100 MB, one after another: up to 5.4 times the
/// resident size after the first (ONNX Runtime), 7.1 times (LiteRT), 1.6 times (OpenVINO); on a busy machine, where trims
/// are put off, 4.8 times (TensorFlow), and with this 1.1 times at most.
#[must_use = "blocks are mapped as long as this is held"]
pub(crate) struct MappedWeights(());

impl MappedWeights {
    /// Begins.
    pub(crate) fn begin() -> MappedWeights {
        #[cfg(target_env = "gnu")]
        {
            /// In bytes.
            const LARGE: c_int = 1 << 20;
            let mut reading = READING.lock().unwrap_or_else(PoisonError::into_inner);
            *reading += 1;
            if *reading == 1 && !is_set("MALLOC_MMAP_THRESHOLD_") && !is_set("GLIBC_TUNABLES") {
                set(libc::M_MMAP_THRESHOLD, LARGE);
            }
        }
        MappedWeights(())
    }
}

impl Drop for MappedWeights {
    fn drop(&mut self) {
        #[cfg(target_env = "gnu")]
        {
            let mut reading = READING.lock().unwrap_or_else(PoisonError::into_inner);
            *reading -= 1;
            if *reading == 0 && !is_set("MALLOC_MMAP_THRESHOLD_") && !is_set("GLIBC_TUNABLES") {
                MAPPED_FROM.iter().any(|value| set(libc::M_MMAP_THRESHOLD, *value));
            }
        }
    }
}

/// Most memory left free at the end of an arena while requests come, in bytes.
#[cfg(target_env = "gnu")]
const KEPT_FREE: c_int = 1 << 30;

/// Returns the number of arenas that the C library may make: its own default, up to a limit that [`trim_tops`] can
/// visit in a few milliseconds.
#[cfg(target_env = "gnu")]
fn arenas() -> c_int {
    const MOST: usize = 32;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    c_int::try_from((8 * cores).min(MOST)).unwrap_or(1)
}

#[cfg(target_env = "gnu")]
fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some()
}

/// Returns whether the C library accepted the setting.
#[cfg(target_env = "gnu")]
fn set(setting: c_int, value: c_int) -> bool {
    // SAFETY: any value may be given; a refused one changes nothing.
    unsafe { libc::mallopt(setting, value) != 0 }
}

/// Returns the memory at the end of every arena, which `malloc_trim` leaves alone except in the main one.
///
/// The C library trims the end of an arena when a large block of it is freed, down to the trim threshold. A new thread
/// takes its blocks from an arena that no thread uses; if there is none, from a new arena, up to their limit; and then
/// from the next in turn of all. So the threads that come first take the arenas that are free or yet to be made, at
/// most as many as the limit, and as many again visit all in turn. (One whose lock is taken at that moment is passed
/// over.)
#[cfg(target_env = "gnu")]
fn trim_tops() {
    /// Freeing a block of this size, in bytes, trims its arena.
    const BLOCK: usize = 128 << 10;
    const STACK: usize = 64 << 10;
    if is_set("MALLOC_TRIM_THRESHOLD_") || is_set("MALLOC_ARENA_MAX") || is_set("GLIBC_TUNABLES") {
        return;
    }
    set(libc::M_TRIM_THRESHOLD, 0);
    // The threads that have an arena, and how many there will be, once that is known.
    let (arrived, all_have) = (Mutex::new((0, None)), Condvar::new());
    let lock = || arrived.lock().unwrap_or_else(PoisonError::into_inner);
    let visit = || {
        // SAFETY: has no precondition; a null result may be freed.
        let block = black_box(unsafe { libc::malloc(BLOCK) });
        let mut state = lock();
        state.0 += 1;
        if state.1 == Some(state.0) {
            all_have.notify_all();
        }
        // No arena is free again before all threads have theirs.
        drop(all_have.wait_while(state, |(arrived, all)| all.is_none_or(|all| *arrived < all)));
        // SAFETY: allocated above and freed once.
        unsafe { libc::free(block) };
    };
    std::thread::scope(|threads| {
        let start = |_: &c_int| Builder::new().stack_size(STACK).spawn_scoped(threads, visit).is_ok();
        let all = (0..2 * arenas()).take_while(start).count();
        lock().1 = Some(all);
        all_have.notify_all();
    });
    set(libc::M_TRIM_THRESHOLD, KEPT_FREE);
}

/// Returning memory after unloads may take at most 1/`SHARE` of the time: meanwhile, threads that allocate wait (some
/// milliseconds after a large model; at 1/10, that was the p99 of another model served meanwhile).
const SHARE: u32 = 100;

/// Returns free memory if any was left behind since the last call. Takes some milliseconds and holds the allocator's
/// locks: never call it at low priority, where it would hold them while other threads keep the cores busy.
pub(crate) fn tidy() {
    if take_left_behind() {
        trim();
    }
}

/// Returns free memory after a model was unloaded or failed to load. With many at once, most of them leave this to the
/// next [`tidy`]: walking the allocators takes longer than freeing a small model.
pub(crate) fn after_unload() {
    // End and duration of the last trim.
    static LAST: Mutex<Option<(Instant, Duration)>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if last.is_some_and(|(end, took)| end.elapsed() < SHARE * took) {
        leave_behind();
    } else {
        let begun = Instant::now();
        trim();
        *last = Some((Instant::now(), begun.elapsed()));
    }
}

/// Returns the allocators' free memory to the system: that of the C library, which TensorFlow uses (measured over 20
/// load and unload cycles of MobileNetV2: 371–399 MB resident without this, 311–325 MB with it), and of our own.
pub(crate) fn trim() {
    #[cfg(target_env = "gnu")]
    {
        trim_tops();
        // SAFETY: has no precondition; takes the allocator's own locks.
        unsafe { libc::malloc_trim(0) };
    }
    collect();
}

/// Returns our own allocator's free memory, as far as the calling thread may; from other threads' heaps, only what
/// they abandoned.
pub(crate) fn collect() {
    #[cfg(feature = "python")]
    // SAFETY: has no precondition; may be called from any thread.
    unsafe {
        libmimalloc_sys::mi_collect(true);
    }
}

#[cfg(test)]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;
    use std::process::Command;
    use std::sync::Barrier;

    /// Set in the child process in which the allocator is set and trimmed.
    const CHILD: &str = "SERVABLE_TEST_TRIM";
    /// Taken from an arena, in bytes.
    const BLOCK: usize = 16 << 20;

    /// Returns true in a process of its own, whose allocator is set by nothing else; elsewhere runs the test `name` there.
    fn in_child(name: &str) -> bool {
        if std::env::var_os(CHILD).is_some() {
            return true;
        }
        let mut child = Command::new(std::env::current_exe().unwrap());
        for variable in ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_ARENA_MAX"] {
            child.env_remove(variable);
        }
        child.env_remove("GLIBC_TUNABLES").env(CHILD, "1");
        assert!(child.args(["--exact", name, "--nocapture"]).status().unwrap().success());
        false
    }

    /// Returns the resident size in bytes, without pages of files: code comes as it is run.
    fn resident() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    /// Allocates `bytes`, writes to each page and frees them.
    fn fill_and_free(bytes: usize) {
        // SAFETY: the block has `bytes`, is written within them, and is freed once.
        unsafe {
            let block = libc::malloc(bytes).cast::<u8>();
            assert!(!block.is_null());
            (0..bytes).step_by(1024).for_each(|place| block.add(place).write_volatile(1));
            libc::free(block.cast());
        }
    }

    #[test]
    fn weights_go_back_when_they_are_freed() {
        if !in_child("host::memory::tests::weights_go_back_when_they_are_freed") {
            return;
        }
        keep_freed_memory();
        let before = resident();
        let weights = MappedWeights::begin();
        drop(MappedWeights::begin());
        fill_and_free(BLOCK);
        assert!(resident().saturating_sub(before) < BLOCK / 10);
        drop(weights);
        fill_and_free(BLOCK);
        assert!(resident().saturating_sub(before) > BLOCK / 10 * 9, "what runs free is kept");
    }

    #[test]
    fn a_trim_reaches_the_arenas_of_threads_that_go_on() {
        if !in_child("host::memory::tests::a_trim_reaches_the_arenas_of_threads_that_go_on") {
            return;
        }
        keep_freed_memory();
        // Half of the arenas: the others are yet to be made when they are trimmed.
        let filled = usize::try_from(arenas()).unwrap() / 2;
        let (full, trimmed) = (Barrier::new(filled + 1), Barrier::new(filled + 1));
        let before = resident();
        let [kept, left] = std::thread::scope(|threads| {
            for _ in 0..filled {
                threads.spawn(|| {
                    fill_and_free(BLOCK);
                    full.wait();
                    trimmed.wait();
                });
            }
            full.wait();
            let kept = resident().saturating_sub(before);
            trim();
            let left = resident().saturating_sub(before);
            trimmed.wait();
            [kept, left]
        });
        assert!(kept > filled * BLOCK / 10 * 9, "{kept} bytes kept for the next run");
        assert!(left < filled * BLOCK / 10, "{left} of {kept} bytes left");
    }
}
