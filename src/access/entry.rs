//! What becomes known of one request on its way to its answer, for its line in the access log and for its trace.

use super::id::RequestId;
use crate::peer::Sender;
use crate::timeline::{BatchRun, Timeline};
use crate::trace_context::TraceContext;
use opentelemetry::trace::SpanId;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

/// Most bytes that a text chosen by a client takes of a line.
const MOST: usize = 200;
/// Most batches that are kept of a request that was split.
const MOST_BATCHES: usize = 16;

/// What the head of a request says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// `rest` or `grpc`.
    pub protocol: &'static str,
    /// The client, and the proxy that named it.
    pub sender: Sender,
    /// The name in the client's certificate.
    pub certified: Option<Arc<str>>,
    /// Identifies the request.
    pub id: RequestId,
    /// Its span, if it is traced; otherwise the one that the client goes on from.
    pub trace: Option<TraceContext>,
    /// `http` or `https`, for its trace; `None` for a call of gRPC.
    pub scheme: Option<&'static str>,
}

/// The place of a request in its trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// Its own span.
    pub span: TraceContext,
    /// The client's.
    pub parent: Option<SpanId>,
    /// What vendors have added to the trace.
    pub state: Option<Box<str>>,
}

/// One request.
#[derive(Debug)]
pub struct Entry {
    /// What its head says.
    pub head: Head,
    /// When its head was there, by the clock on the wall.
    pub at: SystemTime,
    /// Its phases.
    pub timeline: Arc<Timeline>,
    traced: Option<Traced>,
    method: Box<str>,
    path: Option<Box<str>>,
    /// The method of the model, once known.
    verb: OnceLock<&'static str>,
    pub(super) model: OnceLock<Box<str>>,
    version: AtomicI64,
    pub(super) signature: OnceLock<Box<str>>,
    /// The name of the request's token.
    token: OnceLock<Arc<str>>,
    code: OnceLock<&'static str>,
    /// Of its inputs, for its trace.
    rows: AtomicI64,
    batches: Mutex<Vec<Arc<BatchRun>>>,
}

impl Entry {
    /// Begins with what the head says. `method` and `path` are the client's words. `exemplar`: the span by which metrics
    /// show it.
    pub fn begin(
        head: Head,
        method: &str,
        path: Option<&str>,
        exemplar: Option<TraceContext>,
        traced: Option<Traced>,
    ) -> Entry {
        Entry {
            head,
            at: SystemTime::now(),
            timeline: Arc::new(Timeline::begin(exemplar, traced.is_some())),
            traced,
            method: cut(method).into(),
            path: path.map(|path| cut(path).into()),
            verb: OnceLock::new(),
            model: OnceLock::new(),
            version: AtomicI64::new(-1),
            signature: OnceLock::new(),
            token: OnceLock::new(),
            code: OnceLock::new(),
            rows: AtomicI64::new(-1),
            batches: Mutex::default(),
        }
    }

    /// The request names this model.
    pub fn names(&self, model: &str) {
        if !model.is_empty() {
            self.model.get_or_init(|| cut(model).into());
        }
    }

    /// The request calls this method of a model.
    pub fn calls(&self, verb: &'static str) {
        self.verb.get_or_init(|| verb);
    }

    /// Returns what is asked for, and the path unless that and the model say the same.
    pub(super) fn method(&self) -> (&str, Option<&str>) {
        /// What the methods of models are named by.
        const KNOWN: [&str; 2] = ["/tensorflow.serving.", "/inference.GRPCInferenceService/"];
        let is_known = |path: &str| KNOWN.iter().any(|known| path.starts_with(known));
        match self.verb.get() {
            Some(verb) => (verb, None),
            None => (&self.method, self.path.as_deref().filter(|path| !is_known(path))),
        }
    }

    /// Returns what is asked for in the words of the protocol: the method, the path, and the verb of a model.
    pub fn asked(&self) -> (&str, Option<&str>, Option<&'static str>) {
        (&self.method, self.path.as_deref(), self.verb.get().copied())
    }

    /// Returns its place in its trace, if it is traced.
    pub fn traced(&self) -> Option<&Traced> {
        self.traced.as_ref()
    }

    /// Returns whether it is traced.
    pub fn is_traced(&self) -> bool {
        self.traced.is_some()
    }

    /// Its inputs have `rows` rows, if they have any.
    pub fn has_rows(&self, rows: Option<usize>) {
        self.rows.store(rows.and_then(|rows| i64::try_from(rows).ok()).unwrap_or(-1), Relaxed);
    }

    /// Returns the rows of its inputs, once known.
    pub fn rows(&self) -> Option<i64> {
        Some(self.rows.load(Relaxed)).filter(|rows| *rows >= 0)
    }

    /// It, or some rows of it, is run in `batch`.
    pub fn runs_in(&self, batch: &Arc<BatchRun>) {
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        if batches.len() < MOST_BATCHES {
            batches.push(batch.clone());
        }
    }

    /// Returns the batches in which it was run.
    pub fn batches(&self) -> Vec<Arc<BatchRun>> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the model that it names, and the signature, once known.
    pub fn model(&self) -> (Option<&str>, Option<&str>) {
        (self.model.get().map(|name| &**name), self.signature.get().map(|name| &**name))
    }

    /// The request has shown the token of this name.
    pub fn shows(&self, token: &Arc<str>) {
        self.token.get_or_init(|| token.clone());
    }

    /// Returns the name of the client's token, or else that in its certificate.
    pub fn client(&self) -> Option<&str> {
        let token = self.token.get().or(self.head.certified.as_ref());
        token.map(|name| cut(name))
    }

    /// This version answers.
    pub fn is_for(&self, version: i64) {
        self.version.store(version, Relaxed);
    }

    /// The request is for this signature.
    pub fn asks(&self, signature: &str) {
        self.signature.get_or_init(|| cut(signature).into());
    }

    /// The answer has this canonical code.
    pub fn ends(&self, code: &'static str) {
        self.code.get_or_init(|| code);
    }

    /// Returns the canonical code of the answer, once known.
    pub fn code(&self) -> Option<&'static str> {
        self.code.get().copied()
    }

    /// Returns the version, once known.
    pub fn version(&self) -> Option<i64> {
        Some(self.version.load(Relaxed)).filter(|version| *version >= 0)
    }

    /// Returns how long it has taken so far.
    pub fn took(&self) -> Duration {
        self.timeline.began().elapsed()
    }
}

/// Returns the beginning of `text`, whole if it is short.
fn cut(text: &str) -> &str {
    if text.len() <= MOST {
        return text;
    }
    let end = (0..=MOST).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}
