//! The threads for work that is too long for the thread that reads connections.

use crate::error::{Error, Result};
use crate::profile::{self, Phase};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokio::runtime::{Builder, Handle, Runtime};

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
            .build()?;
        Ok(Compute { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Runs `work` here and now if `in_caller`, on the pool otherwise. Dropping the future takes work that is
    /// still waiting out of the queue. A panic becomes INTERNAL and touches nothing else.
    pub async fn run<T: Send + 'static>(
        &self,
        in_caller: bool,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if in_caller {
            return guarded(work);
        }
        let queued = profile::phase(Phase::Queue);
        let mut task = Abort(self.handle.spawn_blocking(move || {
            drop(queued);
            guarded(work)
        }));
        match (&mut task.0).await {
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

/// Takes work that has not begun out of the queue when its request is gone.
struct Abort<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for Abort<T> {
    fn drop(&mut self) {
        self.0.abort();
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
