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
use crate::engine::waiting::wait_while;
use crate::engine::{Endpoint, Model};
use crate::error::{Error, Kind, Result};
use crate::host::memory::MappedWeights;
use crate::pb::tensorflow::tensor_info::Encoding;
use crate::pb::tensorflow::{MetaGraphDef, SignatureDef, TensorInfo, TensorShapeProto, tensor_shape_proto};
use prost::Message;
use std::collections::BTreeSet;
use std::ffi::{CString, c_char};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

impl TensorFlow {
    /// Opens `frozen`, as a model with one signature: `serving_default`.
    pub(in crate::engine) fn open_frozen(
        &self,
        frozen: &FrozenGraph,
        options: &Options,
    ) -> Result<Box<dyn Model>> {
        Ok(Box::new(self.frozen_session(frozen, options)?))
    }

    pub(super) fn frozen_session(&self, frozen: &FrozenGraph, options: &Options) -> Result<Session> {
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
        Session::open(self.api, &frozen.graph.encode_to_vec(), options, meta)
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
    /// True after the first run that succeeded.
    has_run: AtomicBool,
    /// Whether it is going on.
    is_running: Mutex<bool>,
    ended: Condvar,
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
            is_running: Mutex::new(false),
            ended: Condvar::new(),
        })
    }

    /// Cancels its runs.
    pub(super) fn interrupt(&self) {
        self.session.close();
    }

    /// Returns whether the first run is over.
    pub(super) fn has_run(&self) -> bool {
        self.has_run.load(Ordering::Acquire)
    }

    /// Returns the turn of the first run, if it is to be done: TensorFlow makes the kernels then. Waits for another
    /// thread that does it, no longer than `timeout`.
    pub(super) fn first(&self, timeout: Option<Duration>) -> Result<Option<First<'_>>> {
        let waited = wait_while(&self.ended, self.is_running(), timeout, |is_running| *is_running);
        let mut is_running = waited.ok_or_else(late)?;
        *is_running = !self.has_run();
        // Not before it is known to be one: dropping it takes the lock.
        Ok(is_running.then(|| First(self)))
    }

    fn is_running(&self) -> MutexGuard<'_, bool> {
        self.is_running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the graph; `feeds` are endpoints and as many values, both lists of endpoints are sorted. `first`: what
    /// [`Self::first`] returned.
    pub(super) fn run(
        &self,
        (inputs, values): (&[Endpoint], &[*mut TfTensor]),
        fetches: &[Endpoint],
        options: *const TfBuffer,
        first: Option<First<'_>>,
    ) -> Result<Few<Owned>> {
        let name = |endpoint: &Endpoint| self.names[endpoint.0 as usize].as_ptr();
        let inputs: Few<*const c_char> = inputs.iter().map(name).collect();
        let outputs: Few<*const c_char> = self.outputs.iter().map(name).collect();
        // The constants that stay are made by the first run.
        let mapped = first.is_some().then(MappedWeights::begin);
        let results = self.session.run((&inputs, values), &outputs, options)?;
        drop(mapped);
        if first.is_some() {
            self.session.drop_graph();
            self.has_run.store(true, Ordering::Release);
        }
        drop(first);
        let fetched = self.outputs.iter().zip(results).filter(|(output, _)| fetches.contains(output));
        Ok(fetched.map(|(_, result)| result).collect())
    }
}

/// The first run of a graph, until it is dropped: no other goes on meanwhile.
pub(super) struct First<'a>(&'a FrozenSession);

impl Drop for First<'_> {
    fn drop(&mut self) {
        *self.0.is_running() = false;
        self.0.ended.notify_all();
    }
}

fn late() -> Error {
    Error::new(Kind::DeadlineExceeded, "The deadline passed while another run was the first of the model")
}
