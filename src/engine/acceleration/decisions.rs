//! What was decided for a model, kept in a folder for the next start: then nothing is timed again.
//!
//! One file for each model, engine and machine, named by a hash of all three. It says only which engine was chosen, or
//! why none: the candidate is made and compared again, so a file that is wrong can cost time, and never an answer.

use super::report::{Pair, Times};
use crate::files;
use prost::Message;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Largest file of decisions that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// The file of a model's decisions.
#[derive(Clone, Debug)]
pub(super) struct Decisions(PathBuf);

/// The message in a file.
#[derive(Clone, PartialEq, Message)]
struct Kept {
    #[prost(message, repeated, tag = "1")]
    decisions: Vec<Decision>,
}

/// What was decided for a signature.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Decision {
    #[prost(string, tag = "1")]
    pub(super) signature: String,
    /// The engine of the chosen candidate; empty if the signature stays.
    #[prost(string, tag = "2")]
    pub(super) engine: String,
    /// Why it stays, or is not in the precision that was asked for.
    #[prost(string, tag = "3")]
    pub(super) reason: String,
    /// The eight numbers of [`Times`].
    #[prost(double, repeated, tag = "4")]
    times: Vec<f64>,
    /// True if the chosen candidate computes in the precision that was asked for, by which the file is named, too.
    #[prost(bool, tag = "5")]
    pub(super) is_lower: bool,
}

impl Decision {
    pub(super) fn chosen(signature: &str, engine: &str, times: Option<Times>) -> Decision {
        let pair = |pair: Pair| [pair.wall.0, pair.wall.1, pair.cpu.0, pair.cpu.1];
        let times = times.map(|times| [pair(times.alone), pair(times.together)].concat()).unwrap_or_default();
        Decision { signature: signature.to_owned(), engine: engine.to_owned(), times, ..Decision::default() }
    }

    /// Notes whether it is in the precision that was asked for, and if not, why (empty if none was).
    pub(super) fn of_precision(self, is_lower: bool, reason: String) -> Decision {
        Decision { is_lower, reason, ..self }
    }

    pub(super) fn stays(signature: &str, reason: &str) -> Decision {
        Decision { signature: signature.to_owned(), reason: reason.to_owned(), ..Decision::default() }
    }

    /// Returns the times by which it was chosen, if it was timed.
    pub(super) fn times(&self) -> Option<Times> {
        let pair = |at: usize| Pair {
            wall: (self.times[at], self.times[at + 1]),
            cpu: (self.times[at + 2], self.times[at + 3]),
        };
        (self.times.len() == 8).then(|| Times { alone: pair(0), together: pair(4) })
    }
}

impl Decisions {
    /// Returns those of the model in `version`, by `engines` (names and versions), kept in `folder`; `None` if a file of
    /// the model cannot be read. Reads all of it.
    pub(super) fn of(version: &Path, engines: &str, folder: &Path) -> Option<Decisions> {
        let mut hash = Sha256::new();
        hash.update(engines);
        hash.update(machine());
        add_folder(&mut hash, version).ok()?;
        let name: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Some(Decisions(folder.join(format!("{name}.decisions"))))
    }

    /// Returns a name of the model, engines and machine, for a part of a file's name.
    pub(super) fn name(&self) -> &str {
        let name = self.0.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        name.get(..16).unwrap_or(name)
    }

    /// Returns what was decided for `signature`.
    pub(super) fn read(&self, signature: &str) -> Option<Decision> {
        self.all().into_iter().find(|decision| decision.signature == signature)
    }

    /// Keeps `decision` beside those of other signatures.
    pub(super) fn write(&self, decision: Decision) {
        let others = self.all().into_iter().filter(|other| other.signature != decision.signature);
        let decisions = others.chain([decision.clone()]).collect();
        if let Err(why) = self.replace(&Kept { decisions }.encode_to_vec()) {
            tracing::warn!("{}: what was decided is not kept: {why}", self.0.display());
        }
    }

    fn all(&self) -> Vec<Decision> {
        let Ok(file) = files::open(&self.0) else { return Vec::new() };
        let mut bytes = Vec::new();
        // A file that cannot be read, or is no such message, is one that is not there.
        let read = file.take(LARGEST).read_to_end(&mut bytes);
        read.ok().and_then(|_| Kept::decode(&*bytes).ok()).unwrap_or_default().decisions
    }

