//! One queue: the work that waits for one signature of a version, how long such work takes, and whether more of it
//! comes than can be done. Pure: the caller says what time it is.

use super::queues::Limits;
use super::rate::Rate;
use super::sizes::Sizes;
use super::turns::{Class, Place};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Work that may be done together with other work of its queue.
pub trait Item {
    /// Returns the number of rows, by which the work is done together.
    fn rows(&self) -> usize;

    /// Returns whether the work may be done together with `other`.
    fn joins(&self, other: &Self) -> bool;
}

/// Work that waits.
#[derive(Debug)]
pub(super) struct Entry<J> {
    pub(super) job: J,
    pub(super) arrived: Instant,
    /// The memory it holds, in bytes.
    pub(super) bytes: usize,
}

/// The queue of one signature.
///
/// Work is done in order of arrival. When more comes than can be done, that would answer everybody late. So
///
/// - while the queue grows, the newest is done first: those that are answered are answered at once, and the others wait
///   until it no longer grows, or their clients leave;
/// - once clients are seen to leave, less is accepted, and that is done in order. What has waited much longer than
///   predicted is passed over, and done when nothing else waits. If clients leave so soon that order would answer
///   nobody in time, the newest is still done first.
///
/// Whose client is still there after [`REMEMBERED`] has its turn in any case.
///
/// Simulated (`queues/simulation.rs`: runs of 46 ms, four at once, for 10 s), beside order up to an age of 500 ms:
///
/// | clients | this | before |
/// | --- | --- | --- |
/// | 2 and 4 times the capacity, leave after 2 s | 100 %; p99 673, 799 ms | 100 %; p99 749, 1,397 ms |
/// | the same, leave after 0.4 s | 100, 99 % of what can be answered | 11, 5 % |
/// | the same with deadlines of 0.4 s | 71, 77 % | 41, 19 % |
/// | 64 that ask again once they are answered | p99 1.07 × 64 ÷ throughput | the same |
#[derive(Debug)]
pub(super) struct Lane<J> {
    /// The model.
    pub(super) model: Arc<str>,
    /// By number, which is the order of arrival.
    waiting: BTreeMap<u64, Entry<J>>,
    /// Work with a lower number has been passed over.
    passed: u64,
    /// Number of entries that have not been.
    fresh: usize,
    /// Number of entries taken so far.
    taken: u64,
    pub(super) running: usize,
    /// The sizes of what is done together; `None` if everything is done alone.
    sizes: Option<Sizes>,
    pub(super) never_short: bool,
    /// True if its work is batches.
    pub(super) has_batches: bool,
    /// Where it is in the order.
    pub(super) place: Place,
    /// Virtual time used, in seconds.
    pub(super) used: f64,
    times: Times,
    arrivals: Rate,
    done: Rate,
    /// Clients that left after they had waited for long.
    left: Rate,
    /// Clients that left however long they had waited, and those whose runs came to nothing.
    gone: Rate,
    patience: Option<Patience>,
    /// When the first and the last client left of those that leave one after the other.
    leaving_since: Option<(Instant, Instant)>,
    /// The last time that the queue was seen to grow.
    grew: Option<Instant>,
}

/// Measured times of a queue's work, in seconds. `None` until there was any.
#[derive(Debug, Default)]
struct Times {
    /// The mean time on a thread.
    run: Option<f64>,
    /// The mean time on a thread divided by the number of requests that shared it.
    each: Option<f64>,
    /// About the shortest: that of a run with the machine to itself.
    shortest: Option<f64>,
    longest: Option<f64>,
    /// The part of the last hundred or so that were long.
    part_long: f64,
    /// The mean time from one end of work to the next while work was waiting, for each request.
    gap: Option<f64>,
    /// The last end of work, if work has been waiting ever since.
    last_end: Option<Instant>,
}

/// Work that was done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done {
    pub(super) requests: usize,
    pub(super) rows: usize,
    pub(super) took: Duration,
    pub(super) ending: Ending,
}

/// How work ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    /// True if the time says how long such work takes.
    pub(super) done: bool,
    /// True if nobody waited for it any more.
    pub(super) missed: bool,
}

