//! Where the log is written: to standard error, or to where that led before it was taken over (`stderr_pipe.rs`). And
//! standard output, for what is written there.

use std::ffi::c_int;
use std::fs::File;
use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};

/// The descriptor that the log is written to.
pub(super) static LOG: AtomicI32 = AtomicI32::new(libc::STDERR_FILENO);

/// Returns what the log is written to.
pub(crate) fn writer() -> impl Write {
    Unbuffered(LOG.load(SeqCst))
}

/// Returns standard output, without a buffer.
pub(crate) fn stdout() -> impl Write {
    Unbuffered(libc::STDOUT_FILENO)
}

struct Unbuffered(c_int);

impl Write for Unbuffered {
    #[allow(unsafe_code)]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // SAFETY: the descriptor is open for as long as the process lives, and not closed here.
        let mut file = ManuallyDrop::new(unsafe { File::from_raw_fd(self.0) });
        file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
