//! Looking at what has come on a socket.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Copies what has come into `buffer` without taking it; returns how many bytes, 0 at the end of the stream. Waits only on a
/// blocking socket. For Unix sockets: those of TCP have this in the standard library.
pub(crate) fn peek(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the descriptor is open as long as it is borrowed, and the call writes no more than the buffer's length.
    let count =
        unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_PEEK) };
    usize::try_from(count).map_err(|_negative| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn what_is_seen_stays_to_be_read() {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let mut seen = [0; 8];
        let nothing = peek(near.as_fd(), &mut seen).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        far.write_all(b"abc").unwrap();
        for _ in 0..2 {
            assert_eq!(peek(near.as_fd(), &mut seen).unwrap(), 3);
            assert_eq!(&seen[..3], b"abc");
        }
        assert_eq!(near.read(&mut seen).unwrap(), 3);
        drop(far);
        assert_eq!(peek(near.as_fd(), &mut seen).unwrap(), 0);
    }
}
