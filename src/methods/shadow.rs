//! Copies of requests for another version, whose answers are compared with those that were returned, counted, and dropped.
//!
//! They must not be felt: a copy is offered once its request is answered, and threads of low priority ask the other version.
//! Little may wait; what is beyond that is dropped and counted. A copy has memory of its own: tensors may be small parts of a
//! large body or batch, or be their caller's. It goes with the rules that asked for it, and keeps no version in use; one that
//! hangs does not block those for other rules.

use super::bind;
use super::examples::TaskAnswer;
use super::{Answer, Context, Request, ServerState};
use crate::chance::chosen;
use crate::engine::acceleration::compare;
use crate::error::{Error, Kind, Result, guarded};
use crate::host::priority;
use crate::metrics::ShadowFate;
use crate::servable::Servable;
use crate::tensor::{DType, Strings, Tensor};
use crate::traffic_split::Split;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// Most copies that wait for a thread.
const MOST_WAITING: usize = 64;
/// Most bytes that all copies hold, with the answers that they are compared with.
const MOST_BYTES: usize = 64 << 20;
/// Most threads. A second one, so that one version that hangs does not end all comparisons.
const MOST_THREADS: usize = 2;
/// Most threads with those that are left with a copy for former rules.
const MOST_THREADS_AT_ALL: usize = 8;
/// Longest time that a thread waits for more.
const KEPT_IDLE: Duration = Duration::from_secs(5);

/// The copies that wait, and the threads for them.
#[derive(Default)]
pub struct Shadows(Arc<Shared>);

#[derive(Default)]
struct Shared {
    server: OnceLock<Weak<ServerState>>,
    state: Mutex<State>,
    changed: Condvar,
    bytes: Arc<AtomicUsize>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Shadowed>,
    threads: usize,
    idle: usize,
    /// The rules of those that are compared.
    compared: Vec<Arc<Split>>,
    ended: bool,
}

impl State {
    /// Returns the number of threads without those that are left with a copy for former rules.
    fn threads_of_now(&self) -> usize {
        self.threads - self.compared.iter().filter(|split| split.has_ended()).count()
    }

    /// Returns whether another thread is needed.
    fn wants_thread(&self) -> bool {
        self.idle == 0 && self.threads_of_now() < MOST_THREADS && self.threads < MOST_THREADS_AT_ALL
    }

    /// Returns whether one that was left with a copy for former rules has come back, and others have taken its place.
    fn has_too_many_threads(&self) -> bool {
        self.threads_of_now() > MOST_THREADS
    }

    /// Takes those that wait for former rules, which are to be dropped without the lock.
    #[must_use]
    fn take_ended(&mut self) -> VecDeque<Shadowed> {
        let waiting = std::mem::take(&mut self.waiting);
        let (ended, waiting) = waiting.into_iter().partition(|copy| copy.split.has_ended());
        self.waiting = waiting;
        ended
    }
}

/// A copy of a request, until its shadow has been compared.
pub struct Shadowed {
    split: Arc<Split>,
    /// The version that answers the request.
    version: i64,
    question: Question,
    /// When the request was ready to run, and how long it took until its outputs were there.
    begun: Instant,
    took: Duration,
    returned: Vec<(String, Tensor)>,
    held: Held,
}

/// What is asked: in terms of names, as another version may have them in another order.
enum Question {
    Predict { signature: Arc<str>, inputs: BTreeMap<String, Tensor>, outputs: Vec<String> },
    Examples(Request),
}

impl Shadows {
    /// Copies are asked of versions of `server`; to be called once.
    pub fn serve(&self, server: &Arc<ServerState>) {
        // A second server would be a fault of the caller's code; the first counts.
        let _first = self.0.server.set(Arc::downgrade(server));
    }

    /// Has the shadow asked, if there is room; does not wait.
    pub(super) fn ask(&self, copy: Shadowed) {
        let Shadows(shared) = self;
        if copy.returned.is_empty() || copy.split.has_ended() {
            return;
        }
        let mut state = shared.state();
        let is_full = |state: &State| state.waiting.len() >= MOST_WAITING;
        let _dropped = is_full(&state).then(|| state.take_ended());
        if state.ended || is_full(&state) || (state.wants_thread() && !shared.start(&mut state)) {
            drop(state);
            copy.count(ShadowFate::Busy);
            return;
        }
        state.waiting.push_back(copy);
        drop(state);
        shared.changed.notify_one();
    }

    /// Counts the memory of a copy; `None` if it would be too much.
    fn hold(&self, bytes: usize) -> Option<Held> {
        let Shadows(shared) = self;
        Held::take(&shared.bytes, bytes).or_else(|| {
            let ended = shared.state().take_ended();
            drop(ended);
            Held::take(&shared.bytes, bytes)
        })
    }

