//! Runs SavedModels with a faster engine, where its answers are the same.
//!
//! TensorFlow loads a version and serves it at once ([`model`]). Beside that, candidates are prepared ([`prepare`]):
//! another engine for the whole graph of a signature, or for the part of it that this engine computes rightly; and
//! TensorFlow itself, with the variables as constants. A candidate has to give the same answers ([`compare`]) to
//! requests that came and to others made of them ([`probe`]), and has to be faster ([`trial`]). One in lower precision,
//! if it was asked for, has to be accurate instead ([`accuracy`]). Then runs move to it
//! ([`chain`]). What it refuses, TensorFlow does, which stays loaded; or, if that was asked for, is let go while nothing
//! needs it, and loaded again (`tensorflow/resting.rs`).

mod accuracy;
mod alike;
mod chain;
pub mod compare;
mod cut;
mod decisions;
mod model;
mod new_shapes;
mod others;
mod prepare;
mod prepared;
mod probe;
mod quantized;
pub mod report;
mod samples;
mod trial;

use super::choice::EngineKind;
use super::frozen::FrozenGraph;
use super::openvino::{OpenVino, Precision};
use super::tensorflow::{self, Resting, Session, TensorFlow};
use super::{Engine, LoadOptions, Model};
use crate::error::{Error, Kind, Result};
use alike::Models;
use cut::Parts;
use decisions::Decisions;
use model::Accelerated;
use others::Others;
use prepare::{Rules, Tools};
use probe::Feeds;
use quantized::Calibration;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How SavedModels are accelerated.
#[derive(Clone, Debug)]
pub struct Acceleration {
    /// True to take the fast engine wherever its answers are the same, without measuring.
    pub forced: bool,
    /// The accepted difference of numbers, relative to a tensor's largest value.
    pub tolerance: f64,
    /// The folder for what was decided.
    pub cache: PathBuf,
    /// True to decide again, whatever was decided before.
    pub fresh: bool,
    /// The lower precision that was asked for, if one was.
    pub lower: Option<Lower>,
    /// After this time without use, TensorFlow's session is let go where all runs have moved; `None`: it stays.
    pub reference_idle: Option<Duration>,
}

/// A precision below that of floats of 32 bits.
#[derive(Clone, Debug)]
pub enum Lower {
    /// Floats of 16 bits with the range of 32. The processor has to have it.
    Bf16,
    /// Whole numbers of 8 bits.
    Int8 {
        /// The beginning of the command line of the program that makes such graphs.
        quantizer: Vec<String>,
    },
}

impl Lower {
    /// Returns the name used in reports.
    fn name(&self) -> &'static str {
        match self {
            Lower::Bf16 => "bf16",
            Lower::Int8 { .. } => "int8",
        }
    }
}

/// What the models of this process do while one of them is timed.
static OTHERS: Others = Others::new();

/// TensorFlow, whose models may move to a faster engine.
pub(super) struct Accelerating {
    pub(super) tensorflow: TensorFlow,
    /// The fast engine's library, or why there is none.
    pub(super) openvino: Result<PathBuf, String>,
    pub(super) acceleration: Acceleration,
}

impl Engine for Accelerating {
    fn shares_threads(&self, options: &LoadOptions) -> bool {
        self.tensorflow.shares_threads(options)
    }

    fn load(&self, path: &Path, options: &LoadOptions) -> Result<Box<dyn Model>> {
        OTHERS.note();
        let reference = match self.acceleration.reference_idle {
            None => Reference::Stays(Arc::new(self.tensorflow.load_session(path, options)?)),
            Some(idle) => Reference::Rests(Arc::new(self.tensorflow.load_resting(path, options, idle)?)),
        };
        OTHERS.note();
        let rules = Rules {
            tolerance: self.acceleration.tolerance,
            forced: self.acceleration.forced,
            fresh: self.acceleration.fresh,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
        };
        let tools = Workshop {
            tensorflow: self.tensorflow,
            reference: reference.clone(),
            options: options.tensorflow.clone(),
            openvino: self.openvino.clone(),
            version: path.to_owned(),
            acceleration: self.acceleration.clone(),
            decisions: OnceLock::new(),
            models: Models::default(),
        };
        let name = path.display().to_string();
        let prepare = move |shared: &model::Shared| prepare::prepare(shared, &tools, rules);
        Ok(Box::new(Accelerated::new(name, reference.model(), &OTHERS, prepare)))
    }
}

/// TensorFlow's session of a version.
#[derive(Clone)]
enum Reference {
    Stays(Arc<Session>),
    Rests(Arc<Resting<Session>>),
}

impl Reference {
    fn model(&self) -> Arc<dyn Model> {
        match self {
            Reference::Stays(session) => session.clone(),
            Reference::Rests(resting) => resting.clone(),
        }
    }

    fn session(&self) -> Result<Arc<Session>> {
        match self {
            Reference::Stays(session) => Ok(session.clone()),
            Reference::Rests(resting) => resting.session(),
        }
    }
}

