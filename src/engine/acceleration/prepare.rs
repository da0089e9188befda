//! Prepares a model's signatures: makes candidates, compares and times them, and moves runs to the best one.

use super::chain::{Chain, Declined, NewShapes};
use super::compare;
use super::cut::Parts;
use super::decisions::{Decision, Decisions};
use super::model::{Moved, Route, Shared};
use super::probe::{self, Feeds};
use super::quantized::Calibration;
use super::report::{Candidate, Progress, Times};
use super::trial;
use crate::engine::choice::EngineKind;
use crate::engine::frozen::FrozenGraph;
use crate::engine::signature::TensorSpec;
use crate::engine::{Model, RunOptions, Termination, Threads};
use crate::error::{Error, Kind, Result, guarded};
use crate::host::{memory, priority};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

mod lower;

/// What makes candidates of a loaded model.
pub(super) trait Tools: Send + Sync {
    /// Returns the graph of a signature by itself; `feeds` is a request to it.
    fn freeze(&self, signature: &str, feeds: &Feeds) -> Result<FrozenGraph>;

    /// Returns the parts of `graph` of which the fast engine runs one, or why there are none.
    fn plan(&self, graph: &FrozenGraph) -> Result<Parts, String>;

    /// Opens `graph` with `engine`.
    fn open(&self, engine: EngineKind, graph: &FrozenGraph) -> Result<Box<dyn Model>>;

    /// Returns the name of the lower precision that was asked for, if one was.
    fn precision(&self) -> Option<&'static str>;

    /// Opens `graph` with the fast engine in that precision.
    fn open_lower(&self, graph: &FrozenGraph, calibration: &Calibration<'_>) -> Result<Box<dyn Model>>;

    /// Returns what was decided for this model before, if anything can be known of it.
    fn decisions(&self) -> Option<Decisions>;

    /// Lets TensorFlow's session go if nothing has used it for a while. Returns whether it is to be asked again later.
    fn rest(&self) -> bool {
        false
    }

    /// Returns whether the fast engine is installed; if not, why.
    fn fast_engine(&self) -> Result<(), String>;
}

/// What decides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// The accepted difference of numbers, relative to a tensor's largest value.
    pub(super) tolerance: f64,
    /// True if equal answers are enough: nothing is timed, and only the fast engine is tried.
    pub(super) forced: bool,
    /// True to decide again, whatever was decided before.
    pub(super) fresh: bool,
    /// Cores of the machine.
    pub(super) cores: usize,
}

/// Runs shorter than this stay: what an engine costs by itself would be most of it.
const SHORT: Duration = Duration::from_micros(200);
/// A candidate this much faster is not compared with a slower kind.
const MUCH_FASTER: f64 = 1.4;

/// Prepares the signatures of a model that are not decided, one after another. Returns whether nothing is left to do.
pub(super) fn prepare(shared: &Shared, tools: &dyn Tools, rules: Rules) -> bool {
    let is = |progress, route: &Route| route.report().progress == progress;
    let waiting: Vec<&Route> = shared.routes.iter().filter(|route| is(Progress::Waiting, route)).collect();
    let mut waits = false;
    for route in &waiting {
        match route.samples.first() {
            _ if !shared.goes_on() => return true,
            _ if shared.changing().is_some() => stay(shared, route),
            Some(sample) => {
                let kept = in_background(|| Ok(tools.decisions())).ok().flatten().filter(|_| !rules.forced);
                let has_failed = AtomicBool::new(false);
                decide(&Task { shared, route, tools, rules, sample, has_failed }, kept.as_ref());
            }
            None => {
                route.tell(|report| "no request has come that could be tried".clone_into(&mut report.reason));
                waits = true;
            }
        }
    }
    if !waits && !waiting.is_empty() {
        memory::after_unload();
        memory::drop_library_pages();
    }
    let rests = shared.has_all_routes() && shared.routes.iter().all(|route| is(Progress::Moved, route));
    !(waits || rests && tools.rest())
}

/// Lets a signature stay whose model may change: then no value of it is constant.
fn stay(shared: &Shared, route: &Route) {
    let changing = shared.changing().unwrap_or_default();
    route.samples.close();
    route.tell(|report| {
        report.progress = Progress::Stays;
        report.reason = format!("runs of {changing} may change something that all of them read");
    });
}

/// Does work that nobody waits for, at low priority.
fn in_background<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    priority::at_low_priority(true, work)
}

