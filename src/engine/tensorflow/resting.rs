//! A version whose session is let go while nothing uses it, and loaded again for the next run that does.
//!
//! Once its runs have moved to another engine, a session is needed for few of them: those with shapes that are new, or
//! with numbers that the other engine may not get. Its variables are a copy of what the other engine has.

use super::saved_model::Meta;
use crate::engine::content::Content;
use crate::engine::signature::Signature;
use crate::engine::{Endpoint, Model, RunOptions, Termination};
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::host::memory;
use crate::tensor::Tensor;
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// Stack size of the thread that loads, in bytes: TensorFlow optimises graphs by recursion.
const STACK_BYTES: usize = 8 << 20;

/// What is known of a version without its session.
pub(super) struct Known {
    pub(super) version: PathBuf,
    pub(super) meta: Arc<Meta>,
    /// The tensors' names, indexed by [`Endpoint`], sorted.
    pub(super) endpoints: Vec<String>,
    /// The files as they were before they were loaded; `None` if they could not be listed.
    pub(super) files: Option<files::Listed>,
}

impl Known {
    /// Returns whether the files are those that were loaded.
    fn is_there(&self) -> bool {
        self.files.is_some() && files::list(&self.version).ok() == self.files
    }
}

/// The version, with its session while that is needed.
pub(in crate::engine) struct Resting<M> {
    known: Known,
    load: Box<dyn Fn() -> Result<M> + Send + Sync>,
    session: ArcSwapOption<M>,
    /// Held while it is loaded again, or let go.
    changing: Mutex<()>,
    /// It is let go after this time without use.
    idle: Duration,
    /// True once the log has why it cannot be loaded again, until it could.
    is_told: AtomicBool,
    begun: Instant,
    /// When it was last used, in milliseconds since `begun`.
    used: AtomicU64,
}

impl<M: Model> Resting<M> {
    /// Takes `session` of the version that is `known`, which is let go after `idle` without use; `load` loads the same
    /// again.
    pub(super) fn new(
        known: Known,
        idle: Duration,
        session: M,
        load: impl Fn() -> Result<M> + Send + Sync + 'static,
    ) -> Resting<M> {
        Resting {
            known,
            load: Box::new(load),
            session: ArcSwapOption::from_pointee(session),
            changing: Mutex::default(),
            idle,
            is_told: AtomicBool::new(false),
            begun: Instant::now(),
            used: AtomicU64::new(0),
        }
    }

    /// Returns whether the session is there.
    #[cfg(test)]
    pub(super) fn has_session(&self) -> bool {
        self.session.load().is_some()
    }

    /// Returns the session, which is loaded first if it was let go.
    pub(in crate::engine) fn session(&self) -> Result<Arc<M>> {
        self.used.store(self.now(), Relaxed);
        if let Some(session) = self.session.load_full() {
            return Ok(session);
        }
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = self.session.load_full() {
            return Ok(session);
        }
        let session = Arc::new(self.load_again().inspect_err(|why| self.tell(why))?);
        self.is_told.store(false, Relaxed);
        self.session.store(Some(session.clone()));
        self.used.store(self.now(), Relaxed);
        Ok(session)
    }

    /// Logs, the first time, why the session is not there.
    fn tell(&self, why: &Error) {
        if !self.is_told.swap(true, Relaxed) {
            let version = self.known.version.display();
            tracing::warn!(
                "{version}: TensorFlow's session cannot be loaded again for a run: {}",
                why.message
            );
        }
    }

    fn load_again(&self) -> Result<M> {
        let gone = || {
            let version = self.known.version.display();
            let message = format!(
                "This run needs the files of {version} again, which have gone or changed since they were loaded: load \
                 the version again"
            );
            Error::new(Kind::Unavailable, message)
        };
        if !self.known.is_there() {
            return Err(gone());
        }
        let begun = Instant::now();
        let loaded = std::thread::scope(|threads| {
            let thread = Builder::new().name("servable-reload".to_owned()).stack_size(STACK_BYTES);
            let loading = thread.spawn_scoped(threads, &self.load).map_err(|why| {
                Error::new(Kind::ResourceExhausted, format!("No thread could be started for a load: {why}"))
            })?;
            loading.join().unwrap_or_else(|_| Err(Error::internal("A load failed by a fault of the server")))
        })?;
        if !self.known.is_there() {
            return Err(gone());
        }
        let (version, took) = (self.known.version.display(), begun.elapsed().as_secs_f64());
        tracing::info!("{version}: TensorFlow's session was loaded again for a run, in {took:.1} s");
        Ok(loaded)
    }

    /// Lets the session go if nothing has used it for its time and its files are there.
    pub(in crate::engine) fn let_go_if_idle(&self) {
        let unused = Duration::from_millis(self.now().saturating_sub(self.used.load(Relaxed)));
        self.let_go_after(unused);
    }

    /// The same, if it was last used so long ago.
    pub(super) fn let_go_after(&self, unused: Duration) {
        let used = self.used.load(Relaxed);
        if unused < self.idle || self.session.load().is_none() || !self.known.is_there() {
            return;
        }
        let changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.used.load(Relaxed) != used {
            return;
        }
        // A run that has it keeps it to its end.
        drop(self.session.swap(None));
        drop(changing);
        memory::after_unload();
        let version = self.known.version.display();
        tracing::info!("{version}: TensorFlow's session, which no run needs, is let go until one does");
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl<M: Model> Model for Resting<M> {
    fn signatures(&self) -> &BTreeMap<String, Signature> {
        &self.known.meta.signatures
    }

    fn signature_def_map(&self) -> Option<Bytes> {
        Some(self.known.meta.signature_def_map.clone())
    }

    fn endpoint(&self, tensor: &str) -> Option<Endpoint> {
        let found = self.known.endpoints.binary_search_by(|name| name.as_str().cmp(tensor)).ok()?;
        u32::try_from(found).ok().map(Endpoint)
    }

    fn changes_nothing(&self, signature: &str) -> bool {
        self.known.meta.changes_nothing(signature)
    }

    fn termination(&self, signature: &str) -> Termination {
        self.known.meta.termination(signature)
    }

    fn content(&self, signature: &str, input: &str) -> Option<&Content> {
        self.known.meta.contents.get(signature)?.get(input)
    }

    fn run(
        &self,
        feeds: &[(Endpoint, Tensor)],
        fetches: &[Endpoint],
        options: RunOptions,
    ) -> Result<Vec<Tensor>> {
        let begun = Instant::now();
        let session = self.session()?;
        let late =
            || Error::new(Kind::DeadlineExceeded, "The deadline passed while the model was loaded again");
        let left = |timeout: Duration| timeout.checked_sub(begun.elapsed()).ok_or_else(late);
        let timeout = options.timeout.map(left).transpose()?;
        session.run(feeds, fetches, RunOptions { timeout, ..options })
    }

    fn run_at_once(
        &self,
        feeds: &[(Endpoint, Tensor)],
        fetches: &[Endpoint],
        options: RunOptions,
    ) -> Option<Result<Vec<Tensor>>> {
        // Taken once: it may be let go meanwhile, and a load takes seconds.
        let session = self.session.load_full()?;
        self.used.store(self.now(), Relaxed);
        session.run_at_once(feeds, fetches, options)
    }
}

#[cfg(test)]
mod tests;
