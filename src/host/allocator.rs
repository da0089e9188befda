//! The allocator of the extension module: mimalloc, asked for an alignment only where its blocks do not have it anyway.

#![allow(unsafe_code)]

use libmimalloc_sys::{MI_SMALL_SIZE_MAX, mi_malloc, mi_malloc_small, mi_realloc, mi_zalloc};
use mimalloc::MiMalloc;
use std::alloc::{GlobalAlloc, Layout};

/// mimalloc. `MiMalloc` itself names the alignment with every allocation, which takes it two to three times as long.
pub(crate) struct Allocator;

/// Returns whether mimalloc aligns a block of this size so anyway: to 16 bytes (`MI_MAX_ALIGN_SIZE`), or to its size if
/// that is less.
fn is_natural(size: usize, align: usize) -> bool {
    align <= 16 && align <= size
}

// SAFETY: all functions are mimalloc's, which keep the contract; those that name no alignment are called only for
// layouts that need none to be named.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let size = layout.size();
        if !is_natural(size, layout.align()) {
            // SAFETY: the caller keeps the same contract.
            return unsafe { MiMalloc.alloc(layout) };
        }
        // SAFETY: the size is one that the function takes.
        unsafe { if size <= MI_SMALL_SIZE_MAX { mi_malloc_small(size) } else { mi_malloc(size) } }.cast()
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_natural(layout.size(), layout.align()) {
            // SAFETY: has no precondition.
            return unsafe { mi_zalloc(layout.size()) }.cast();
        }
        // SAFETY: the caller keeps the same contract.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the same contract; both ways of allocation make blocks of mimalloc.
        unsafe { MiMalloc.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if is_natural(size, layout.align()) {
            // SAFETY: the block is one of mimalloc, and the caller's own.
            return unsafe { mi_realloc(block.cast(), size) }.cast();
        }
        // SAFETY: the caller keeps the same contract.
        unsafe { MiMalloc.realloc(block, layout, size) }
    }
}
