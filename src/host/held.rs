//! How much memory the process holds, as exactly as the system tells: what is allocated, not what is kept for later.

#![allow(unsafe_code)]

/// Returns the bytes that are allocated from the C library, with those of blocks that it has mapped. What it keeps of freed
/// blocks is not counted, so that the difference between two moments is what was allocated meanwhile and is still there.
/// Engines allocate there; Rust's own allocator has a heap of its own, which is small. Where the C library does not tell,
/// the anonymous memory in RAM; `None` where nobody does.
pub(crate) fn allocated() -> Option<u64> {
    in_c_library().or_else(anonymous)
}

/// Asks the C library; its function is looked up, as libraries before 2.33 have none.
#[cfg(target_env = "gnu")]
fn in_c_library() -> Option<u64> {
    use libloading::os::unix::{Library, Symbol};
    let process = Library::this();
    // SAFETY: the C library's function of this name has this type (mallinfo(3)), and stays loaded.
    let told = unsafe {
        let tell: Symbol<unsafe extern "C" fn() -> libc::mallinfo2> = process.get(b"mallinfo2\0").ok()?;
        tell()
    };
    let bytes = told.uordblks.checked_add(told.hblkhd)? as u64;
    // Another allocator is in its place.
    (bytes > 0).then_some(bytes)
}

#[cfg(not(target_env = "gnu"))]
fn in_c_library() -> Option<u64> {
    None
}

/// Returns the memory in RAM that is no file's (proc(5)).
fn anonymous() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// A block of the C library's, where engines allocate.
#[cfg(test)]
pub(crate) struct Block(*mut std::ffi::c_void);

#[cfg(test)]
impl Block {
    pub(crate) fn of(bytes: usize) -> Block {
        // SAFETY: has no precondition.
        let block = unsafe { libc::calloc(bytes, 1) };
        assert!(!block.is_null());
        Block(block)
    }
}

// SAFETY: it is freed in whatever thread drops it, which the C library allows.
#[cfg(test)]
unsafe impl Send for Block {}

#[cfg(test)]
impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: it was allocated, and is freed once.
        unsafe { libc::free(self.0) };
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_env = "gnu")]
    fn what_is_allocated_is_told_and_what_is_freed_is_not() {
        const SIZE: usize = 256 << 20;
        let Some(before) = in_c_library() else { return };
        let block = Block::of(SIZE);
        let with = in_c_library().unwrap();
        drop(block);
        let after = in_c_library().unwrap();
        // Other tests allocate meanwhile, though not as much.
        assert!(with > before + SIZE as u64 / 2, "{before} → {with}");
        assert!(after < with - SIZE as u64 / 2, "{with} → {after}");
    }

    #[test]
    fn the_system_tells_as_well() {
        assert!(anonymous().unwrap() > 0 && allocated().unwrap() > 0);
    }
}
