//! Blocks of memory that are the system's again as soon as they are dropped.
//!
//! For what is as large as a model and lives as long: an allocator keeps what was freed, and where models come and go one
//! after another, that is left for a while ([`super::memory::after_unload`]).

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::{NonNull, null_mut};

/// A block of bytes that begins with a page.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    length: usize,
    mapped: usize,
}

// SAFETY: it is the only owner of plain memory.
unsafe impl Send for Mapping {}
// SAFETY: as above; shared references only read.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Makes a block of `length` zeros; as many as `spare` behind it may be read, too. No file lies behind it: one that is cut while it is mapped would end the process.
    pub(crate) fn zeroed(length: usize, spare: usize) -> io::Result<Mapping> {
        let mapped = length.checked_add(spare).ok_or(io::ErrorKind::OutOfMemory)?;
        if mapped == 0 {
            return Ok(Mapping { start: NonNull::dangling(), length, mapped });
        }
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at a place that the system chooses.
        let start = unsafe { libc::mmap(null_mut(), mapped, access, kind, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mapping { start, length, mapped })
    }

    /// Moves the block to `place`, in one step for all who read there; it is no longer anybody's here.
    ///
    /// # Safety
    /// As many bytes as the block has must be mapped at `place`, which begins a page, and may be replaced by its content.
    #[cfg(target_os = "linux")]
    pub(crate) unsafe fn take_place_of(self, place: usize) -> io::Result<()> {
        let (start, how) = (self.start.as_ptr().cast(), libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED);
        // SAFETY: the block is ours, and the caller says that what it replaces may go.
        let moved = unsafe { libc::mremap(start, self.mapped, self.mapped, how, place as *mut c_void) };
        if moved == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        std::mem::forget(self);
        Ok(())
    }
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the block has this length, all of it is readable and has values, and it lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl DerefMut for Mapping {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; `&mut self` is the only reference to it.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.mapped > 0 {
            // SAFETY: mapped by `zeroed` with this length, unmapped once; nothing refers to it any more.
            unsafe { libc::munmap(self.start.as_ptr().cast::<c_void>(), self.mapped) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_zeroed_aligned_and_writable() {
        for length in [0, 1, 4096, 4097, 1 << 20] {
            let mut block = Mapping::zeroed(length, 128).unwrap();
            assert_eq!((block.len(), block.iter().any(|byte| *byte != 0)), (length, false));
            assert!(length == 0 || (block.as_ptr() as usize).is_multiple_of(4096));
            block.fill(7);
            assert!(block.iter().all(|byte| *byte == 7));
        }
    }

    #[test]
    fn what_the_system_does_not_have_is_an_error() {
        assert!(Mapping::zeroed(usize::MAX / 2, 0).is_err() && Mapping::zeroed(usize::MAX, 1).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn it_goes_back_when_it_is_dropped() {
        const BLOCK: usize = 64 << 20;
        const BLOCKS: usize = 256;
        let mapped = || {
            let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
            pages.split(' ').next().unwrap().parse::<usize>().unwrap() * 4096
        };
        let before = mapped();
        for _ in 0..BLOCKS {
            Mapping::zeroed(BLOCK, 0).unwrap()[BLOCK / 2] = 1;
        }
        // Other tests map some, too.
        assert!(mapped().saturating_sub(before) < BLOCKS / 2 * BLOCK);
    }
}
