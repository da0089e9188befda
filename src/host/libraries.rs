//! The shared libraries loaded in this process.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_int, c_void};
use std::path::Path;

/// An open library: its base address and segments.
pub(crate) struct Loaded<'a> {
    base: u64,
    segments: &'a [libc::Elf64_Phdr],
}

impl Loaded<'_> {
    /// Lists address, size and flags (`PF_W`, …) of each segment of `kind` (`PT_LOAD`, …).
    pub(crate) fn segments(&self, kind: u32) -> impl Iterator<Item = (usize, usize, u32)> {
        let of_kind = self.segments.iter().filter(move |segment| segment.p_type == kind);
        of_kind.map(|segment| (self.address(segment.p_vaddr), size(segment.p_memsz), segment.p_flags))
    }

    /// Returns the memory address of `offset` in the library's own tables.
    pub(crate) fn address(&self, offset: u64) -> usize {
        size(self.base + offset)
    }

    /// Like [`Self::address`], for a value that the loader may already have turned into an address.
    pub(crate) fn relocated(&self, place: u64) -> usize {
        if place < self.base { self.address(place) } else { size(place) }
    }
}

#[allow(clippy::cast_possible_truncation)] // Addresses and sizes of this machine.
fn size(value: u64) -> usize {
    value as usize
}

/// The argument of [`visit`]: the folder and the callback.
struct Search<'a> {
    folder: &'a [u8],
    each: &'a mut dyn FnMut(&Loaded<'_>),
}

/// Calls `each` with every open library from the folder of `library`. `each` must not panic, and must not open or close
/// a library: the loader's lock is held.
pub(crate) fn beside(library: &Path, each: &mut dyn FnMut(&Loaded<'_>)) {
    let Some(folder) = library.parent() else { return };
    let mut search = Search { folder: folder.as_os_str().as_encoded_bytes(), each };
    // SAFETY: the callback gets the pointer it was registered with, during the call only.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut search).cast()) };
}

unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _size: usize, search: *mut c_void) -> c_int {
    // SAFETY: the loader passes a valid description of one object; `search` is what `beside` gave.
    let (info, search) = unsafe { (&*info, &mut *search.cast::<Search<'_>>()) };
    if info.dlpi_name.is_null() || info.dlpi_phdr.is_null() {
        return 0;
    }
    // SAFETY: the loader's name is a C string that lives as long as the object is open.
    let name = unsafe { CStr::from_ptr(info.dlpi_name) }.to_bytes();
    if name.starts_with(search.folder) {
        // SAFETY: the loader's table has `dlpi_phnum` entries.
        let segments = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
        (search.each)(&Loaded { base: info.dlpi_addr, segments });
    }
    0
}
