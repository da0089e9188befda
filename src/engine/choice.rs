//! Chooses the engine that loads a version, and opens its library.

use super::acceleration::Accelerating;
use super::litert::LiteRt;
use super::onnx::Onnx;
use super::openvino::OpenVino;
use super::tensorflow::TensorFlow;
use super::{Engine, LoadOptions};
use crate::error::{Error, Kind, Result};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The supported engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EngineKind {
    /// TensorFlow, through its C API.
    TensorFlow,
    /// OpenVINO, through its C API.
    OpenVino,
    /// ONNX Runtime, through its C API.
    Onnx,
    /// LiteRT, which was TensorFlow Lite, through its C API.
    LiteRt,
}

impl EngineKind {
    /// Every engine.
    pub const ALL: [EngineKind; 4] =
        [EngineKind::TensorFlow, EngineKind::OpenVino, EngineKind::Onnx, EngineKind::LiteRt];

    /// Returns the engine's name in flags, logs and reports.
    pub fn name(self) -> &'static str {
        match self {
            EngineKind::TensorFlow => "tensorflow",
            EngineKind::OpenVino => "openvino",
            EngineKind::Onnx => "onnx",
            EngineKind::LiteRt => "tflite",
        }
    }

    /// Returns the engine of this name.
    pub fn from_name(name: &str) -> Option<EngineKind> {
        EngineKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// The file that makes a folder a version, and its engine: the first one found decides. `engines/formats.py` has the
/// same list.
const FORMATS: [(&str, EngineKind); 5] = [
    ("saved_model.pb", EngineKind::TensorFlow),
    ("saved_model.pbtxt", EngineKind::TensorFlow),
    ("model.onnx", EngineKind::Onnx),
    ("model.tflite", EngineKind::LiteRt),
    ("model.xml", EngineKind::OpenVino),
];

/// The ending of a model's file that is served by itself, and its engine.
const ENDINGS: [(&str, EngineKind); 3] =
    [("onnx", EngineKind::Onnx), ("tflite", EngineKind::LiteRt), ("xml", EngineKind::OpenVino)];

/// Returns the engine for the version in `path`: a folder, or a file that is a model by itself.
pub fn engine_of(path: &Path, prefer_tflite: bool) -> Option<EngineKind> {
    let is_file = path.is_file();
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    if is_file && let Some((_, kind)) = ENDINGS.iter().find(|(known, _)| ending.eq_ignore_ascii_case(known)) {
        return Some(*kind);
    }
    first_of(prefer_tflite, |file| path.join(file).exists())
}

/// Returns the engine of the first format whose file `exists`.
fn first_of(prefer_tflite: bool, exists: impl Fn(&str) -> bool) -> Option<EngineKind> {
    let preferred = FORMATS.iter().filter(|(_, kind)| prefer_tflite && *kind == EngineKind::LiteRt);
    preferred.chain(&FORMATS).find(|(file, _)| exists(file)).map(|(_, kind)| *kind)
}

/// Returns the path of the model file: `version` itself, or the file `name` in it.
pub(super) fn model_file(version: &Path, name: &str) -> PathBuf {
    if version.is_file() { version.to_owned() } else { version.join(name) }
}

/// The engines of this process, each opened when a version first needs it.
#[derive(Clone, Debug, Default)]
pub struct Engines {
    /// The path of each engine's shared library that was found.
    pub libraries: HashMap<EngineKind, PathBuf>,
    /// For the others, why there is none, and what to do.
    pub missing: HashMap<EngineKind, String>,
    /// Libraries of further ops, for TensorFlow.
    pub op_libraries: Vec<PathBuf>,
}

impl Engines {
    /// Returns the engine for the version in `path`.
    pub fn of(&self, path: &Path, options: &LoadOptions) -> Result<Box<dyn Engine>> {
        let known = engine_of(path, options.prefer_tflite);
        // For a folder of unknown format, TensorFlow, the reference, reports the error, if it is installed.
        let kind = known.unwrap_or(EngineKind::TensorFlow);
        let library = self.library(kind).map_err(|why| known.map_or_else(|| no_model(path), |_| why))?;
        Ok(match kind {
            EngineKind::TensorFlow => self.tensorflow(library, options)?,
            EngineKind::OpenVino => Box::new(OpenVino::open(library)?),
            EngineKind::Onnx => Box::new(Onnx::open(library)?),
            EngineKind::LiteRt => Box::new(LiteRt::open(library)?),
        })
    }

    fn tensorflow(&self, library: &Path, options: &LoadOptions) -> Result<Box<dyn Engine>> {
        let tensorflow = TensorFlow::open(library)?;
        self.op_libraries.iter().try_for_each(|ops| tensorflow.load_ops(ops))?;
        let Some(acceleration) = options.acceleration.clone() else { return Ok(Box::new(tensorflow)) };
        let openvino = self.library(EngineKind::OpenVino).map(Path::to_owned);
        let openvino = openvino.map_err(|why| why.message.into_owned());
        Ok(Box::new(Accelerating { tensorflow, openvino, acceleration }))
    }

    /// Returns the library of `kind`, or an error that says how to get it.
    fn library(&self, kind: EngineKind) -> Result<&Path> {
        self.libraries.get(&kind).map(PathBuf::as_path).ok_or_else(|| {
            let why = self.missing.get(&kind).cloned();
            let why = why.unwrap_or_else(|| format!("The engine {} is not installed", kind.name()));
            Error::new(Kind::FailedPrecondition, why)
        })
    }
}

fn no_model(path: &Path) -> Error {
    let files: Vec<&str> = FORMATS.iter().map(|(file, _)| *file).collect();
    let message = format!("There is no model in {}: expected one of {}", path.display(), files.join(", "));
    Error::new(Kind::NotFound, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_format_found_decides_and_tflite_may_be_preferred() {
        let chosen = |prefer_tflite, files: &[&str]| first_of(prefer_tflite, |file| files.contains(&file));
        assert_eq!(chosen(false, &["model.xml", "model.onnx"]), Some(EngineKind::Onnx));
        assert_eq!(chosen(false, &["model.tflite", "saved_model.pb"]), Some(EngineKind::TensorFlow));
        assert_eq!(chosen(true, &["model.tflite", "saved_model.pb"]), Some(EngineKind::LiteRt));
        assert_eq!(chosen(true, &["model.onnx", "saved_model.pb"]), Some(EngineKind::TensorFlow));
        assert_eq!(chosen(true, &["readme"]), None);
    }

    #[test]
    fn a_file_is_known_by_its_ending() {
        let folder = tempfile::tempdir().unwrap();
        for (name, kind) in [
            ("a.onnx", Some(EngineKind::Onnx)),
            ("A.TFLITE", Some(EngineKind::LiteRt)),
            ("b.xml", Some(EngineKind::OpenVino)),
            ("b.bin", None),
        ] {
            let path = folder.path().join(name);
            std::fs::write(&path, b"").unwrap();
            assert_eq!(engine_of(&path, false), kind, "{name}");
            assert_eq!(model_file(&path, "model.onnx"), path);
        }
        assert_eq!(engine_of(&folder.path().join("missing.onnx"), false), None);
        assert_eq!(model_file(folder.path(), "model.onnx"), folder.path().join("model.onnx"));
    }

    #[test]
    fn engines_are_known_by_name() {
        assert!(EngineKind::ALL.iter().all(|kind| EngineKind::from_name(kind.name()) == Some(*kind)));
        assert_eq!(EngineKind::from_name("auto"), None);
    }

    #[test]
    fn an_engine_that_is_missing_is_an_error_that_says_what_to_do() {
        let missing = [(EngineKind::Onnx, "pip install it".to_owned())].into();
        let engines = Engines { missing, ..Engines::default() };
        let why = |kind| engines.library(kind).unwrap_err().message.into_owned();
        assert_eq!(why(EngineKind::Onnx), "pip install it");
        assert_eq!(why(EngineKind::LiteRt), "The engine tflite is not installed");
        let folder = tempfile::tempdir().unwrap();
        let Err(why) = engines.of(folder.path(), &LoadOptions::default()) else {
            panic!("a model was found")
        };
        assert_eq!(why.kind, Kind::NotFound);
        let end = "expected one of saved_model.pb, saved_model.pbtxt, model.onnx, model.tflite, model.xml";
        assert!(why.message.ends_with(end), "{why}");
    }
}
