//! Makes TensorFlow read files in pieces, so that other threads can use the core in between.
//!
//! TensorFlow restores a variable with a single `pread`, however large. A kernel without preemption (`PREEMPT_NONE`, as
//! on most servers) runs no other thread on the core until it has copied a whole folio of the page cache, which may be
//! many megabytes, and no priority helps. Measured on a slow machine while a 500 MB model of 10 MB variables was
//! repeatedly loaded and unloaded: p99 of a small request 9.5 ms with whole reads, 1 ms with pieces, as without loads.
//!
//! Therefore `pread` in TensorFlow's table of imported functions (ELF's procedure linkage table) is replaced by
//! [`read_in_pieces`]. A library without such a table, or with a read-only one, is left unchanged.

#![allow(unsafe_code)]

use crate::host::libraries::{self, Loaded};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::Path;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

/// Largest single read, in bytes: 60 us on the slow machine above, and the kernel's usual read-ahead.
const PIECE: usize = 64 << 10;

/// The functions to replace; on systems with 64-bit offsets, both are the same.
const READS: [&CStr; 2] = [c"pread", c"pread64"];

/// An entry of `PT_DYNAMIC`; like [`Relocation`], as in the System V ABI, "Dynamic Linking".
#[repr(C)]
struct Entry {
    tag: i64,
    value: u64,
}

/// A relocation with an addend, which jump slots do not use.
#[repr(C)]
struct Relocation {
    offset: u64,
    info: u64,
    addend: i64,
}

/// Makes `library` and the open libraries in its folder read in pieces. Returns the number of functions replaced.
pub(super) fn in_pieces(library: &Path) -> usize {
    let mut replaced = 0;
    libraries::beside(library, &mut |loaded| replaced += replace(loaded));
    replaced
}

/// Replaces the reads of one library; returns how many.
fn replace(loaded: &Loaded<'_>) -> usize {
    let Some(table) = jump_slots(loaded) else { return 0 };
    let reads = table.filter(|(name, slot)| READS.contains(name) && is_writable(loaded, *slot));
    reads
        .map(|(_, slot)| {
            // SAFETY: the slot is an aligned pointer in a writable segment of a library that stays open. A concurrent
            // call through it reaches either function, and both do the same.
            let slot = unsafe { AtomicPtr::from_ptr(slot as *mut *mut c_void) };
            slot.store(read_in_pieces as *const () as *mut c_void, Relaxed);
        })
        .count()
}

/// Lists name and slot of every function that a library calls through its table.
fn jump_slots<'a>(loaded: &'a Loaded<'_>) -> Option<impl Iterator<Item = (&'a CStr, usize)> + 'a> {
    const DT_PLTRELSZ: i64 = 2;
    const DT_STRTAB: i64 = 5;
    const DT_SYMTAB: i64 = 6;
    const DT_RELA: u64 = 7;
    const DT_PLTREL: i64 = 20;
    const DT_JMPREL: i64 = 23;
    let dynamic = dynamic(loaded)?;
    let value = |tag| dynamic.iter().find(|entry| entry.tag == tag).map(|entry| entry.value);
    if value(DT_PLTREL)? != DT_RELA {
        return None;
    }
    let names = loaded.relocated(value(DT_STRTAB)?) as *const c_char;
    let symbols = loaded.relocated(value(DT_SYMTAB)?) as *const libc::Elf64_Sym;
    let first = loaded.relocated(value(DT_JMPREL)?) as *const Relocation;
    let count = usize::try_from(value(DT_PLTRELSZ)?).ok()? / size_of::<Relocation>();
    // SAFETY: the loader has used this very table; it stays valid while the library is open.
    let relocations = unsafe { std::slice::from_raw_parts(first, count) };
    Some(relocations.iter().map(move |relocation| {
        // SAFETY: the upper half of a relocation's info is the index of its symbol in the symbol table, which is in
        // memory, and the symbol's name is a C string in the string table.
        let name = unsafe {
            let symbol = &*symbols.add((relocation.info >> 32) as usize);
            CStr::from_ptr(names.add(symbol.st_name as usize))
        };
        (name, loaded.address(relocation.offset))
    }))
}

fn dynamic<'a>(loaded: &'a Loaded<'_>) -> Option<&'a [Entry]> {
    let (start, bytes, _) = loaded.segments(libc::PT_DYNAMIC).next()?;
    // SAFETY: the loader keeps this segment in memory and aligned; it consists of such entries.
    Some(unsafe { std::slice::from_raw_parts(start as *const Entry, bytes / size_of::<Entry>()) })
}

/// Returns whether the pointer at `slot` lies in writable memory that was not made read-only after relocation.
fn is_writable(loaded: &Loaded<'_>, slot: usize) -> bool {
    let inside = |(start, bytes, _): &(usize, usize, u32)| (*start..start + bytes).contains(&slot);
    slot.is_multiple_of(align_of::<usize>())
        && loaded.segments(libc::PT_LOAD).any(|it| inside(&it) && it.2 & libc::PF_W != 0)
        && !loaded.segments(libc::PT_GNU_RELRO).any(|it| inside(&it))
}

/// Does what `pread` does, one piece at a time; returns fewer bytes at the end of the file, or if an error follows the
/// first bytes.
///
/// # Safety
/// As for `pread`: `buffer` has room for `count` bytes.
unsafe extern "C" fn read_in_pieces(
    file: c_int,
    buffer: *mut c_void,
    count: usize,
    offset: libc::off_t,
) -> libc::ssize_t {
    let mut done: usize = 0;
    loop {
        let piece = PIECE.min(count - done);
        let from = offset.wrapping_add(done.cast_signed() as libc::off_t);
        // SAFETY: guaranteed by the caller; `done` never exceeds `count`.
        let read = unsafe { libc::pread(file, buffer.byte_add(done), piece, from) };
        match usize::try_from(read) {
            Err(_) if done == 0 => return read,
            Err(_) => return done.cast_signed(),
            Ok(read) => done += read,
        }
        if done == count || read.cast_unsigned() < piece {
            return done.cast_signed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsRawFd;

    /// Returns the result of `read_in_pieces`, and the buffer.
    fn read(file: c_int, count: usize, offset: i64) -> (isize, Vec<u8>) {
        let mut buffer = vec![0xAA; count + 8];
        // SAFETY: there is room for more than `count`.
        let read = unsafe { read_in_pieces(file, buffer.as_mut_ptr().cast(), count, offset) };
        (read, buffer)
    }

    #[test]
    fn a_read_in_pieces_is_like_a_whole_one() {
        let bytes: Vec<u8> = (0..3 * PIECE + 5).map(|at| (at % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let cases = [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 3 * PIECE + 5, 4 * PIECE];
        for count in cases {
            for offset in [0, 3, PIECE, 3 * PIECE + 4, 3 * PIECE + 5, 5 * PIECE] {
                let expected = &bytes[offset.min(bytes.len())..(offset + count).min(bytes.len())];
                let (read, buffer) = read(file.as_raw_fd(), count, offset.cast_signed() as i64);
                assert_eq!(read.cast_unsigned(), expected.len(), "{count} from {offset}");
                assert_eq!(&buffer[..expected.len()], expected);
                assert!(buffer[expected.len()..].iter().all(|&byte| byte == 0xAA));
            }
        }
    }

    #[test]
    fn an_error_is_the_systems() {
        assert_eq!(read(-1, 10, 0).0, -1);
        assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::EBADF));
        let file = tempfile::tempfile().unwrap();
        assert_eq!(read(file.as_raw_fd(), 10, -1).0, -1);
        assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::EINVAL));
    }
}
