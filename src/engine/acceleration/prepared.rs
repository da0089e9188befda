//! The folders of prepared graphs: what an engine keeps of each, for the next start.
//!
//! A folder is named by a hash of its graph, with the weights, inputs and outputs: so what lies there is of this graph,
//! whoever made it. Those used last stay; the others go when all together are too large.

use crate::engine::checksums::{self, Condition};
use crate::engine::frozen::FrozenGraph;
use crate::error::{Error, Kind, Result};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Bytes that all folders together may have.
const MOST_BYTES: u64 = 4 << 30;
/// The file that says when a folder was used last.
const USED: &str = "used";

/// A folder for a graph.
pub(super) struct Folder {
    path: PathBuf,
    /// True if it goes with this value.
    is_temporary: bool,
}

impl Folder {
    /// Returns the folder for `graph` in `cache`, which is made if it is not there, and counts as used now. Where nothing
    /// can be written, it is one of this process alone, in the folder for temporary files.
    pub(super) fn of(cache: &Path, graph: &FrozenGraph) -> Result<Folder> {
        let path = cache.join(name_of(graph));
        if used(&path).is_ok() {
            prune(cache, &path, MOST_BYTES);
            return Ok(Folder { path, is_temporary: false });
        }
        Folder::temporary(cache)
    }

    /// Returns the folder for what `make` puts into one for `graph`, in `cache` under `kind`. It is made once, or if it
    /// is to be `fresh`: all of it, or nothing. Where nothing can be written, as [`Self::of`].
    pub(super) fn made(
        cache: &Path,
        graph: &FrozenGraph,
        (kind, fresh): (&str, bool),
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Folder> {
        let path = cache.join(format!("{}-{kind}", name_of(graph)));
        let fresh = fresh || (path.is_dir() && !is_whole(&path));
        if !fresh && path.is_dir() && used(&path).is_ok() {
            return Ok(Folder { path, is_temporary: false });
        }
        let unfinished = cache.join(format!("{}.new", unique()));
        let mut folder = match used(&unfinished) {
            Ok(()) => Folder { path: unfinished, is_temporary: true },
            Err(_) => Folder::temporary(cache)?,
        };
        make(folder.as_ref())?;
        complete(folder.as_ref());
        // Another process may have made it, too, or may be reading it: then this one is for this process alone.
        let is_free = !fresh || !path.exists() || fs::remove_dir_all(&path).is_ok();
        if is_free && fs::rename(folder.as_ref(), &path).is_ok() {
            prune(cache, &path, MOST_BYTES);
            (folder.path, folder.is_temporary) = (path, false);
        }
        Ok(folder)
    }

    /// Makes one for this process alone, since `cache` cannot be written.
    fn temporary(cache: &Path) -> Result<Folder> {
        let path = std::env::temp_dir().join(format!("servable-engine-{}", unique()));
        // Fails if it is there already: it may be somebody else's.
        fs::DirBuilder::new().mode(0o700).create(&path).map_err(|why| {
            let both = format!("neither {} nor {} can be written: {why}", cache.display(), path.display());
            Error::new(Kind::Unavailable, both)
        })?;
        Ok(Folder { path, is_temporary: true })
    }
}

impl AsRef<Path> for Folder {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_temporary {
            // What is left behind is of no use to anybody.
            let _left = fs::remove_dir_all(&self.path);
        }
    }
}

/// Writes the checksums of all files in `folder`.
fn complete(folder: &Path) {
    let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    for file in files.filter(|file| file.is_file() && !file.ends_with(USED)).collect::<Vec<_>>() {
        if let Err(why) = checksums::write(&file) {
            tracing::debug!("{}: its checksum is not kept: {why}", file.display());
        }
    }
}

/// Returns whether the files in `folder` are as they were made; says which is not. What an engine has added looks after
/// itself.
fn is_whole(folder: &Path) -> bool {
    let files = checksums::named(folder).into_iter();
    let made: Vec<PathBuf> = files.filter(|file| file.extension() != Some(OsStr::new("blob"))).collect();
    let damaged = made.iter().find(|file| checksums::check(file) != Condition::Whole);
    if let Some(file) = damaged {
        tracing::warn!("{} is damaged: what was prepared is made again", file.display());
    }
    damaged.is_none() && !made.is_empty()
}

/// Returns the name of the folder for `graph`.
fn name_of(graph: &FrozenGraph) -> String {
    graph.hash().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns a name that nothing else has: processes of several containers may have the same number.
fn unique() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("{}-{now}", std::process::id())
}

/// Makes `folder`, and marks it as used now.
fn used(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join(USED), [])
}

/// Removes the folders of `cache` that were used longest ago, until all have at most `most` bytes; never `kept`.
fn prune(cache: &Path, kept: &Path, most: u64) {
    let entries = fs::read_dir(cache).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<(SystemTime, PathBuf, u64)> = entries
        .filter_map(|folder| {
            let used = fs::metadata(folder.join(USED)).and_then(|file| file.modified()).ok()?;
            let bytes = size(&folder);
            Some((used, folder, bytes))
        })
        .collect();
    found.sort();
    let mut all: u64 = found.iter().map(|(_, _, bytes)| bytes).sum();
    for (_, folder, bytes) in found.into_iter().filter(|(_, folder, _)| folder != kept) {
        if all <= most {
            return;
        }
        // Another process may remove it, too.
        if fs::remove_dir_all(&folder).is_ok() {
            all -= bytes;
        }
    }
}

