//! A simulation of a queue under load: it shows what the constants of `lane.rs` make of arrivals, patience and runs.

use super::super::lane::Ending;
use super::*;
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The load on one queue.
#[derive(Clone, Copy)]
struct Scene {
    slots: usize,
    /// The mean time of a run in milliseconds; each takes up to 40 % more or less.
    run: u64,
    arrivals: Arrivals,
    /// Milliseconds after which a client leaves that has no answer.
    patience: Option<u64>,
    /// True if the request says so.
    with_deadline: bool,
    seconds: u64,
}

/// When requests come.
#[derive(Clone, Copy)]
enum Arrivals {
    /// At random, so many times as many as can be answered.
    Open(f64),
    /// From so many clients, the first requests spread over so many milliseconds, that ask again so many microseconds
    /// after each answer.
    Closed(u64, u64, u64),
    /// So many at once.
    Burst(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Come,
    End(Run, u64),
    Leave(u64),
}

/// What became of the requests.
#[derive(Debug, Default)]
struct Outcome {
    sent: usize,
    refused: usize,
    left: usize,
    /// The milliseconds from arrival to answer of those answered, in order of the answers.
    good: Vec<u64>,
    /// Of these, the answers while requests came.
    within: usize,
    /// The most that waited.
    most: usize,
    seconds: f64,
}

impl Outcome {
    fn percentile(&self, hundredths: usize) -> u64 {
        let mut sorted = self.good.clone();
        sorted.sort_unstable();
        sorted[(sorted.len() * hundredths / 100).min(sorted.len() - 1)]
    }

    fn per_second(&self) -> f64 {
        self.within as f64 / self.seconds
    }
}

/// One run of a scene.
struct Simulation {
    scene: Scene,
    queues: Queues<u64>,
    lane: LaneId,
    begin: Instant,
    now: Instant,
    events: BinaryHeap<Reverse<(Instant, Event)>>,
    /// When each request came that waits or runs, and its number in the queue.
    came: BTreeMap<u64, (Instant, u64)>,
    outcome: Outcome,
    random: u64,
}

impl Simulation {
    fn new(scene: Scene) -> Simulation {
        let begin = Instant::now();
        let mut queues = Queues::new(Limits { slots: scene.slots, ..Limits::default() });
        let lane = queues.add("m", false, begin);
        let (events, came, outcome) = (BinaryHeap::new(), BTreeMap::new(), Outcome::default());
        Simulation { scene, queues, lane, begin, now: begin, events, came, outcome, random: 7 }
    }

