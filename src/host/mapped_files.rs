//! Puts memory in the place of files that a library has mapped: one that is cut while it is mapped would end the process.

#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

/// Where files are mapped.
pub(crate) struct Mapped(BTreeSet<usize>);

impl Mapped {
    /// Returns where `files`, given by canonical paths, are mapped now.
    pub(crate) fn now(files: &BTreeSet<PathBuf>) -> Mapped {
        #[cfg(target_os = "linux")]
        if !files.is_empty() {
            let maps = std::fs::read("/proc/self/maps").unwrap_or_default();
            return Mapped(areas(&maps, files).map(|area| area.start).collect());
        }
        let _none_is_known = files;
        Mapped(BTreeSet::new())
    }
}

/// Puts a copy in the place of every private mapping of one of `files` that was not there `before`; returns how many bytes
/// these are. Fails if a file is cut meanwhile. Where the system does not tell of mappings, they stay as they are.
///
/// # Safety
/// Until this returns, no other thread may unmap one of those, and nothing may write to one.
#[cfg(target_os = "linux")]
pub(crate) unsafe fn replace(files: &BTreeSet<PathBuf>, before: &Mapped) -> io::Result<usize> {
    use super::mapping::Mapping;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    if files.is_empty() {
        return Ok(0);
    }
    let (Ok(maps), Ok(memory)) = (std::fs::read("/proc/self/maps"), File::open("/proc/self/mem")) else {
        return Ok(0);
    };
    let mut bytes = 0;
    for area in areas(&maps, files).filter(|area| area.is_private && !before.0.contains(&area.start)) {
        let length = area.end - area.start;
        let mut copy = Mapping::zeroed(length, 0)?;
        // Unlike a look at it, this is an error where the file has no such page any more.
        memory.read_exact_at(&mut copy, area.start as u64)?;
        // SAFETY: the area has the same content, and the caller sees to it that it is still there.
        unsafe { copy.take_place_of(area.start)? };
        bytes += length;
    }
    Ok(bytes)
}

/// Leaves the mappings as they are.
///
/// # Safety
/// None is needed.
#[cfg(not(target_os = "linux"))]
pub(crate) unsafe fn replace(_: &BTreeSet<PathBuf>, _: &Mapped) -> io::Result<usize> {
    Ok(0)
}

/// Returns the areas of `files` in `maps`, which is `/proc/self/maps`.
#[cfg(target_os = "linux")]
fn areas<'a>(maps: &'a [u8], files: &'a BTreeSet<PathBuf>) -> impl Iterator<Item = Area<'a>> {
    let all = maps.split(|byte| *byte == b'\n').filter_map(Area::read);
    all.filter(|area| files.contains(area.path))
}

/// A line of `/proc/self/maps` that names a path.
#[cfg(target_os = "linux")]
struct Area<'a> {
    start: usize,
    end: usize,
    is_private: bool,
    path: &'a std::path::Path,
}

#[cfg(target_os = "linux")]
impl Area<'_> {
    /// Reads `line`, such as `7f4e52000000-7f4e53000000 rw-p 00000000 fe:00 711   /models/w.bin`.
    fn read(line: &[u8]) -> Option<Area<'_>> {
        use std::os::unix::ffi::OsStrExt;

        let mut fields = line.splitn(6, |byte| *byte == b' ');
        let (start, end) = std::str::from_utf8(fields.next()?).ok()?.split_once('-')?;
        let is_private = fields.next()?.get(3) == Some(&b'p');
        // Behind offset, device and inode.
        let path = fields.nth(3)?.trim_ascii_start();
        let path = std::path::Path::new(std::ffi::OsStr::from_bytes(path));
        let number = |text| usize::from_str_radix(text, 16).ok();
        let (start, end) = (number(start)?, number(end)?);
        (path.is_absolute() && start < end).then_some(Area { start, end, is_private, path })
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::path::Path;

    #[test]
    fn lines_with_a_path_are_read() {
        let line = b"7f00-8000 rw-p 00001000 fe:00 711                    /a b/w.bin";
        let area = Area::read(line).unwrap();
        assert_eq!((area.start, area.end, area.is_private), (0x7f00, 0x8000, true));
        assert_eq!(area.path, Path::new("/a b/w.bin"));
        assert!(!Area::read(b"1-2 r--s 0 fe:00 7 /x").unwrap().is_private);
        for other in [
            "",
            "1-2 rw-p 0 00:00 0",
            "1-2 rw-p 0 00:00 0     [heap]",
            "x-2 rw-p 0 0 0 /x",
            "2-1 rw-p 0 0 0 /x",
        ] {
            assert!(Area::read(other.as_bytes()).is_none(), "{other}");
        }
    }

    #[test]
    fn a_file_that_is_cut_later_leaves_the_copy_whole() {
        const PAGE: usize = 4096;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("w.bin");
        let content: Vec<u8> = (0..5 * PAGE + 7).map(|place| (place / 3 % 251) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at a place that the system chooses.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), content.len(), access, libc::MAP_PRIVATE, file.as_raw_fd(), 0)
        };
        assert_ne!(start, libc::MAP_FAILED);
        let (other, files) = (BTreeSet::from([folder.path().join("other")]), BTreeSet::from([path]));
        for (files, before) in [(&other, Mapped(BTreeSet::new())), (&files, Mapped::now(&files))] {
            // SAFETY: the mapping is this test's, which only reads it.
            assert_eq!(unsafe { replace(files, &before) }.unwrap(), 0);
        }
        // SAFETY: as above.
        assert_eq!(unsafe { replace(&files, &Mapped(BTreeSet::new())) }.unwrap(), 6 * PAGE);
        file.set_len(0).unwrap();
        // SAFETY: it has this length, and is unmapped below.
        let copy = unsafe { std::slice::from_raw_parts(start.cast::<u8>(), content.len()) };
        assert!(copy == content);
        // SAFETY: nothing refers to it any more.
        assert_eq!(unsafe { libc::munmap(start, content.len()) }, 0);
    }

    #[test]
    fn a_file_that_was_cut_before_is_an_error() {
        const PAGE: usize = 4096;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("w.bin");
        std::fs::write(&path, vec![1; 3 * PAGE]).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        // SAFETY: a new mapping at a place that the system chooses.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                3 * PAGE,
                libc::PROT_READ,
                libc::MAP_PRIVATE,
                file.as_raw_fd(),
                0,
            )
        };
        assert_ne!(start, libc::MAP_FAILED);
        file.set_len(PAGE as u64).unwrap();
        // SAFETY: the mapping is this test's, which does not touch it.
        assert!(unsafe { replace(&BTreeSet::from([path]), &Mapped(BTreeSet::new())) }.is_err());
        // SAFETY: nothing refers to it.
        assert_eq!(unsafe { libc::munmap(start, 3 * PAGE) }, 0);
    }
}
