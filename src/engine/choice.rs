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

    /// The engine for a version: the one that is `wanted`, else the one whose file `is_there`. TensorFlow, the
    /// reference, says what is wrong with a folder that has none.
    fn choose(wanted: Option<EngineKind>, is_there: impl Fn(&str) -> bool) -> EngineKind {
        let found = || FORMATS.iter().find(|(file, _)| is_there(file)).map(|(_, kind)| *kind);
        wanted.or_else(found).unwrap_or(EngineKind::TensorFlow)
    }
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
        match EngineKind::choose(options.engine, |file| path.join(file).exists()) {
            EngineKind::TensorFlow => Ok(Box::new(TensorFlow::open(&self.tensorflow_library)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_comes_before_the_files_and_tensorflow_is_the_last_resort() {
        let tensorflow = EngineKind::TensorFlow;
        assert_eq!(EngineKind::choose(None, |file| file == "saved_model.pb"), tensorflow);
        assert_eq!(EngineKind::choose(None, |_| false), tensorflow);
        assert_eq!(EngineKind::choose(Some(tensorflow), |_| false), tensorflow);
        assert_eq!(EngineKind::from_name("tensorflow"), Some(tensorflow));
        assert_eq!(EngineKind::from_name("auto"), None);
    }
}
