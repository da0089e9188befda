//! The threads for work that is too long for the thread that reads connections.

use crate::error::{Error, Result};
use crate::memory;
use crate::profile::{self, Phase};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};

/// How long a thread waits for more work.
const KEPT_IDLE: Duration = Duration::from_secs(3);

/// A bounded pool; work waits in order of arrival while all threads are busy.
pub struct Compute {
    handle: Handle,
    // Dropped without waiting for work that hangs.
    runtime: Option<Runtime>,
}

impl Compute {
    /// A pool of `threads` threads, started as they are needed.
    pub fn new(threads: usize) -> std::io::Result<Compute> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(threads.max(1))
            .thread_name("servable-run")
            // What an idle thread's heap holds goes back to the system with the thread.
            .thread_keep_alive(KEPT_IDLE)
            .on_thread_stop(memory::leave_behind)
            .build()?;
        Ok(Compute { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Runs `work` here and now if `in_caller`, on the pool otherwise. Dropping the future removes work that has not
    /// begun from the queue; work under way sees its flag set. A panic becomes INTERNAL and touches nothing else.
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

/// Cancels its work when dropped: when the request is over.
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

/// Tells work on another thread that nobody waits for it any more: its client has left, or its time is over. The default
/// is never set.
#[derive(Clone, Debug, Default)]
pub struct Cancelled(Option<Arc<AtomicBool>>);

impl Cancelled {
    /// Whether the work is in vain by now.
    pub fn is_set(&self) -> bool {
        self.0.as_ref().is_some_and(|flag| flag.load(Relaxed))
    }
}

/// Does `work`; a panic in it becomes INTERNAL.
pub fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    // The closure owns its request and shares only tables that are swapped whole, so no half-made state is left.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(Error::internal(
            "The server failed on this request; its log has the reason. Other requests go on",
        ))
    })
}
