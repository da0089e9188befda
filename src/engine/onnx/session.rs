//! A loaded model: its sessions, and its inputs and outputs in a fixed order.

#![allow(unsafe_code)]

use super::ffi::{OrtRunOptions, OrtSession, OrtValue};
use super::graph::Description;
use super::runtime::Runtime;
use super::tensors::{Fed, Value};
use super::watch;
use crate::engine::forms::{Form, Forms};
use crate::engine::signature::{Signature, TensorSpec};
use crate::engine::{Endpoint, Model, RunOptions, Termination, Threads};
use crate::error::{Error, Kind, Result};
use crate::tensor::Tensor;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
use std::ops::Range;
use std::ptr::{null, null_mut};
use std::sync::Arc;
use std::time::Duration;

/// A value for each tensor of a run; up to four need no allocation.
type Few<T> = SmallVec<[T; 4]>;

/// An `OrtSession`, released when dropped.
pub(super) struct Handle {
    pub(super) runtime: &'static Runtime,
    raw: *mut OrtSession,
}

// SAFETY: a session may be run from many threads at once, and released from any.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

// A session takes any number of runs at once.
impl Form for Handle {}

impl Handle {
    /// # Safety
    /// `raw` must be a live session that nothing else releases.
    pub(super) unsafe fn from_raw(runtime: &'static Runtime, raw: *mut OrtSession) -> Handle {
        Handle { runtime, raw }
    }

    /// Returns the pointer, for a call that `self` outlives.
    pub(super) fn as_ptr(&self) -> *mut OrtSession {
        self.raw
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: ours, and released once; outputs that are still read hold their memory themselves.
        unsafe { (self.runtime.api.release_session)(self.raw) };
    }
}

/// A tensor of the model's, by name.
pub(super) struct Named {
    pub(super) name: CString,
    /// What it takes, if it is an input.
    pub(super) input: Option<TensorSpec>,
    pub(super) is_output: bool,
}

/// The sessions of a model, with everything needed to run it.
pub(super) struct Session {
    runtime: &'static Runtime,
    pub(super) forms: Arc<Forms<Handle>>,
    /// Indexed by [`Endpoint`], sorted by name.
    tensors: Vec<Named>,
    signatures: BTreeMap<String, Signature>,
    termination: Termination,
    changes_nothing: bool,
}

impl Session {
    /// Makes a model of a session with one signature. `tensors` are sorted by name.
    pub(super) fn new(
        runtime: &'static Runtime,
        forms: Arc<Forms<Handle>>,
        tensors: Vec<Named>,
        signature: Signature,
        description: &Description,
    ) -> Session {
        Session {
            runtime,
            forms,
            tensors,
            signatures: [(signature.name.to_string(), signature)].into(),
            termination: description.termination,
            changes_nothing: description.changes_nothing,
        }
    }

    fn named(&self, endpoint: Endpoint) -> Result<&Named> {
        self.tensors.get(endpoint.0 as usize).ok_or_else(|| Error::internal("An endpoint of another model"))
    }

    /// Checks that each input is fed once, with a tensor that fits.
    fn check(&self, feeds: &[(Endpoint, Tensor)]) -> Result<()> {
        let mut fed: SmallVec<[bool; 16]> = SmallVec::from_elem(false, self.tensors.len());
        for (endpoint, tensor) in feeds {
            let named = self.named(*endpoint)?;
            let Some(input) = &named.input else {
                return Err(Error::invalid(format!("{:?} is no input of the model", named.name)));
            };
            if std::mem::replace(&mut fed[endpoint.0 as usize], true) {
                return Err(Error::invalid(format!("Input {:?} is fed more than once", input.alias)));
            }
            if !fits(input, tensor) {
                return Err(misfit(input, tensor));
            }
        }
        let missing = self.tensors.iter().zip(&fed).filter(|(_, is_fed)| !**is_fed);
        match missing.filter_map(|(named, _)| named.input.as_ref()).next() {
            Some(input) => Err(Error::invalid(format!("Input {:?} is missing", input.alias))),
            None => Ok(()),
        }
    }

    /// Calls ONNX Runtime. Each input is fed once, each of `fetches` is asked once.
    fn call(
        &self,
        feeds: &[(Endpoint, Tensor)],
        fetches: &[Endpoint],
        options: *const OrtRunOptions,
    ) -> Result<Few<Tensor>> {
        let (runtime, api) = (self.runtime, &self.runtime.api);
        let fed = feeds.iter().map(|(_, tensor)| Fed::new(runtime, tensor)).collect::<Result<Few<Fed>>>()?;
        let name = |endpoint: &Endpoint| self.tensors[endpoint.0 as usize].name.as_ptr();
        let inputs: Few<*const c_char> = feeds.iter().map(|(endpoint, _)| name(endpoint)).collect();
        let values: Few<*const OrtValue> = fed.iter().map(Fed::as_ptr).collect();
        let outputs: Few<*const c_char> = fetches.iter().map(name).collect();
        let mut results: Few<*mut OrtValue> = SmallVec::from_elem(null_mut(), outputs.len());
        let turn = self.forms.begin();
        // SAFETY: every array has the length passed with it; session, options, names and values are live, and outlive
        // the call; we own each result.
        let status = unsafe {
            (api.run)(
                turn.compiled.raw,
                options,
                inputs.as_ptr(),
                values.as_ptr(),
                inputs.len(),
                outputs.as_ptr(),
                outputs.len(),
                results.as_mut_ptr(),
            )
        };
        drop(turn);
        let owned = results.into_iter().filter(|result| !result.is_null());
        // SAFETY: as above; failed runs leave nulls.
        let owned: Few<Value> = owned.map(|result| unsafe { Value::from_raw(runtime, result) }).collect();
        api.check(status).map_err(|why| Error::new(why.of_run(), why.text))?;
        if owned.len() != fetches.len() {
            return Err(Error::internal("ONNX Runtime left an output out"));
        }
        let given = fed.iter().filter_map(Fed::copy).chain(feeds.iter().map(|(_, tensor)| tensor.bytes()));
        let ranges: Few<Range<usize>> = given.map(range).collect();
        owned.into_iter().map(|value| value.into_tensor(&ranges)).collect()
    }