    /// Writes the whole file, or leaves it as it was.
    fn replace(&self, bytes: &[u8]) -> std::io::Result<()> {
        if let Some(folder) = self.0.parent() {
            std::fs::create_dir_all(folder)?;
        }
        // Processes of several containers may have the same number.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let new = self.0.with_extension(format!("{}-{now}.new", std::process::id()));
        std::fs::write(&new, bytes).and_then(|()| std::fs::rename(&new, &self.0)).inspect_err(|_| {
            // It may not even be there.
            let _gone = std::fs::remove_file(&new);
        })
    }
}

/// Adds names and contents of all files below `folder`, in the order of their names. Warm-up requests and whatever else
/// lies there count, too: a change of it is a change of the model.
fn add_folder(hash: &mut Sha256, folder: &Path) -> std::io::Result<()> {
    let mut ahead = vec![folder.to_owned()];
    while let Some(path) = ahead.pop() {
        hash.update(path.strip_prefix(folder).unwrap_or(&path).as_os_str().as_encoded_bytes());
        hash.update([0]);
        if path.is_dir() {
            let mut entries = std::fs::read_dir(&path)?
                .map(|entry| Ok(entry?.path()))
                .collect::<std::io::Result<Vec<_>>>()?;
            entries.sort();
            ahead.extend(entries);
        } else {
            let mut file = files::open(&path)?;
            hash.update(file.metadata()?.len().to_le_bytes());
            std::io::copy(&mut file, hash)?;
        }
    }
    Ok(())
}

/// Returns what of the machine decides how fast engines are: its processor and the cores that this process may use.
fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = |name: &str| cpu.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{} {} {cores}", line("model name"), line("flags"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("variables")).unwrap();
        std::fs::write(folder.path().join("saved_model.pb"), b"graph").unwrap();
        std::fs::write(folder.path().join("variables/data"), b"weights").unwrap();
        folder
    }

    #[test]
    fn decisions_are_those_of_the_same_files_and_engines() {
        let (model, cache) = (model(), tempfile::tempdir().unwrap());
        let of = |engines| Decisions::of(model.path(), engines, cache.path()).unwrap().0;
        let first = of("openvino 1");
        assert_eq!(of("openvino 1"), first);
        assert_ne!(of("openvino 2"), first);
        std::fs::write(model.path().join("variables/data"), b"Weights").unwrap();
        assert_ne!(of("openvino 1"), first);
        assert!(Decisions::of(&model.path().join("gone"), "", cache.path()).is_none());
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let cache = tempfile::tempdir().unwrap();
        let decisions = Decisions(cache.path().join("new/folder/one.decisions"));
        assert_eq!(decisions.read("a"), None);
        let pair = Pair { wall: (4.0, 2.0), cpu: (8.0, 3.0) };
        let times = Times { alone: pair, together: Pair::default() };
        decisions.write(Decision::stays("a", "slower"));
        decisions.write(Decision::chosen("b", "openvino", Some(times)));
        decisions.write(Decision::chosen("a", "openvino", None));
        let (a, b) = (decisions.read("a").unwrap(), decisions.read("b").unwrap());
        assert_eq!((&*a.engine, &*a.reason, a.times()), ("openvino", "", None));
        assert_eq!((&*b.engine, b.times()), ("openvino", Some(times)));
        assert_eq!(
            std::fs::read_dir(cache.path().join("new/folder")).unwrap().count(),
            1,
            "nothing is left over"
        );
    }

    #[test]
    fn a_file_that_is_none_is_as_good_as_missing_and_is_replaced() {
        let cache = tempfile::tempdir().unwrap();
        let decisions = Decisions(cache.path().join("one.decisions"));
        std::fs::write(&decisions.0, b"\xff\xff\xff\xff").unwrap();
        assert_eq!(decisions.read("a"), None);
        decisions.write(Decision::stays("a", "slower"));
        assert_eq!(decisions.read("a").unwrap().reason, "slower");
        // A folder in its place, or no room: nothing is kept, and nothing fails.
        let folder = Decisions(cache.path().to_owned());
        folder.write(Decision::stays("a", "slower"));
        assert_eq!(folder.read("a"), None);
    }
}