    /// Asks for no copy from now on. Those under way end with their versions, or by their timeouts.
    pub fn end(&self) {
        let mut state = self.0.state();
        state.ended = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        drop(waiting);
        self.0.changed.notify_all();
    }

    /// Waits until nothing waits or is compared.
    #[cfg(test)]
    pub(crate) fn settle(&self) {
        loop {
            let state = self.0.state();
            if state.waiting.is_empty() && state.idle == state.threads {
                return;
            }
            drop(state);
            std::thread::yield_now();
        }
    }
}

impl Drop for Shadows {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    /// Starts a thread; returns whether there is one at all.
    fn start(self: &Arc<Self>, state: &mut State) -> bool {
        let own = self.clone();
        let started = Builder::new().name("servable-shadow".to_owned()).spawn(move || {
            priority::give_way();
            own.work();
        });
        state.threads += usize::from(started.is_ok());
        state.threads > 0
    }

    /// Asks shadows until none has come for a while.
    fn work(&self) {
        let mut state = self.state();
        loop {
            while !state.has_too_many_threads()
                && let Some(copy) = state.waiting.pop_front()
            {
                let split = copy.split.clone();
                state.compared.push(split.clone());
                drop(state);
                if let Some(server) = self.server.get().and_then(Weak::upgrade) {
                    // Whatever happens, the thread goes on.
                    let _compared = guarded(|| {
                        copy.compare(&server);
                        Ok(())
                    });
                }
                state = self.state();
                let place = state.compared.iter().position(|compared| Arc::ptr_eq(compared, &split));
                if let Some(place) = place {
                    state.compared.swap_remove(place);
                }
            }
            if state.ended || state.has_too_many_threads() {
                break;
            }
            state.idle += 1;
            let nothing = |state: &mut State| state.waiting.is_empty() && !state.ended;
            let waited = self.changed.wait_timeout_while(state, KEPT_IDLE, nothing);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.idle -= 1;
            if state.waiting.is_empty() {
                break;
            }
        }
        state.threads -= 1;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shadowed {
    /// Takes a copy of a `request` to `servable`, if its model's traffic has a shadow and it is one of the sample.
    pub(super) fn take(
        shadows: &Shadows,
        split: &Arc<Split>,
        servable: &Servable,
        request: &Request,
    ) -> Option<Box<Shadowed>> {
        let (rule, counts) = split.shadow()?;
        if !chosen(rule.share) {
            return None;
        }
        let Some(held) = shadows.hold(request.memory()) else {
            counts.count(ShadowFate::Memory);
            return None;
        };
        let question = question(servable, request)?;
        let (split, version, begun) = (split.clone(), servable.version(), Instant::now());
        let (took, returned) = (Duration::ZERO, Vec::new());
        Some(Box::new(Shadowed { split, version, question, begun, took, returned, held }))
    }

    /// Takes down the answer, which is not sent yet.
    pub(super) fn answered(&mut self, answer: &Answer<'_>) {
        self.took = self.begun.elapsed();
        let returned = tensors(answer);
        let bytes = returned.iter().map(|(_, tensor)| tensor.memory()).sum();
        if !self.held.grow(bytes) {
            self.count(ShadowFate::Memory);
            return;
        }
        self.returned = returned.into_iter().map(|(name, tensor)| (name, tensor.copied())).collect();
    }

    fn count(&self, fate: ShadowFate) {
        if let Some((_, counts)) = self.split.shadow() {
            counts.count(fate);
        }
    }

    /// Asks the shadow, and compares its answer with the one that was returned, unless there are other rules by now.
    fn compare(self, server: &ServerState) {
        if self.split.has_ended() {
            return;
        }
        let Some((rule, counts)) = self.split.shadow() else { return };
        let Some(shadow) = server.registry.target(self.split.model(), &rule.to) else {
            return counts.count(ShadowFate::Unavailable);
        };
        if shadow.version() == self.version {
            // It has answered the request itself.
            return;
        }
        let (begun, asked) = (Instant::now(), Arc::downgrade(&shadow));
        let answered = guarded(|| answer(server, shadow, self.question, rule.timeout));
        let took = begun.elapsed();
        if self.split.has_ended() {
            return;
        }
        match answered {
            // Its version was withdrawn meanwhile, which ends runs.
            _ if asked.strong_count() == 0 => counts.count(ShadowFate::Unavailable),
            Err(why) => {
                counts.tells(true, &why.to_string());
                counts.count(ShadowFate::Failed);
            }
            Ok(given) => {
                counts.took(self.took, took);
                counts.count(match difference(&self.returned, &given, rule.tolerance) {
                    None => ShadowFate::Equal,
                    Some(why) => {
                        counts.tells(false, &why);
                        ShadowFate::Different
                    }
                });
            }
        }
    }
}

/// Bytes that are counted as long as this is there.
struct Held {
    all: Arc<AtomicUsize>,
    bytes: usize,
}

impl Held {
    /// Counts `bytes`; `None` if that would be too many.
    fn take(all: &Arc<AtomicUsize>, bytes: usize) -> Option<Held> {
        let mut held = Held { all: all.clone(), bytes: 0 };
        held.grow(bytes).then_some(held)
    }

    fn grow(&mut self, bytes: usize) -> bool {
        let more = |held: usize| held.checked_add(bytes).filter(|all| *all <= MOST_BYTES);
        let fits = self.all.fetch_update(Relaxed, Relaxed, more).is_ok();
        self.bytes += if fits { bytes } else { 0 };
        fits
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Relaxed);
    }
}

/// Returns what `request` asks of `servable`; `None` if that is not the version it was read for.
fn question(servable: &Servable, request: &Request) -> Option<Question> {
    let Request::Predict { signature, inputs, outputs } = request else {
        return Some(Question::Examples(request.copied()));
    };
    let found = servable.signature(signature)?;
    let own = inputs.iter().map(Tensor::copied);
    let inputs = found.inputs.iter().map(|spec| spec.alias.clone()).zip(own).collect();
    let outputs = outputs.iter().map(|place| found.outputs[*place].alias.clone()).collect();
    Some(Question::Predict { signature: signature.clone(), inputs, outputs })
}

/// Returns the answer of `servable` as tensors by name. It is not kept in use by the run.
fn answer(
    server: &ServerState,
    servable: Arc<Servable>,
    question: Question,
    timeout: Duration,
) -> Result<Vec<(String, Tensor)>> {
    let request = match question {
        Question::Examples(request) => request,
        Question::Predict { signature, inputs, outputs } => {
            let found = bind::signature(server, &servable, &signature)?;
            let inputs = bind::inputs(found, inputs, |_, tensor: &Tensor| Ok::<_, Error>(tensor.clone()))?;
            let outputs = bind::outputs(found, outputs.iter().map(Ok::<_, Error>))?;
            Request::Predict { signature, inputs, outputs }
        }
    };
    let plan = request.plan(server, &servable)?;
    let (run, again) = (servable.aside(plan.run), Arc::downgrade(&servable));
    drop(servable);
    let outputs = run.run(timeout)?;
    let withdrawn = || Error::new(Kind::Unavailable, "The version was withdrawn");
    let servable = again.upgrade().ok_or_else(withdrawn)?;
    plan.reading.finish(&servable, outputs, &Context::default()).map(|answer| tensors(&answer))
}

/// Returns an answer as tensors by name.
fn tensors(answer: &Answer<'_>) -> Vec<(String, Tensor)> {
    match answer {
        Answer::Outputs(outputs) => {
            outputs.iter().map(|(alias, tensor)| ((*alias).to_owned(), tensor.clone())).collect()
        }
        Answer::Classes(classes) => {
            classified(classes.labels.as_ref(), classes.scores.as_deref(), classes.columns)
        }
        Answer::Values(values) => vec![("outputs".to_owned(), floats(values, 1))],
        Answer::Tasks(tasks) => {
            let of = |(_, task): &(_, TaskAnswer)| match task {
                TaskAnswer::Classes(classes) => {
                    classified(classes.labels.as_ref(), classes.scores.as_deref(), classes.columns)
                }
                TaskAnswer::Values(values) => vec![("outputs".to_owned(), floats(values, 1))],
            };
            tasks.iter().flat_map(of).collect()
        }
    }
}

#[allow(clippy::cast_possible_wrap)] // Lengths in memory.
fn classified(labels: Option<&Strings>, scores: Option<&[f32]>, columns: usize) -> Vec<(String, Tensor)> {
    let labels = labels
        .map(|labels| ("classes".to_owned(), Tensor::strings(vec![labels.len() as i64], labels.clone())));
    labels.into_iter().chain(scores.map(|scores| ("scores".to_owned(), floats(scores, columns)))).collect()
}

/// Returns rows of `columns` numbers.
#[allow(clippy::cast_possible_wrap)] // Lengths in memory.
fn floats(values: &[f32], columns: usize) -> Tensor {
    let columns = columns.max(1);
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let rows = values.len() / columns;
    let shape = if rows * columns == values.len() {
        vec![rows as i64, columns as i64]
    } else {
        vec![values.len() as i64]
    };
    Tensor::numbers(DType::Float, shape, bytes.into())
}

/// Returns what differs, for a person to read; `None` if nothing does.
fn difference(returned: &[(String, Tensor)], given: &[(String, Tensor)], tolerance: f64) -> Option<String> {
    if returned.len() != given.len() {
        return Some(format!("{} outputs instead of {}", given.len(), returned.len()));
    }
    returned.iter().zip(given).find_map(|((name, returned), (_, given))| {
        let one = std::slice::from_ref::<Tensor>;
        let why = compare::difference(one(returned), one(given), tolerance).err()?;
        Some(format!("{name}: {why}"))
    })
}

#[cfg(test)]
mod tests;
