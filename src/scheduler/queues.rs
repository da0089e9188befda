//! The decisions of the scheduler: what is accepted, and what runs next. Pure: reads no clock, starts no thread.
//!
//! Every signature of a version has a [`Lane`]. The model that has used the least time by its weight is next, and of
//! its signatures the same. As much runs at once as there are slots; short work of a model for which none is free
//! takes one of a few spare slots, so that it never waits for long work of another. A run that goes on much longer
//! than its like hangs, and loses its slot to others; a model whose runs all hang is refused.

use super::lane::{Done, Ending, Entry, Item, Lane};
use super::sharing::{Begun, Sharing};
use super::turns::{Class, Place, Turns};
use crate::metrics::Reason;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What may run and wait.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// Most work that runs at once, apart from short work and runs that hang.
    pub slots: usize,
    /// Most short work that runs besides.
    pub spare: usize,
    /// Most runs of a queue that gathers work that run at once.
    pub batches_at_once: usize,
    /// Most batches, of all queues of batches, that run at once; 0 without such queues.
    pub batch_threads: usize,
    /// Longest predicted wait with which work is accepted; `None` for any with which clients stay.
    pub max_wait: Option<Duration>,
    /// Most requests of all models that wait or run; `None` for any number.
    pub max_requests: Option<usize>,
    /// Most requests of a model that wait or run; `None` for any number.
    pub max_model_requests: Option<usize>,
    /// Most bytes that the requests of a model hold that wait or run; `None` for any number.
    pub max_model_bytes: Option<usize>,
    /// The weights of models; 1 for those without.
    pub weights: HashMap<String, f64>,
}

/// The number of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct LaneId(u64);

/// A request to run something.
#[derive(Debug)]
pub(super) struct Asked<J> {
    pub(super) job: J,
    /// The memory it holds, in bytes.
    pub(super) bytes: usize,
    pub(super) deadline: Option<Instant>,
    pub(super) admission: Admission,
}

/// What is asked of work before it is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Everything.
    New,
    /// Whether it would be too late: its request was counted when it was accepted before.
    Counted,
    /// Nothing: its request has its result, or it belongs to no model.
    Always,
}

/// The reason why work is not accepted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Refused {
    /// The predicted wait is longer than its deadline allows.
    TooLate(Duration),
    /// The predicted wait is longer than `--max_queue_milliseconds`.
    TooLong(Duration),
    /// Clients leave while they wait, and the predicted wait is no shorter.
    Leaving(Duration),
    /// As many requests wait or run as may.
    TooMany(usize),
    /// As many requests of the model wait or run as may.
    TooManyOfModel(usize),
    /// The model's requests would hold more bytes than they may.
    TooMuchOfModel(usize),
    /// All runs of the model hang, the oldest for this long.
    Hanging(Duration),
}

impl Refused {
    /// Returns the reason to count.
    pub(super) fn reason(self) -> Reason {
        match self {
            Refused::TooLate(_) => Reason::Deadline,
            Refused::TooLong(_) => Reason::QueueTime,
            Refused::Leaving(_) => Reason::Overload,
            Refused::TooMany(_) => Reason::Requests,
            Refused::TooManyOfModel(_) => Reason::ModelRequests,
            Refused::TooMuchOfModel(_) => Reason::ModelMemory,
            Refused::Hanging(_) => Reason::Hanging,
        }
    }
}

/// What to do next.
#[derive(Debug)]
pub(super) enum Next<J> {
    /// Run this.
    Run(Run, Vec<J>),
    /// Nothing until then, unless something changes.
    Wait(Option<Instant>),
}

/// The number of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Run(u64);

#[derive(Debug)]
struct Running {
    lane: LaneId,
    model: Arc<str>,
    since: Instant,
    begun: Begun,
    /// When it has taken so long that it no longer counts as running.
    hangs_at: Instant,
    /// When it is given up: if all runs of a queue are, more of its work is refused.
    lost_at: Instant,
    /// True if it has one of the spare slots.
    spare: bool,
    /// True if it is of a queue of batches.
    batch: bool,
    requests: usize,
    rows: usize,
    bytes: usize,
    /// The time that its model was charged, in seconds.
    charged: f64,
}

/// What is counted for a model.
#[derive(Debug)]
struct Model {
    weight: f64,
    /// Time used divided by weight, in seconds.
    used: f64,
    /// The time used by the lane that ran last, when it did.
    clock: f64,
    lanes: usize,
    /// Those with waiting work, and the model's own place.
    turns: Turns<LaneId>,
    place: Place,
    /// Requests that wait, and those that run, of which several may share a run.
    waiting: usize,
    running: usize,
    /// Requests that are counted: see [`Queues::hold`].
    requests: usize,
    /// The bytes that all of these hold.
    bytes: usize,
}

