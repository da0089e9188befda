//! Chooses the engine that loads a version.

use super::tensorflow::TensorFlow;
use super::{Engine, LoadOptions};
use crate::error::Result;
use std::path::{Path, PathBuf};

/// The supported engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    /// TensorFlow, through its C API.
    TensorFlow,
}

/// The file that identifies a format, and its engine. The first file found in a version's folder decides.
const FORMATS: [(&str, EngineKind); 2] =
    [("saved_model.pb", EngineKind::TensorFlow), ("saved_model.pbtxt", EngineKind::TensorFlow)];

impl EngineKind {
    /// Returns the engine that a flag names.
    pub fn from_name(name: &str) -> Option<EngineKind> {
        (name == "tensorflow").then_some(EngineKind::TensorFlow)
    }
}

/// Returns the engine for a version: the `wanted` one, otherwise that of the first of `formats` whose file `exists`.
fn choose<E: Copy>(wanted: Option<E>, formats: &[(&str, E)], exists: impl Fn(&str) -> bool) -> Option<E> {
    wanted.or_else(|| formats.iter().find(|(file, _)| exists(file)).map(|(_, engine)| *engine))
}

/// The engines of this process, each opened when a version first needs it.
#[derive(Clone, Debug)]
pub struct Engines {
    /// Path of TensorFlow's shared library.
    pub tensorflow_library: PathBuf,
}

impl Engines {
    /// Returns the engine for the version in `path`.
    pub fn of(&self, path: &Path, options: &LoadOptions) -> Result<Box<dyn Engine>> {
        let chosen = choose(options.engine, &FORMATS, |file| path.join(file).exists());
        // For a folder of unknown format, TensorFlow, the reference, reports the error.
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
