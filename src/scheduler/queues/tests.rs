//! Tests of the scheduler's decisions, with a clock of their own.

mod order;

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Queues with a clock that only the test moves.
struct Setup {
    queues: Queues<u64>,
    now: Instant,
    pushed: u64,
}

impl Item for u64 {
    fn rows(&self) -> usize {
        1
    }

    fn joins(&self, other: &u64) -> bool {
        self % 10 == other % 10
    }
}

fn setup(limits: Limits) -> Setup {
    Setup { queues: Queues::new(limits), now: Instant::now(), pushed: 0 }
}

fn slots(slots: usize, spare: usize) -> Limits {
    Limits { slots, spare, ..Limits::default() }
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl Setup {
    fn lane(&mut self, model: &str) -> LaneId {
        self.queues.add(model, false, self.now)
    }

    fn push(&mut self, lane: LaneId) -> Result<u64, Refused> {
        self.push_until(lane, None)
    }

    /// Pushes work with a deadline in milliseconds from now; its job is its position among all pushed.
    fn push_until(&mut self, lane: LaneId, deadline: Option<u64>) -> Result<u64, Refused> {
        self.pushed += 1;
        let deadline = deadline.map(|millis| self.now + ms(millis));
        let asked = Asked { job: self.pushed, bytes: 10, deadline, admission: Admission::New };
        self.queues.push(lane, asked, self.now).map_err(|(why, _)| why)
    }

    fn next(&mut self) -> Option<(Run, u64)> {
        match self.queues.next(self.now) {
            Next::Run(run, jobs) => Some((run, jobs[0])),
            Next::Wait(_) => None,
        }
    }

    fn end_after(&mut self, run: Run, millis: u64) {
        self.now += ms(millis);
        self.queues.end(run, true, self.now);
    }

    /// Runs one of `lane`'s jobs, so that its time is known.
    fn measure(&mut self, lane: LaneId, millis: u64) {
        self.push(lane).unwrap();
        let (run, _) = self.next().unwrap();
        self.end_after(run, millis);
    }
}

#[test]
fn work_of_a_queue_is_done_in_order_in_as_many_slots_as_there_are() {
    let mut setup = setup(slots(2, 0));
    let lane = setup.lane("m");
    for _ in 0..4 {
        setup.push(lane).unwrap();
    }
    let (first, job) = setup.next().unwrap();
    assert_eq!(job, 1);
    assert_eq!(setup.next().unwrap().1, 2);
    assert!(setup.next().is_none(), "both slots are taken");
    setup.end_after(first, 10);
    assert_eq!(setup.next().unwrap().1, 3);
}

#[test]
fn short_work_of_another_model_takes_a_spare_slot() {
    let mut setup = setup(slots(2, 1));
    let (long, short) = (setup.lane("long"), setup.lane("short"));
    setup.measure(long, 500);
    setup.measure(short, 1);
    for _ in 0..5 {
        setup.push(long).unwrap();
    }
    assert!(setup.next().is_some() && setup.next().is_some() && setup.next().is_none());
    setup.push(short).unwrap();
    setup.push(short).unwrap();
    assert!(setup.next().is_some(), "the spare slot");
    assert!(setup.next().is_none(), "there is one");
}

#[test]
fn short_work_leaves_the_other_slots_to_long_work() {
    let mut setup = setup(slots(2, 1));
    let (long, short) = (setup.lane("long"), setup.lane("short"));
    setup.measure(long, 500);
    setup.measure(short, 1);
    let (mut running, mut of_long) = (Vec::new(), 0);
    for _ in 0..400 {
        setup.push(long).unwrap();
        let long_job = setup.pushed;
        setup.push(short).unwrap();
        setup.push(short).unwrap();
        while let Some((run, job)) = setup.next() {
            of_long += usize::from(job % 3 == long_job % 3);
            running.push(run);
        }
        let run = running.remove(0);
        setup.end_after(run, 1);
    }
    assert!(of_long > 50, "{of_long} of 400 runs");
}

#[test]
fn who_always_has_something_in_flight_has_no_claim_either() {
    let mut setup = setup(slots(2, 0));
    let (busy, light) = (setup.lane("busy"), setup.lane("light"));
    setup.push(light).unwrap();
    let (mut of_light, _) = setup.next().unwrap();
    for _ in 0..100 {
        setup.measure(busy, 1000);
        // It asks again before it is answered.
        setup.push(light).unwrap();
        setup.end_after(of_light, 1);
        of_light = setup.next().unwrap().0;
    }
    setup.end_after(of_light, 1);
    for lane in [light, busy].repeat(10) {
        setup.push(lane).unwrap();
    }
    let first = setup.pushed - 20;
    let mut of_busy = 0;
    for _ in 0..10 {
        let (run, job) = setup.next().unwrap();
        of_busy += usize::from((job - first).is_multiple_of(2));
        setup.end_after(run, 1000);
    }
    assert!((3..=7).contains(&of_busy), "{of_busy} of ten runs");
}

#[test]
fn a_busy_machine_does_not_make_short_work_long() {
    let mut setup = setup(slots(1, 1));
    let (long, short) = (setup.lane("long"), setup.lane("short"));
    setup.measure(long, 500);
    setup.measure(short, 1);
    for _ in 0..20 {
        setup.measure(short, 40);
    }
    setup.push(long).unwrap();
    assert!(setup.next().is_some());
    setup.push(short).unwrap();
    assert!(setup.next().is_some());
}

/// Returns whether work of a queue whose runs took `times` milliseconds takes a spare slot.
fn takes_a_spare_slot(times: impl Iterator<Item = u64>) -> bool {
    let mut setup = setup(slots(1, 1));
    let (long, mixed) = (setup.lane("long"), setup.lane("mixed"));
    times.for_each(|millis| setup.measure(mixed, millis));
    setup.push(long).unwrap();
    assert!(setup.next().is_some());
    setup.push(mixed).unwrap();
    setup.next().is_some()
}

#[test]
fn mostly_short_work_is_short_and_mostly_long_work_is_not() {
    let one_in = |every: u64, millis: u64, others: u64| {
        (1..=1000).map(move |run| if run % every == 0 { millis } else { others })
    };
    assert!(takes_a_spare_slot(one_in(10, 200, 1)), "one in ten is long");
    assert!(!takes_a_spare_slot(one_in(10, 1, 200)), "one in ten is short");
    assert!(!takes_a_spare_slot(one_in(2, 200, 1).chain([1; 20])), "half of them are long");
    assert!(takes_a_spare_slot([200; 1000].into_iter().chain([1; 1000])), "it is short by now");
}

/// Runs two models that always have work for `seconds` in one slot. Returns the seconds that each used.
fn shares(limits: Limits, times: [u64; 2], seconds: u64) -> [f64; 2] {
    let mut setup = setup(limits);
    let lanes = [setup.lane("a"), setup.lane("b")];
    let mut jobs: BTreeMap<u64, usize> = BTreeMap::new();
    let mut used = [0.0; 2];
    let until = setup.now + Duration::from_secs(seconds);
    while setup.now < until {
        for (which, lane) in lanes.into_iter().enumerate() {
            while jobs.values().filter(|of| **of == which).count() < 3 {
                setup.push(lane).unwrap();
                jobs.insert(setup.pushed, which);
            }
        }
        let (run, job) = setup.next().unwrap();
        let which = jobs.remove(&job).unwrap();
        used[which] += ms(times[which]).as_secs_f64();
        setup.end_after(run, times[which]);
    }
    used
}

#[test]
fn models_share_the_time_and_not_the_turns() {
    let [a, b] = shares(slots(1, 0), [10, 250], 20);
    assert!((a / b - 1.0).abs() < 0.1, "{a} and {b} seconds");
}

#[test]
fn shares_are_weighted() {
    let weights = HashMap::from([("a".to_owned(), 3.0)]);
    let [a, b] = shares(Limits { weights, ..slots(1, 0) }, [40, 40], 20);
    assert!((a / b - 3.0).abs() < 0.3, "{a} and {b} seconds");
}

#[test]
fn who_was_idle_has_no_claim_on_the_past() {
    let mut setup = setup(slots(1, 0));
    let (busy, idle) = (setup.lane("busy"), setup.lane("idle"));
    for _ in 0..50 {
        setup.measure(busy, 100);
    }
    for lane in [idle, busy].repeat(6) {
        setup.push(lane).unwrap();
    }
    let mut first: Vec<u64> = Vec::new();
    for _ in 0..6 {
        let (run, job) = setup.next().unwrap();
        first.push(job);
        setup.end_after(run, 100);
    }
    let of_busy = first.iter().filter(|job| (*job - 50).is_multiple_of(2)).count();
    assert!((2..=4).contains(&of_busy), "turns of the busy model in the first six: {first:?}");
}

#[test]
fn the_same_holds_for_the_signatures_of_a_model() {
    let mut setup = setup(slots(1, 0));
    let (busy, idle) = (setup.lane("m"), setup.lane("m"));
    for _ in 0..50 {
        setup.measure(busy, 100);
    }
    for lane in [idle, busy].repeat(6) {
        setup.push(lane).unwrap();
    }
    let mut of_busy = 0;
    for _ in 0..6 {
        let (run, job) = setup.next().unwrap();
        of_busy += usize::from((job - 50).is_multiple_of(2));
        setup.end_after(run, 100);
    }
    assert!((2..=4).contains(&of_busy));
}

#[test]
fn what_would_miss_its_deadline_is_refused() {
    let mut setup = setup(slots(2, 0));
    let lane = setup.lane("m");
    setup.measure(lane, 100);
    for _ in 0..2 {
        setup.push(lane).unwrap();
        setup.next().unwrap();
    }
    assert!(setup.push_until(lane, Some(120)).is_ok(), "nothing is ahead of it");
    for _ in 0..9 {
        setup.push(lane).unwrap();
    }
    // Ten ahead, 100 ms each, two at once; and its own 100 ms.
    assert_eq!(setup.push_until(lane, Some(590)), Err(Refused::TooLate(ms(500))));
    assert!(setup.push_until(lane, Some(610)).is_ok());
    let other = setup.lane("other");
    assert!(setup.push_until(other, Some(1)).is_ok(), "nothing is known of another queue");
}

#[test]
fn what_would_wait_longer_than_allowed_is_refused() {
    let mut setup = setup(Limits { max_wait: Some(ms(250)), ..slots(1, 0) });
    let lane = setup.lane("m");
    setup.measure(lane, 100);
    let accepted = (0..10).filter(|_| setup.push(lane).is_ok()).count();
    assert_eq!(accepted, 3);
    assert_eq!(setup.push(lane), Err(Refused::TooLong(ms(300))));
}

#[test]
fn requests_and_their_bytes_are_limited() {
    let limits = Limits { max_requests: Some(3), max_model_requests: Some(2), ..slots(1, 0) };
    let mut setup = setup(limits);
    let (one, two) = (setup.lane("one"), setup.lane("two"));
    setup.push(one).unwrap();
    let (run, _) = setup.next().unwrap();
    setup.push(one).unwrap();
    assert_eq!(setup.push(one), Err(Refused::TooManyOfModel(2)), "one runs, one waits");
    setup.push(two).unwrap();
    assert_eq!(setup.push(two), Err(Refused::TooMany(3)));
    setup.end_after(run, 1);
    assert!(setup.push(two).is_ok());
    let mut setup = self::setup(Limits { max_model_bytes: Some(15), ..slots(1, 0) });
    let lane = setup.lane("m");
    let number = setup.push(lane).unwrap();
    assert_eq!(setup.push(lane), Err(Refused::TooMuchOfModel(15)));
    assert_eq!(setup.queues.withdraw(lane, number, setup.now), Some(1));
    assert!(setup.push(lane).is_ok());
}

#[test]
fn a_request_that_waits_for_a_batch_is_counted_and_the_batch_is_not() {
    let limits =
        Limits { max_requests: Some(3), max_model_requests: Some(2), batch_threads: 1, ..slots(1, 0) };
    let mut setup = setup(limits);
    let [one, two] = ["one", "two"].map(|model| setup.lane(model));
    [one, two].into_iter().for_each(|lane| setup.queues.has_batches(lane));
    for _ in 0..2 {
        assert_eq!(setup.queues.hold(one, 10, Admission::New), Ok(()));
    }
    assert_eq!(setup.queues.hold(one, 10, Admission::New), Err(Refused::TooManyOfModel(2)));
    let asked = Asked { job: 1, bytes: 0, deadline: None, admission: Admission::Always };
    setup.queues.push(one, asked, setup.now).unwrap();
    assert_eq!(setup.queues.hold(two, 10, Admission::New), Ok(()), "two, and a batch of these two");
    let (run, _) = setup.next().unwrap();
    assert_eq!(setup.queues.hold(two, 10, Admission::New), Err(Refused::TooMany(3)));
    assert_eq!(setup.queues.hold(two, 10, Admission::Counted), Ok(()), "counted before");
    setup.end_after(run, 1);
    for lane in [one, one, two, two] {
        setup.queues.let_go(lane, 10);
    }
    let models = setup.queues.models.values();
    assert_eq!((setup.queues.requests, models.map(|model| model.requests + model.bytes).sum()), (0, 0));
    let mut setup = self::setup(Limits { max_model_bytes: Some(15), ..slots(1, 0) });
    let lane = setup.lane("m");
    assert_eq!(setup.queues.hold(lane, 10, Admission::New), Ok(()));
    assert_eq!(setup.push(lane), Err(Refused::TooMuchOfModel(15)));
}

#[test]
fn a_model_that_hangs_is_refused_and_the_others_run() {
    let mut setup = setup(slots(2, 0));
    let (hanging, other) = (setup.lane("hanging"), setup.lane("other"));
    setup.measure(hanging, 50);
    for _ in 0..3 {
        setup.push(hanging).unwrap();
    }
    assert!(setup.next().is_some() && setup.next().is_some());
    setup.push(other).unwrap();
    let Next::Wait(Some(at)) = setup.queues.next(setup.now) else { panic!("a thread has to watch") };
    setup.now = at;
    assert_eq!(setup.next().unwrap().1, 5, "the other model's");
    assert!(setup.next().is_none(), "what hangs gets no more");
    assert!(setup.push(hanging).is_ok(), "it may still end");
    let signature = setup.lane("hanging");
    assert!(setup.push(signature).is_ok() && setup.next().is_some(), "another signature goes on");
    setup.now += ms(30_000);
    assert!(matches!(setup.push(hanging), Err(Refused::Hanging(_))));
    assert!(setup.push(other).is_ok() && setup.push(signature).is_ok());
    assert!(setup.next().is_some());
}

#[test]
fn what_others_give_up_is_refused_before_it_waits_as_long() {
    let mut setup = setup(slots(1, 0));
    let lane = setup.lane("m");
    setup.measure(lane, 100);
    let leaves: Vec<u64> = (0..40).map(|_| setup.push(lane).unwrap()).collect();
    setup.now += ms(3000);
    for number in leaves {
        setup.now += ms(20);
        setup.queues.withdraw(lane, number, setup.now).unwrap();
    }
    // A quarter of the 3 s and more that they waited.
    let accepted = (0..40).filter(|_| setup.push(lane).is_ok()).count();
    assert!((8..=10).contains(&accepted), "{accepted}");
    assert!(matches!(setup.push(lane), Err(Refused::Leaving(_))));
    // Refusals keep the evidence alive for a while, but not for ever.
    for _ in 0..5 {
        setup.now += ms(7000);
        assert!(matches!(setup.push(lane), Err(Refused::Leaving(_))));
    }
    setup.now += ms(7000);
    assert!(setup.push(lane).is_ok(), "old evidence is none");
}

#[test]
fn clients_that_end_all_at_once_are_no_evidence() {
    let mut setup = setup(slots(1, 0));
    let lane = setup.lane("m");
    setup.measure(lane, 100);
    let leaves: Vec<u64> = (0..64).map(|_| setup.push(lane).unwrap()).collect();
    setup.now += ms(3000);
    for number in leaves {
        setup.queues.withdraw(lane, number, setup.now).unwrap();
    }
    assert!((0..64).all(|_| setup.push(lane).is_ok()));
}

#[test]
fn when_much_more_comes_than_is_done_the_late_make_way() {
    let mut setup = setup(slots(1, 0));
    let lane = setup.lane("m");
    setup.measure(lane, 50);
    let (mut waits, mut came) = (Vec::new(), BTreeMap::new());
    for _ in 0..60 {
        // Four come while one is done.
        for _ in 0..4 {
            setup.push(lane).unwrap();
            came.insert(setup.pushed, setup.now);
        }
        let (run, job) = setup.next().unwrap();
        waits.push(setup.now - came[&job]);
        setup.end_after(run, 50);
    }
    assert!(waits.iter().all(|wait| *wait <= ms(550)), "{waits:?}");
    // Nothing is lost: once no more come, all are done, in order.
    setup.now += ms(600);
    let mut last = 0;
    for _ in 0..3 * 60 {
        let (run, job) = setup.next().unwrap();
        assert!(job > last);
        last = job;
        setup.end_after(run, 1);
    }
    assert!(setup.next().is_none());
}

#[test]
fn a_burst_is_answered_in_order() {
    let mut setup = setup(slots(1, 0));
    let lane = setup.lane("m");
    setup.measure(lane, 50);
    for _ in 0..64 {
        setup.push(lane).unwrap();
    }
    for expected in 2..66 {
        let (run, job) = setup.next().unwrap();
        assert_eq!(job, expected);
        setup.end_after(run, 50);
        // Each client asks again.
        setup.push(lane).unwrap();
    }
}

#[test]
fn a_client_that_stays_has_its_turn_though_others_leave() {
    let mut setup = setup(slots(1, 0));
    let lane = setup.lane("m");
    setup.measure(lane, 100);
    setup.push(lane).unwrap();
    let patient = setup.pushed;
    for _ in 0..300 {
        let number = setup.push(lane).ok();
        if let Some((run, job)) = setup.next() {
            if job == patient {
                return;
            }
            setup.end_after(run, 100);
        }
        if let Some(number) = number {
            setup.now += ms(600);
            setup.queues.withdraw(lane, number, setup.now);
        }
    }
    panic!("it starved");
}

#[test]
fn a_queue_ends_without_a_trace() {
    let mut setup = setup(slots(1, 0));
    let lane = setup.lane("m");
    setup.push(lane).unwrap();
    let (run, _) = setup.next().unwrap();
    assert!(setup.queues.remove(lane).unwrap().is_empty());
    setup.end_after(run, 10);
    assert!(setup.queues.models.is_empty() && setup.queues.running.is_empty());
}

#[test]
fn what_comes_during_a_run_is_done_together_if_that_is_worth_it() {
    let mut setup = setup(Limits { batches_at_once: 1, ..slots(4, 0) });
    let lane = setup.queues.add("m", true, setup.now);
    let mut done = BTreeSet::new();
    let mut most = 0;
    for round in 0..30 {
        for _ in 0..64 {
            setup.push(lane).unwrap();
        }
        while let Next::Run(run, jobs) = setup.queues.next(setup.now) {
            most = most.max(jobs.len());
            assert!(jobs.iter().all(|job| job % 10 == jobs[0] % 10), "only what joins: {jobs:?}");
            assert!(jobs.iter().all(|job| done.insert(*job)));
            if round > 0 && jobs.len() > 1 {
                assert!(matches!(setup.queues.next(setup.now), Next::Wait(_)), "one at once");
            }
            setup.end_after(run, 5);
        }
    }
    assert_eq!(done.len(), 30 * 64);
    assert!(most >= 6, "64 numbers have at least 6 of each last digit");
}

#[test]
fn batches_that_hang_are_noticed_though_fewer_run_at_once() {
    let mut setup = setup(Limits { batches_at_once: 1, ..slots(4, 0) });
    let lane = setup.queues.add("m", true, setup.now);
    for _ in 0..20 {
        for _ in 0..4 {
            setup.pushed += 9;
            setup.push(lane).unwrap();
        }
        while let Next::Run(run, _) = setup.queues.next(setup.now) {
            setup.end_after(run, 5);
        }
    }
    setup.push(lane).unwrap();
    assert!(setup.next().is_some());
    setup.push(lane).unwrap();
    setup.now += ms(40_000);
    assert!(setup.next().is_none());
    assert!(matches!(setup.push(lane), Err(Refused::Hanging(_))));
}

#[test]
fn what_gains_nothing_together_is_done_alone_in_all_slots() {
    let mut setup = setup(Limits { batches_at_once: 1, ..slots(4, 0) });
    let lane = setup.queues.add("m", true, setup.now);
    for _ in 0..400 {
        for _ in 0..2 {
            setup.pushed += 9;
            setup.push(lane).unwrap();
        }
        while let Next::Run(run, jobs) = setup.queues.next(setup.now) {
            setup.end_after(run, 10 * jobs.len() as u64);
        }
    }
    for _ in 0..3 {
        setup.push(lane).unwrap();
    }
    assert!((0..3).all(|_| setup.next().is_some()));
}

#[test]
fn runs_with_idle_cores_beside_them_do_not_make_batches_look_better() {
    let mut setup = setup(Limits { batches_at_once: 2, ..slots(4, 0) });
    let lane = setup.queues.add("m", true, setup.now);
    let push = |setup: &mut Setup, count| {
        (0..count).for_each(|_| {
            setup.pushed += 9;
            setup.push(lane).unwrap();
        });
    };
    let begin = |setup: &mut Setup| match setup.queues.next(setup.now) {
        Next::Run(run, jobs) => Some((run, jobs.len())),
        Next::Wait(_) => None,
    };
    let mut largest = 0;
    for _ in 0..50 {
        for _ in 0..10 {
            push(&mut setup, 1);
            let (run, _) = begin(&mut setup).unwrap();
            setup.end_after(run, 15);
        }
        // Beside others, each takes 8.5 ms of the machine, whether alone or together.
        push(&mut setup, 16);
        loop {
            let begun: Vec<_> = std::iter::from_fn(|| begin(&mut setup)).collect();
            let rows: usize = begun.iter().map(|(_, rows)| rows).sum();
            if rows == 0 {
                break;
            }
            largest = begun.iter().map(|(_, rows)| *rows).fold(largest, usize::max);
            setup.now += Duration::from_micros(8500) * u32::try_from(rows).unwrap();
            begun.into_iter().for_each(|(run, _)| setup.queues.end(run, true, setup.now));
        }
    }
    assert!(largest > 1, "more were tried");
    push(&mut setup, 4);
    assert!((0..4).all(|_| begin(&mut setup).is_some_and(|(_, rows)| rows == 1)));
}

/// What may happen to queues.
#[derive(Clone, Debug)]
enum Event {
    Push { lane: usize, deadline: Option<u64> },
    Next,
    End { index: usize, measured: bool },
    Withdraw { index: usize },
    Hold { lane: usize },
    LetGo,
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0usize..4, prop::option::of(0u64..2000)).prop_map(|(lane, deadline)| Event::Push { lane, deadline }),
        4 => Just(Event::Next),
        3 => (0usize..100, any::<bool>()).prop_map(|(index, measured)| Event::End { index, measured }),
        1 => (0usize..100).prop_map(|index| Event::Withdraw { index }),
        1 => (0usize..4).prop_map(|lane| Event::Hold { lane }),
        1 => Just(Event::LetGo),
        3 => (0u64..700).prop_map(Event::Pass),
    ]
}

