//! Mappings of files that others may cut at any time, to be read where they are.
//!
//! Whoever touches a mapped page that its file no longer has gets a signal (SIGBUS), which ends the process. Here the system
//! puts zeros in the place of what is gone, and the mapping knows that it was cut: who has read it asks that afterwards.
//! It is the way of display servers, to which clients lend memory as well (libwayland, `wl_shm`).

#![allow(unsafe_code)]

use bytes::Bytes;
use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::ptr::null_mut;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, OnceLock};

/// Most mappings at once.
const MOST: usize = 256;

/// The mappings, for whoever gets the signal: it may wait for nothing, and allocate nothing.
static PLACES: [Place; MOST] = [const { Place::free() }; MOST];

/// What the signal did before; `Err` if it could not be taken.
static BEFORE: OnceLock<io::Result<libc::sigaction>> = OnceLock::new();

/// Where a mapping is.
#[derive(Debug)]
struct Place {
    is_taken: AtomicBool,
    /// Counts what becomes of it: who reads the bounds below has to see the same number before and after.
    turn: AtomicUsize,
    /// 0 while nothing is mapped.
    start: AtomicUsize,
    end: AtomicUsize,
    is_cut: AtomicBool,
}

impl Place {
    const fn free() -> Place {
        Place {
            is_taken: AtomicBool::new(false),
            turn: AtomicUsize::new(0),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            is_cut: AtomicBool::new(false),
        }
    }

    /// Takes down what is mapped here.
    fn is_of(&self, mapped: Range<usize>) {
        self.is_cut.store(false, Relaxed);
        self.turn.fetch_add(1, SeqCst);
        self.end.store(mapped.end, SeqCst);
        self.start.store(mapped.start, SeqCst);
    }

    /// Returns what is mapped here: `None` if nothing is, or it changes just now.
    fn mapped(&self) -> Option<Range<usize>> {
        let turn = self.turn.load(SeqCst);
        let mapped = self.start.load(SeqCst)..self.end.load(SeqCst);
        (mapped.start != 0 && self.turn.load(SeqCst) == turn).then_some(mapped)
    }
}

/// A part of a file, mapped as long as this lives. Others may write it meanwhile, and cut the file.
#[derive(Debug)]
pub(crate) struct SharedMapping {
    place: &'static Place,
    start: usize,
    mapped: usize,
    /// Where the part begins, after `start`.
    before: usize,
}

impl SharedMapping {
    /// Maps `length` bytes of `file`, from `offset` on. Fails if there are too many already.
    pub(crate) fn of(file: &File, offset: u64, length: usize) -> io::Result<SharedMapping> {
        if BEFORE.get_or_init(take_signal).is_err() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let before = usize::try_from(offset % page() as u64).map_err(io::Error::other)?;
        let mapped = before.checked_add(length).ok_or(io::ErrorKind::OutOfMemory)?;
        let from = libc::off_t::try_from(offset - before as u64).map_err(io::Error::other)?;
        let take = |place: &&Place| place.is_taken.compare_exchange(false, true, Acquire, Relaxed).is_ok();
        let place = PLACES.iter().find(take).ok_or(io::ErrorKind::OutOfMemory)?;
        let descriptor = file.as_raw_fd();
        // SAFETY: a new mapping of an open file, to be read, at a place that the system chooses.
        let start =
            unsafe { libc::mmap(null_mut(), mapped, libc::PROT_READ, libc::MAP_SHARED, descriptor, from) };
        if start == libc::MAP_FAILED {
            let why = io::Error::last_os_error();
            place.is_taken.store(false, Release);
            return Err(why);
        }
        let start = start as usize;
        place.is_of(start..start + mapped);
        Ok(SharedMapping { place, start, mapped, before })
    }

    /// Returns whether something was read that the file no longer had: zeros took its place, here and from now on.
    pub(crate) fn is_cut(&self) -> bool {
        self.place.is_cut.load(Acquire)
    }

    /// Returns the bytes in `range`, which others may change at any time. For what is right whatever it holds: nothing may
    /// be checked and then relied on.
    ///
    /// # Panics
    /// If there are not so many (a fault of the caller's code).
    pub(crate) fn bytes(self: &Arc<Self>, range: Range<usize>) -> Bytes {
        assert!(range.start <= range.end && self.before + range.end <= self.mapped);
        if range.is_empty() {
            return Bytes::new();
        }
        let (address, length) = (self.start + self.before + range.start, range.len());
        Bytes::from_owner(Part { address, length, _mapping: self.clone() })
    }
}

impl Drop for SharedMapping {
    fn drop(&mut self) {
        self.place.is_of(0..0);
        // SAFETY: mapped by `of` with this length, and unmapped once; nothing refers to it any more.
        unsafe { libc::munmap(self.start as *mut c_void, self.mapped) };
        self.place.is_taken.store(false, Release);
    }
}

