//! A model compiled twice: for runs that are alone, and for runs that come at once.
//!
//! A run alone is fastest if all cores work on it. When as many runs as there are cores go on, each is cheaper on a core
//! of its own: threads that share a run wait for each other at every layer, and on a busy machine often for one that is
//! not running. Measured on two cores, 4 callers: OpenVINO does 1.3 times the runs of a MobileNetV2, and 1.4 times those
//! of a transformer; ONNX Runtime 1.2 times those of a MobileNetV2.
//! What OpenVINO and ONNX Runtime make of a model is for one of both and has weights of its own, so the second form is
//! made only once runs have come at once for a while. Until then, and if it cannot be made, all take the first. Where the
//! weights are large, the first one goes when the second is there, and the other way round once most runs are alone again.

use crate::error::{Kind, Result};
use crate::host::memory::{self, MappedWeights};
use arc_swap::ArcSwapOption;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// How many more runs have to come at once than alone before the second form is made.
const ENOUGH: u32 = 32;
/// Weights of so many bytes are not kept twice.
pub(super) const LARGE: u64 = 32 << 20;
/// A model with one form at a time changes it no sooner than after this time.
const BETWEEN_CHANGES: Duration = Duration::from_secs(10);
/// After this time more, a form is tried again that could not be made for want of memory or threads.
const UNTIL_AGAIN: Duration = Duration::from_secs(300);