fn size(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::signature::TensorSpec;
    use crate::pb::tensorflow::{GraphDef, NodeDef};
    use crate::tensor::DType;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    fn graph(name: &str) -> FrozenGraph {
        let node = vec![NodeDef { name: name.to_owned(), ..NodeDef::default() }];
        FrozenGraph {
            graph: GraphDef { node, ..GraphDef::default() },
            inputs: Vec::new(),
            outputs: Vec::new(),
        }
    }

    #[test]
    fn each_graph_has_a_folder_of_its_own() {
        let cache = tempfile::tempdir().unwrap();
        let of = |name| Folder::of(cache.path(), &graph(name)).unwrap().as_ref().to_owned();
        let one = of("one");
        assert_eq!(of("one"), one);
        assert_ne!(of("other"), one);
        // The same nodes, asked for something else.
        let (alias, tensor) = (String::new(), "one:1".to_owned());
        let output = TensorSpec { alias, tensor, dtype: DType::Float, shape: None };
        let asked = FrozenGraph { outputs: vec![output], ..graph("one") };
        assert_ne!(Folder::of(cache.path(), &asked).unwrap().as_ref(), one);
        assert!(one.starts_with(cache.path()) && one.is_dir());
    }

    #[test]
    fn where_nothing_can_be_written_it_is_a_private_one_for_a_while() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let elsewhere = Folder::of(&file.path().join("cache"), &graph("elsewhere")).unwrap();
        let path = elsewhere.as_ref().to_owned();
        assert!(path.starts_with(std::env::temp_dir()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        drop(elsewhere);
        assert!(!path.exists());
    }

    #[test]
    fn what_is_made_for_a_graph_is_kept_whole_or_not_at_all() {
        let cache = tempfile::tempdir().unwrap();
        let made = |fresh, text: &'static str| {
            let folder = Folder::made(cache.path(), &graph("one"), ("int8", fresh), |folder| {
                fs::write(folder.join("model.xml"), text).unwrap();
                if text.is_empty() { Err(Error::internal("on purpose")) } else { Ok(()) }
            });
            folder.map(|folder| fs::read_to_string(folder.as_ref().join("model.xml")).unwrap())
        };
        assert!(made(false, "").is_err());
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0, "nothing is left over");
        assert_eq!(made(false, "first").unwrap(), "first");
        assert_eq!(made(false, "second").unwrap(), "first");
        assert_eq!(made(true, "third").unwrap(), "third");
        assert!(made(true, "").is_err());
        assert_eq!(made(false, "fourth").unwrap(), "third");
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_damaged_is_made_again() {
        let cache = tempfile::tempdir().unwrap();
        let made = |text: &'static str| {
            let folder = Folder::made(cache.path(), &graph("one"), ("int8", false), |folder| {
                fs::write(folder.join("model.xml"), "layers").unwrap();
                fs::write(folder.join("model.bin"), text).unwrap();
                Ok(())
            });
            folder.unwrap().as_ref().to_owned()
        };
        let content = |folder: &Path| fs::read_to_string(folder.join("model.bin")).unwrap();
        let folder = made("first");
        assert_eq!(content(&made("second")), "first");
        fs::write(folder.join("model.bin"), "First").unwrap();
        assert_eq!(content(&made("third")), "third");
        fs::remove_file(folder.join("model.bin")).unwrap();
        assert_eq!((made("fourth"), content(&folder)), (folder.clone(), "fourth".to_owned()));
        // What an engine adds is its own.
        fs::write(folder.join("some.blob"), "compiled").unwrap();
        checksums::write(&folder.join("some.blob")).unwrap();
        fs::write(folder.join("some.blob"), "damaged").unwrap();
        assert_eq!(content(&made("fifth")), "fourth");
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 1);
    }

    #[test]
    fn those_used_longest_ago_go() {
        let cache = tempfile::tempdir().unwrap();
        let folders: Vec<PathBuf> = (0..3).map(|index| cache.path().join(index.to_string())).collect();
        for (index, folder) in folders.iter().enumerate() {
            used(folder).unwrap();
            fs::write(folder.join("graph.pb"), [0; 100]).unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(index as u64);
            fs::File::options().write(true).open(folder.join("used")).unwrap().set_modified(time).unwrap();
        }
        fs::write(cache.path().join("some.decisions"), [0; 100]).unwrap();
        prune(cache.path(), &folders[0], 200);
        let left: Vec<bool> = folders.iter().map(|folder| folder.is_dir()).collect();
        assert_eq!(left, [true, false, true]);
        assert!(cache.path().join("some.decisions").is_file());
        prune(cache.path(), &folders[0], 0);
        assert!(folders[0].is_dir() && !folders[2].is_dir());
    }
}
