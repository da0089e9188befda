//! What OpenVINO keeps of compiled graphs, its blobs: read only if they are whole.
//!
//! OpenVINO looks at the head of a blob alone; with a byte flipped behind it, a model answers something else, or ends the
//! process. So each blob gets a checksum once it is complete, and one that does not fit it, or has none, is removed.

use crate::engine::checksums::{self, Condition};
use crate::error::{Error, Kind, Result};
use std::ffi::OsStr;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Name of the file in a folder that is locked while blobs are read or written there.
const LOCK: &str = "blobs.lock";
/// A load waits no longer than this for another one of the same graph. A large model is compiled in less.
const LONGEST: Duration = Duration::from_secs(60);

/// A load's time alone with the blobs of a folder, until it is dropped: another one, of this process or of another that
/// shares the cache, would take a blob that is being written for a damaged one, or for a complete one.
pub(super) struct Alone {
    _lock: Option<File>,
}

impl Alone {
    /// Waits for other loads. Where nothing can be locked, or another load does not end, the blobs are taken as they are.
    pub(super) fn with(folder: &Path) -> Alone {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join(LOCK)).ok();
        Alone { _lock: file.filter(|file| locked(file, LONGEST)) }
    }
}

fn locked(file: &File, longest: Duration) -> bool {
    const PAUSE: Duration = Duration::from_millis(20);
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return true,
            Err(TryLockError::WouldBlock) if begun.elapsed() < longest => std::thread::sleep(PAUSE),
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => return false,
        }
    }
}

/// The blobs that were whole, and when each was written.
pub(super) struct Whole(Vec<(PathBuf, Option<SystemTime>)>);

/// Removes what is not whole from `folder`, and returns the rest.
pub(super) fn only_whole(folder: &Path) -> Result<Whole> {
    let mut whole = Vec::new();
    for blob in blobs(folder) {
        match checksums::check(&blob) {
            Condition::Whole => {
                let written = written(&blob);
                whole.push((blob, written));
                continue;
            }
            Condition::Damaged => tracing::warn!(
                "{} is damaged: it is removed, and the model is compiled again",
                blob.display()
            ),
            // A process ended while it was written, or it is being written.
            Condition::Unknown => tracing::debug!("{} is not complete: it is removed", blob.display()),
        }
        // Another load may have removed it.
        let removed = checksums::remove(&blob);
        let removed =
            removed.or_else(|why| if why.kind() == ErrorKind::NotFound { Ok(()) } else { Err(why) });
        removed.map_err(|why| {
            let what = format!("{} is damaged and cannot be removed: {why}", blob.display());
            Error::new(Kind::Unavailable, what)
        })?;
    }
    Ok(Whole(whole))
}

/// Writes the checksums of those that were made since `before`.
pub(super) fn complete(folder: &Path, before: &Whole) {
    let is_new = |blob: &PathBuf| !before.0.iter().any(|(path, at)| path == blob && *at == written(blob));
    for blob in blobs(folder).filter(is_new) {
        if let Err(why) = checksums::write(&blob) {
            tracing::debug!("{}: its checksum is not kept: {why}", blob.display());
        }
    }
}

fn blobs(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let all = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    all.filter(|path| path.extension() == Some(OsStr::new("blob")))
}

fn written(blob: &Path) -> Option<SystemTime> {
    std::fs::metadata(blob).and_then(|found| found.modified()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_load_is_alone_with_the_blobs() {
        let folder = tempfile::tempdir().unwrap();
        let first = Alone::with(folder.path());
        assert!(first._lock.is_some());
        let other = File::open(folder.path().join(LOCK)).unwrap();
        assert!(!locked(&other, Duration::ZERO));
        drop(first);
        assert!(locked(&other, Duration::ZERO));
        // The cache may be somebody else's, to be read only.
        assert!(Alone::with(&folder.path().join("missing"))._lock.is_none());
    }

    #[test]
    fn only_whole_blobs_are_left() {
        let folder = tempfile::tempdir().unwrap();
        let [whole, damaged, unknown] =
            ["a", "b", "c"].map(|name| folder.path().join(name).with_extension("blob"));
        for blob in [&whole, &damaged, &unknown] {
            fs::write(blob, "compiled").unwrap();
        }
        fs::write(folder.path().join("graph.pb"), "graph").unwrap();
        for blob in [&whole, &damaged] {
            checksums::write(blob).unwrap();
        }
        fs::write(&damaged, "Compiled").unwrap();
        let found = only_whole(folder.path()).unwrap();
        assert_eq!(found.0.iter().map(|(path, _)| path).collect::<Vec<_>>(), [&whole]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "the graph, a blob and its checksum");
        // What is compiled anew is complete, also in the place of another.
        fs::write(&damaged, "compiled").unwrap();
        fs::write(&whole, "compiled by another release").unwrap();
        let later = SystemTime::now() + std::time::Duration::from_secs(2);
        fs::File::options().write(true).open(&whole).unwrap().set_modified(later).unwrap();
        complete(folder.path(), &found);
        assert_eq!(only_whole(folder.path()).unwrap().0.len(), 2);
    }
}
