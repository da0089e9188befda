//! A session that owns its graph and is run by the names of tensors.
//!
//! The C API's other kind of session belongs to a graph that the API keeps beside it, with every constant in it: for
//! the weights of a frozen model that is a copy which nothing reads.

#![allow(unsafe_code)]

use super::Status;
use super::ffi::{Api, NamedApi, TfBuffer, TfNamedSession, TfSessionOptions, TfTensor};
use super::session::{Buffer, Few, length};
use super::tensors::Owned;
use crate::error::{Error, Kind, Result};
use crate::host::memory::MappedWeights;
use smallvec::SmallVec;
use std::ffi::{CString, c_char, c_void};

/// Most bytes of a graph: a protobuf message holds no more.
const MOST_BYTES: usize = i32::MAX as usize;

/// The session; closed and freed when dropped.
pub(super) struct ByName {
    api: &'static Api,
    functions: &'static NamedApi,
    session: *mut TfNamedSession,
}

impl ByName {
    /// Opens a session on `graph`, a serialized `GraphDef`, which never grows.
    pub(super) fn open(api: &'static Api, options: *const TfSessionOptions, graph: &[u8]) -> Result<ByName> {
        let missing = "This TensorFlow has no sessions that are run by names, which a frozen graph needs";
        let functions = api.by_name.as_ref().ok_or_else(|| Error::new(Kind::Unimplemented, missing))?;
        if graph.len() > MOST_BYTES {
            let why = format!(
                "The graph has {} bytes with its weights: more than 2 GB cannot be loaded",
                graph.len()
            );
            return Err(Error::new(Kind::ResourceExhausted, why));
        }
        let status = Status::new(api);
        // SAFETY: the options outlive the call.
        let session = unsafe { (functions.new_session)(options, status.raw) };
        status.check()?;
        let opened = ByName { api, functions, session };
        let _mapped = MappedWeights::begin();
        // SAFETY: the session is live; the bytes outlive the call.
        unsafe { (functions.extend)(session, graph.as_ptr().cast(), graph.len(), status.raw) };
        status.check()?;
        Ok(opened)
    }

    /// Runs the graph; `feeds` are names of tensors and as many values.
    pub(super) fn run(
        &self,
        feeds: (&[*const c_char], &[*mut TfTensor]),
        fetches: &[*const c_char],
        options: *const TfBuffer,
    ) -> Result<Few<Owned>> {
        self.call(feeds, fetches, &[], (options, None))
    }

    /// Runs the graph with `feeds`, also the nodes named by `targets`, and fills `metadata`.
    pub(super) fn run_targets(
        &self,
        feeds: &[(CString, Owned)],
        fetches: &[CString],
        targets: &[CString],
        options: &Buffer,
        metadata: Option<&Buffer>,
    ) -> Result<()> {
        let values: Vec<*mut TfTensor> = feeds.iter().map(|(_, value)| value.as_ptr()).collect();
        let names: Vec<*const c_char> = feeds.iter().map(|(name, _)| name.as_ptr()).collect();
        let pointers = |names: &[CString]| names.iter().map(|name| name.as_ptr()).collect::<Vec<_>>();
        let (fetches, targets) = (pointers(fetches), pointers(targets));
        self.call((&names, &values), &fetches, &targets, (options.1, metadata)).map(drop)
    }

    /// Cancels the runs that are under way; all later ones fail.
    pub(super) fn close(&self) {
        let status = Status::new(self.api);
        // SAFETY: the session is live: `drop` alone frees it. It may be closed while it runs, and again.
        unsafe { (self.functions.close_session)(self.session, status.raw) };
    }

    /// Lets TensorFlow drop its copy of the graph, where that is possible: from then on it runs only with the sets of
    /// feeds and fetches that it has run with. No other call may go on meanwhile.
    pub(super) fn drop_graph(&self) {
        let Some(finalize) = &self.functions.finalize else { return };
        // SAFETY: the session is live, and its first field is the pointer to TensorFlow's own session, whose first field
        // is its table of functions; the method is called only on an object of its class. It returns a status of 8
        // bytes in memory of the caller's.
        unsafe {
            let session = *self.session.cast::<*mut *const c_void>();
            if *session == finalize.class {
                let mut status = 0u64;
                (finalize.method)(&raw mut status, session.cast());
            }
        }
    }

    fn call(
        &self,
        feeds: (&[*const c_char], &[*mut TfTensor]),
        fetches: &[*const c_char],
        targets: &[*const c_char],
        (options, metadata): (*const TfBuffer, Option<&Buffer>),
    ) -> Result<Few<Owned>> {
        let mut results: Few<*mut TfTensor> = SmallVec::from_elem(std::ptr::null_mut(), fetches.len());
        let status = Status::new(self.api);
        // SAFETY: every array has the length passed with it, holds live C strings and tensors, and outlives the call;
        // on success we own each result.
        unsafe {
            (self.functions.run)(
                self.session,
                options,
                feeds.0.as_ptr(),
                feeds.1.as_ptr(),
                length(feeds.0),
                fetches.as_ptr(),
                results.as_mut_ptr(),
                length(fetches),
                targets.as_ptr(),
                length(targets),
                metadata.map_or(std::ptr::null_mut(), |buffer| buffer.1),
                status.raw,
            );
        }
        let owned = results.into_iter().filter(|result| !result.is_null());
        // SAFETY: as above; failed runs leave nulls.
        let owned: Few<Owned> = owned.map(|result| unsafe { Owned::from_raw(self.api, result) }).collect();
        status.check()?;
        Ok(owned)
    }
}

impl Drop for ByName {
    fn drop(&mut self) {
        let status = Status::new(self.api);
        // SAFETY: the session is live and not shared, and freed once.
        unsafe {
            (self.functions.close_session)(self.session, status.raw);
            (self.functions.delete_session)(self.session, status.raw);
        }
    }
}
