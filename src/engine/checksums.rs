//! Checksums beside files that are kept for the next start: what a disk, or the end of a process, has damaged is found
//! before it is used. An engine would crash by it, or answer something else.

use crate::files;
use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The ending of a checksum's name, after that of its file.
const ENDING: &str = "crc32c";

/// What is known of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// It is as it was when its checksum was written.
    Whole,
    /// It is not, or cannot be read.
    Damaged,
    /// It has no checksum: nobody has said that it is complete.
    Unknown,
}

/// Writes the checksum of `file`, which is complete, beside it.
pub(super) fn write(file: &Path) -> std::io::Result<()> {
    std::fs::write(beside(file), of(file)?)
}

/// Compares `file` with its checksum.
pub(super) fn check(file: &Path) -> Condition {
    let Ok(written) = std::fs::read_to_string(beside(file)) else { return Condition::Unknown };
    let is_whole = of(file).is_ok_and(|found| found == written);
    if is_whole { Condition::Whole } else { Condition::Damaged }
}

/// Removes `file` and its checksum.
pub(super) fn remove(file: &Path) -> std::io::Result<()> {
    // The checksum first: without it the file is worth nothing. There may be none.
    let _gone = std::fs::remove_file(beside(file));
    std::fs::remove_file(file)
}

/// Returns the files of `folder` that have a checksum, whether they are there or not.
pub(super) fn named(folder: &Path) -> Vec<PathBuf> {
    let all = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let checksums = all.filter(|path| path.extension() == Some(OsStr::new(ENDING)));
    checksums.map(|path| path.with_extension("")).collect()
}

fn beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".");
    name.push(ENDING);
    name.into()
}

/// Returns the checksum of a file, with its length.
fn of(file: &Path) -> std::io::Result<String> {
    let (mut opened, mut piece) = (files::open(file)?, vec![0; 1 << 20]);
    let (mut length, mut sum) = (0u64, 0);
    loop {
        let read = opened.read(&mut piece)?;
        if read == 0 {
            return Ok(format!("{length} {sum:08x}\n"));
        }
        length += read as u64;
        sum = crc32c::crc32c_append(sum, &piece[..read]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn any_change_of_a_file_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("one.blob");
        assert_eq!(check(&file), Condition::Unknown);
        assert!(write(&file).is_err());
        let content: Vec<u8> = (0..3 << 20).map(|at: u32| at.to_le_bytes()[1]).collect();
        fs::write(&file, &content).unwrap();
        assert_eq!(check(&file), Condition::Unknown, "it may be half of a file");
        write(&file).unwrap();
        assert_eq!((check(&file), named(folder.path())), (Condition::Whole, vec![file.clone()]));
        for place in [0, content.len() / 2, content.len() - 1] {
            let mut flipped = content.clone();
            flipped[place] ^= 1;
            fs::write(&file, &flipped).unwrap();
            assert_eq!(check(&file), Condition::Damaged, "{place}");
        }
        for cut in [&[][..], &content[1..], &content[..content.len() - 1]] {
            fs::write(&file, cut).unwrap();
            assert_eq!(check(&file), Condition::Damaged);
        }
        fs::remove_file(&file).unwrap();
        assert_eq!((check(&file), named(folder.path())), (Condition::Damaged, vec![file.clone()]));
        fs::write(&file, &content).unwrap();
        assert_eq!(check(&file), Condition::Whole);
        fs::write(beside(&file), "").unwrap();
        assert_eq!(check(&file), Condition::Damaged);
        remove(&file).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
