//! Reads of files into memory that need not be initialised before.

#![allow(unsafe_code)]

use aligned_vec::{AVec, ConstAlign};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;

/// Appends `bytes` bytes of `file`, from `offset` on, to `buffer`. Fails with [`ErrorKind::UnexpectedEof`] if the file ends
/// before: whoever shares it may shorten it at any time, which a mapping of it would not survive.
pub(crate) fn append(
    file: &File,
    offset: u64,
    bytes: usize,
    buffer: &mut AVec<u8, ConstAlign<64>>,
) -> io::Result<()> {
    buffer.reserve_exact(bytes);
    let end = buffer.len() + bytes;
    let mut at = offset;
    while buffer.len() < end {
        let from = libc::off_t::try_from(at).map_err(|_| io::Error::from(ErrorKind::UnexpectedEof))?;
        let missing = end - buffer.len();
        // SAFETY: the vector has room for `missing` bytes behind its elements, which `pread` may write, and no others. The
        // descriptor stays open as long as `file`.
        let read = unsafe {
            let room = buffer.as_mut_ptr().add(buffer.len());
            libc::pread(file.as_raw_fd(), room.cast(), missing, from)
        };
        match usize::try_from(read) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            // SAFETY: `pread` has written `read` bytes, at most `missing`, behind the elements.
            Ok(read) => unsafe { buffer.set_len(buffer.len() + read) },
            Err(_) => match io::Error::last_os_error() {
                why if why.kind() == ErrorKind::Interrupted => continue,
                why => return Err(why),
            },
        }
        at = offset + (bytes - (end - buffer.len())) as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_is_read_follows_what_is_there() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let mut buffer = AVec::new(64);
        append(&file, 3, 4, &mut buffer).unwrap();
        append(&file, 0, 2, &mut buffer).unwrap();
        append(&file, 10, 0, &mut buffer).unwrap();
        assert_eq!(&buffer[..], b"345601");
        for (offset, bytes) in [(7, 4), (10, 1), (u64::MAX, 1), (i64::MAX as u64, 1)] {
            assert!(append(&file, offset, bytes, &mut AVec::new(64)).is_err(), "{offset} {bytes}");
        }
        file.set_len(5).unwrap();
        let ended = append(&file, 3, 4, &mut AVec::new(64)).unwrap_err();
        assert_eq!(ended.kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn much_is_read_in_one_piece() {
        let mut file = tempfile::tempfile().unwrap();
        let all: Vec<u8> = (0..3_000_000u32).map(|index| index.to_le_bytes()[1]).collect();
        file.write_all(&all).unwrap();
        let mut buffer = AVec::new(64);
        append(&file, 1, all.len() - 1, &mut buffer).unwrap();
        assert_eq!(&buffer[..], &all[1..]);
        assert_eq!(buffer.as_ptr() as usize % 64, 0);
    }
}
