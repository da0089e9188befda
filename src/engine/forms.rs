//! A model compiled twice: for runs that are alone, and for runs that come at once.
//!
//! A run alone is fastest if all cores work on it. When as many runs as there are cores go on, each is cheaper on a core
//! of its own: threads that share a run wait for each other at every layer, and on a busy machine often for one that is
//! not running. Measured on two cores, 4 callers: OpenVINO does 1.3 times the runs of a MobileNetV2, and 1.4 times those
//! of a transformer; ONNX Runtime 1.2 times those of a MobileNetV2.
//! What OpenVINO and ONNX Runtime make of a model is for one of both and has weights of its own, so the second form is
//! made only once runs have come at once for a while. Until then, and if it cannot be made, all take the first.

use crate::error::Result;
use crate::host::memory;
use arc_swap::ArcSwapOption;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::thread::Builder;

/// How many more runs have to come at once than alone before the second form is made.
const ENOUGH: u32 = 32;

/// How a run is spread over the cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spread {
    /// One run at a time, over all of them.
    AllCores,
    /// A core for each run.
    CoreEach,
}

impl Spread {
    /// Returns how many requests of a model OpenVINO runs at once.
    pub(super) fn streams(self, cores: usize) -> usize {
        match self {
            Spread::AllCores => 1,
            Spread::CoreEach => cores,
        }
    }
}

/// The library's runs under way.
pub(super) struct Gauge {
    running: AtomicUsize,
    pub(super) cores: usize,
}

impl Gauge {
    pub(super) fn new(cores: usize) -> Gauge {
        Gauge { running: AtomicUsize::new(0), cores }
    }
}

/// What an engine has made of a model, for runs of one kind.
pub(super) trait Form: Send + Sync + 'static {
    /// Counts a run that may be long, until [`Self::ended`].
    fn begun(&self) {}

    fn ended(&self) {}

    /// Returns whether a run would have to wait for the end of those that are counted.
    fn is_busy(&self) -> bool {
        false
    }
}

/// Makes the second form.
pub(super) type Make<C> = Box<dyn Fn() -> Result<C> + Send + Sync>;

/// Both forms of a model; `C` is one of them.
pub(super) struct Forms<C> {
    gauge: &'static Gauge,
    all_cores: Arc<C>,
    core_each: ArcSwapOption<C>,
    /// `None` if the second form is of no use.
    make: Option<Make<C>>,
    /// How many more runs came at once than alone, no less than 0; what is beyond [`ENOUGH`] means nothing.
    met: AtomicU32,
    /// True if even a run that is alone takes the second form.
    always: AtomicBool,
}

impl<C: Form> Forms<C> {
    /// `make`: makes the second form, if the model may have one.
    pub(super) fn new(gauge: &'static Gauge, all_cores: C, make: Option<Make<C>>) -> Forms<C> {
        Forms {
            gauge,
            all_cores: Arc::new(all_cores),
            core_each: ArcSwapOption::empty(),
            make: make.filter(|_| gauge.cores > 1),
            met: AtomicU32::new(0),
            always: AtomicBool::new(false),
        }
    }

    /// Returns the first form. Both have the same ports.
    pub(super) fn first(&self) -> &Arc<C> {
        &self.all_cores
    }