    /// Returns a number from 0 to 1 (SplitMix64).
    fn random(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn at(&mut self, later: Duration, event: Event) {
        self.events.push(Reverse((self.now + later, event)));
    }

    fn capacity(&self) -> f64 {
        self.scene.slots as f64 * 1000.0 / self.scene.run as f64
    }

    fn run(mut self) -> Outcome {
        let end = self.begin + Duration::from_secs(self.scene.seconds);
        let (count, over) = match self.scene.arrivals {
            Arrivals::Open(_) => (1, 0),
            Arrivals::Closed(count, over, _) => (count, over),
            Arrivals::Burst(count) => (count, 0),
        };
        (0..count).for_each(|index| self.at(ms(over) * index as u32 / count as u32, Event::Come));
        while let Some(Reverse((at, event))) = self.events.pop() {
            self.now = at;
            match event {
                Event::Come if at < end => self.come(),
                Event::Come => {}
                Event::Leave(job) => self.leave(job),
                Event::End(run, job) => self.end(run, job, at < end),
            }
            while let Next::Run(run, jobs) = self.queues.next(self.now) {
                let takes = self.scene.run as f64 * (0.6 + 0.8 * self.random());
                self.at(Duration::from_secs_f64(takes / 1e3), Event::End(run, jobs[0]));
            }
            self.outcome.most = self.outcome.most.max(self.queues.waiting);
        }
        assert_eq!(self.queues.waiting, 0, "all are done, or have left");
        let Outcome { sent, refused, left, ref good, .. } = self.outcome;
        assert_eq!(sent, refused + left + good.len(), "none is lost");
        self.outcome.seconds = self.scene.seconds as f64;
        self.outcome
    }

    fn come(&mut self) {
        if let Arrivals::Open(times) = self.scene.arrivals {
            let gap = -(1.0 - self.random()).ln() / (times * self.capacity());
            self.at(Duration::from_secs_f64(gap), Event::Come);
        }
        self.outcome.sent += 1;
        let job = self.outcome.sent as u64;
        let patience = self.scene.patience.map(ms);
        let deadline = patience.filter(|_| self.scene.with_deadline).map(|patience| self.now + patience);
        let asked = Asked { job, bytes: 1, deadline, admission: Admission::New };
        match self.queues.push(self.lane, asked, self.now) {
            Ok(number) => {
                self.came.insert(job, (self.now, number));
                if let Some(patience) = patience {
                    self.at(patience, Event::Leave(job));
                }
            }
            Err(_) => self.outcome.refused += 1,
        }
    }

    /// A client leaves. What runs for it goes on, for nothing.
    fn leave(&mut self, job: u64) {
        if let Some((_, number)) = self.came.remove(&job) {
            self.queues.withdraw(self.lane, number, self.now);
            self.outcome.left += 1;
        }
    }

    fn end(&mut self, run: Run, job: u64, within: bool) {
        let is_good = self.came.remove(&job).map(|(came, _)| self.now - came);
        self.queues.end(run, Ending { done: true, missed: is_good.is_none() }, self.now);
        if let Some(took) = is_good {
            self.outcome.good.push(took.as_millis() as u64);
            self.outcome.within += usize::from(within);
        }
        if let Arrivals::Closed(_, _, pause) = self.scene.arrivals {
            self.at(Duration::from_micros(pause), Event::Come);
        }
    }
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Two at once of 12 ms, and four of 46 ms.
const RUNS: [(usize, u64); 2] = [(2, 12), (4, 46)];

fn scene((slots, run): (usize, u64), arrivals: Arrivals) -> Scene {
    Scene { slots, run, arrivals, patience: None, with_deadline: false, seconds: 10 }
}

/// Returns the part of what can be answered that was, and the 99th percentile of its times in milliseconds.
fn storm(runs: (usize, u64), times: f64, patience: u64, with_deadline: bool) -> (f64, u64) {
    let scene = Scene { patience: Some(patience), with_deadline, ..scene(runs, Arrivals::Open(times)) };
    let simulation = Simulation::new(scene);
    let capacity = simulation.capacity();
    let outcome = simulation.run();
    (outcome.per_second() / capacity, outcome.percentile(99))
}

#[test]
fn in_a_storm_as_much_is_answered_as_can_be_and_soon() {
    for runs in RUNS {
        for times in [1.0, 2.0, 4.0] {
            for (patience, with_deadline) in [(700, false), (1000, false), (2000, false), (2000, true)] {
                let (part, p99) = storm(runs, times, patience, with_deadline);
                let what = format!("{runs:?}, {times} times, {patience} ms: {part:.2}, {p99} ms");
                assert!(part > 0.95 && p99 <= 850, "{what}");
            }
        }
    }
}

#[test]
fn clients_of_little_patience_are_answered_in_a_storm_too() {
    for runs in RUNS {
        for times in [2.0, 4.0] {
            let (part, _) = storm(runs, times, 400, false);
            assert!(part > 0.95, "{runs:?}, {times} times: {part:.2}");
            let (part, _) = storm(runs, times, 400, true);
            assert!(part > 0.6, "with deadlines, {runs:?}, {times} times: {part:.2}");
        }
    }
}

#[test]
fn nobody_is_passed_over_where_each_asks_again_once_it_is_answered() {
    for runs in RUNS {
        for (clients, over) in [(4, 0), (16, 0), (64, 0), (64, 200), (64, 400), (64, 1000)] {
            let outcome = Simulation::new(scene(runs, Arrivals::Closed(clients, over, 300))).run();
            assert_eq!((outcome.refused, outcome.left), (0, 0));
            // As many fit into a turn of all; and a run takes up to 40 % longer than the mean.
            let turn = 1e3 * clients as f64 / outcome.per_second() + 0.5 * runs.1 as f64;
            let p99 = outcome.percentile(99) as f64;
            assert!(p99 <= 1.1 * turn, "{runs:?}, {clients} clients over {over} ms: {p99} of {turn} ms");
        }
    }
}

#[test]
fn nor_where_runs_end_together_and_each_asks_again_after_a_pause() {
    for (run, pause) in [(2000, 1700), (800, 500)] {
        let scene = Scene { seconds: 100, ..scene((8, run), Arrivals::Closed(32, 0, 1000 * pause)) };
        let outcome = Simulation::new(scene).run();
        let turn = 1e3 * 32.0 / outcome.per_second() + 0.5 * run as f64;
        let p99 = outcome.percentile(99) as f64;
        assert!(p99 <= 1.1 * turn, "runs of {run}, pauses of {pause} ms: {p99} of {turn} ms");
    }
}

#[test]
fn a_burst_is_answered_in_order_and_whole() {
    for runs in RUNS {
        let outcome = Simulation::new(scene(runs, Arrivals::Burst(200))).run();
        assert_eq!((outcome.good.len(), outcome.refused), (200, 0));
        // Those that ran beside each other may end in any order.
        let late = |pair: &[u64]| pair[1] + runs.1 < pair[0];
        assert!(!outcome.good.windows(2).any(late), "{:?}", outcome.good);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// In a storm the newest come first. Once as many come as are done, each of those that waited has its turn, after
    /// those before it and those that came first while the storm was not over for the queue.
    #[test]
    fn who_waits_has_its_turn_once_the_queue_stops_growing(
        millis in 5u64..60,
        (slots, gathers) in (1usize..4, any::<bool>()),
        storm in prop::collection::vec(0usize..8, 30..200),
        leaves in prop::collection::vec(0usize..1000, 0..8),
    ) {
        let mut now = Instant::now();
        let limits = Limits { slots, batches_at_once: 1, ..Limits::default() };
        let mut queues = Queues::new(limits);
        let lane = queues.add("m", gathers, now);
        let (mut pushed, mut waiting, mut runs) = (0, BTreeMap::new(), Vec::new());
        // Until a second after the storm, and all that wait by then, are over.
        let of_storm = storm.iter().sum::<usize>();
        let calm = slots * 1000 / millis as usize + of_storm;
        for round in 0..storm.len() + calm {
            // A run takes as many rounds as there are slots.
            let begun_by = |(_, _, begun): &(Run, usize, usize)| begun + slots <= round;
            let ended: Vec<_> = runs.extract_if(.., |run| begun_by(run)).collect();
            ended.iter().for_each(|(run, ..)| queues.end(*run, true, now));
            let done = ended.iter().map(|(_, jobs, _)| jobs).sum();
            for _ in 0..storm.get(round).copied().unwrap_or(done) {
                pushed += 1;
                let asked = Asked { job: pushed, bytes: 1, deadline: None, admission: Admission::New };
                waiting.insert(pushed, queues.push(lane, asked, now).unwrap());
            }
            if let Some(which) = leaves.get(round).filter(|which| **which < waiting.len()) {
                let (job, number) = waiting.iter().nth(*which).map(|(job, number)| (*job, *number)).unwrap();
                waiting.remove(&job);
                prop_assert_eq!(queues.withdraw(lane, number, now), Some(job));
            }
            while let Next::Run(run, jobs) = queues.next(now) {
                prop_assert!(jobs.iter().all(|job| waiting.remove(job).is_some()), "once, and only who waits");
                runs.push((run, jobs.len(), round));
            }
            now += ms(millis) / slots as u32;
        }
        prop_assert!(waiting.keys().all(|job| *job > of_storm as u64), "{:?} of {of_storm}", waiting.keys().next());
    }
}
