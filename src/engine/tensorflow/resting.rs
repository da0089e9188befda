//! A version whose session is let go while nothing uses it, and loaded again for the next run that does.
//!
//! Once its runs have moved to another engine, a session is needed for few of them: those with shapes that are new, or
//! with numbers that the other engine may not get. Its variables are a copy of what the other engine has.

use super::saved_model::Meta;
use crate::engine::content::Content;
use crate::engine::signature::Signature;
use crate::engine::waiting::wait_while;
use crate::engine::{Endpoint, Model, RunOptions, Termination};
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::host::memory;
use crate::tensor::Tensor;
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
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
pub(in crate::engine) struct Resting<M>(Arc<Shared<M>>);

/// What a load that goes on has, too, also if the version is unloaded meanwhile.
struct Shared<M> {
    known: Known,
    load: Box<dyn Fn() -> Result<M> + Send + Sync>,
    session: ArcSwapOption<M>,
    /// The load under way, if there is one. Held while the session is put in its place, or let go.
    changing: Mutex<Option<Arc<Reload<M>>>>,
    /// It is let go after this time without use.
    idle: Duration,
    /// True once the log has why it cannot be loaded again, until it could.
    is_told: AtomicBool,
    begun: Instant,
    /// When it was last used, in milliseconds since `begun`.
    used: AtomicU64,
}

/// A load, for those who wait for its end.
struct Reload<M> {
    end: Mutex<Option<Result<Arc<M>>>>,
    ended: Condvar,
}

impl<M> Reload<M> {
    /// Waits for the end, no longer than `timeout`.
    fn wait(&self, timeout: Option<Duration>) -> Result<Arc<M>> {
        let end = wait_while(&self.ended, lock(&self.end), timeout, |end| end.is_none());
        end.and_then(|end| end.clone()).unwrap_or_else(|| Err(late()))
    }
}

fn late() -> Error {
    Error::new(Kind::DeadlineExceeded, "The deadline passed while the model was loaded again")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<M: Model + 'static> Resting<M> {
    /// Takes `session` of the version that is `known`, which is let go after `idle` without use; `load` loads the same
    /// again.
    pub(super) fn new(
        known: Known,
        idle: Duration,
        session: M,
        load: impl Fn() -> Result<M> + Send + Sync + 'static,
    ) -> Resting<M> {
        Resting(Arc::new(Shared {
            known,
            load: Box::new(load),
            session: ArcSwapOption::from_pointee(session),
            changing: Mutex::default(),
            idle,
            is_told: AtomicBool::new(false),
            begun: Instant::now(),
            used: AtomicU64::new(0),
        }))
    }

    /// Returns whether the session is there.
    #[cfg(test)]
    pub(super) fn has_session(&self) -> bool {
        self.0.session.load().is_some()
    }

    /// Returns the session, which is loaded first if it was let go.
    pub(in crate::engine) fn session(&self) -> Result<Arc<M>> {
        self.session_within(None)
    }

    /// The same, for one who waits no longer than `timeout`. The load goes on then, for those to come.
    fn session_within(&self, timeout: Option<Duration>) -> Result<Arc<M>> {
        let shared = &self.0;
        shared.used.store(shared.now(), Relaxed);
        if let Some(session) = shared.session.load_full() {
            return Ok(session);
        }
        let mut changing = lock(&shared.changing);
        if let Some(session) = shared.session.load_full() {
            return Ok(session);
        }
        let reload = match &*changing {
            Some(reload) => reload.clone(),
            None => changing.insert(shared.begin_load()?).clone(),
        };
        drop(changing);
        reload.wait(timeout)
    }

    /// Lets the session go if nothing has used it for its time and its files are there.
    pub(in crate::engine) fn let_go_if_idle(&self) {
        let unused = Duration::from_millis(self.0.now().saturating_sub(self.0.used.load(Relaxed)));
        self.let_go_after(unused);
    }

    /// The same, if it was last used so long ago.
    pub(super) fn let_go_after(&self, unused: Duration) {
        let shared = &self.0;
        let used = shared.used.load(Relaxed);
        if unused < shared.idle || shared.session.load().is_none() || !shared.known.is_there() {
            return;
        }
        let changing = lock(&shared.changing);
        if shared.used.load(Relaxed) != used {
            return;
        }
        // A run that has it keeps it to its end.
        drop(shared.session.swap(None));
        drop(changing);
        memory::after_unload();
        let version = shared.known.version.display();
        tracing::info!("{version}: TensorFlow's session, which no run needs, is let go until one does");
    }
}

