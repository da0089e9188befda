//! The access log: one line for each request, or a share of them, written by a thread of its own.
//!
//! An [`Exchange`](crate::exchange::Exchange) begins a request with what its head says; the layers below add what they
//! find out to its [`Entry`], which goes with the request's context and is what its trace is made of, too. A line has nothing
//! of a payload, and no text of an error, as that may quote one. If lines cannot be written as fast as they come, some are
//! dropped, and a line tells how many.

mod entry;
pub mod id;
mod line;
mod output;

pub use entry::{Entry, Head, Traced};
pub use output::Output;

use crate::chance::chosen;
use crate::log_format::LogFormat;
use crate::log_queue::{Limits, LogQueue};
use output::{Lines, Shared};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// What may wait to be written: some megabytes, and more than comes between two writes.
const LIMITS: Limits = Limits { items: 16 << 10, bytes: 16 << 20, ..Limits::NONE };
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

/// The log of a server.
pub struct AccessLog {
    which: Which,
    share: f64,
    queue: LogQueue<Ended>,
    shared: Arc<Shared>,
}

/// A request that has ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// What is known of it.
    pub entry: Arc<Entry>,
    /// How it ended.
    pub end: End,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Of the protocol; `None` if the client left before it was answered.
    pub status: Option<u16>,
    /// The canonical code, as far as there is one.
    pub code: Option<&'static str>,
    /// The bytes of the answer.
    pub bytes: u64,
    /// From its head to its end.
    pub took: Duration,
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
        let queue = LogQueue::start("servable-access", LIMITS, lines)?;
        Ok(AccessLog { which: options.which, share: options.share, queue, shared })
    }

    /// Returns whether chance wants a request to be logged.
    pub fn chooses(&self) -> bool {
        chosen(self.share)
    }

    /// Logs a request that was chosen, unless only others are wanted.
    pub fn log(&self, ended: Ended) {
        if self.which == Which::All || ended.end.is_failure() {
            // Who reads the log is told how many are missing.
            let _accepted = self.queue.offer(ended, EACH);
        }
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
