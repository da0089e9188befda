//! Libraries as the loader has them in this process.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_int, c_void};
use std::path::Path;

/// One open library: where it lies in memory, and its segments.
pub(crate) struct Loaded<'a> {
    base: u64,
    segments: &'a [libc::Elf64_Phdr],
}

impl Loaded<'_> {
    /// Address and size of each segment of `kind` (`PT_LOAD`, …), with its flags (`PF_W`, …).
    pub(crate) fn segments(&self, kind: u32) -> impl Iterator<Item = (usize, usize, u32)> {
        let of_kind = self.segments.iter().filter(move |segment| segment.p_type == kind);
        of_kind.map(|segment| (self.address(segment.p_vaddr), size(segment.p_memsz), segment.p_flags))
    }

    /// Where `offset`, as the library's own tables count, lies in memory.
    pub(crate) fn address(&self, offset: u64) -> usize {
        size(self.base + offset)
    }

    /// As [`Self::address`], of what the loader may have made an address already.
    pub(crate) fn relocated(&self, place: u64) -> usize {
        if place < self.base { self.address(place) } else { size(place) }
    }
}

#[allow(clippy::cast_possible_truncation)] // Addresses and sizes of this machine.
fn size(value: u64) -> usize {
    value as usize
}

/// What [`visit`] gets: the folder, and whom to tell.
struct Search<'a> {
    folder: &'a [u8],
    each: &'a mut dyn FnMut(&Loaded<'_>),
}

/// Calls `each` with every open library out of the folder in which `library` lies. `each` must not panic, nor open or
/// close a library: the loader's lock is held.
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
