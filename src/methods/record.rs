//! Recording of live requests for a warm-up file.
//!
//! Without a recording, a call costs one check of a flag. With one, a [`Sample`] of a call is taken before it runs, and
//! kept if the call succeeds: a request that fails would fail every load that replays it.

use super::Request;
use crate::engine::signature::Signature;
use crate::pb::tensor::Encoded;
use crate::pb::tensorflow::serving::{self as wire, PredictRequest, input};
use crate::pb::wire::{Pieces, bytes_field_len};
use crate::tensor::{Strings, Tensor};
use bytes::{Bytes, BytesMut};
use prost::Message;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Kinds of requests, with the numbers of their fields in `PredictionLog` (docs/spec/grpc.md section 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A `ClassificationRequest`.
    Classify = 2,
    /// A `RegressionRequest`.
    Regress = 3,
    /// A `MultiInferenceRequest`.
    MultiInference = 4,
    /// A `PredictRequest`.
    Predict = 6,
}

impl From<&Request> for Kind {
    fn from(request: &Request) -> Kind {
        match request {
            Request::Predict { .. } => Kind::Predict,
            Request::Classify(_) => Kind::Classify,
            Request::Regress(_) => Kind::Regress,
            Request::MultiInference { .. } => Kind::MultiInference,
        }
    }
}

/// The limits of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordLimits {
    /// Number of requests that ends the recording.
    pub requests: usize,
    /// One in this many calls is sampled; 0 counts as 1.
    pub every: u64,
    /// Largest total size of the samples, in bytes; others are dropped.
    pub bytes: usize,
}

/// The current recordings, at most one per model.
#[derive(Default)]
pub struct Recorder {
    active: AtomicBool,
    recordings: Mutex<HashMap<String, Arc<Recording>>>,
}

struct Recording {
    limits: RecordLimits,
    hasher: RandomState,
    progress: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Default)]
struct Progress {
    asked: u64,
    kept: Vec<Bytes>,
    bytes: usize,
    seen: HashSet<u64>,
    ended: bool,
}

impl Recorder {
    /// Records calls to `model` until there are enough or `time` is over; blocks until then. Returns their distinct
    /// `PredictionLog`s. A later call for the same model ends an earlier one.
    pub fn record(&self, model: &str, limits: RecordLimits, time: Duration) -> Vec<Bytes> {
        let recording = Arc::new(Recording::new(limits));
        if let Some(earlier) = self.change(|all| all.insert(model.to_owned(), recording.clone())) {
            earlier.end();
        }
        let kept = recording.wait(time);
        self.change(|all| {
            if all.get(model).is_some_and(|now| Arc::ptr_eq(now, &recording)) {
                all.remove(model);
            }
        });
        kept
    }

    /// Ends every recording; each returns what it has.
    pub fn end(&self) {
        self.change(|all| all.values().for_each(|recording| recording.end()));
    }

    /// Returns whether anything is being recorded: if not, nothing need be prepared.
    pub fn is_active(&self) -> bool {
        self.active.load(Relaxed)
    }

    /// Samples a starting call if calls to `model` are recorded and this one is due; `request` makes its message, and
    /// without one there is no sample.
    pub fn sample(&self, model: &str, kind: Kind, request: impl FnOnce() -> Option<Bytes>) -> Option<Sample> {
        if !self.is_active() {
            return None;
        }
        let recording = self.all().get(model).cloned()?;
        let request = if recording.wants_next() { request()? } else { return None };
        Some(Sample { record: prediction_log(kind, &request), recording })
    }

    fn change<T>(&self, edit: impl FnOnce(&mut HashMap<String, Arc<Recording>>) -> T) -> T {
        let mut all = self.all();
        let result = edit(&mut all);
        self.active.store(!all.is_empty(), Relaxed);
        result
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Arc<Recording>>> {
        self.recordings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request to keep if it succeeds.
pub struct Sample {
    recording: Arc<Recording>,
    record: Bytes,
}

impl Sample {
    /// Keeps the sample: the call succeeded.
    pub fn keep(self) {
        self.recording.keep(self.record);
    }
}

impl Recording {
    fn new(limits: RecordLimits) -> Recording {
        Recording { limits, hasher: RandomState::new(), progress: Mutex::default(), changed: Condvar::new() }
    }

    /// Counts a call; returns whether to sample it.
    fn wants_next(&self) -> bool {
        let mut progress = self.progress();
        progress.asked += 1;
        !self.is_over(&progress) && (progress.asked - 1).is_multiple_of(self.limits.every.max(1))
    }

    fn keep(&self, record: Bytes) {
        let hash = self.hasher.hash_one(&record);
        let mut progress = self.progress();
        let fits = progress.bytes + record.len() <= self.limits.bytes;
        if self.is_over(&progress) || !fits || !progress.seen.insert(hash) {
            return;
        }
        progress.bytes += record.len();
        progress.kept.push(record);
        if self.is_over(&progress) {
            self.changed.notify_all();
        }
    }

    fn is_over(&self, progress: &Progress) -> bool {
        progress.ended || progress.kept.len() >= self.limits.requests
    }

    fn wait(&self, time: Duration) -> Vec<Bytes> {
        let waited =
            self.changed.wait_timeout_while(self.progress(), time, |progress| !self.is_over(progress));
        let mut progress = waited.unwrap_or_else(PoisonError::into_inner).0;
        progress.ended = true;
        std::mem::take(&mut progress.kept)
    }

    fn end(&self) {
        self.progress().ended = true;
        self.changed.notify_all();
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serializes a `PredictionLog` of a serialized request: the log's field, containing the request's, which is 1 for all
/// kinds.
fn prediction_log(kind: Kind, request: &[u8]) -> Bytes {
    let inner = bytes_field_len(1, request.len());
    let mut out = Pieces::with_capacity(bytes_field_len(kind as u32, inner));
    out.bytes_key(kind as u32, inner);
    out.bytes_key(1, request.len());
    out.copy(request);
    joined(out)
}

/// Serializes a `PredictRequest` for `signature`, with its `inputs` in the signature's order.
pub fn predict_request(model: &str, signature: &Signature, inputs: &[Tensor]) -> Bytes {
    let proto = |tensor| {
        let encoded = Encoded::new(tensor, true);
        let mut out = Pieces::with_capacity(encoded.len());
        encoded.write(&mut out);
        joined(out)
    };
    let aliases = signature.inputs.iter().map(|spec| spec.alias.clone());
    let request = PredictRequest {
        model_spec: spec(model, &signature.name),
        inputs: aliases.zip(inputs.iter().map(proto)).collect(),
        ..Default::default()
    };
    request.encode_to_vec().into()
}

/// Serializes a `ClassificationRequest` or a `RegressionRequest`, which have the same form, of serialized Examples.
pub fn examples_request(model: &str, signature: &str, examples: &Strings) -> Bytes {
    let examples = examples.iter().map(Bytes::copy_from_slice).collect();
    let kind = input::Kind::ExampleList(wire::ExampleList { examples });
    let request = wire::ClassificationRequest {
        model_spec: spec(model, signature),
        input: Some(wire::Input { kind: Some(kind) }),
    };
    request.encode_to_vec().into()
}

fn spec(model: &str, signature: &str) -> Option<wire::ModelSpec> {
    Some(wire::ModelSpec {
        name: model.to_owned(),
        signature_name: signature.to_owned(),
        version_choice: None,
    })
}

fn joined(pieces: Pieces) -> Bytes {
    let pieces = pieces.finish();
    let mut whole = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
    pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
    whole.freeze()
}

#[cfg(test)]
mod tests;
