//! What becomes known of one request on its way to its answer, for its line in the access log.

use super::id::RequestId;
use crate::peer::Sender;
use crate::profile::Phases;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

/// Most bytes that a text chosen by a client takes of a line.
const MOST: usize = 200;

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
    /// The trace that the client goes on with.
    pub trace: Option<[u8; 32]>,
}

/// One request.
#[derive(Debug)]
pub struct Entry {
    pub(super) head: Head,
    pub(super) at: SystemTime,
    pub(super) began: Instant,
    method: Box<str>,
    path: Option<Box<str>>,
    /// The method of the model, once known.
    verb: OnceLock<&'static str>,
    pub(super) model: OnceLock<Box<str>>,
    version: AtomicI64,
    pub(super) signature: OnceLock<Box<str>>,
    /// The name of the request's token.
    token: OnceLock<Arc<str>>,
    pub(super) code: OnceLock<&'static str>,
    received: AtomicU64,
    /// The times of the phases.
    pub phases: Arc<Phases>,
}

impl Entry {
    /// Begins with what the head says. `method` and `path` are the client's words.
    pub(super) fn new(head: Head, method: &str, path: Option<&str>) -> Entry {
        Entry {
            head,
            at: SystemTime::now(),
            began: Instant::now(),
            method: cut(method).into(),
            path: path.map(|path| cut(path).into()),
            verb: OnceLock::new(),
            model: OnceLock::new(),
            version: AtomicI64::new(-1),
            signature: OnceLock::new(),
            token: OnceLock::new(),
            code: OnceLock::new(),
            received: AtomicU64::new(0),
            phases: Arc::default(),
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
        match self.verb.get() {
            Some(verb) => (verb, None),
            None => (&self.method, self.path.as_deref()),
        }
    }

    /// The request has shown the token of this name.
    pub fn shows(&self, token: &Arc<str>) {
        self.token.get_or_init(|| token.clone());
    }

    /// Returns the name of the client's token, or else that in its certificate.
    pub(super) fn client(&self) -> Option<&str> {
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

    /// A body or message of `bytes` bytes has come.
    pub fn received(&self, bytes: usize) {
        self.received.store(bytes as u64, Relaxed);
    }

    /// The answer has this canonical code.
    pub fn ends(&self, code: &'static str) {
        self.code.get_or_init(|| code);
    }

    /// Returns the version, once known.
    pub(super) fn version(&self) -> Option<i64> {
        Some(self.version.load(Relaxed)).filter(|version| *version >= 0)
    }

    pub(super) fn bytes_in(&self) -> u64 {
        self.received.load(Relaxed)
    }

    pub(super) fn took(&self) -> Duration {
        self.began.elapsed()
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