/// Some bytes of a mapping.
struct Part {
    address: usize,
    length: usize,
    _mapping: Arc<SharedMapping>,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: so many bytes are mapped there as long as the mapping is held, and always hold some value. That others write
        // them is taken on trust, as in `lent`: by the contract of `bytes`, whatever is read is right.
        unsafe { std::slice::from_raw_parts(self.address as *const u8, self.length) }
    }
}

/// Returns the bytes of a page.
fn page() -> usize {
    // SAFETY: has no precondition.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).unwrap_or(4096)
}

/// Takes the signal, and returns what it did before.
fn take_signal() -> io::Result<libc::sigaction> {
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_bus_error;
    // SAFETY: all zeros are a valid `sigaction`.
    let [mut own, mut before]: [libc::sigaction; 2] = unsafe { std::mem::zeroed() };
    own.sa_sigaction = handler as usize;
    own.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: both are live, and the handler does only what may be done in one.
    let taken = unsafe {
        libc::sigemptyset(&raw mut own.sa_mask);
        libc::sigaction(libc::SIGBUS, &raw const own, &raw mut before)
    };
    if taken == 0 { Ok(before) } else { Err(io::Error::last_os_error()) }
}

/// Puts zeros where a mapping has no file any more. Any other signal gets what it got before.
extern "C" fn on_bus_error(signal: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: the system gives a handler with SA_SIGINFO what it says of the signal, and for SIGBUS an address.
    let address = unsafe { (*info).si_addr() } as usize;
    for place in &PLACES {
        let Some(end) = place.mapped().filter(|mapped| mapped.contains(&address)).map(|mapped| mapped.end)
        else {
            continue;
        };
        // Before anybody can read a zero.
        place.is_cut.store(true, Release);
        let first = address & !(page() - 1);
        // The size is a client's, who may have said a terabyte: pages that nobody writes take no memory, nor is any set aside.
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
        // SAFETY: the pages from `first` to `end` are this mapping's, which is there as long as somebody reads it, as now.
        let zeros = unsafe { libc::mmap(first as *mut c_void, end - first, libc::PROT_READ, kind, -1, 0) };
        if zeros != libc::MAP_FAILED {
            return;
        }
    }
    // Whoever comes here tries again, and then gets what there was before.
    if let Some(Ok(before)) = BEFORE.get() {
        // SAFETY: it is what the system has returned for this signal.
        unsafe { libc::sigaction(signal, before, null_mut()) };
    } else {
        // SAFETY: has no precondition; the default ends the process.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    #[test]
    fn a_part_of_a_file_is_seen_as_it_changes() {
        use std::os::unix::fs::FileExt;
        let file = file(&[7; 20_000]);
        let mapping = Arc::new(SharedMapping::of(&file, 5_000, 10_000).unwrap());
        let some = mapping.bytes(100..200);
        assert_eq!(some, [7; 100][..]);
        file.write_all_at(&[1, 2], 5_100).unwrap();
        assert_eq!(some[..3], [1, 2, 7]);
        assert!(mapping.bytes(10_000..10_000).is_empty() && !mapping.is_cut());
        drop(mapping);
        assert_eq!(some[..3], [1, 2, 7], "it is held");
    }

    #[test]
    fn what_is_cut_is_read_as_zeros_and_known() {
        let file = file(&[7; 40_000]);
        let [one, other] = [(); 2].map(|()| Arc::new(SharedMapping::of(&file, 0, 40_000).unwrap()));
        let bytes = one.bytes(0..40_000);
        file.set_len(4096).unwrap();
        assert_eq!((bytes[0], bytes[39_999], bytes[20_000]), (7, 0, 0));
        assert!(one.is_cut() && !other.is_cut(), "nobody has touched the other");
        file.set_len(40_000).unwrap();
        drop((one, bytes));
        let again = Arc::new(SharedMapping::of(&file, 0, 40_000).unwrap());
        assert!(!again.is_cut(), "a place is used again");
    }

    #[test]
    fn a_file_of_any_size_may_be_cut() {
        let file = file(&[7; 100]);
        // Far more than the machine has.
        file.set_len(1 << 40).unwrap();
        let mapping = Arc::new(SharedMapping::of(&file, 0, 1 << 40).unwrap());
        file.set_len(0).unwrap();
        assert_eq!((mapping.bytes(0..10)[9], mapping.is_cut()), (0, true));
    }

    #[test]
    fn threads_that_touch_it_at_once_go_on() {
        let file = file(&[7; 1 << 20]);
        let mapping = Arc::new(SharedMapping::of(&file, 0, 1 << 20).unwrap());
        let bytes = mapping.bytes(0..1 << 20);
        file.set_len(0).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert_eq!(bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>(), 0));
            }
        });
        assert!(mapping.is_cut());
    }

    #[test]
    fn places_are_used_again() {
        let file = file(&[7; 100]);
        for _ in 0..2 * MOST {
            assert!(SharedMapping::of(&file, 0, 100).is_ok());
        }
        assert!(SharedMapping::of(&file, u64::MAX, 100).is_err());
    }
}
