//! Opens a frozen graph as a model of its own.
//!
//! TensorFlow makes kernels, each constant's among them, for every set of tensors that is fed and fetched; and it keeps
//! the graph for sets to come. So a frozen graph is always run whole, and after its first run TensorFlow may let go of
//! the graph: the weights are in memory once.

use super::by_name::ByName;
use super::ffi::{TfBuffer, TfTensor};
use super::session::{Few, Session};
use super::tensors::Owned;
use super::{Options, TensorFlow, c_string, saved_model};
use crate::engine::frozen::FrozenGraph;
use crate::engine::signature::{DEFAULT_SIGNATURE, TensorSpec};
use crate::engine::{Endpoint, Model};
use crate::error::Result;
use crate::host::memory::MappedWeights;
use crate::pb::tensorflow::tensor_info::Encoding;
use crate::pb::tensorflow::{MetaGraphDef, SignatureDef, TensorInfo, TensorShapeProto, tensor_shape_proto};
use prost::Message;
use std::collections::BTreeSet;
use std::ffi::{CString, c_char};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

impl TensorFlow {
    /// Opens `frozen`, as a model with one signature: `serving_default`.
    pub(in crate::engine) fn open_frozen(
        &self,
        frozen: &FrozenGraph,
        options: &Options,
    ) -> Result<Box<dyn Model>> {
        let infos =
            |specs: &[TensorSpec]| specs.iter().map(|spec| (spec.alias.clone(), info(spec))).collect();
        let signature = SignatureDef {
            inputs: infos(&frozen.inputs),
            outputs: infos(&frozen.outputs),
            method_name: "tensorflow/serving/predict".to_owned(),
            ..SignatureDef::default()
        };
        let meta_graph = MetaGraphDef {
            // Its constants are shared.
            graph_def: Some(frozen.graph.clone()),
            signature_def: [(DEFAULT_SIGNATURE.to_owned(), signature)].into(),
            ..MetaGraphDef::default()
        };
        let meta = saved_model::of(Path::new(""), meta_graph)?;
        Ok(Box::new(Session::open(self.api, &frozen.graph.encode_to_vec(), options, meta)?))
    }
}

pub(super) fn info(spec: &TensorSpec) -> TensorInfo {
    let dim = |size: &i64| tensor_shape_proto::Dim { size: *size, ..tensor_shape_proto::Dim::default() };
    TensorInfo {
        encoding: Some(Encoding::Name(spec.tensor.clone())),
        dtype: spec.dtype as i32,
        tensor_shape: Some(TensorShapeProto {
            dim: spec.shape.iter().flatten().map(dim).collect(),
            unknown_rank: spec.shape.is_none(),
        }),
    }
}

/// A session on a frozen graph.
pub(super) struct FrozenSession {
    session: ByName,
    /// The names of all endpoints, and which of them are outputs.
    names: Vec<CString>,
    outputs: Vec<Endpoint>,
    /// True after the first run that succeeded, and held during that.
    has_run: AtomicBool,
    first: Mutex<()>,
}

impl FrozenSession {
    /// Takes `session`, whose graph has these `endpoints`, sorted, and among them these `outputs`.
    pub(super) fn new(
        session: ByName,
        endpoints: &[String],
        outputs: &BTreeSet<&str>,
    ) -> Result<FrozenSession> {
        let numbers = endpoints.iter().zip(0..).filter(|(name, _)| outputs.contains(name.as_str()));
        Ok(FrozenSession {
            session,
            names: endpoints.iter().map(|name| c_string(name)).collect::<Result<_>>()?,
            outputs: numbers.map(|(_, number)| Endpoint(number)).collect(),
            has_run: AtomicBool::new(false),
            first: Mutex::new(()),
        })
    }

    /// Runs the graph; `feeds` are endpoints and as many values, both lists of endpoints are sorted.
    pub(super) fn run(
        &self,
        (inputs, values): (&[Endpoint], &[*mut TfTensor]),
        fetches: &[Endpoint],
        options: *const TfBuffer,
    ) -> Result<Few<Owned>> {
        let name = |endpoint: &Endpoint| self.names[endpoint.0 as usize].as_ptr();
        let inputs: Few<*const c_char> = inputs.iter().map(name).collect();
        let outputs: Few<*const c_char> = self.outputs.iter().map(name).collect();
        let run = || self.session.run((&inputs, values), &outputs, options);
        let results = if self.has_run.load(Ordering::Acquire) { run() } else { self.run_first(run) }?;
        let fetched = self.outputs.iter().zip(results).filter(|(output, _)| fetches.contains(output));
        Ok(fetched.map(|(_, result)| result).collect())
    }

    /// Runs the graph alone: TensorFlow makes the kernels, and then lets go of the graph.
    fn run_first(&self, run: impl Fn() -> Result<Few<Owned>>) -> Result<Few<Owned>> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        if self.has_run.load(Ordering::Acquire) {
            drop(first);
            return run();
        }
        // The constants that stay are made now.
        let mapped = MappedWeights::begin();
        let results = run()?;
        drop(mapped);
        self.session.drop_graph();
        self.has_run.store(true, Ordering::Release);
        Ok(results)
    }
}