proptest! {
    #[test]
    fn nothing_is_lost_doubled_or_kept_waiting_for_a_free_slot(
        events in prop::collection::vec(event(), 0..300),
        count in 1usize..4,
        spare in 0usize..2,
        max_wait in prop::option::of(1u64..1000),
    ) {
        let limits = Limits { max_wait: max_wait.map(ms), ..slots(count, spare) };
        let mut setup = setup(limits);
        let lanes: Vec<LaneId> = ["a", "a", "b", "c"].iter().map(|model| setup.lane(model)).collect();
        // Waiting: number → (lane, job). Every job is in exactly one of these.
        let mut waiting: BTreeMap<u64, (LaneId, u64)> = BTreeMap::new();
        let (mut running, mut over): (Vec<(Run, Instant)>, BTreeSet<u64>) = (Vec::new(), BTreeSet::new());
        let mut held: Vec<LaneId> = Vec::new();
        for event in events {
            match event {
                Event::Push { lane, deadline } => {
                    if let Ok(number) = setup.push_until(lanes[lane], deadline) {
                        waiting.insert(number, (lanes[lane], setup.pushed));
                    }
                }
                Event::Next => match setup.next() {
                    Some((run, job)) => {
                        let number = *waiting.iter().find(|(_, (_, other))| *other == job).unwrap().0;
                        waiting.remove(&number);
                        running.push((run, setup.now));
                        prop_assert!(over.insert(job));
                    }
                    None => {
                        let working = running.iter().filter(|(_, since)| setup.now - *since < ms(2000)).count();
                        prop_assert!(waiting.is_empty() || working > 0 || running.len() >= count);
                    }
                },
                Event::End { index, measured } if !running.is_empty() => {
                    let (run, _) = running.swap_remove(index % running.len());
                    setup.queues.end(run, measured, setup.now);
                }
                Event::Withdraw { index } if !waiting.is_empty() => {
                    let (number, (lane, job)) = waiting.iter().nth(index % waiting.len()).map(|(number, of)| (*number, *of)).unwrap();
                    waiting.remove(&number);
                    prop_assert_eq!(setup.queues.withdraw(lane, number, setup.now), Some(job));
                    prop_assert_eq!(setup.queues.withdraw(lane, number, setup.now), None);
                }
                Event::Hold { lane } => {
                    setup.queues.hold(lanes[lane], 10, Admission::New).unwrap();
                    held.push(lanes[lane]);
                }
                Event::LetGo => held.pop().into_iter().for_each(|lane| setup.queues.let_go(lane, 10)),
                Event::Pass(millis) => setup.now += ms(millis),
                Event::End { .. } | Event::Withdraw { .. } => {}
            }
            prop_assert_eq!(setup.queues.waiting, waiting.len());
            prop_assert_eq!(setup.queues.running.len(), running.len());
            let bytes: usize = setup.queues.models.values().map(|model| model.bytes).sum();
            let requests = waiting.len() + running.len() + held.len();
            prop_assert_eq!(bytes, 10 * requests);
            prop_assert_eq!(setup.queues.requests, requests);
            let of_models = setup.queues.models.values().map(|model| model.requests).sum::<usize>();
            prop_assert_eq!(of_models, requests);
        }
        // Once no more comes, everything is done.
        for (run, _) in running.drain(..) {
            setup.queues.end(run, true, setup.now);
        }
        for _ in 0..waiting.len() {
            let (run, job) = setup.next().unwrap();
            prop_assert!(over.insert(job));
            setup.end_after(run, 5);
        }
        prop_assert!(setup.next().is_none());
        prop_assert!(Class::all().all(|class| setup.queues.turns.of(class).next().is_none()));
    }
}
