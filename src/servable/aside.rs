//! A run that nobody waits for, so that it keeps no version in use: one that is to be unloaded interrupts it.

use super::Run;
use crate::engine::{Model, RunOptions, Threads};
use crate::error::Result;
use crate::tensor::Tensor;
use std::convert::Infallible;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// The run, made by [`super::Servable::aside`].
pub struct Aside {
    model: Arc<dyn Model>,
    run: Run,
    threads: Threads,
    // Dropped last: the model is freed by whoever waits for this.
    _ends: mpsc::Sender<Infallible>,
}

impl Aside {
    pub(super) fn new(
        model: Arc<dyn Model>,
        run: Run,
        threads: Threads,
        ends: mpsc::Sender<Infallible>,
    ) -> Aside {
        Aside { model, run, threads, _ends: ends }
    }

    /// Does it in this thread, which may be slow. It takes `timeout` at most, if the engine can be interrupted.
    pub fn run(self, timeout: Duration) -> Result<Vec<Tensor>> {
        let options = RunOptions { threads: self.threads, timeout: Some(timeout) };
        self.model.run(&self.run.feeds, &self.run.fetches, options)
    }
}

#[cfg(test)]
mod tests {
    use crate::batch::Scheduler;
    use crate::engine::fake;
    use crate::engine::signature::DEFAULT_SIGNATURE;
    use crate::metrics::Api;
    use crate::servable::placement::Policy;
    use crate::servable::{Resources, Run, Servable};
    use std::time::Duration;

    #[test]
    fn an_unload_interrupts_it_once_nobody_uses_the_version() {
        let (model, told) = fake::hanging();
        let scheduler = Scheduler::with_slots(1);
        let resources = Resources::plain(Policy::Caller, &scheduler);
        let (servable, drain) = Servable::new("m".to_owned(), 1, model, resources);
        let run = Run {
            api: Api::Predict,
            signature: DEFAULT_SIGNATURE.into(),
            feeds: Vec::new(),
            fetches: Vec::new(),
        };
        let aside = servable.aside(run);
        std::thread::scope(|scope| {
            let runs = scope.spawn(|| aside.run(Duration::from_secs(60)));
            assert_eq!(told.recv().unwrap(), "begun");
            drop(servable);
            drain.in_use().wait();
            assert!(!runs.is_finished());
            drain.wait_and_free();
            let _failed = runs.join().unwrap().unwrap_err();
            assert_eq!(told.recv().unwrap(), "interrupted");
        });
    }
}
