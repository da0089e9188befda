//! One run of several requests together, for the traces of these requests.

use crate::trace_context::{TraceContext, new_span, new_trace};
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// A batch that some traced request is in: a span of a trace of its own, to which the requests link.
#[derive(Debug)]
pub struct BatchRun {
    /// Its own span.
    pub span: TraceContext,
    /// Those of the traced requests in it.
    pub links: Vec<TraceContext>,
    /// The requests in it, or parts of such.
    pub requests: usize,
    /// Their rows, without filler.
    pub rows: usize,
    /// Rows that it ran with.
    pub size: usize,
    /// When rows began to be put together.
    pub began: Instant,
    ended: Mutex<Ended>,
    done: AtomicBool,
    told: AtomicBool,
}

/// The execution of a batch: once this is dropped, the batch is done, however it has ended.
#[derive(Debug)]
pub struct Execution(pub Arc<BatchRun>);

impl Deref for Execution {
    type Target = BatchRun;

    fn deref(&self) -> &BatchRun {
        &self.0
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        self.0.done.store(true, Release);
    }
}

/// What is known of a batch once it has ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ended {
    /// When the engine began and ended.
    pub ran: Option<[Instant; 2]>,
    /// When each request had its rows; `None` if the run failed.
    pub cut: Option<Instant>,
}

impl BatchRun {
    /// Begins a batch of the requests behind `links`, and others.
    pub fn begin(links: Vec<TraceContext>, requests: usize, rows: usize, size: usize) -> BatchRun {
        let span = TraceContext { trace: new_trace(), span: new_span(), sampled: true };
        BatchRun {
            span,
            links,
            requests,
            rows,
            size,
            began: Instant::now(),
            ended: Mutex::default(),
            done: AtomicBool::new(false),
            told: AtomicBool::new(false),
        }
    }

    /// The engine has run from `started` until now.
    pub fn ran(&self, started: Instant) {
        self.lock().ran = Some([started, Instant::now()]);
    }

    /// Each request has its rows.
    pub fn cut(&self) {
        self.lock().cut = Some(Instant::now());
    }

    /// Returns what is known of its end.
    pub fn ended(&self) -> Ended {
        *self.lock()
    }

    /// Returns whether its execution has ended.
    pub fn is_done(&self) -> bool {
        self.done.load(Acquire)
    }

    /// Returns true once: for the first of its requests that is told of.
    pub fn tell(&self) -> bool {
        !self.told.swap(true, Relaxed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Ended> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