    /// Begins a run: returns the form that it takes, which counts it until it is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Turn<C> {
        let turn = self.turn(false);
        turn.compiled.begun();
        turn
    }

    /// Begins a short run, if it need not wait for one that [`Self::begin`] has begun.
    pub(super) fn begin_at_once(self: &Arc<Self>) -> Option<Turn<C>> {
        Some(self.turn(true)).filter(|turn| !turn.compiled.is_busy())
    }

    fn turn(self: &Arc<Self>, is_short: bool) -> Turn<C> {
        let running = self.gauge.running.fetch_add(1, Relaxed) + 1;
        let turn = |compiled| Turn { compiled, gauge: self.gauge, is_short };
        if !fills(running, self.gauge.cores) && !self.always.load(Relaxed) {
            if self.make.is_some() {
                let _ = self
                    .met
                    .fetch_update(Relaxed, Relaxed, |met| met.checked_sub(1).filter(|_| met < ENOUGH));
            }
            return turn(self.all_cores.clone());
        }
        match self.core_each.load_full() {
            Some(compiled) => turn(compiled),
            None => {
                self.meet();
                turn(self.all_cores.clone())
            }
        }
    }

    /// Counts a run that came while others went on; the last of enough starts a thread that makes the second form.
    fn meet(self: &Arc<Self>) {
        if self.make.is_none()
            || self.met.load(Relaxed) >= ENOUGH
            || self.met.fetch_add(1, Relaxed) + 1 != ENOUGH
        {
            return;
        }
        let forms = Arc::downgrade(self);
        let make = move || {
            if let Some(forms) = forms.upgrade()
                && let Err(why) = forms.make_now()
            {
                tracing::debug!("A model cannot be compiled for runs that come at once: {}", why.message);
            }
        };
        // Without a thread the runs go on as before.
        let _ = Builder::new().name("servable-forms".to_owned()).spawn(make);
    }

    /// Returns whether the second form is there.
    #[cfg(test)]
    pub(super) fn has_both(&self) -> bool {
        self.core_each.load().is_some()
    }

    fn make_now(&self) -> Result<()> {
        if let Some(make) = self.make.as_ref().filter(|_| self.core_each.load().is_none()) {
            self.core_each.store(Some(Arc::new(make()?)));
            // What compiling has freed.
            memory::after_unload();
        }
        Ok(())
    }

    /// With `true`, makes the second form in this thread and lets all runs take it; with `false`, drops it until it is
    /// needed. Where it cannot be made, runs go on as before.
    pub(super) fn take_core_each(&self, always: bool) -> Result<()> {
        let made = if always { self.make_now() } else { Ok(()) };
        self.always.store(always && made.is_ok(), Relaxed);
        if !always {
            self.core_each.store(None);
            self.met.store(0, Relaxed);
        }
        made
    }
}

/// Returns whether so many runs get a core each: if more than half of the cores have something to do. With fewer, more is
/// lost by cores at rest than by threads that wait for each other.
fn fills(running: usize, cores: usize) -> bool {
    running > (cores / 2).max(1)
}

/// A run under way, and the form that it takes.
pub(super) struct Turn<C: Form> {
    pub(super) compiled: Arc<C>,
    gauge: &'static Gauge,
    /// True if others may wait for it.
    is_short: bool,
}

impl<C: Form> Drop for Turn<C> {
    fn drop(&mut self) {
        self.gauge.running.fetch_sub(1, Relaxed);
        if !self.is_short {
            self.compiled.ended();
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::num::NonZero;
    use std::thread::available_parallelism;
    use std::time::{Duration, Instant};

    /// Returns whether no model of this machine has a second form.
    pub(in crate::engine) fn has_one_core() -> bool {
        available_parallelism().is_ok_and(|cores| cores.get() == 1)
    }

    /// Calls `run` from more threads than cores, until `done` or for a minute.
    pub(in crate::engine) fn run_at_once(run: impl Fn(f32) + Sync, done: impl Fn() -> bool) {
        let (ends, begun) = (AtomicBool::new(false), Instant::now());
        std::thread::scope(|scope| {
            let callers = available_parallelism().map_or(2, NonZero::get) + 2;
            for number in 0..u16::try_from(callers).unwrap() {
                let (run, ends) = (&run, &ends);
                scope.spawn(move || {
                    while !ends.load(Relaxed) {
                        run(number.into());
                    }
                });
            }
            while !done() && begun.elapsed() < Duration::from_secs(60) {
                std::thread::yield_now();
            }
            ends.store(true, Relaxed);
        });
    }

    #[test]
    fn runs_that_fill_more_than_half_of_the_cores_have_one_each() {
        let first = |cores| (1..).find(|running| fills(*running, cores));
        assert_eq!([1, 2, 3, 4, 8, 9].map(first), [2, 2, 2, 3, 5, 5].map(Some));
        assert!(fills(usize::MAX, usize::MAX));
    }
}
