//! Threads for work that takes too long for the threads that serve connections.

use crate::error::{Error, Result};
use crate::memory;
use crate::profile::{self, Phase};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};

/// Longest time a thread waits for more work.
const KEPT_IDLE: Duration = Duration::from_secs(3);

/// A bounded pool; work waits in order of arrival while all threads are busy.
pub struct Compute {
    handle: Handle,
    // Dropped without waiting for work that hangs.
    runtime: Option<Runtime>,
}

impl Compute {
    /// Makes a pool of up to `threads` threads, started on demand.
    pub fn new(threads: usize) -> std::io::Result<Compute> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(threads.max(1))
            .thread_name("servable-run")
            // An idle thread's heap is returned to the system when the thread ends.
            .thread_keep_alive(KEPT_IDLE)
            .on_thread_stop(memory::leave_behind)
            .build()?;
        Ok(Compute { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Runs `work` in the calling thread if `in_caller`, otherwise on the pool. Dropping the future removes work that
    /// is still queued, and sets the flag of running work. A panic becomes INTERNAL and affects nothing else.
    pub async fn run<T: Send + 'static>(
        &self,
        in_caller: bool,
        work: impl FnOnce(Cancelled) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if in_caller {
            return guarded(|| work(Cancelled::default()));
        }
        let queued = profile::phase(Phase::Queue);
        let flag = Arc::new(AtomicBool::new(false));
        let cancelled = Cancelled(Some(flag.clone()));
        let task = self.handle.spawn_blocking(move || {
            drop(queued);
            guarded(|| work(cancelled))
        });
        let mut task = Abort { task, flag };
        match (&mut task.task).await {
            Ok(result) => result,
            Err(_stopping) => Err(Error::new(crate::error::Kind::Unavailable, "The server is stopping")),
        }
    }
}

impl Drop for Compute {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Cancels its work when the request is gone: removes it from the queue, or sets its flag.
struct Abort<T> {
    task: tokio::task::JoinHandle<T>,
    flag: Arc<AtomicBool>,
}

impl<T> Drop for Abort<T> {
    fn drop(&mut self) {
        self.flag.store(true, Relaxed);
        self.task.abort();
    }
}

/// A flag that is set when nobody waits for a piece of work any more: its client has left, or its time is over. The
/// default is never set.
#[derive(Clone, Debug, Default)]
pub struct Cancelled(Option<Arc<AtomicBool>>);

impl Cancelled {
    /// Returns whether the flag is set.
    pub fn is_set(&self) -> bool {
        self.0.as_ref().is_some_and(|flag| flag.load(Relaxed))
    }
}

/// Runs `work`; a panic becomes INTERNAL.
pub fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    // The closure owns its request and shares only tables that are replaced whole, so no inconsistent state remains.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(Error::internal(
            "The server failed on this request; its log has the reason. Other requests go on",
        ))
    })
}