/// Decides where the runs of a signature go.
fn decide(task: &Task<'_>, kept: Option<&Decisions>) {
    let (route, name) = (task.route, &task.shared.name);
    let (signature, begun) = (&route.signature, Instant::now());
    route.tell(|report| (report.progress, report.reason) = (Progress::Preparing, String::new()));
    let before = kept.filter(|_| !task.rules.fresh).and_then(|kept| kept.read(signature));
    let chosen = guarded(|| Ok(task.choose(before.as_ref())));
    let chosen = chosen.unwrap_or_else(|why| Err(task.failed(why)));
    route.samples.close();
    let not_lower = chosen.as_ref().ok().and_then(|tried| task.not_lower(tried, before.as_ref()));
    if let Some(kept) = kept.filter(|_| task.shared.goes_on()) {
        match &chosen {
            // What failed at this moment may succeed at the next start.
            _ if task.has_failed.load(Relaxed) => {}
            Ok(tried) => {
                let reason = not_lower.clone().unwrap_or_default();
                let is_lower = !tried.precision.is_empty();
                let chosen = Decision::chosen(signature, tried.engine.name(), tried.times);
                kept.write(chosen.of_precision(is_lower, reason));
            }
            Err(why) => kept.write(Decision::stays(signature, why)),
        }
    }
    match chosen {
        Ok(Tried { chain, engine_name, precision, .. }) => {
            let took = begun.elapsed().as_secs_f64();
            tracing::info!(
                "{name}: signature {signature}: runs move to {engine_name}, prepared in {took:.1} s"
            );
            if let Some(why) = &not_lower {
                tracing::warn!("{name}: signature {signature}: {why}");
            }
            route.tell(|report| {
                (report.progress, report.engine) = (Progress::Moved, engine_name);
                report.reason = not_lower.unwrap_or_default();
            });
            // Before the first run, which may be refused. Set once: a signature is decided once.
            let _set = kept.map(|kept| route.kept.set(kept.clone()));
            let tolerance = precision.is_empty().then_some(task.rules.tolerance);
            route.moved.store(Some(Arc::new(Moved { chain, tolerance })));
        }
        Err(why) => {
            tracing::debug!("{name}: signature {signature}: runs stay with TensorFlow: {why}");
            route.tell(|report| (report.progress, report.reason) = (Progress::Stays, why));
        }
    }
}

/// A candidate that may take over.
struct Tried {
    chain: Chain,
    engine: EngineKind,
    engine_name: String,
    /// `None` if it was not timed, because that is known or does not matter.
    times: Option<Times>,
    /// The lower precision in which it computes; empty for floats of 32 bits.
    precision: &'static str,
}

impl Tried {
    fn speed(&self) -> f64 {
        self.times.as_ref().map_or(f64::MAX, trial::speed)
    }
}

/// Returns whether the shortest of a few runs takes less than [`SHORT`].
fn is_short(run: &dyn Fn() -> Result<()>) -> bool {
    let once = || {
        let begun = Instant::now();
        run().ok().map(|()| begun.elapsed())
    };
    (0..5).filter_map(|_| once()).min().is_some_and(|shortest| shortest < SHORT)
}

/// The work for one signature.
struct Task<'a> {
    shared: &'a Shared,
    route: &'a Route,
    tools: &'a dyn Tools,
    rules: Rules,
    sample: Feeds,
    /// True once something failed that says nothing of the candidates.
    has_failed: AtomicBool,
}