impl From<bool> for Ending {
    fn from(done: bool) -> Ending {
        Ending { done, missed: false }
    }
}

/// Evidence that clients leave the queue.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// The mean time in seconds after which they left.
    seconds: f64,
    /// The last time that one left,
    left: Instant,
    /// or was refused on this evidence.
    last: Instant,
}

/// Work is short if a run with the machine to itself takes at most this.
const SHORT: Duration = Duration::from_millis(2);
/// A run is long if it takes this many times as long, and as many times that as runs share the machine.
const LONG: f64 = 10.0;
/// Weight of a new run in the part of them that is long.
const NEW_LONG: f64 = 1.0 / 128.0;
/// From this part on, the work does not count as short: it would keep the spare slots from what is.
const MOSTLY_LONG: f64 = 0.25;
/// Runs that shared the machine with fewer, on average, say little of the time that a row takes where it is busy.
const SHARED: f64 = 1.5;
/// Most work that is looked at for what may be done together.
const MOST_SEEN: usize = 1024;
/// Most bytes that are gathered.
const MOST_BYTES: usize = 64 << 20;
/// Weight of a new measurement in a mean.
const NEW: f64 = 0.125;
/// Weight of a new measurement in the shortest time, if it is longer: a busy machine makes runs long for a while.
const LONGER: f64 = 1.0 / 1024.0;
/// Longest time for which refusals keep evidence alive.
const RENEWED: Duration = Duration::from_secs(30);
/// How long evidence counts.
const REMEMBERED: Duration = Duration::from_secs(10);
/// One in this many times, the oldest work has its turn if it has waited longer than that.
const TURN: u64 = 8;
/// Clients leave one after the other if not longer than this, or two runs, passes between two,
const PAUSE: Duration = Duration::from_secs(1);
/// and for a while if they have done so for this long.
const A_WHILE: Duration = Duration::from_millis(300);
/// Clients that leave are no evidence if this many times as many are answered, or if they are fewer than [`SEVERAL`].
const FEW: u32 = 20;
const SEVERAL: u32 = 3;
/// Windows in which the queue is seen to grow, in tenths of a second. Its oldest work has to have waited for longer: a
/// burst of that age is no growth. The shorter counts if clients leave: clients that begin to ask, and then ask again
/// once they are answered, look the same for some tenths of a second.
const WINDOWS: [u8; 2] = [3, 5];
const TENTH: Duration = Duration::from_millis(100);
/// How long the queue counts as growing after it last did, if that is longer than two runs.
const GREW: Duration = Duration::from_millis(500);
/// The shortest bound.
const BOUND: Duration = Duration::from_millis(500);
/// The part of their patience that clients may have to wait.
const PART_OF_PATIENCE: f64 = 0.25;
/// Accepted work may wait this many times as long as was predicted at most before others are preferred.
const LONGER_THAN_PREDICTED: f64 = 1.5;

