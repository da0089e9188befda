//! Recording of live requests: for a warm-up file, and with their answers for the payload log.
//!
//! Without either, a call costs two checks of a flag. Otherwise a [`Sample`] of a call is taken before it runs, and kept
//! if the call succeeds: a request that fails would fail every load that replays it.

use super::{Answer, Request, responses};
use crate::engine::signature::Signature;
use crate::memory::Reservation;
use crate::payload::{Chosen, Payloads};
use crate::pb::tensorflow::serving::{self as wire, LogMetadata, PredictRequest, input};
use crate::pb::wire::{Pieces, bytes_field_len};
use crate::servable::Servable;
use crate::tensor::{Strings, Tensor};
use bytes::Bytes;
use prost::Message;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// Kinds of requests, with the numbers of their fields in `PredictionLog` (docs/spec/grpc.md section 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// A `ClassificationRequest`.
    Classify = 2,
    /// A `RegressionRequest`.
    Regress = 3,
    /// A `MultiInferenceRequest`.
    MultiInference = 4,
    /// A `PredictRequest`.
    Predict = 6,
}

impl From<&Request> for RecordKind {
    fn from(request: &Request) -> RecordKind {
        match request {
            Request::Predict { .. } => RecordKind::Predict,
            Request::Classify(_) => RecordKind::Classify,
            Request::Regress(_) => RecordKind::Regress,
            Request::MultiInference { .. } => RecordKind::MultiInference,
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

/// The current recordings, at most one per model, and the payload logs.
pub struct Recorder {
    active: AtomicBool,
    recordings: Mutex<HashMap<String, Arc<Recording>>>,
    /// The payload logs.
    pub payloads: Payloads,
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
    /// Starts without recordings.
    pub fn new(payloads: Payloads) -> Recorder {
        Recorder { active: AtomicBool::new(false), recordings: Mutex::default(), payloads }
    }

    /// Starts without recordings, and without payload logs.
    #[cfg(test)]
    pub(crate) fn none() -> Recorder {
        let limits = crate::payload::FileLimits { bytes: 0, age: None };
        Recorder::new(Payloads::new(limits, |record| record.to_vec(), None))
    }

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

    /// Returns whether requests are being recorded.
    pub fn is_active(&self) -> bool {
        self.active.load(Relaxed)
    }

    /// Samples a starting call if calls to `model` are recorded and this one is due, or if its payload is to be logged;
    /// `message` makes its message, and without one there is no sample.
    pub fn sample(
        &self,
        model: &str,
        request: &Request,
        message: impl FnOnce() -> Option<Bytes>,
    ) -> Option<Sample> {
        let recording = if self.is_active() { self.all().get(model).cloned() } else { None };
        let recording = recording.filter(|recording| recording.wants_next());
        let log = if self.payloads.is_active() { self.payloads.choose(model) } else { None };
        if recording.is_none() && log.is_none() {
            return None;
        }
        // A recording has limits of its own.
        let memory = if log.is_some() { self.payloads.reserve() } else { Reservation::default() };
        let fits = |log: &Arc<Chosen>, bytes| {
            let fits = memory.try_grow(bytes);
            if !fits {
                log.lose();
            }
            fits
        };
        // Before anything is copied; the message has some bytes more.
        let expected = if log.is_some() { request.memory() } else { 0 };
        let log = log.filter(|log| fits(log, expected));
        if recording.is_none() && log.is_none() {
            return None;
        }
        let made = message()?;
        let log = log.filter(|log| fits(log, made.len().saturating_sub(expected)));
        if recording.is_none() && log.is_none() {
            return None;
        }
        let (kind, signature) = (request.into(), request.signature().into());
        Some(Sample { recording, log, kind, signature, request: made, answered: None, memory })
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
    recording: Option<Arc<Recording>>,
    log: Option<Arc<Chosen>>,
    kind: RecordKind,
    signature: Box<str>,
    request: Bytes,
    /// For the payload log: who has answered, and the answer.
    answered: Option<(LogMetadata, Bytes)>,
    /// Counts these copies for the payload log.
    memory: Reservation,
}

impl Sample {
    /// Takes down the answer of `servable`, which is not sent yet.
    pub fn answered(&mut self, servable: &Servable, answer: &Answer<'_>) {
        let Some(log) = &self.log else { return };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let metadata = LogMetadata {
            model_spec: Some(responses::used(servable.name(), &self.signature, servable)),
            sampling_config: Some(log.sampling_config.clone()),
            saved_model_tags: log.tags.clone(),
            timestamp_secs: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
            ..LogMetadata::default()
        };
        let expected = answer.memory();
        if !self.memory.try_grow(expected) {
            return log.lose();
        }
        let response = responses::response(servable, &self.signature, answer);
        if self.memory.try_grow(response.len().saturating_sub(expected)) {
            self.answered = Some((metadata, response));
        } else {
            log.lose();
        }
    }

    /// Keeps the sample: the call succeeded.
    pub fn keep(self) {
        if let Some(recording) = self.recording {
            recording.keep(prediction_log(self.kind, &self.request));
        }
        if let (Some(log), Some((metadata, response))) = (self.log, self.answered) {
            // As long as what it is made of, which goes at once.
            log.log(answered_log(self.kind, &metadata, &self.request, &response), self.memory);
        }
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
fn prediction_log(kind: RecordKind, request: &[u8]) -> Bytes {
    let inner = bytes_field_len(1, request.len());
    let mut out = Pieces::with_capacity(bytes_field_len(kind as u32, inner));
    out.bytes_key(kind as u32, inner);
    out.bytes_key(1, request.len());
    out.copy(request);
    out.joined()
}

/// The same with who answered, and the response, which is field 2 for all kinds.
fn answered_log(kind: RecordKind, metadata: &LogMetadata, request: &[u8], response: &[u8]) -> Bytes {
    let metadata = metadata.encode_to_vec();
    let inner = bytes_field_len(1, request.len()) + bytes_field_len(2, response.len());
    let whole = bytes_field_len(1, metadata.len()) + bytes_field_len(kind as u32, inner);
    let mut out = Pieces::with_capacity(whole);
    out.bytes_key(1, metadata.len());
    out.copy(&metadata);
    out.bytes_key(kind as u32, inner);
    for (number, message) in [(1, request), (2, response)] {
        out.bytes_key(number, message.len());
        out.copy(message);
    }
    out.joined()
}

/// Serializes a `PredictRequest` for `signature`, with its `inputs` in the signature's order.
pub fn predict_request(model: &str, signature: &Signature, inputs: &[Tensor]) -> Bytes {
    let aliases = signature.inputs.iter().map(|spec| spec.alias.clone());
    let request = PredictRequest {
        model_spec: spec(model, &signature.name),
        inputs: aliases.zip(inputs.iter().map(responses::proto)).collect(),
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

#[cfg(test)]
mod tests;