impl Task<'_> {
    /// Returns the text of an error, and notes a failure of this moment: any but of what an engine cannot do.
    fn refused(&self, why: Error) -> String {
        if why.kind == Kind::Unimplemented { why.message.into_owned() } else { self.failed(why) }
    }

    /// Notes a failure of this moment; returns its text.
    fn failed(&self, why: Error) -> String {
        self.has_failed.store(true, Relaxed);
        why.message.into_owned()
    }

    /// Returns the best candidate, or why there is none. `before`: what was decided at an earlier start.
    fn choose(&self, before: Option<&Decision>) -> Result<Tried, String> {
        if let Some(stays) = before.filter(|before| before.engine.is_empty()) {
            return Err(stays.reason.clone());
        }
        let outputs = &self.route.ends.outputs;
        let run = || self.shared.reference.run(&self.sample, outputs, self.options()).map(drop);
        if !self.rules.forced && before.is_none() && is_short(&run) {
            return Err(format!("its runs take less than {} µs", SHORT.as_micros()));
        }
        let frozen = in_background(|| self.tools.freeze(&self.route.signature, &self.sample));
        let frozen = frozen.map_err(|why| self.refused(why))?;
        match before.and_then(|before| Some((EngineKind::from_name(&before.engine)?, before))) {
            Some((engine, before)) => self.try_again(engine, before, &frozen).ok_or_else(|| self.reason()),
            None => self.best(&frozen).ok_or_else(|| self.reason()),
        }
    }

    /// Tries all candidates.
    fn best(&self, frozen: &FrozenGraph) -> Option<Tried> {
        let best = self.or_lower(self.try_fast(None, frozen), frozen);
        let is_enough = best.as_ref().is_some_and(|best| self.rules.forced || best.speed() >= MUCH_FASTER);
        if is_enough || self.rules.forced || !self.shared.goes_on() {
            return best;
        }
        let other = self.try_out(EngineKind::TensorFlow, None, frozen, &Parts::whole(frozen.clone()));
        match (best, other) {
            (Some(best), Some(other)) => Some(if other.speed() > best.speed() { other } else { best }),
            (best, other) => best.or(other),
        }
    }

    /// Tries the candidate that was chosen before, with the times that it had; of one in lower precision that does not
    /// hold any more, all.
    fn try_again(&self, engine: EngineKind, before: &Decision, frozen: &FrozenGraph) -> Option<Tried> {
        let times = before.times();
        if before.is_lower {
            return self.try_lower(times, frozen).or_else(|| self.try_fast(None, frozen));
        }
        match engine {
            EngineKind::TensorFlow => self.try_out(engine, times, frozen, &Parts::whole(frozen.clone())),
            EngineKind::OpenVino | EngineKind::Onnx | EngineKind::LiteRt => self.try_fast(times, frozen),
        }
    }

    /// Tries the fast engine, for as much of the graph as it may run.
    fn try_fast(&self, times: Option<Times>, frozen: &FrozenGraph) -> Option<Tried> {
        match self.tools.fast_engine().and_then(|()| self.tools.plan(frozen)) {
            Ok(parts) => self.try_out(EngineKind::OpenVino, times, frozen, &parts),
            Err(refusal) => {
                let engine = EngineKind::OpenVino.name().to_owned();
                self.tell(Candidate { refusal, ..Candidate::new(engine) });
                None
            }
        }
    }

    /// Opens, compares and times a candidate. Returns it if it may take over.
    fn try_out(
        &self,
        engine: EngineKind,
        times: Option<Times>,
        whole: &FrozenGraph,
        parts: &Parts,
    ) -> Option<Tried> {
        let name = name(engine, parts);
        let mut candidate = Candidate { times, ..Candidate::new(name.clone()) };
        let tried = self.examine(engine, whole, parts, &mut candidate);
        candidate.refusal = tried.as_ref().err().cloned().unwrap_or_default();
        let times = candidate.times;
        self.tell(candidate);
        tried.ok().map(|chain| Tried { chain, engine, engine_name: name, times, precision: "" })
    }

    fn examine(
        &self,
        engine: EngineKind,
        whole: &FrozenGraph,
        parts: &Parts,
        candidate: &mut Candidate,
    ) -> Result<Chain, String> {
        let ends = &self.route.ends;
        let chain = Chain::open(whole, parts, engine, ends, |engine, graph| self.tools.open(engine, graph));
        let chain = chain.map_err(|why| self.refused(why))?;
        let judge = |chain: &Chain, candidate: &mut Candidate| {
            candidate.difference = Some(self.compare(chain)?);
            Ok(())
        };
        judge(&chain, candidate)?;
        self.timed(chain, candidate, &judge)
    }

    /// Times `chain`, unless that is known or does not matter. Returns it if it is fast enough, and `judge` finds nothing
    /// in its answers afterwards, too.
    fn timed(
        &self,
        chain: Chain,
        candidate: &mut Candidate,
        judge: &dyn Fn(&Chain, &mut Candidate) -> Result<(), String>,
    ) -> Result<Chain, String> {
        if self.rules.forced || candidate.times.is_some() {
            return Ok(chain);
        }
        let ends = &self.route.ends;
        let one = probe::of_rows(self.inputs()?, &self.sample, 1, self.ends());
        let reference = |options| self.shared.reference.run(&one, &ends.outputs, options).map(drop);
        let fast = |options| match chain.run(&one, &ends.outputs, options, NewShapes::Learned) {
            Ok(_) => Ok(()),
            Err(Declined::Failed(why)) => Err(why),
            Err(_) => Err(Error::invalid("its numbers are not finite, or too large")),
        };
        let ways = [self.options().threads, Threads::Pool];
        let timed = |callers| {
            let pair = trial::shortest(&reference, &fast, ways, callers, &|| self.shared.goes_on());
            pair.map_err(|why| self.failed(why))
        };
        let watch = self.shared.others.watch();
        let alone = timed(1)?;
        // Where it has nothing for that, it is timed as it is.
        let _ = chain.share_cores(true);
        let tried = timed(self.rules.cores).and_then(|together| {
            candidate.times = Some(Times { alone, together });
            // What came in meanwhile has to be answered alike as well, and by what runs that come at once take.
            judge(&chain, candidate).map(|()| Times { alone, together })
        });
        // Whatever came of it: another signature may have moved to the same model.
        let _ = chain.share_cores(false);
        let (times, under_load) = (tried?, watch.were_many());
        let refusal = trial::refusal(&times);
        // Beside others, times may be anything: at the next start it is timed again.
        self.has_failed.fetch_or(refusal.is_some() && under_load, Relaxed);
        refusal.map_or(Ok(chain), Err)
    }

    /// Returns whether runs end whatever the values are.
    fn ends(&self) -> bool {
        self.shared.reference.termination(&self.route.signature) == Termination::ByShapes
    }

    fn options(&self) -> RunOptions {
        self.route.trial_options(&*self.shared.reference)
    }

    fn inputs(&self) -> Result<&[TensorSpec], String> {
        let signature = self.shared.reference.signatures().get(&self.route.signature);
        signature.map(|signature| &*signature.inputs).ok_or_else(|| "it is gone".to_owned())
    }

    /// Returns the largest difference of any answer, or what differs.
    fn compare(&self, chain: &Chain) -> Result<f64, String> {
        let (options, outputs) = (self.options(), &self.route.ends.outputs);
        let (mut largest, mut answered) = (0.0f64, 0);
        let tried = probe::inputs(self.inputs()?, &self.sample, self.ends());
        for feeds in self.route.samples.all().iter().skip(1).chain(&tried) {
            if !self.shared.goes_on() {
                return Err("the version is being unloaded".to_owned());
            }
            // What the reference refuses, the candidate need not answer: its refusals are TensorFlow's to judge.
            let Ok(expected) = self.shared.reference.run(feeds, outputs, options) else { continue };
            let got = match chain.run(feeds, outputs, options, NewShapes::Learned) {
                Ok(got) => got,
                // In serving, too, it does not get these.
                Err(Declined::Numbers | Declined::Shapes(_) | Declined::Unlike) => continue,
                Err(Declined::Failed(why)) => return Err(format!("it refused a run: {}", self.failed(why))),
            };
            largest = largest.max(compare::difference(&expected, &got, self.rules.tolerance)?);
            answered += 1;
        }
        if answered == 0 {
            return Err(self.failed(Error::invalid("no answer could be compared")));
        }
        self.compare_extremes(chain)?;
        Ok(largest)
    }

    /// Compares where answers to very large and very small numbers are finite. How much others differ says nothing: so
    /// large numbers cancel each other out up to what was rounded.
    fn compare_extremes(&self, chain: &Chain) -> Result<(), String> {
        let (options, outputs) = (self.options(), &self.route.ends.outputs);
        let tried = if self.ends() { probe::extremes(&self.sample) } else { Vec::new() };
        for feeds in tried.iter().take_while(|_| self.shared.goes_on()) {
            let Ok(expected) = self.shared.reference.run(feeds, outputs, options) else { continue };
            // What it declines or refuses is TensorFlow's, or was said above.
            if let Ok(got) = chain.run(feeds, outputs, options, NewShapes::Learned) {
                compare::specials(&expected, &got)?;
            }
        }
        Ok(())
    }

    fn tell(&self, candidate: Candidate) {
        self.route.tell(|report| report.candidates.push(candidate));
    }

    /// Returns why no candidate was chosen.
    fn reason(&self) -> String {
        let refusals = |candidate: Candidate| format!("{}: {}", candidate.engine, candidate.refusal);
        let candidates = self.route.report().candidates;
        candidates.into_iter().map(refusals).collect::<Vec<_>>().join("; ")
    }
}

/// Returns the name of a candidate in reports.
fn name(engine: EngineKind, parts: &Parts) -> String {
    let name = engine.name();
    match engine {
        EngineKind::TensorFlow => format!("{name} frozen"),
        _ if parts.is_cut() => format!("{} + {name}", EngineKind::TensorFlow.name()),
        EngineKind::OpenVino | EngineKind::Onnx | EngineKind::LiteRt => name.to_owned(),
    }
}