/// All queues, and what runs.
#[derive(Debug)]
pub(super) struct Queues<J> {
    limits: Limits,
    lanes: BTreeMap<LaneId, Lane<J>>,
    models: HashMap<Arc<str>, Model>,
    running: BTreeMap<Run, Running>,
    sharing: Sharing,
    /// The models with waiting work.
    turns: Turns<Arc<str>>,
    waiting: usize,
    /// Requests that are counted, of all models.
    requests: usize,
    /// The virtual time of the model that ran last: one that was idle begins there.
    clock: f64,
    next_number: u64,
}

/// A run hangs, and its slot goes to others, when it has taken this many times as long as its like on average,
const HANGS: u32 = 20;
/// but not sooner than after this,
const HANGS_AFTER: Duration = Duration::from_secs(2);
/// or, if nothing is known of its like, than after this.
const UNKNOWN_HANGS_AFTER: Duration = Duration::from_secs(20);
/// A run is lost when it has taken this many times as long as the longest of its like,
const LOST: u32 = 100;
/// but not sooner than after this,
const LOST_AFTER: Duration = Duration::from_secs(30);
/// and not later than after this, which also holds if nothing is known of its like.
const UNKNOWN_LOST_AFTER: Duration = Duration::from_secs(300);

impl Limits {
    /// Returns whether requests in flight are limited, or the bytes that they hold.
    pub(super) fn count_requests(&self) -> bool {
        self.max_requests.or(self.max_model_requests).or(self.max_model_bytes).is_some()
    }
}

impl<J: Item> Queues<J> {
    pub(super) fn new(limits: Limits) -> Queues<J> {
        Queues {
            limits,
            lanes: BTreeMap::new(),
            models: HashMap::new(),
            running: BTreeMap::new(),
            sharing: Sharing::default(),
            turns: Turns::new(),
            waiting: 0,
            requests: 0,
            clock: 0.0,
            next_number: 0,
        }
    }

    /// Adds a queue for work of `model`. `gathers`: work that may be done together is.
    pub(super) fn add(&mut self, model: &str, gathers: bool, now: Instant) -> LaneId {
        let id = LaneId(self.number());
        let name: Arc<str> =
            self.models.get_key_value(model).map_or_else(|| model.into(), |(name, _)| name.clone());
        let weight = self.limits.weights.get(model).copied().unwrap_or(1.0);
        let counts = self.models.entry(name.clone()).or_insert_with(|| Model::new(weight));
        counts.lanes += 1;
        self.lanes.insert(id, Lane::new(name, gathers, now));
        id
    }