impl<J: Item> Lane<J> {
    /// Makes an empty queue. `gathers`: work that may be done together is.
    pub(super) fn new(model: Arc<str>, gathers: bool, now: Instant) -> Lane<J> {
        let rate = || Rate::new(now);
        Lane {
            model,
            waiting: BTreeMap::new(),
            passed: 0,
            fresh: 0,
            taken: 0,
            running: 0,
            sizes: gathers.then(Sizes::default),
            never_short: false,
            has_batches: false,
            place: Place::default(),
            used: 0.0,
            times: Times::default(),
            arrivals: rate(),
            done: rate(),
            left: rate(),
            gone: rate(),
            patience: None,
            leaving_since: None,
            grew: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Returns how many requests `entries` of its entries count as: the requests of batches are counted as they come.
    pub(super) fn requests(&self, entries: usize) -> usize {
        if self.has_batches { 0 } else { entries }
    }

    /// Returns the mean time that work takes, if it is known.
    pub(super) fn run_time(&self) -> Option<Duration> {
        self.times.run.map(Duration::from_secs_f64)
    }

    /// Returns about the shortest time that work takes, if it is known.
    pub(super) fn shortest_run(&self) -> Option<Duration> {
        self.times.shortest.map(Duration::from_secs_f64)
    }

    /// Returns the longest time that work has taken, if it is known.
    pub(super) fn longest_run(&self) -> Option<Duration> {
        self.times.longest.map(Duration::from_secs_f64)
    }

    /// Returns how many runs of the queue may go on at once.
    pub(super) fn most_at_once(&self, limits: &Limits) -> usize {
        if self.gains() { limits.batches_at_once.max(1) } else { limits.slots.max(1) }
    }

    /// Returns whether another run of this queue may begin beside those of it that run: while as many run as may at
    /// once, what comes is gathered if that is worth it.
    pub(super) fn may_begin(&self, limits: &Limits) -> bool {
        !self.gains() || self.running < self.most_at_once(limits)
    }

    /// Returns whether doing more of its work together is known to be worth it.
    fn gains(&self) -> bool {
        self.sizes.as_ref().is_some_and(Sizes::gains)
    }

    /// Returns where it belongs in the order.
    pub(super) fn next_place(&self) -> Place {
        let class = Class { short: self.is_short(), batch: self.has_batches };
        Place::new(self.used, (!self.is_empty()).then_some(class))
    }

    /// Returns whether its work is short: a run with the machine to itself is known to take at most [`SHORT`], and few
    /// take very much longer.
    fn is_short(&self) -> bool {
        let shortest = self.times.shortest.is_some_and(|shortest| shortest <= SHORT.as_secs_f64());
        !self.never_short && shortest && self.times.part_long < MOSTLY_LONG
    }

    /// Adds work number `number`, which is higher than all before.
    pub(super) fn push(&mut self, number: u64, entry: Entry<J>) {
        self.arrivals.count(entry.arrived);
        self.waiting.insert(number, entry);
        self.fresh += 1;
    }

    /// Removes work whose client has left or whose time is over. `None` if it no longer waits.
    pub(super) fn withdraw(&mut self, number: u64, now: Instant) -> Option<Entry<J>> {
        let entry = self.waiting.remove(&number)?;
        self.fresh -= usize::from(number >= self.passed);
        self.end_of_backlog();
        self.gone.count(now);
        let waited = now.saturating_duration_since(entry.arrived);
        if waited >= BOUND {
            self.learn_patience(waited, now);
        }
        Some(entry)
    }

    /// Notes that a client left after it `waited`. It is evidence if clients have been leaving for a while: those that
    /// leave all at once may have been one that ended.
    fn learn_patience(&mut self, waited: Duration, now: Instant) {
        self.left.count(now);
        let pause = PAUSE.max(2 * self.run_time().unwrap_or_default());
        let series = self.leaving_since.filter(|(_, last)| now.saturating_duration_since(*last) < pause);
        let since = series.map_or(now, |(since, _)| since);
        self.leaving_since = Some((since, now));
        let many = self.left.recent(now).saturating_mul(FEW) >= self.done.recent(now);
        if many && now.saturating_duration_since(since) >= A_WHILE {
            let waited = waited.as_secs_f64();
            let known = self.patience.filter(|known| known.counts(now));
            let seconds = known.map_or(waited, |known| mean(known.seconds, waited));
            self.patience = Some(Patience { seconds, left: now, last: now });
        }
    }

    /// Removes everything that waits.
    pub(super) fn clear(&mut self) -> impl Iterator<Item = Entry<J>> + use<J> {
        self.fresh = 0;
        std::mem::take(&mut self.waiting).into_values()
    }

    /// Takes the work to do next, and what is to be done together with it.
    pub(super) fn take(&mut self, now: Instant) -> Vec<Entry<J>> {
        let Some((number, order)) = self.next(now) else { return Vec::new() };
        self.taken = self.taken.wrapping_add(1);
        let mut numbers = vec![number];
        if let (Some(sizes), Some(first)) = (&self.sizes, self.waiting.get(&number)) {
            let mut room = sizes.limit(first.job.rows()).saturating_sub(first.job.rows());
            let mut bytes = first.bytes;
            let [before, after] = match order {
                Order::OldestFirst => [0..0, number + 1..u64::MAX],
                Order::NewestFirst => [0..number, 0..0],
            };
            let others = self.waiting.range(before).rev().chain(self.waiting.range(after));
            for (number, other) in others.take(MOST_SEEN).filter(|(_, other)| other.job.joins(&first.job)) {
                bytes = bytes.saturating_add(other.bytes);
                let Some(left) = room.checked_sub(other.job.rows()).filter(|_| bytes <= MOST_BYTES) else {
                    break;
                };
                room = left;
                numbers.push(*number);
            }
        }
        self.fresh -= numbers.iter().filter(|number| **number >= self.passed).count();
        let entries = numbers.iter().filter_map(|number| self.waiting.remove(number)).collect();
        self.end_of_backlog();
        entries
    }

    /// Returns the number of the work to do next, and the order in which other work joins it.
    fn next(&mut self, now: Instant) -> Option<(u64, Order)> {
        let (oldest, first) = self.waiting.first_key_value()?;
        let (oldest, waited) = (*oldest, now.saturating_duration_since(first.arrived));
        let leaving = self.leaving(now);
        if leaving.is_none() && !self.grows(waited, now) {
            (self.passed, self.fresh) = (0, self.waiting.len());
            return Some((oldest, Order::OldestFirst));
        }
        if waited > REMEMBERED && self.taken.is_multiple_of(TURN) {
            return Some((oldest, Order::OldestFirst));
        }
        let in_time = leaving.and_then(|bound| self.in_time(bound));
        self.pass_over(in_time.or(leaving).unwrap_or(self.at_least_two_runs(BOUND)), now);
        let fresh = in_time.and_then(|_| self.waiting.range(self.passed..).next());
        if let Some((number, _)) = fresh {
            return Some((*number, Order::OldestFirst));
        }
        self.waiting.last_key_value().map(|(newest, _)| (*newest, Order::NewestFirst))
    }

    /// Returns how long work that is accepted up to a predicted wait of `bound` may wait before its client may be
    /// expected to leave; `None` if that is sooner than `bound`.
    fn in_time(&self, bound: Duration) -> Option<Duration> {
        let patience = Duration::from_secs_f64(self.patience?.seconds);
        let last = patience.checked_sub(2 * self.run_time().unwrap_or_default())?;
        (last >= bound).then(|| last.min(bound.mul_f64(LONGER_THAN_PREDICTED)))
    }

    /// Passes over what has waited longer than `bound`.
    fn pass_over(&mut self, bound: Duration, now: Instant) {
        let late = |entry: &Entry<J>| now.saturating_duration_since(entry.arrived) > bound;
        let late = self.waiting.range(self.passed..).take_while(|(_, entry)| late(entry));
        if let Some((last, count)) = late.enumerate().last().map(|(index, (number, _))| (*number, index + 1))
        {
            self.passed = last + 1;
            self.fresh -= count;
        }
    }

    /// Records that work of `done` requests ended at `now`. On average, `sharing` runs shared the machine, itself
    /// included.
    pub(super) fn end(&mut self, done: Done, sharing: f64, now: Instant) {
        let Done { requests, rows, took, ending } = done;
        (0..requests).for_each(|_| self.done.count(now));
        // A run with the machine to itself leaves cores idle: more rows together are no faster than others beside it.
        let is_shared = sharing >= SHARED || !self.is_empty();
        if let Some(sizes) = self.sizes.as_mut().filter(|_| is_shared) {
            sizes.ran(rows, took, sharing);
        }
        if ending.missed {
            (0..requests).for_each(|_| self.gone.count(now));
        }
        if !ending.done {
            self.times.last_end = None;
            return;
        }
        let is_long = took > SHORT.mul_f64(LONG * sharing);
        self.times.part_long += NEW_LONG * (f64::from(u8::from(is_long)) - self.times.part_long);
        let took = took.as_secs_f64();
        #[allow(clippy::cast_precision_loss)] // Far below 2^52.
        let requests = requests.max(1) as f64;
        let each = took / requests;
        self.times.each = Some(self.times.each.map_or(each, |known| mean(known, each)));
        self.times.run = Some(self.times.run.map_or(took, |known| mean(known, took)));
        let longer = |known: f64| if took < known { took } else { known + LONGER * (took - known) };
        self.times.shortest = Some(self.times.shortest.map_or(took, longer));
        self.times.longest = Some(self.times.longest.map_or(took, |known| known.max(took)));
        if let Some(last) = self.times.last_end {
            let gap = now.saturating_duration_since(last).as_secs_f64() / requests;
            self.times.gap = Some(self.times.gap.map_or(gap, |known| mean(known, gap)));
        }
        self.times.last_end = (!self.waiting.is_empty()).then_some(now);
    }

    fn end_of_backlog(&mut self) {
        if self.waiting.is_empty() {
            self.times.last_end = None;
        }
    }

    /// Predicts how long work that came now would wait, if up to `threads` could do this queue's work. Of two ways to
    /// tell, the lower: so nothing is refused that might have been answered.
    pub(super) fn wait(&self, threads: usize) -> Option<Duration> {
        #[allow(clippy::cast_precision_loss)] // Far below 2^52.
        let (ahead, threads) = (self.fresh as f64, threads.max(1) as f64);
        let alone = ahead * self.times.each? / threads;
        let seen = self.times.gap.map_or(alone, |gap| ahead * gap);
        Some(Duration::from_secs_f64(alone.min(seen)))
    }

    /// Returns the longest wait with which clients do not leave; `None` if hardly any do.
    pub(super) fn leaving(&self, now: Instant) -> Option<Duration> {
        let known = self.patience.filter(|known| known.counts(now))?;
        Some(self.at_least_two_runs(Duration::from_secs_f64(PART_OF_PATIENCE * known.seconds)))
    }

    /// Records that work was refused because clients leave: as long as that happens, nobody needs to leave. But after
    /// some time it has to be seen whether they still would.
    pub(super) fn refused(&mut self, now: Instant) {
        if let Some(known) = &mut self.patience {
            known.last = now.min(known.left + RENEWED);
        }
    }

    /// Returns whether more comes than is done, or did a moment ago, though the oldest work has `waited` for so long that
    /// this is no burst. What was done is counted for longer, so that clients who ask again are no growth.
    fn grows(&mut self, waited: Duration, now: Instant) -> bool {
        let in_window = |tenths: u8| {
            let came = self.arrivals.in_last(usize::from(tenths), now);
            let done = self.done.in_last(usize::from(tenths) + 1, now);
            // Runs that take longer than that are done together in a moment, and their clients ask again together.
            let done = done.max(u32::try_from(self.running).unwrap_or(u32::MAX));
            waited > u32::from(tenths) * TENTH && 4 * came > 5 * done + 16
        };
        let [short, long] = WINDOWS;
        if in_window(long) || (self.many_are_gone(now) && in_window(short)) {
            self.grew = Some(now);
        }
        let held = GREW.max(2 * self.run_time().unwrap_or_default());
        self.grew.is_some_and(|last| now.saturating_duration_since(last) < held)
    }

    /// Returns whether more than a few clients left lately, or got no answer in time.
    fn many_are_gone(&self, now: Instant) -> bool {
        let gone = self.gone.recent(now);
        gone >= SEVERAL && gone.saturating_mul(FEW) > self.done.recent(now)
    }

    /// Returns how long after its wait work that is accepted may be answered: after the shortest run, so that nothing is
    /// refused that might have been in time; if that has been too late for many, after two.
    pub(super) fn needs(&self, now: Instant) -> Duration {
        let needs =
            if self.many_are_gone(now) { self.run_time().map(|time| 2 * time) } else { self.shortest_run() };
        needs.unwrap_or_default()
    }

    fn at_least_two_runs(&self, bound: Duration) -> Duration {
        bound.max(BOUND).max(2 * self.run_time().unwrap_or_default())
    }
}

/// The order in which work that waits is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    OldestFirst,
    NewestFirst,
}

impl Patience {
    fn counts(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) < REMEMBERED
    }
}

fn mean(known: f64, new: f64) -> f64 {
    known + NEW * (new - known)
}
