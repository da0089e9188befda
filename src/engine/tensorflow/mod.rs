//! TensorFlow through its C API; besides `host`, the only folder with `unsafe`.
//!
//! The libraries are opened once per process ([`TensorFlow::open`]) and stay open. A version is one session
//! ([`session`]) with its graph; its signatures are read from its `saved_model.pb` ([`saved_model`]).

mod by_name;
mod contents;
mod denormals;
mod effects;
mod ffi;
mod flow;
mod freeze;
mod frozen;
mod parsing;
mod pools;
mod ranks;
mod reads;
mod resting;
mod saved_model;
mod session;
mod tensors;
mod variables;

use super::{Engine, LoadOptions, Model};
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::pb::tensorflow::ConfigProto;
use ffi::{Api, TfStatus};
use prost::Message;
pub(super) use resting::Resting;
pub(super) use session::Session;
use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Options for loading a SavedModel.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The meta graph's tag set, matched exactly.
    pub tags: Vec<String>,
    /// A serialized `tensorflow.ConfigProto`; may be empty.
    pub session_config: Vec<u8>,
}

/// The open library.
#[derive(Clone, Copy)]
pub struct TensorFlow {
    api: &'static Api,
}

/// The path of the open library, and the library itself.
static OPEN: Mutex<Option<(PathBuf, TensorFlow)>> = Mutex::new(None);

impl TensorFlow {
    /// Opens `library` (`libtensorflow_cc.so.2`, `libtensorflow.so.2`), or returns it if it is already open.
    /// Takes a few tenths of a second the first time.
    #[allow(unsafe_code)]
    pub fn open(library: &Path) -> Result<TensorFlow> {
        let mut open = OPEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &*open {
            Some((path, tensorflow)) if path == library => return Ok(*tensorflow),
            Some((path, _)) => {
                return Err(Error::new(
                    Kind::FailedPrecondition,
                    format!("TensorFlow is already open from {}: a process can hold one", path.display()),
                ));
            }
            None => {}
        }
        let tensorflow = TensorFlow { api: Box::leak(Box::new(ffi::open(library)?)) };
        *open = Some((library.to_owned(), tensorflow));
        Ok(tensorflow)
    }

    /// Returns the library's version, such as `2.21.0`.
    #[allow(unsafe_code)]
    pub fn version(&self) -> String {
        // SAFETY: TF_Version returns a static C string.
        unsafe { CStr::from_ptr((self.api.version)()) }.to_string_lossy().into_owned()
    }

    /// Loads a library of additional ops and kernels into the process.
    #[allow(unsafe_code)]
    pub fn load_ops(&self, library: &Path) -> Result<()> {
        let path = c_string(&library.to_string_lossy())?;
        let status = Status::new(self.api);
        // SAFETY: both arguments outlive the call; the returned handle may be discarded.
        unsafe { (self.api.load_library)(path.as_ptr(), status.raw) };
        status.check()
    }
}

impl Engine for TensorFlow {
    fn shares_threads(&self, options: &LoadOptions) -> bool {
        session::start_shared_threads(self.api, &options.tensorflow);
        // A config that cannot be decoded fails the load in TensorFlow.
        let config = ConfigProto::decode(&options.tensorflow.session_config[..]).unwrap_or_default();
        !config.use_per_session_threads && config.session_inter_op_thread_pool.is_empty()
    }

    fn load(&self, path: &Path, options: &LoadOptions) -> Result<Box<dyn Model>> {
        Ok(Box::new(self.load_session(path, options)?))
    }
}

impl TensorFlow {
    /// Loads the SavedModel in `path`.
    pub(super) fn load_session(&self, path: &Path, options: &LoadOptions) -> Result<Session> {
        let meta = saved_model::read(path, &options.tensorflow.tags)?;
        // TensorFlow reads variables and assets itself.
        if let Some((file, why)) = files::first_unreadable(path) {
            return Err(Error::new(Kind::FailedPrecondition, format!("{}: {why}", file.display())));
        }
        Session::load(self.api, path, &options.tensorflow, meta.map(Arc::new))
    }

    /// Loads the SavedModel in `path`, whose session may be let go when nothing has used it for `idle`.
    pub(super) fn load_resting(
        &self,
        path: &Path,
        options: &LoadOptions,
        idle: Duration,
    ) -> Result<Resting<Session>> {
        let files = files::list(path).ok();
        let session = self.load_session(path, options)?;
        let (meta, endpoints) = (session.meta.clone(), session.endpoints.clone());
        // What a load computes by itself may be something else the next time.
        let files = files.filter(|_| !meta.initialises);
        if files.is_none() {
            tracing::info!(
                "{}: TensorFlow's session stays: a load runs operations of its own",
                path.display()
            );
        }
        let known = resting::Known { version: path.to_owned(), meta: meta.clone(), endpoints, files };
        let (api, path, options) = (self.api, path.to_owned(), options.tensorflow.clone());
        let load = move || Session::load(api, &path, &options, Some(meta.clone()));
        Ok(Resting::new(known, idle, session, load))
    }
}

fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::invalid(format!("A NUL character is not allowed in {text:?}")))
}

/// A `TF_Status`, deleted when dropped.
struct Status {
    api: &'static Api,
    raw: *mut TfStatus,
}

impl Status {
    #[allow(unsafe_code)]
    fn new(api: &'static Api) -> Status {
        // SAFETY: has no precondition.
        Status { api, raw: unsafe { (api.new_status)() } }
    }

    /// Returns TensorFlow's error, with its own text, if there is one.
    #[allow(unsafe_code)]
    fn check(&self) -> Result<()> {
        // SAFETY: the status is live, and so is its message until the status changes.
        let (code, message) =
            unsafe { ((self.api.get_code)(self.raw), CStr::from_ptr((self.api.message)(self.raw))) };
        if code == 0 {
            return Ok(());
        }
        Err(Error::new(Kind::from_code(code), message.to_string_lossy().into_owned()))
    }
}

impl Drop for Status {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: made by `new_status`, deleted once.
        unsafe { (self.api.delete_status)(self.raw) };
    }
}

#[cfg(test)]
mod tests;