/// Work for a thread.
type Work = Box<dyn FnOnce() + Send>;

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

    pub(super) fn other(self) -> Spread {
        match self {
            Spread::AllCores => Spread::CoreEach,
            Spread::CoreEach => Spread::AllCores,
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

/// Makes a form.
pub(super) type Make<C> = Box<dyn Fn(Spread) -> Result<C> + Send + Sync>;

/// How many forms a model has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// The first one, always.
    First,
    /// Both, if they are needed.
    Both,
    /// Whichever is needed more.
    OneAtATime,
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

/// Both forms of a model; `C` is one of them.
pub(super) struct Forms<C> {
    gauge: &'static Gauge,
    /// One of both is always there.
    all_cores: ArcSwapOption<C>,
    core_each: ArcSwapOption<C>,
    /// `None` if only the first form is kept and never made again: it holds what a form is made of.
    make: Option<Make<C>>,
    kept: Kept,
    /// How many more runs came at once than alone, from 0 to [`ENOUGH`].
    met: AtomicU32,
    /// False while a thread makes a form, and once a second one could not be made for another reason than want of memory
    /// or threads.
    may_change: AtomicBool,
    /// Held while forms are made or dropped. When runs last had one made, or will have waited long enough for another try.
    changed: Mutex<Option<Instant>>,
    /// True if even a run that is alone takes the second form.
    always: AtomicBool,
}

impl<C: Form> Forms<C> {
    /// `make`: makes either form again. `renews`: a form may have to be made anew ([`Self::renew`]).
    pub(super) fn new(
        gauge: &'static Gauge,
        all_cores: C,
        make: Make<C>,
        kept: Kept,
        renews: bool,
    ) -> Forms<C> {
        let kept = if gauge.cores > 1 { kept } else { Kept::First };
        Forms {
            gauge,
            all_cores: ArcSwapOption::from_pointee(all_cores),
            core_each: ArcSwapOption::empty(),
            make: (renews || kept != Kept::First).then_some(make),
            kept,
            met: AtomicU32::new(0),
            may_change: AtomicBool::new(true),
            changed: Mutex::default(),
            always: AtomicBool::new(false),
        }
    }

    fn form(&self, spread: Spread) -> &ArcSwapOption<C> {
        match spread {
            Spread::AllCores => &self.all_cores,
            Spread::CoreEach => &self.core_each,
        }
    }

    /// Returns one that is there: that of `spread`, if possible.
    fn there(&self, spread: Spread) -> (Spread, Arc<C>) {
        loop {
            for spread in [spread, spread.other()] {
                if let Some(compiled) = self.form(spread).load_full() {
                    return (spread, compiled);
                }
            }
            // They have changed meanwhile.
        }
    }

    /// Returns a form for what both have alike.
    pub(super) fn either(&self) -> Arc<C> {
        self.there(Spread::AllCores).1
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
        let at_once = fills(running, self.gauge.cores);
        let wanted = if at_once || self.always.load(Relaxed) { Spread::CoreEach } else { Spread::AllCores };
        let (found, compiled) = self.there(wanted);
        if self.kept != Kept::First && !self.always.load(Relaxed) {
            self.count(at_once, found);
        }
        Turn { compiled, gauge: self.gauge, is_short }
    }

    /// Counts a run, which found the form for `found`. Starts a thread that makes the other one, once enough runs want it.
    fn count(self: &Arc<Self>, at_once: bool, found: Spread) {
        let counted =
            |met: u32| if at_once { Some(met + 1).filter(|met| *met <= ENOUGH) } else { met.checked_sub(1) };
        let before = self.met.fetch_update(Relaxed, Relaxed, counted);
        let wanted = match before.map_or_else(|met| met, |met| counted(met).unwrap_or(met)) {
            ENOUGH => Spread::CoreEach,
            0 => Spread::AllCores,
            _ => return,
        };
        if wanted != found {
            self.begin_change(wanted, |change| {
                Builder::new().name("servable-forms".to_owned()).spawn(change).map(drop)
            });
        }
    }

    /// Has a thread, which `spawn` starts, make the form that runs want, if it is time.
    fn begin_change(self: &Arc<Self>, wanted: Spread, spawn: impl FnOnce(Work) -> io::Result<()>) {
        if !self.is_due() || !self.may_change.swap(false, Relaxed) {
            return;
        }
        let forms = Arc::downgrade(self);
        let change = move || {
            if let Some(forms) = forms.upgrade() {
                forms.change(wanted);
                // The version may have been unloaded meanwhile.
                drop(forms);
                memory::after_unload();
            }
        };
        // Without a thread the runs go on as before, and one is started some time later.
        if spawn(Box::new(change)).is_err() {
            if let Ok(mut changed) = self.changed.try_lock() {
                *changed = Some(Instant::now());
            }
            self.may_change.store(true, Relaxed);
        }
    }

    fn is_due(&self) -> bool {
        // Not while it is being changed.
        let Ok(changed) = self.changed.try_lock() else { return false };
        changed.is_none_or(|changed| changed.elapsed() >= BETWEEN_CHANGES)
    }

    /// Makes the form that runs want; where there is one at a time, drops the other.
    fn change(&self, wanted: Spread) {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(why) = self.make_now(wanted) {
            let runs = if wanted == Spread::CoreEach { "come at once" } else { "are alone" };
            tracing::warn!("A model cannot be loaded again for runs that {runs}: {}", why.message);
            let may_pass = why.kind == Kind::ResourceExhausted;
            *changed = Some(Instant::now() + if may_pass { UNTIL_AGAIN } else { Duration::ZERO });
            // Runs that are alone have no form of theirs then.
            self.may_change.store(may_pass || wanted == Spread::AllCores, Relaxed);
        } else {
            let is_one = self.kept == Kept::OneAtATime && !self.always.load(Relaxed);
            let former = is_one.then(|| self.form(wanted.other()).swap(None)).flatten();
            *changed = Some(Instant::now());
            // A run that this one waits for may wait to have a form made anew.
            drop(changed);
            free(former);
            self.may_change.store(true, Relaxed);
        }
    }

    /// Lets runs have a form made at once, even if that was done a moment ago.
    #[cfg(test)]
    pub(super) fn is_long_unchanged(&self) {
        *self.changed.lock().unwrap() = None;
    }

    /// Returns whether this form is there.
    #[cfg(test)]
    pub(super) fn has(&self, spread: Spread) -> bool {
        self.form(spread).load().is_some()
    }

    fn make_now(&self, spread: Spread) -> Result<()> {
        if let Some(make) = self.make.as_ref().filter(|_| self.form(spread).load().is_none()) {
            let _mapped = MappedWeights::begin();
            self.form(spread).store(Some(Arc::new(make(spread)?)));
        }
        Ok(())
    }

    /// Makes the form that is `spoiled` anew, if no other thread has done so meanwhile.
    pub(super) fn renew(&self, spoiled: &Arc<C>) -> Result<()> {
        let Some(make) = &self.make else { return Ok(()) };
        let changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        for spread in [Spread::AllCores, Spread::CoreEach] {
            let form = self.form(spread);
            if form.load().as_ref().is_some_and(|there| Arc::ptr_eq(there, spoiled)) {
                let _mapped = MappedWeights::begin();
                form.store(Some(Arc::new(make(spread)?)));
            }
        }
        drop(changed);
        memory::after_unload();
        Ok(())
    }

    /// With `true`, makes the second form in this thread and lets all runs take it; with `false`, drops it until it is
    /// needed. Where it cannot be made, runs go on as before.
    pub(super) fn take_core_each(&self, always: bool) -> Result<()> {
        if self.kept == Kept::First {
            return Ok(());
        }
        let changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        let made = if always { self.make_now(Spread::CoreEach) } else { Ok(()) };
        self.always.store(always && made.is_ok(), Relaxed);
        if !always {
            self.met.store(0, Relaxed);
            if self.all_cores.load().is_some() {
                self.core_each.store(None);
            }
        }
        drop(changed);
        memory::after_unload();
        made
    }
}

/// Frees a form once its runs have ended and what they made has been taken: not in a thread that answers.
fn free<C>(form: Option<Arc<C>>) {
    const PAUSE: Duration = Duration::from_millis(20);
    const LONGEST: Duration = Duration::from_secs(30);
    let begun = Instant::now();
    while form.as_ref().is_some_and(|form| Arc::strong_count(form) > 1) && begun.elapsed() < LONGEST {
        std::thread::sleep(PAUSE);
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

    struct Made;

    impl Form for Made {}

    /// A model of two cores whose second form fails with `fails` as long as that is told.
    fn two_cores(fails: &Arc<Mutex<Option<Kind>>>) -> Arc<Forms<Made>> {
        let gauge = Box::leak(Box::new(Gauge::new(2)));
        let fails = fails.clone();
        let make = move |_| match *fails.lock().unwrap() {
            Some(kind) => Err(crate::error::Error::new(kind, "none")),
            None => Ok(Made),
        };
        Arc::new(Forms::new(gauge, Made, Box::new(make), Kept::Both, false))
    }

    /// Begins a change that this thread makes.
    fn change_here(forms: &Arc<Forms<Made>>) {
        forms.begin_change(Spread::CoreEach, |change| {
            change();
            Ok(())
        });
    }

    #[test]
    fn a_form_that_no_thread_could_make_is_made_later() {
        let forms = two_cores(&Arc::default());
        forms.begin_change(Spread::CoreEach, |_| Err(io::ErrorKind::WouldBlock.into()));
        change_here(&forms);
        assert!(!forms.has(Spread::CoreEach), "not at once");
        forms.is_long_unchanged();
        change_here(&forms);
        assert!(forms.has(Spread::CoreEach));
    }

    #[test]
    fn a_form_is_made_anew_once() {
        let forms = two_cores(&Arc::default());
        let (_, spoiled) = forms.there(Spread::AllCores);
        for _ in 0..2 {
            forms.renew(&spoiled).unwrap();
            assert!(!forms.has(Spread::CoreEach) && Arc::strong_count(&spoiled) == 1);
        }
        let (_, renewed) = forms.there(Spread::AllCores);
        assert!(!Arc::ptr_eq(&spoiled, &renewed));
    }

    #[test]
    fn a_form_is_made_anew_while_it_waits_to_be_freed() {
        let gauge = Box::leak(Box::new(Gauge::new(2)));
        let forms = Forms::new(gauge, Made, Box::new(|_| Ok(Made)), Kept::OneAtATime, true);
        let (_, held) = forms.there(Spread::AllCores);
        let (sender, is_renewed) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| forms.change(Spread::CoreEach));
            while forms.has(Spread::AllCores) {
                std::thread::yield_now();
            }
            // It holds what the change waits for, as a run does.
            let forms = &forms;
            scope.spawn(move || sender.send(forms.renew(&held).is_ok()));
            assert_eq!(is_renewed.recv_timeout(Duration::from_secs(10)), Ok(true));
        });
    }

    #[test]
    fn want_of_memory_may_pass_and_other_reasons_do_not() {
        for (kind, is_made) in [(Kind::ResourceExhausted, true), (Kind::FailedPrecondition, false)] {
            let fails = Arc::new(Mutex::new(Some(kind)));
            let forms = two_cores(&fails);
            change_here(&forms);
            *fails.lock().unwrap() = None;
            assert!(!forms.is_due());
            forms.is_long_unchanged();
            change_here(&forms);
            assert_eq!(forms.has(Spread::CoreEach), is_made, "{kind:?}");
        }
    }
}
