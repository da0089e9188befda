//! Returns memory to the system.
//!
//! Relocating TensorFlow's libraries when they are opened reads their symbol and relocation tables once and faults in
//! the pages around them: about 285 MB of clean, file-backed pages. They are dropped from this process (not from the
//! page cache); a minor fault brings back those whose code or data is really used.

#![allow(unsafe_code)]

use super::libraries;
use crate::memory::{leave_behind, take_left_behind};
use std::ffi::{c_int, c_void};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Drops the clean pages of the library at `library` and of its neighbours in the same folder.
pub(crate) fn drop_relocation_pages(library: &Path) {
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

/// Fixes the C library's allocator thresholds so that memory is returned, unless the environment sets them. Call before
/// TensorFlow allocates.
///
/// By default the C library raises both when the first large block is freed, and then leaves up to 64 MB free at the
/// end of each thread's arena, which [`trim`] does not reach. Measured with MobileNetV2 after batches of 16 photos:
/// 285 MB resident after unloading, 180 MB with these thresholds, at the same CPU time.
pub(crate) fn keep_thresholds() {
    #[cfg(target_env = "gnu")]
    {
        /// Largest block taken from an arena, in bytes: memory that every run needs should not be mapped each time.
        const MAPPED_FROM: c_int = 32 << 20;
        /// Most memory left free at the end of an arena, in bytes.
        const LEFT_FREE: c_int = 8 << 20;
        let settings = [
            ("MALLOC_MMAP_THRESHOLD_", libc::M_MMAP_THRESHOLD, MAPPED_FROM),
            ("MALLOC_TRIM_THRESHOLD_", libc::M_TRIM_THRESHOLD, LEFT_FREE),
        ];
        let set = |name: &str| std::env::var_os(name).is_some();
        for (variable, setting, bytes) in settings {
            if !set(variable) && !set("GLIBC_TUNABLES") {
                // SAFETY: any value may be given; a refused one changes nothing.
                unsafe { libc::mallopt(setting, bytes) };
            }
        }
    }
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
    // SAFETY: has no precondition; takes the allocator's own locks.
    unsafe {
        libc::malloc_trim(0);
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
