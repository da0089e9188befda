//! Access to a model's files: only regular ones are read. Opening a pipe or a socket would wait for its other end.

use std::collections::BTreeMap;
use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Limits on the search through a model's folders: depth, and number of entries.
const DEEPEST: usize = 8;
const MOST: usize = 100_000;

/// Opens the regular file at `path`. Anything else is an immediate error.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    match wrong_kind(&file.metadata()?) {
        None => Ok(file),
        Some(kind) => Err(io::Error::new(ErrorKind::InvalidInput, refusal(kind))),
    }
}

/// Returns the path of the first entry below `folder` that is not a readable kind of file, with the reason.
pub(crate) fn first_unreadable(folder: &Path) -> Option<(PathBuf, String)> {
    let mut ahead = vec![(folder.to_owned(), 0)];
    let mut seen = 0;
    while let Some((folder, depth)) = ahead.pop() {
        // Folders that cannot be listed are left for the reader to report.
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            seen += 1;
            let Some(found) = std::fs::metadata(entry.path()).ok().filter(|_| seen <= MOST) else { continue };
            if found.is_dir() {
                if depth < DEEPEST {
                    ahead.push((entry.path(), depth + 1));
                }
            } else if let Some(kind) = wrong_kind(&found) {
                return Some((entry.path(), refusal(kind)));
            }
        }
    }
    None
}

/// The files of a model: the path of each, with size, time of change, and number.
pub(crate) type Listed = BTreeMap<PathBuf, (u64, Option<SystemTime>, u64)>;

/// Lists the files below `folder`, without those that serving may add (`assets.extra`).
pub(crate) fn list(folder: &Path) -> io::Result<Listed> {
    let (mut listed, mut ahead) = (Listed::new(), vec![(folder.to_owned(), 0)]);
    while let Some((folder, depth)) = ahead.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let found = std::fs::metadata(&path)?;
            if listed.len() > MOST || depth > DEEPEST {
                return Err(io::Error::other("there are too many files"));
            }
            if !found.is_dir() {
                listed.insert(path, (found.len(), found.modified().ok(), found.ino()));
            } else if !path.ends_with("assets.extra") {
                ahead.push((path, depth + 1));
            }
        }
    }
    Ok(listed)
}

/// Returns the bytes of the file at `path`, or of all files in that folder and below; what cannot be read counts as none.
pub(crate) fn size(path: &Path) -> u64 {
    let (mut ahead, mut bytes) = (vec![(path.to_owned(), 0)], 0);
    let mut seen = 0;
    while let Some((path, depth)) = ahead.pop() {
        seen += 1;
        match std::fs::metadata(&path) {
            Ok(found) if found.is_dir() && depth <= DEEPEST && seen <= MOST => {
                let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
                ahead.extend(entries.map(|entry| (entry.path(), depth + 1)));
            }
            Ok(found) if found.is_file() => bytes += found.len(),
            _ => {}
        }
    }
    bytes
}

fn refusal(kind: &str) -> String {
    format!("it is {kind}, and a file was expected: remove it, or put a file in its place")
}

/// Returns the kind of `found` unless it is a regular file.
fn wrong_kind(found: &Metadata) -> Option<&'static str> {
    let is: FileType = found.file_type();
    Some(match () {
        () if is.is_file() => return None,
        () if is.is_dir() => "a folder",
        () if is.is_fifo() => "a pipe",
        () if is.is_socket() => "a socket",
        () => "a device",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixListener;

    #[test]
    fn files_are_read_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "content").unwrap();
        let mut text = String::new();
        open(&file).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "content");
        assert_eq!(first_unreadable(folder.path()), None);

        assert!(open(folder.path()).unwrap_err().to_string().starts_with("it is a folder"));
        assert!(open(Path::new("/dev/null")).unwrap_err().to_string().starts_with("it is a device"));
        assert_eq!(open(&folder.path().join("none")).unwrap_err().kind(), ErrorKind::NotFound);

        let inner = folder.path().join("a").join("b");
        std::fs::create_dir_all(&inner).unwrap();
        let _socket = UnixListener::bind(inner.join("socket")).unwrap();
        let (path, why) = first_unreadable(folder.path()).unwrap();
        assert_eq!(path, inner.join("socket"));
        assert!(why.starts_with("it is a socket"));
    }

    #[test]
    fn a_pipe_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        assert!(open(&pipe).unwrap_err().to_string().starts_with("it is a pipe"));
    }

    #[test]
    fn folders_that_lead_in_a_circle_are_left() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("again")).unwrap();
        assert_eq!(first_unreadable(folder.path()), None);
    }
}