    /// Like [`Self::call`], for at most `timeout`.
    fn call_within(
        &self,
        feeds: &[(Endpoint, Tensor)],
        fetches: &[Endpoint],
        timeout: Duration,
    ) -> Result<Few<Tensor>> {
        let runtime = self.runtime;
        let options = watch::Options::new(runtime).map_err(|why| Error::internal(why.text))?;
        let options = Arc::new(options);
        let watched = runtime.watch.over(options.clone(), timeout);
        let result = self.call(feeds, fetches, options.as_ptr());
        drop(watched);
        result.map_err(|why| {
            if !options.is_over() {
                return why;
            }
            Error::new(Kind::DeadlineExceeded, format!("The run did not end within {timeout:?}"))
        })
    }
}

impl Model for Session {
    fn signatures(&self) -> &BTreeMap<String, Signature> {
        &self.signatures
    }

    fn endpoint(&self, tensor: &str) -> Option<Endpoint> {
        let found =
            self.tensors.binary_search_by(|named| named.name.to_bytes().cmp(tensor.as_bytes())).ok()?;
        u32::try_from(found).ok().map(Endpoint)
    }

    fn changes_nothing(&self, signature: &str) -> bool {
        self.changes_nothing && self.signatures.contains_key(signature)
    }

    fn termination(&self, signature: &str) -> Termination {
        if self.signatures.contains_key(signature) { self.termination } else { Termination::Unknown }
    }

    fn share_cores(&self, shared: bool) -> Result<()> {
        self.forms.take_core_each(shared)
    }

    fn run(
        &self,
        feeds: &[(Endpoint, Tensor)],
        fetches: &[Endpoint],
        options: RunOptions,
    ) -> Result<Vec<Tensor>> {
        self.check(feeds)?;
        let mut asked: Few<Endpoint> = SmallVec::from_slice(fetches);
        asked.sort_unstable();
        asked.dedup();
        if let Some(other) =
            asked.iter().find(|fetch| !self.named(**fetch).is_ok_and(|named| named.is_output))
        {
            return Err(Error::invalid(format!("{:?} is no output of the model", self.named(*other)?.name)));
        }
        // An output that is an input needs no run; its memory is the caller's.
        let is_fed = |fetch: &Endpoint| feeds.iter().any(|(endpoint, _)| endpoint == fetch);
        asked.retain(|fetch| !is_fed(fetch));
        // What ends soon for its shapes is not worth the options of a run.
        let may_be_late = options.threads != Threads::Caller || self.termination != Termination::ByShapes;
        let results = match options.timeout.filter(|_| may_be_late) {
            _ if asked.is_empty() => Few::new(),
            Some(timeout) => self.call_within(feeds, &asked, timeout)?,
            None => self.call(feeds, &asked, null())?,
        };
        let result = |fetch: &Endpoint| match asked.binary_search(fetch) {
            Ok(place) => results.get(place).cloned(),
            Err(_) => feeds.iter().find(|(endpoint, _)| endpoint == fetch).map(|(_, tensor)| tensor.clone()),
        };
        let all = fetches.iter().map(result).collect::<Option<Vec<Tensor>>>();
        all.ok_or_else(|| Error::internal("An output was not fetched"))
    }
}

/// Returns the addresses of `bytes`.
fn range(bytes: &[u8]) -> Range<usize> {
    let start = bytes.as_ptr() as usize;
    start..start + bytes.len()
}

/// Returns whether `input` takes `tensor`.
fn fits(input: &TensorSpec, tensor: &Tensor) -> bool {
    let is_size = |(declared, came): (&i64, &i64)| *declared < 0 || declared == came;
    let fits_shape = |shape: &Vec<i64>| {
        shape.len() == tensor.shape().len() && shape.iter().zip(tensor.shape()).all(is_size)
    };
    input.dtype == tensor.dtype() && input.shape.as_ref().is_none_or(fits_shape)
}

/// Says what `input` expects, and that `tensor` came.
fn misfit(input: &TensorSpec, tensor: &Tensor) -> Error {
    let expected = match &input.shape {
        Some(shape) => format!("{} of shape {shape:?}", input.dtype.name()),
        None => format!("{} of any shape", input.dtype.name()),
    };
    let hint = if input.shape.iter().flatten().any(|dim| *dim < 0) { " (-1 is any size)" } else { "" };
    Error::invalid(format!(
        "Input {:?} expects {expected}{hint}, but {} of shape {:?} was given",
        input.alias,
        tensor.dtype().name(),
        tensor.shape()
    ))
}
