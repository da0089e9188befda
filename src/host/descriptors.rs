//! Descriptors that come from elsewhere, by their numbers.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Returns a duplicate of the descriptor `number` that is closed on exec; an error if none is open.
#[allow(unsafe_code)]
pub(crate) fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: only numbers are passed; one that is not open is an error.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it has just been made, so that nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}
