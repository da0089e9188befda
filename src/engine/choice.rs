//! Which engine loads a version: the one place where that is decided.

use super::tensorflow::TensorFlow;
use super::{Engine, LoadOptions};
use crate::error::Result;
use std::path::{Path, PathBuf};

/// The engines that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    /// TensorFlow, by its C API.
    TensorFlow,
}

/// The file by which a version's folder is known, and the engine that it is for; the first that is there counts.
const FORMATS: [(&str, EngineKind); 2] =
    [("saved_model.pb", EngineKind::TensorFlow), ("saved_model.pbtxt", EngineKind::TensorFlow)];

impl EngineKind {
    /// The engine that a flag names.
    pub fn from_name(name: &str) -> Option<EngineKind> {
        (name == "tensorflow").then_some(EngineKind::TensorFlow)
    }
}

/// Returns the engine for a version: the one that is `wanted`, otherwise the first of `formats` whose file `exists`.
fn choose<E: Copy>(wanted: Option<E>, formats: &[(&str, E)], exists: impl Fn(&str) -> bool) -> Option<E> {
    wanted.or_else(|| formats.iter().find(|(file, _)| exists(file)).map(|(_, engine)| *engine))
}

/// The engines of this process. Each is opened when a version first needs it.
#[derive(Clone, Debug)]
pub struct Engines {
    /// TensorFlow's shared library.
    pub tensorflow_library: PathBuf,
}

impl Engines {
    /// The engine that loads the version in `path`.
    pub fn of(&self, path: &Path, options: &LoadOptions) -> Result<Box<dyn Engine>> {
        let chosen = choose(options.engine, &FORMATS, |file| path.join(file).exists());
        // TensorFlow, the reference, says what is wrong with a folder of no format.
        match chosen.unwrap_or(EngineKind::TensorFlow) {
            EngineKind::TensorFlow => Ok(Box::new(TensorFlow::open(&self.tensorflow_library)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_takes_precedence_over_the_files_and_the_first_file_counts() {
        let formats = [("a", 'A'), ("b", 'B'), ("c", 'C')];
        let chosen = |wanted, files: &[&str]| choose(wanted, &formats, |file| files.contains(&file));
        assert_eq!(chosen(None, &["c", "b"]), Some('B'));
        assert_eq!(chosen(Some('A'), &["b"]), Some('A'));
        assert_eq!(chosen(None, &["d"]), None);
    }

    #[test]
    fn engines_are_known_by_name() {
        assert_eq!(EngineKind::from_name("tensorflow"), Some(EngineKind::TensorFlow));
        assert_eq!(EngineKind::from_name("auto"), None);
    }
}