/// The real tools: TensorFlow freezes, OpenVINO is the fast engine.
struct Workshop {
    tensorflow: TensorFlow,
    reference: Reference,
    options: tensorflow::Options,
    openvino: Result<PathBuf, String>,
    version: PathBuf,
    acceleration: Acceleration,
    decisions: OnceLock<Option<Decisions>>,
    models: Models,
}

impl Workshop {
    /// Returns what decides beside the model and the machine.
    fn key(&self) -> String {
        let openvino =
            self.openvino.as_deref().map_or_else(|_| String::new(), |path| path.display().to_string());
        let onednn = std::env::var("TF_ENABLE_ONEDNN_OPTS").unwrap_or_default();
        let (ours, tensorflow) = (env!("CARGO_PKG_VERSION"), self.tensorflow.version());
        let tensorflow::Options { tags, session_config } = &self.options;
        let tolerance = self.acceleration.tolerance;
        let lower = self.acceleration.lower.as_ref().map(|lower| format!(" {}", lower.name()));
        let lower = lower.unwrap_or_default();
        format!("{ours} {tensorflow} {onednn} {openvino} {tags:?} {session_config:?} {tolerance}{lower}")
    }

    fn openvino(&self) -> Result<OpenVino> {
        let library = self.openvino.as_ref();
        let library = library.map_err(|why| Error::new(Kind::FailedPrecondition, why.clone()))?;
        OpenVino::open(library)
    }

    /// Returns the folder with `graph` in 8 bits, made by `quantizer`.
    fn quantized(
        &self,
        graph: &FrozenGraph,
        quantizer: &[String],
        calibration: &Calibration<'_>,
    ) -> Result<prepared::Folder> {
        let Acceleration { cache, fresh, .. } = &self.acceleration;
        // Warm-up requests are files of the model: other ones calibrate otherwise.
        let of = self.decisions().map(|decisions| format!("int8-{}", decisions.name()));
        let is_fresh = *fresh || of.is_none();
        let kind = of.as_deref().unwrap_or("int8");
        prepared::Folder::made(cache, graph, (kind, is_fresh), |folder| {
            let (path, names) = OpenVino::write_frozen(graph, folder)?;
            quantized::make(quantizer, folder, &names, calibration)?;
            // The model is what is read from now on. A file that is left only takes room.
            let _removed = std::fs::remove_file(path);
            Ok(())
        })
    }

    fn open_anew(&self, engine: EngineKind, graph: &FrozenGraph) -> Result<Box<dyn Model>> {
        match engine {
            EngineKind::TensorFlow => self.tensorflow.open_frozen(graph, &self.options),
            EngineKind::OpenVino => {
                let folder = prepared::Folder::of(&self.acceleration.cache, graph)?;
                self.openvino()?.open_frozen(graph, folder, Precision::F32)
            }
            EngineKind::Onnx | EngineKind::LiteRt => {
                Err(Error::internal(format!("{} runs no part of a SavedModel", engine.name())))
            }
        }
    }
}

impl Tools for Workshop {
    fn freeze(&self, signature: &str, feeds: &Feeds) -> Result<FrozenGraph> {
        self.reference.session()?.freeze(signature, feeds)
    }

    fn plan(&self, graph: &FrozenGraph) -> Result<Parts, String> {
        cut::plan(graph).map_err(|refusal| refusal.to_string())
    }

    fn open(&self, engine: EngineKind, graph: &FrozenGraph) -> Result<Box<dyn Model>> {
        self.models.open(engine, graph, |graph| self.open_anew(engine, graph))
    }

    fn precision(&self) -> Option<&'static str> {
        self.acceleration.lower.as_ref().map(Lower::name)
    }

    fn open_lower(&self, graph: &FrozenGraph, calibration: &Calibration<'_>) -> Result<Box<dyn Model>> {
        let cache = &self.acceleration.cache;
        match &self.acceleration.lower {
            Some(Lower::Bf16) => {
                let folder = prepared::Folder::of(cache, graph)?;
                self.openvino()?.open_frozen(graph, folder, Precision::Bf16)
            }
            Some(Lower::Int8 { quantizer }) => {
                let folder = self.quantized(graph, quantizer, calibration)?;
                self.openvino()?.open_quantized(graph, folder, quantized::MODEL)
            }
            None => Err(Error::internal("No lower precision was asked for")),
        }
    }

    fn decisions(&self) -> Option<Decisions> {
        // It takes a look at all files of the model.
        self.decisions
            .get_or_init(|| Decisions::of(&self.version, &self.key(), &self.acceleration.cache))
            .clone()
    }

    fn rest(&self) -> bool {
        match &self.reference {
            Reference::Stays(_) => false,
            Reference::Rests(resting) => {
                resting.let_go_if_idle();
                true
            }
        }
    }

    fn fast_engine(&self) -> Result<(), String> {
        self.openvino.as_ref().map(drop).map_err(Clone::clone)
    }
}

#[cfg(test)]
mod tests;
