//! Infer requests: made when a run needs one, and used again by later runs.
//!
//! A request costs a tenth of a millisecond to make and has the memory of its outputs, so a few that are free are kept.
//! OpenVINO runs as many requests of a form at once as it has streams; the others wait.

#![allow(unsafe_code)]

use super::ffi::{Api, OvInferRequest};
use super::handle::Handle;
use super::model::Compiled;
use crate::engine::waiting::wait_while;
use crate::error::{Error, Kind, Result};
use crate::host::memory::MappedWeights;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Most requests that are kept while no run needs them.
const KEPT: usize = 4;
/// A request whose outputs have more bytes is not kept: what a few large runs took would never go back.
const KEPT_BYTES: usize = 16 << 20;

/// The requests of a model.
pub(super) struct Requests {
    free: Mutex<Free>,
    /// Told when a request becomes free.
    freed: Condvar,
    /// True if there is only one, which runs get one after the other.
    only_one: bool,
    /// How many of them OpenVINO runs at once.
    streams: usize,
    /// Runs under way, without those of threads that serve others meanwhile: these are short.
    under_way: AtomicUsize,
    /// Runs that have failed. OpenVINO has then given a part of the graph new shapes, and not computed it: a run with
    /// the shapes of the last one that did not fail would find those, and fail or answer something else.
    failed: AtomicUsize,
}

#[derive(Default)]
struct Free {
    requests: Vec<Handle<OvInferRequest>>,
    /// True once the only one was made.
    is_made: bool,
}

impl Requests {
    pub(super) fn new(only_one: bool, streams: usize) -> Requests {
        let (free, freed, under_way) = (Mutex::default(), Condvar::new(), AtomicUsize::new(0));
        Requests { free, freed, only_one, streams, under_way, failed: AtomicUsize::new(0) }
    }

    /// Counts a run until [`Self::ended`].
    pub(super) fn begun(&self) {
        self.under_way.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn ended(&self) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }

    /// Returns whether a run would have to wait in OpenVINO for the end of others.
    pub(super) fn are_busy(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) >= self.streams
    }

    /// Returns how many runs have failed.
    pub(super) fn failed(&self) -> usize {
        self.failed.load(Ordering::Acquire)
    }

    fn free(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the next run make the only request, as this one could not.
    fn not_made(&self) {
        self.free().is_made = false;
        self.freed.notify_one();
    }
}

/// A request that no other run has meanwhile.
pub(super) struct Lease {
    compiled: Arc<Compiled>,
    /// `None` once it is given back.
    request: Option<Handle<OvInferRequest>>,
    has_failed: AtomicBool,
    /// True if its outputs have more than [`KEPT_BYTES`].
    is_large: AtomicBool,
    /// Held in the first run of a request, in which OpenVINO may pack weights again.
    _mapped: Option<MappedWeights>,
}

impl Lease {
    /// Returns a request that is free, the last one used first; else a new one. If there is only one, waits for it, no
    /// longer than `timeout`.
    pub(super) fn take(compiled: &Arc<Compiled>, timeout: Option<Duration>) -> Result<Lease> {
        let requests = &compiled.requests;
        let is_taken = |free: &mut Free| requests.only_one && free.is_made && free.requests.is_empty();
        let free = wait_while(&requests.freed, requests.free(), timeout, is_taken);
        let mut free = free.ok_or_else(too_late)?;
        let found = free.requests.pop();
        free.is_made = true;
        drop(free);
        let mapped = found.is_none().then(MappedWeights::begin);
        let request = match found {
            Some(request) => request,
            None => compiled.new_request().inspect_err(|_| requests.not_made())?,
        };
        Ok(Lease::of(compiled, request, mapped))
    }

    /// Returns a request that is free, if there is one.
    pub(super) fn take_at_once(compiled: &Arc<Compiled>) -> Option<Lease> {
        let request = compiled.requests.free().requests.pop()?;
        Some(Lease::of(compiled, request, None))
    }

    fn of(
        compiled: &Arc<Compiled>,
        request: Handle<OvInferRequest>,
        _mapped: Option<MappedWeights>,
    ) -> Lease {
        let (has_failed, is_large) = (AtomicBool::new(false), AtomicBool::new(false));
        Lease { compiled: compiled.clone(), request: Some(request), has_failed, is_large, _mapped }
    }

    pub(super) fn compiled(&self) -> &Arc<Compiled> {
        &self.compiled
    }

    pub(super) fn api(&self) -> &'static Api {
        self.compiled.api
    }

    pub(super) fn as_ptr(&self) -> *mut OvInferRequest {
        self.request.as_ref().map_or(std::ptr::null_mut(), Handle::as_ptr)
    }

    /// Returns whether other runs wait for this request, as the model has no other.
    pub(super) fn is_the_only_one(&self) -> bool {
        self.compiled.requests.only_one
    }

    /// Says how many bytes the outputs of its run have.
    pub(super) fn holds(&self, bytes: usize) {
        self.is_large.store(bytes > KEPT_BYTES, Ordering::Relaxed);
    }

    /// Says that its run failed: it is not used again, unless it is the only one.
    pub(super) fn failed(&self) {
        self.has_failed.store(true, Ordering::Relaxed);
        self.compiled.requests.failed.fetch_add(1, Ordering::AcqRel);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let requests = &self.compiled.requests;
        let mut free = requests.free();
        let is_spent = *self.has_failed.get_mut() || *self.is_large.get_mut();
        let is_kept = free.requests.len() < KEPT && !is_spent;
        if let Some(request) = self.request.take_if(|_| requests.only_one || is_kept) {
            free.requests.push(request);
        }
        drop(free);
        if requests.only_one {
            requests.freed.notify_one();
        }
    }
}

/// Returns the error of a run that took longer than it may.
pub(super) fn too_late() -> Error {
    Error::new(Kind::DeadlineExceeded, "The run did not end within its time")
}