    /// Makes a queue's work never count as short: that of bodies, which may be of any size.
    pub(super) fn never_short(&mut self, id: LaneId) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.never_short = true;
        }
    }

    /// Makes a queue's work count as batches.
    pub(super) fn has_batches(&mut self, id: LaneId) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.has_batches = true;
        }
    }

    /// Removes a queue. Its work, of which there is none as long as work holds its queue, is returned.
    pub(super) fn remove(&mut self, id: LaneId) -> Option<Lane<J>> {
        let mut lane = self.lanes.remove(&id)?;
        self.waiting -= lane.len();
        self.requests -= lane.requests(lane.len());
        if let Some(model) = self.models.get_mut(&lane.model) {
            model.requests -= lane.requests(lane.len());
            model.turns.put(&id, &mut lane.place, Place::default());
            model.put(&lane.model, &mut self.turns);
            model.lanes -= 1;
            model.waiting -= lane.len();
            if model.lanes == 0 && model.running == 0 {
                self.models.remove(&lane.model);
            }
        }
        Some(lane)
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// Returns whether something waits, and whether some of that may run at `now`.
    pub(super) fn state(&self, now: Instant) -> (bool, bool) {
        (self.waiting > 0, self.waiting > 0 && self.choose(now).is_some())
    }

    /// Returns the number of what waits.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Removes everything that waits.
    pub(super) fn clear(&mut self) -> Vec<J> {
        self.waiting = 0;
        let mut jobs = Vec::new();
        for (id, lane) in &mut self.lanes {
            let Some(model) = self.models.get_mut(&lane.model) else { continue };
            self.requests -= lane.requests(lane.len());
            model.requests -= lane.requests(lane.len());
            for entry in lane.clear() {
                model.waiting -= 1;
                model.bytes -= entry.bytes;
                jobs.push(entry.job);
            }
            model.put_lane(lane, *id, &mut self.turns);
        }
        jobs
    }

    /// Queues work, and returns its number; or why it is refused.
    pub(super) fn push(&mut self, id: LaneId, asked: Asked<J>, now: Instant) -> Result<u64, (Refused, J)> {
        if let Err(why) = self.accepts(id, &asked, now) {
            return Err((why, asked.job));
        }
        let number = self.number();
        let Some(lane) = self.lanes.get_mut(&id) else { return Ok(number) };
        if let Some(model) = self.models.get_mut(&lane.model) {
            // Where nothing waited, there is no claim on the time that others used meanwhile.
            if model.waiting == 0 && model.used < self.clock {
                let lifted = (self.clock - model.used) * model.weight;
                model.used = self.clock;
                // That pays for the time that its runs have taken so far.
                for run in self.running.values_mut().filter(|run| run.model == lane.model) {
                    let taken = now.saturating_duration_since(run.since).as_secs_f64();
                    run.charged = run.charged.max(taken.min(run.charged + lifted));
                }
            }
            if lane.is_empty() {
                lane.used = lane.used.max(model.clock);
            }
            model.waiting += 1;
            model.requests += lane.requests(1);
            model.bytes += asked.bytes;
        }
        self.waiting += 1;
        self.requests += lane.requests(1);
        lane.push(number, Entry { job: asked.job, arrived: now, bytes: asked.bytes });
        self.put(id);
        Ok(number)
    }

    fn accepts(&mut self, id: LaneId, asked: &Asked<J>, now: Instant) -> Result<(), Refused> {
        match asked.admission {
            Admission::Always => return Ok(()),
            Admission::New => self.is_within_limits(id, asked.bytes)?,
            Admission::Counted => {}
        }
        if let Some(since) = self.all_lost(id, now) {
            return Err(Refused::Hanging(now.saturating_duration_since(since)));
        }
        let threads = self.limits.slots;
        let Some(lane) = self.lanes.get_mut(&id) else { return Ok(()) };
        let Some(wait) = lane.wait(threads) else { return Ok(()) };
        let answered = now + wait + lane.needs(now);
        if !lane.is_empty() && asked.deadline.is_some_and(|deadline| deadline < answered) {
            return Err(Refused::TooLate(wait));
        }
        if self.limits.max_wait.is_some_and(|longest| wait > longest) {
            return Err(Refused::TooLong(wait));
        }
        if self.limits.max_wait.is_none() && lane.leaving(now).is_some_and(|bound| wait > bound) {
            lane.refused(now);
            return Err(Refused::Leaving(wait));
        }
        Ok(())
    }

    fn is_within_limits(&self, id: LaneId, bytes: usize) -> Result<(), Refused> {
        let Limits { max_requests, max_model_requests, max_model_bytes, .. } = self.limits;
        if let Some(most) = max_requests.filter(|most| self.requests >= *most) {
            return Err(Refused::TooMany(most));
        }
        let Some(model) = self.lanes.get(&id).and_then(|lane| self.models.get(&lane.model)) else {
            return Ok(());
        };
        if let Some(most) = max_model_requests.filter(|most| model.requests >= *most) {
            return Err(Refused::TooManyOfModel(most));
        }
        // The first is accepted whatever it holds.
        let over = |most: &usize| model.bytes > 0 && model.bytes.saturating_add(bytes) > *most;
        max_model_bytes.filter(over).map_or(Ok(()), |most| Err(Refused::TooMuchOfModel(most)))
    }

    /// Returns since when the oldest run of the queue goes on if all that it may have at once are lost.
    fn all_lost(&self, id: LaneId, now: Instant) -> Option<Instant> {
        let most = self.lanes.get(&id)?.most_at_once(&self.limits);
        let lost = || self.running.values().filter(|run| run.lane == id && now >= run.lost_at);
        if lost().count() < most { None } else { lost().map(|run| run.since).min() }
    }

    /// Returns whether as many runs of the queue hang as it may have at once: it, and no other, gets no more.
    fn all_hang(&self, id: LaneId, lane: &Lane<J>, now: Instant) -> bool {
        let hanging = || self.running.values().filter(|run| run.hangs(now));
        let most = lane.most_at_once(&self.limits);
        // The engine's threads are shared: a model may not have all of them by ever other signatures.
        let most_of_model = self.limits.slots + self.limits.spare.max(1);
        (lane.running >= most && hanging().filter(|run| run.lane == id).count() >= most)
            || hanging().filter(|run| run.model == lane.model).count() >= most_of_model
    }

    /// Counts a request of queue `id` that waits for a batch, and the bytes that it holds, until it is let go; or says why
    /// it is refused. What else waits or runs is counted by itself, and batches are not.
    pub(super) fn hold(&mut self, id: LaneId, bytes: usize, admission: Admission) -> Result<(), Refused> {
        if admission == Admission::New {
            self.is_within_limits(id, bytes)?;
        }
        if let Some(model) = self.lanes.get(&id).and_then(|lane| self.models.get_mut(&lane.model)) {
            self.requests += 1;
            model.requests += 1;
            model.bytes += bytes;
        }
        Ok(())
    }

    /// Ends what [`Self::hold`] began. The queue is still there.
    pub(super) fn let_go(&mut self, id: LaneId, bytes: usize) {
        if let Some(model) = self.lanes.get(&id).and_then(|lane| self.models.get_mut(&lane.model)) {
            self.requests -= 1;
            model.requests -= 1;
            model.bytes -= bytes;
        }
    }

    /// Removes work that nobody waits for any more. `None` if it does not wait.
    pub(super) fn withdraw(&mut self, id: LaneId, number: u64, now: Instant) -> Option<J> {
        let lane = self.lanes.get_mut(&id)?;
        let entry = lane.withdraw(number, now)?;
        self.waiting -= 1;
        self.requests -= lane.requests(1);
        if let Some(model) = self.models.get_mut(&lane.model) {
            model.waiting -= 1;
            model.requests -= lane.requests(1);
            model.bytes -= entry.bytes;
            model.put_lane(lane, id, &mut self.turns);
        }
        Some(entry.job)
    }

    /// Takes what to run at `now`.
    pub(super) fn next(&mut self, now: Instant) -> Next<J> {
        let Some((id, spare)) = self.choose(now) else {
            let changes = self.running.values().map(|run| run.hangs_at).filter(|at| *at > now);
            return Next::Wait(if self.waiting == 0 { None } else { changes.min() });
        };
        let Some(lane) = self.lanes.get_mut(&id) else { return Next::Wait(None) };
        let entries = lane.take(now);
        let run = self.begin(id, spare, &entries, now);
        self.put(id);
        Next::Run(run, entries.into_iter().map(|entry| entry.job).collect())
    }

    /// Ends `run`, whose thread goes on with work of queue `id` that has not been queued; `None` if that has to wait.
    pub(super) fn go_on(&mut self, run: Run, id: LaneId, now: Instant) -> Option<Run> {
        let lane = self.lanes.get(&id)?;
        let running = self.running.get(&run)?;
        // Otherwise its slot is not its own.
        let has_slot = !running.spare && !running.hangs(now);
        let may = self.waiting == 0 && has_slot && self.may_begin(id, lane, now);
        may.then(|| {
            self.end(run, true, now);
            self.begin(id, false, &[], now)
        })
    }

    /// Accounts for the begin of a run of `entries`, which were taken from queue `id`.
    fn begin(&mut self, id: LaneId, spare: bool, entries: &[Entry<J>], now: Instant) -> Run {
        let run = Run(self.number());
        let Some(lane) = self.lanes.get_mut(&id) else { return run };
        let requests = entries.len();
        let expected = lane.run_time();
        let hangs_after = expected.map_or(UNKNOWN_HANGS_AFTER, |time| (HANGS * time).max(HANGS_AFTER));
        let longest = lane.longest_run();
        let lost_after =
            longest.map_or(UNKNOWN_LOST_AFTER, |time| (LOST * time).clamp(LOST_AFTER, UNKNOWN_LOST_AFTER));
        let running = Running {
            lane: id,
            model: lane.model.clone(),
            since: now,
            begun: self.sharing.begin(now),
            hangs_at: now + hangs_after,
            lost_at: now + lost_after,
            spare,
            batch: lane.has_batches,
            requests,
            rows: entries.iter().map(|entry| entry.job.rows()).sum(),
            bytes: entries.iter().map(|entry| entry.bytes).sum(),
            charged: expected.unwrap_or_default().as_secs_f64(),
        };
        self.waiting -= requests;
        if let Some(model) = self.models.get_mut(&lane.model) {
            // Work in spare slots is beside the turns.
            if !spare {
                self.clock = self.clock.max(model.used);
                model.clock = model.clock.max(lane.used);
            }
            model.waiting -= requests;
            model.running += requests;
            model.used += running.charged / model.weight;
        }
        lane.running += 1;
        lane.used += running.charged;
        self.running.insert(run, running);
        run
    }

    /// Chooses the queue whose work is next, if any may run, and says whether that takes a spare slot.
    fn choose(&self, now: Instant) -> Option<(LaneId, bool)> {
        let taken = |spare| self.running.values().filter(|run| run.spare == spare && !run.hangs(now)).count();
        let spare = taken(false) >= self.limits.slots;
        if spare && taken(true) >= self.limits.spare {
            return None;
        }
        let batches = self.running.values().filter(|run| run.batch && !run.hangs(now)).count();
        let may =
            |class: &Class| (class.short || !spare) && (!class.batch || batches < self.limits.batch_threads);
        let first = |class: Class| {
            let mut models = self.turns.of(class);
            models.find_map(|(used, model)| {
                let (lane_used, id) = self.next_of(self.models.get(model)?, class, now)?;
                Some((used, lane_used, id))
            })
        };
        let least = |one: &(f64, f64, LaneId), other: &(f64, f64, LaneId)| {
            one.0.total_cmp(&other.0).then(one.1.total_cmp(&other.1))
        };
        Class::all().filter(may).filter_map(first).min_by(least).map(|(_, _, id)| (id, spare))
    }

    /// Returns the queue of `model` whose work of `class` is next, if any may run, and the time that it has used.
    fn next_of(&self, model: &Model, class: Class, now: Instant) -> Option<(f64, LaneId)> {
        let mut lanes = model.turns.of(class).map(|(used, id)| (used, *id));
        lanes.find(|(_, id)| self.lanes.get(id).is_some_and(|lane| self.may_begin(*id, lane, now)))
    }

    /// Returns whether more work of a queue may begin, if there is a slot.
    fn may_begin(&self, id: LaneId, lane: &Lane<J>, now: Instant) -> bool {
        lane.may_begin(&self.limits)
            && !self.all_hang(id, lane, now)
            && !(lane.has_batches && self.has_most_batches(&lane.model, now))
    }

    /// Returns whether as many batches run as may, for `model`: its own count though they hang.
    fn has_most_batches(&self, model: &Arc<str>, now: Instant) -> bool {
        let counts = |run: &&Running| run.batch && (run.model == *model || !run.hangs(now));
        self.running.values().filter(counts).count() >= self.limits.batch_threads
    }

    /// Puts a queue and its model where they belong in the order.
    fn put(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let Some(model) = self.models.get_mut(&lane.model) else { return };
        model.put_lane(lane, id, &mut self.turns);
    }

    /// Ends a run.
    pub(super) fn end(&mut self, run: Run, ending: impl Into<Ending>, now: Instant) {
        let ending = ending.into();
        let Some(ended) = self.running.remove(&run) else { return };
        let Running { lane: id, model, since, begun, batch, requests, rows, bytes, charged, .. } = ended;
        let sharing = self.sharing.end(begun, now);
        let counted = if batch { 0 } else { requests };
        self.requests -= counted;
        let took = now.saturating_duration_since(since);
        let correction = took.as_secs_f64() - charged;
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.running -= 1;
            lane.used += correction;
            lane.end(Done { requests, rows, took, ending }, sharing, now);
        }
        if let Some(counts) = self.models.get_mut(&model) {
            counts.running -= requests;
            counts.requests -= counted;
            counts.bytes -= bytes;
            counts.used += correction / counts.weight;
            match self.lanes.get_mut(&id) {
                Some(lane) => counts.put_lane(lane, id, &mut self.turns),
                None => counts.put(&model, &mut self.turns),
            }
            if counts.lanes == 0 && counts.running == 0 {
                self.models.remove(&model);
            }
        }
    }
}

impl Model {
    fn new(weight: f64) -> Model {
        Model {
            weight,
            used: 0.0,
            clock: 0.0,
            lanes: 0,
            turns: Turns::new(),
            place: Place::default(),
            waiting: 0,
            running: 0,
            requests: 0,
            bytes: 0,
        }
    }

    /// Puts `lane`, queue `id` of this model, and the model where they belong in the order.
    fn put_lane<J: Item>(&mut self, lane: &mut Lane<J>, id: LaneId, turns: &mut Turns<Arc<str>>) {
        let place = lane.next_place();
        self.turns.put(&id, &mut lane.place, place);
        self.put(&lane.model, turns);
    }

    /// Puts the model, called `name`, where it belongs in the order.
    fn put(&mut self, name: &Arc<str>, turns: &mut Turns<Arc<str>>) {
        turns.put(name, &mut self.place, self.turns.place(self.used));
    }
}

impl Running {
    fn hangs(&self, now: Instant) -> bool {
        now >= self.hangs_at
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod simulation;
