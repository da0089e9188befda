//! The access log: one line for each request, or a share of them, written by a thread of its own.
//!
//! A protocol begins a request with what its head says ([`AccessLog::begin`]); the layers below add what they find out
//! to its [`Entry`], which goes with the request's context; the protocol ends it with the answer ([`Logged::end`]).
//! A request whose client leaves is logged, too. A line has nothing of a payload, and no text of an error, as that may
//! quote one. If lines cannot be written as fast as they come, some are dropped, and a line tells how many.

mod entry;
pub mod id;
mod line;
mod output;

pub use entry::{Entry, Head};
pub use output::Output;

use crate::log_format::LogFormat;
use crate::log_queue::{Limits, LogQueue};
use crate::peer::Sender;
use id::RequestId;
use output::{Lines, Shared};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// What may wait to be written: some megabytes, and more than comes between two writes.
const LIMITS: Limits = Limits { items: 16 << 10, bytes: 16 << 20 };
/// What a waiting line counts for, in bytes.
const EACH: usize = 512;

/// The requests that are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those that fail.
    Errors,
    /// All.
    All,
}

/// The options of the log.
#[derive(Clone, Debug)]
pub struct AccessOptions {
    /// The requests that are logged.
    pub which: Which,
    /// The share of these, from 0 to 1, chosen by chance.
    pub share: f64,
    /// Where lines go.
    pub output: Output,
    /// How they look.
    pub format: LogFormat,
}

/// The identifiers that are returned with answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestIds {
    /// None.
    #[default]
    Off,
    /// Those that clients sent.
    Given,
    /// Those, and others for requests that came without.
    All,
}

/// Names of the headers of a request that are read.
pub const REQUEST_ID: &str = "x-request-id";
const TRACE_PARENT: &str = "traceparent";

/// What a request asks for, in the words of its protocol.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// `rest` or `grpc`.
    pub protocol: &'static str,
    /// The client, and the proxy that named it.
    pub sender: Sender,
    /// The name in the client's certificate, which has been verified.
    pub certified: Option<&'a Arc<str>>,
    /// `GET`, `Predict`.
    pub method: &'a str,
    /// The path, unless the method says the same.
    pub path: Option<&'a str>,
}

/// One request and its answer, for the log and for the client to name it by.
#[derive(Default)]
pub struct Exchange {
    /// The identifier to return with the answer, if any.
    pub id: Option<RequestId>,
    /// The request, if it is logged.
    pub logged: Option<Logged>,
}

impl Exchange {
    /// Begins a request, of which `header` returns the headers.
    pub fn begin<'h>(
        log: Option<&AccessLog>,
        ids: RequestIds,
        asked: Asked<'_>,
        header: impl Fn(&'static str) -> Option<&'h [u8]>,
    ) -> Exchange {
        if log.is_none() && ids == RequestIds::Off {
            return Exchange::default();
        }
        let given = header(REQUEST_ID).filter(|id| id::is_sane(id)).map(RequestId::from_slice);
        let known = given.or_else(|| (ids == RequestIds::All).then(id::made));
        let head = || Head {
            protocol: asked.protocol,
            sender: asked.sender,
            certified: asked.certified.cloned(),
            id: known.clone().unwrap_or_else(id::made),
            trace: header(TRACE_PARENT).and_then(id::trace_of),
        };
        let logged = log.and_then(|log| log.begin(head, asked.method, asked.path));
        Exchange { id: known.filter(|_| ids != RequestIds::Off), logged }
    }

    /// Returns what goes with the request's context.
    pub fn entry(&self) -> Option<Arc<Entry>> {
        self.logged.as_ref().map(|logged| logged.entry.clone())
    }
}

/// The log of a server.
pub struct AccessLog {
    which: Which,
    share: f64,
    queue: Arc<LogQueue<Line>>,
    shared: Arc<Shared>,
}

/// A request that has ended.
struct Line {
    entry: Arc<Entry>,
    end: End,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    /// Of the protocol; `None` if the client left before it was answered.
    status: Option<u16>,
    /// The canonical code, as far as there is one.
    code: Option<&'static str>,
    bytes: u64,
    took: Duration,
}

impl End {
    fn is_failure(&self) -> bool {
        self.code.map_or_else(|| self.status.is_none_or(|status| status >= 400), |code| code != "OK")
    }
}

impl AccessLog {
    /// Opens the log. Fails if its file cannot be written to.
    pub fn open(options: &AccessOptions) -> std::io::Result<AccessLog> {
        let shared = Arc::new(Shared::default());
        let lines = Lines::open(&options.output, options.format, shared.clone())?;
        let queue = Arc::new(LogQueue::start("servable-access", LIMITS, lines)?);
        Ok(AccessLog { which: options.which, share: options.share, queue, shared })
    }

    /// Begins a request, unless chance leaves it out. `path` is given unless the method and the model say the same.
    pub fn begin(&self, head: impl FnOnce() -> Head, method: &str, path: Option<&str>) -> Option<Logged> {
        id::chosen(self.share).then(|| Logged {
            entry: Arc::new(Entry::new(head(), method, path)),
            which: self.which,
            queue: self.queue.clone(),
            end: None,
        })
    }

    /// Has the file opened again, as its name may mean another one now.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Relaxed);
    }

    /// Returns the number of lines that could not be written.
    pub fn dropped(&self) -> u64 {
        self.queue.dropped() + self.shared.failed.load(Relaxed)
    }

    /// Writes what waits, `within` at most. Nothing more is logged.
    pub fn finish(&self, within: Duration) -> bool {
        self.queue.finish(within)
    }
}

/// A request that is being answered; logged once this is dropped.
pub struct Logged {
    /// What is known of it.
    pub entry: Arc<Entry>,
    which: Which,
    queue: Arc<LogQueue<Line>>,
    end: Option<End>,
}

impl Logged {
    /// Ends the request with `status`, in the terms of its protocol, and an answer of `bytes` bytes. `code`: the
    /// canonical one, where the protocol knows it; otherwise it is that with which the model's answer ended.
    pub fn end(mut self, status: u16, code: Option<&'static str>, bytes: u64) {
        let code = code.or_else(|| self.entry.code.get().copied());
        self.end = Some(End { status: Some(status), code, bytes, took: self.entry.took() });
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        let left = || End { status: None, code: Some("CANCELLED"), bytes: 0, took: self.entry.took() };
        let end = self.end.take().unwrap_or_else(left);
        if self.which == Which::All || end.is_failure() {
            self.queue.offer(Line { entry: self.entry.clone(), end }, EACH);
        }
    }
}