impl<M: Model + 'static> Shared<M> {
    /// Begins to load the session again, in a thread of its own.
    fn begin_load(self: &Arc<Self>) -> Result<Arc<Reload<M>>> {
        let reload = Arc::new(Reload { end: Mutex::new(None), ended: Condvar::new() });
        let (shared, told) = (self.clone(), reload.clone());
        let load = move || {
            let loaded = catch_unwind(AssertUnwindSafe(|| shared.load_again()));
            let failed = |_| Err(Error::internal("A load failed by a fault of the server"));
            shared.end_load(&told, loaded.unwrap_or_else(failed));
            drop(told);
            if Arc::into_inner(shared).is_some() {
                // The version was unloaded meanwhile.
                memory::after_unload();
            }
        };
        let thread = Builder::new().name("servable-reload".to_owned()).stack_size(STACK_BYTES);
        thread.spawn(load).map_err(|why| {
            Error::new(Kind::ResourceExhausted, format!("No thread could be started for a load: {why}"))
        })?;
        Ok(reload)
    }

    /// Tells all who wait for `reload` how it has ended.
    fn end_load(&self, reload: &Reload<M>, loaded: Result<M>) {
        let loaded = loaded.map(Arc::new);
        let mut changing = lock(&self.changing);
        match &loaded {
            Ok(session) => {
                self.is_told.store(false, Relaxed);
                self.session.store(Some(session.clone()));
                self.used.store(self.now(), Relaxed);
            }
            Err(why) => self.tell(why),
        }
        *changing = None;
        drop(changing);
        *lock(&reload.end) = Some(loaded);
        reload.ended.notify_all();
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
        let loaded = (self.load)()?;
        if !self.known.is_there() {
            return Err(gone());
        }
        let (version, took) = (self.known.version.display(), begun.elapsed().as_secs_f64());
        tracing::info!("{version}: TensorFlow's session was loaded again for a run, in {took:.1} s");
        Ok(loaded)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl<M: Model + 'static> Model for Resting<M> {
    fn signatures(&self) -> &BTreeMap<String, Signature> {
        &self.0.known.meta.signatures
    }

    fn signature_def_map(&self) -> Option<Bytes> {
        Some(self.0.known.meta.signature_def_map.clone())
    }

    fn endpoint(&self, tensor: &str) -> Option<Endpoint> {
        let found = self.0.known.endpoints.binary_search_by(|name| name.as_str().cmp(tensor)).ok()?;
        u32::try_from(found).ok().map(Endpoint)
    }

    fn changes_nothing(&self, signature: &str) -> bool {
        self.0.known.meta.changes_nothing(signature)
    }

    fn termination(&self, signature: &str) -> Termination {
        self.0.known.meta.termination(signature)
    }

    fn content(&self, signature: &str, input: &str) -> Option<&Content> {
        self.0.known.meta.contents.get(signature)?.get(input)
    }

    fn run(
        &self,
        feeds: &[(Endpoint, Tensor)],
        fetches: &[Endpoint],
        options: RunOptions,
    ) -> Result<Vec<Tensor>> {
        let begun = Instant::now();
        let session = self.session_within(options.timeout)?;
        let left = |timeout: Duration| timeout.checked_sub(begun.elapsed()).ok_or_else(late);
        let timeout = options.timeout.map(left).transpose()?;
        session.run(feeds, fetches, RunOptions { timeout, ..options })
    }

    fn interrupt(&self) {
        if let Some(session) = self.0.session.load_full() {
            session.interrupt();
        }
    }

    fn run_at_once(
        &self,
        feeds: &[(Endpoint, Tensor)],
        fetches: &[Endpoint],
        options: RunOptions,
    ) -> Option<Result<Vec<Tensor>>> {
        // Taken once: it may be let go meanwhile, and a load takes seconds.
        let session = self.0.session.load_full()?;
        self.0.used.store(self.0.now(), Relaxed);
        session.run_at_once(feeds, fetches, options)
    }
}

#[cfg(test)]
mod tests;
