//! Batching with a model that adds: every row of `x` plus that of `y`.

use super::*;
use crate::engine::Termination;
use crate::engine::signature::Signature;
use crate::memory::{Account, Budget};
use crate::scheduler::{Limits, Work};
use crate::tensor::DType;
use std::thread;

/// `z = x + y` by rows of int32. Records the rows of each run; a run with a negative number fails, one with 666 panics,
/// and all wait while `gate` is held.
#[derive(Default)]
struct Adder {
    gate: Mutex<()>,
    /// Rows of each run, in order of their start.
    runs: Mutex<Vec<usize>>,
    signatures: BTreeMap<String, Signature>,
    /// True to return one row, however many were given.
    reduces: bool,
}

impl Model for Adder {
    fn signatures(&self) -> &BTreeMap<String, Signature> {
        &self.signatures
    }

    fn endpoint(&self, _: &str) -> Option<Endpoint> {
        None
    }

    fn termination(&self, _: &str) -> Termination {
        Termination::ByShapes
    }

    fn changes_nothing(&self, _: &str) -> bool {
        true
    }

    fn run(&self, feeds: &[(Endpoint, Tensor)], fetches: &[Endpoint], _: RunOptions) -> Result<Vec<Tensor>> {
        assert!(feeds.is_sorted_by_key(|(endpoint, _)| *endpoint) && fetches.is_sorted());
        self.runs.lock().unwrap().push(feeds[0].1.row_count());
        let _open = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        let (one, two) = (numbers(&feeds[0].1), numbers(&feeds[1].1));
        if one.iter().any(|number| *number < 0) {
            return Err(Error::invalid("a number is negative"));
        }
        assert!(!one.contains(&666), "on purpose");
        let sums: Vec<i32> = one.iter().zip(&two).map(|(one, two)| one + two).collect();
        let sums = if self.reduces { rows(&sums[..1]) } else { rows(&sums) };
        // The second output is the negative of the first.
        let negative = rows(&numbers(&sums).iter().map(|sum| -sum).collect::<Vec<_>>());
        Ok(fetches.iter().map(|fetch| if fetch.0 == 2 { sums.clone() } else { negative.clone() }).collect())
    }
}

fn rows(numbers: &[i32]) -> Tensor {
    let bytes = bytemuck::pod_collect_to_vec::<i32, u8>(numbers);
    Tensor::numbers(DType::Int32, vec![i64::try_from(numbers.len()).unwrap()], bytes.into())
}

fn numbers(tensor: &Tensor) -> Vec<i32> {
    bytemuck::pod_collect_to_vec(tensor.bytes())
}

const PARAMETERS: Parameters = Parameters {
    max_batch_size: 4,
    batch_timeout: Duration::ZERO,
    max_enqueued_batches: 10,
    allowed_batch_sizes: Vec::new(),
    pad_variable_length_inputs: false,
    split_at: None,
};

struct Setup {
    model: Arc<Adder>,
    batcher: Arc<Batcher>,
    counts: Arc<Batches>,
    lane: Lane,
    scheduler: Scheduler,
    in_use: Mutex<mpsc::Receiver<Infallible>>,
}

/// A batcher with one slot, for a version that has been warmed.
fn setup(parameters: Parameters) -> Setup {
    of(Adder::default(), parameters)
}

fn of(model: Adder, parameters: Parameters) -> Setup {
    let setup = cold(model, parameters);
    setup.batcher.warm();
    setup
}

fn cold(model: Adder, parameters: Parameters) -> Setup {
    let (model, counts) = (Arc::new(model), Arc::new(Batches::default()));
    let pool = Arc::new(Pool::new(Some(counts.clone())).unwrap());
    made(model, counts, Batching::Parameters(pool, parameters), Scheduler::with_slots(1))
}

fn made(model: Arc<Adder>, counts: Arc<Batches>, batching: Batching, scheduler: Scheduler) -> Setup {
    let (sender, in_use) = mpsc::channel();
    let work = if matches!(batching, Batching::Automatic(_)) { Work::Gathered } else { Work::Batches };
    Setup {
        batcher: Batcher::new(batching, model.clone(), None, sender),
        lane: scheduler.lane("adder", work),
        scheduler,
        model,
        counts,
        in_use: in_use.into(),
    }
}

impl Setup {
    /// Asks for the sum of `x` and as many ones, and for its negative.
    fn ask_for(&self, x: &[i32], repeatable: bool, context: &Context) -> Result<Vec<Vec<i32>>> {
        let run = Run { repeatable, context: context.clone(), ..asked(x) };
        answer(self.batcher.submit(run, &self.lane)?)
    }

    /// Asks as warm-up does.
    fn warm_with(&self, x: &[i32]) -> Result<Vec<Vec<i32>>> {
        Ok(self.batcher.run(asked(x))?.outputs.iter().map(numbers).collect())
    }

    /// Submits `x` without a thread of its own. Returns what it waits for.
    fn submit(&self, x: &[i32]) -> Outputs {
        self.batcher.submit(asked(x), &self.lane).unwrap()
    }

    /// Has a thread of the scheduler wait for `model`'s gate in work of another. Returns once it does.
    fn occupy(&self) {
        let (begun, begins) = mpsc::channel();
        let model = self.model.clone();
        let wait = move || {
            begun.send(()).unwrap();
            drop(model.gate.lock());
            true
        };
        let lane = self.scheduler.lane("other", Work::Runs);
        lane.queue_alone(wait).unwrap();
        begins.recv().unwrap();
    }

    fn ask(&self, x: &[i32]) -> Result<Vec<Vec<i32>>> {
        self.ask_for(x, true, &Context::default())
    }

    fn runs(&self) -> Vec<usize> {
        self.model.runs.lock().unwrap().clone()
    }

    /// Holds a run of one row, submits `asks` one after the other meanwhile, and returns their answers.
    fn beside(&self, asks: &[&[i32]], repeatable: bool) -> Vec<Result<Vec<Vec<i32>>>> {
        let held = self.model.gate.lock().unwrap_or_else(PoisonError::into_inner);
        thread::scope(|scope| {
            let first = scope.spawn(|| self.ask(&[0]));
            until(|| self.runs().len() == 1);
            let mut others = Vec::new();
            for (count, ask) in asks.iter().enumerate() {
                let waiting = self.batcher.waiting() + 1;
                others.push(scope.spawn(|| self.ask_for(ask, repeatable, &Context::default())));
                until(|| self.batcher.waiting() >= waiting || others[count].is_finished());
            }
            drop(held);
            first.join().unwrap().unwrap();
            others.into_iter().map(|other| other.join().unwrap()).collect()
        })
    }
}

/// A run for the sum of `x` and as many ones, and for its negative.
fn asked(x: &[i32]) -> Run {
    Run {
        feeds: vec![(Endpoint(1), rows(&vec![1; x.len()])), (Endpoint(0), rows(x))],
        fetches: vec![Endpoint(3), Endpoint(2), Endpoint(3)],
        threads: Threads::Caller,
        context: Context::default(),
        repeatable: true,
    }
}

/// Waits in this thread.
fn answer(outputs: Outputs) -> Result<Vec<Vec<i32>>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    Ok(runtime.block_on(outputs.wait())?.outputs.iter().map(numbers).collect())
}

fn until(reached: impl Fn() -> bool) {
    let started = Instant::now();
    while !reached() {
        assert!(started.elapsed() < Duration::from_secs(20), "it never came about");
        thread::yield_now();
    }
}

fn sums(x: &[i32]) -> Vec<Vec<i32>> {
    let sums: Vec<i32> = x.iter().map(|x| x + 1).collect();
    let negative: Vec<i32> = sums.iter().map(|sum| -sum).collect();
    vec![negative.clone(), sums, negative]
}

#[test]
fn one_request_runs_at_once() {
    let setup = setup(PARAMETERS);
    assert_eq!(setup.ask(&[1, 2]), Ok(sums(&[1, 2])));
    assert_eq!(setup.runs(), [2]);
}

#[test]
fn what_comes_while_another_runs_is_run_together() {
    let setup = setup(PARAMETERS);
    let answers = setup.beside(&[&[10], &[20, 21], &[30, 31], &[40]], true);
    let expected: Vec<_> = [&[10][..], &[20, 21], &[30, 31], &[40]].map(|x| Ok(sums(x))).into();
    assert_eq!(answers, expected);
    assert_eq!(setup.runs(), [1, 3, 3]);
    assert_eq!(setup.counts.sizes(), ([1, 1, 2, 2, 1].iter().sum(), 3, 7));
}

#[test]
fn an_open_batch_waits_for_its_time_and_no_longer_than_until_it_is_full() {
    let hour = Duration::from_secs(3600);
    let setup = setup(Parameters { batch_timeout: hour, ..PARAMETERS });
    thread::scope(|scope| {
        let one = scope.spawn(|| setup.ask(&[1, 2, 3]));
        until(|| setup.batcher.waiting() == 1);
        let two = scope.spawn(|| setup.ask(&[4]));
        assert_eq!(one.join().unwrap(), Ok(sums(&[1, 2, 3])));
        assert_eq!(two.join().unwrap(), Ok(sums(&[4])));
    });
    assert_eq!(setup.runs(), [4]);
    let short = self::setup(Parameters { batch_timeout: Duration::from_millis(2), ..PARAMETERS });
    assert_eq!(short.ask(&[1]), Ok(sums(&[1])));
}

#[test]
fn batches_are_filled_up_to_an_allowed_size() {
    let setup = setup(Parameters { allowed_batch_sizes: vec![2, 4], ..PARAMETERS });
    assert_eq!(setup.ask(&[1, 2, 3]), Ok(sums(&[1, 2, 3])));
    assert_eq!(setup.ask(&[1]), Ok(sums(&[1])));
    assert_eq!(setup.runs(), [4, 2]);
}

#[test]
fn what_a_batch_is_filled_up_with_is_counted() {
    let setup =
        setup(Parameters { allowed_batch_sizes: vec![2, 1 << 20], max_batch_size: 1 << 20, ..PARAMETERS });
    let budget = Budget::new(4 << 20);
    let memory = Arc::new(Reservation::new(Account::new(budget.clone())));
    let context = Context { memory, ..Context::default() };
    assert_eq!(setup.ask_for(&[1], true, &context), Ok(sums(&[1])));
    let refused = setup.ask_for(&[1, 2, 3], true, &context).unwrap_err();
    assert_eq!((refused.kind, refused.http_status()), (Kind::ResourceExhausted, 413), "{refused}");
    assert_eq!((setup.runs(), budget.used()), (vec![2], 0));
}

#[test]
fn who_has_no_memory_left_for_a_batch_spoils_no_other() {
    let setup = setup(Parameters { max_batch_size: 8192, ..PARAMETERS });
    let few = vec![7; 2048];
    // Joined, two inputs of 8 KB take 16 KB of each connection.
    let of = |limit: usize| {
        let memory = Arc::new(Reservation::new(Account::new(Budget::new(limit))));
        Context { memory, ..Context::default() }
    };
    let held = setup.model.gate.lock().unwrap_or_else(PoisonError::into_inner);
    thread::scope(|scope| {
        let first = scope.spawn(|| setup.ask(&[0]));
        until(|| setup.runs().len() == 1);
        let mut asked = Vec::new();
        for (count, limit) in [16 << 10, 64 << 20].into_iter().enumerate() {
            let (setup, few, context) = (&setup, &few, of(limit));
            asked.push(scope.spawn(move || setup.ask_for(few, false, &context)));
            until(|| setup.batcher.waiting() > count);
        }
        drop(held);
        first.join().unwrap().unwrap();
        for one in asked {
            assert_eq!(one.join().unwrap(), Ok(sums(&few)));
        }
    });
    assert_eq!(setup.runs(), [1, 2048, 2048], "each alone, where nothing is copied");
}

#[test]
fn a_large_request_is_split_and_put_together_again() {
    let setup = setup(Parameters { max_batch_size: 100, split_at: Some(4), ..PARAMETERS });
    let x: Vec<i32> = (0..11).collect();
    assert_eq!(setup.ask(&x), Ok(sums(&x)));
    assert_eq!(setup.runs(), [4, 4, 3]);
    let full = setup.ask(&(0..41).collect::<Vec<_>>()).unwrap_err();
    assert_eq!(
        full.message,
        "The batch scheduling queue to which this task was submitted is full; task size is 41 but scheduling capacity is \
         only 40 (num_enqueued_batches=0, max_enqueued_batches=10, open_batch_size=0, max_execution_batch_size=4)"
    );
    assert_eq!(setup.ask(&[1]), Ok(sums(&[1])), "what was refused left nothing behind");
}

#[test]
fn a_full_queue_refuses_and_says_so() {
    let setup = setup(Parameters { max_enqueued_batches: 1, ..PARAMETERS });
    let answers = setup.beside(&[&[1, 2, 3], &[4, 5]], true);
    assert_eq!(answers[0], Ok(sums(&[1, 2, 3])));
    let refused = answers[1].clone().unwrap_err();
    assert_eq!(refused.kind, Kind::Unavailable);
    assert_eq!(
        refused.message,
        "The batch scheduling queue to which this task was submitted is full; currently 1 batches enqueued and \
         max_enqueued_batches is 1"
    );
}

#[test]
fn one_bad_request_spoils_no_other() {
    for bad in [-1, 666] {
        let setup = setup(PARAMETERS);
        let answers = setup.beside(&[&[10], &[bad], &[20]], true);
        assert_eq!((&answers[0], &answers[2]), (&Ok(sums(&[10])), &Ok(sums(&[20]))));
        assert!(answers[1].is_err());
        assert_eq!(setup.runs(), [1, 3, 1, 1, 1]);
        assert_eq!(setup.ask(&[1]), Ok(sums(&[1])), "the thread goes on");
    }
}

#[test]
fn only_a_run_of_all_together_tells_how_long_they_take() {
    let setup = setup(PARAMETERS);
    for (asks, as_one) in [(&[1, 2][..], true), (&[1, -1, 2], false), (&[1, 666], false), (&[-1], false)] {
        let (reply, mut answers) = unbounded_channel();
        let tasks: Vec<_> = asks.iter().map(|x| setup.batcher.task(asked(&[*x]), 0, reply.clone())).collect();
        let batch = Batch {
            of: setup.batcher.clone(),
            ends: tasks[0].0.clone(),
            tasks: tasks.into_iter().map(|(_, _, task)| task).collect(),
        };
        assert_eq!(batch.run(), as_one, "{asks:?}");
        for x in asks {
            let answered = answers.try_recv().unwrap().outcome;
            assert_eq!(
                answered.map_err(|why| why.kind).err(),
                match x {
                    -1 => Some(Kind::InvalidArgument),
                    666 => Some(Kind::Internal),
                    _ => None,
                }
            );
        }
    }
}

#[test]
fn what_may_change_something_is_never_run_twice() {
    let setup = setup(PARAMETERS);
    let answers = setup.beside(&[&[10], &[-1]], false);
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap_err().message == "a number is negative"));
    assert_eq!(setup.runs(), [1, 2]);
}

#[test]
fn what_cannot_be_batched_is_refused_and_no_rows_are_answered() {
    let setup = setup(PARAMETERS);
    let refused = |feeds: &[(Endpoint, Tensor)]| {
        let asked = Run { feeds: feeds.to_vec(), ..asked(&[]) };
        let Err(why) = setup.batcher.submit(asked.clone(), &setup.lane) else { panic!("it was accepted") };
        assert_eq!(setup.batcher.run(asked).unwrap_err(), why);
        why.message.into_owned()
    };
    let scalar = Tensor::numbers(DType::Int32, vec![], vec![0; 4].into());
    assert_eq!(refused(&[]), "Batching Run() must have at least one input tensor");
    assert_eq!(
        refused(&[(Endpoint(0), scalar)]),
        "Batching Run() input tensors must have at least one dimension"
    );
    assert_eq!(
        refused(&[(Endpoint(0), rows(&[1])), (Endpoint(1), rows(&[1, 2]))]),
        "Batching Run() input tensors must have equal 0th-dimension size"
    );
    assert_eq!(
        setup.ask(&[0; 5]).unwrap_err().message,
        "Task size 5 is larger than maximum input batch size 4"
    );
    assert_eq!(setup.ask(&[]), Ok(sums(&[])));
    assert_eq!(answer(setup.submit(&[])), Ok(sums(&[])));
}

#[test]
fn outputs_without_a_row_for_each_row_are_an_error() {
    let setup = of(Adder { reduces: true, ..Adder::default() }, PARAMETERS);
    let error = setup.ask(&[1, 2]).unwrap_err();
    assert_eq!(error.kind, Kind::FailedPrecondition);
    assert!(error.message.starts_with("Batched output tensor's 0th dimension does not equal"));
}

#[test]
fn a_request_waits_until_its_deadline() {
    let setup = setup(Parameters { batch_timeout: Duration::from_secs(3600), ..PARAMETERS });
    let deadline = Some(Instant::now() + Duration::from_millis(20));
    let error = setup.ask_for(&[1], true, &Context { deadline, ..Context::default() }).unwrap_err();
    assert_eq!(error.kind, Kind::ResourceExhausted);
    assert_eq!(error.message, "Run() timeout exceeded while waiting in batching queue");
    assert_eq!(setup.batcher.waiting(), 0, "it has left the queue");
    assert_eq!(setup.runs(), [0; 0]);
}

#[test]
fn a_deadline_that_passes_during_the_run_is_another_error() {
    let hour = Duration::from_secs(3600);
    let setup = setup(Parameters { batch_timeout: hour, max_batch_size: 2, ..PARAMETERS });
    let held = setup.model.gate.lock().unwrap();
    thread::scope(|scope| {
        let patient = scope.spawn(|| setup.ask(&[1]));
        until(|| setup.batcher.waiting() == 1);
        // This fills the batch, which then runs.
        let deadline = Some(Instant::now() + Duration::from_secs(1));
        let error = setup.ask_for(&[2], true, &Context { deadline, ..Context::default() }).unwrap_err();
        assert_eq!(error.kind, Kind::DeadlineExceeded);
        drop(held);
        assert_eq!(patient.join().unwrap(), Ok(sums(&[1])));
    });
    assert_eq!(setup.runs(), [2]);
}

#[test]
fn who_has_left_is_not_run() {
    let hour = Duration::from_secs(3600);
    let setup = setup(Parameters { batch_timeout: hour, max_batch_size: 2, ..PARAMETERS });
    let leaver = setup.submit(&[10]);
    assert_eq!(setup.batcher.waiting(), 1);
    drop(leaver);
    assert_eq!(setup.batcher.waiting(), 0);
    // These fill a batch.
    let (one, two) = (setup.submit(&[20]), setup.submit(&[21]));
    assert_eq!((answer(one), answer(two)), (Ok(sums(&[20])), Ok(sums(&[21]))));
    assert_eq!(setup.runs(), [2]);
}

#[test]
fn who_leaves_before_the_batch_begins_is_not_run() {
    let setup = setup(PARAMETERS);
    let held = setup.model.gate.lock().unwrap();
    let running = setup.submit(&[2]);
    until(|| setup.runs().len() == 1);
    // The only slot is taken.
    drop((setup.submit(&[1]), setup.submit(&[])));
    assert_eq!(setup.batcher.waiting(), 0);
    drop(held);
    assert_eq!(answer(running), Ok(sums(&[2])));
    assert_eq!(answer(setup.submit(&[3])), Ok(sums(&[3])));
    assert_eq!(setup.runs(), [1, 1]);
}

#[test]
fn who_leaves_while_no_slot_is_free_leaves_nothing_behind() {
    let setup = setup(PARAMETERS);
    let held = setup.model.gate.lock().unwrap();
    setup.occupy();
    for _ in 0..100 {
        drop(setup.submit(&[1]));
        assert!(setup.scheduler.waiting() <= 1);
    }
    assert_eq!(setup.batcher.waiting(), 0);
    drop(held);
    assert_eq!(setup.ask(&[1, 2]).unwrap(), sums(&[1, 2]));
}

#[test]
fn two_thousand_requests_wait_in_one_thread() {
    let setup = setup(Parameters { max_enqueued_batches: 1000, ..PARAMETERS });
    let held = setup.model.gate.lock().unwrap();
    let first = setup.submit(&[7]);
    until(|| setup.runs().len() == 1);
    let waiting: Vec<_> = (1001..3000).map(|x| (x, setup.submit(&[x]))).collect();
    assert_eq!(setup.batcher.waiting(), 1999);
    drop(held);
    assert_eq!(answer(first), Ok(sums(&[7])));
    for (x, outputs) in waiting {
        assert_eq!(answer(outputs), Ok(sums(&[x])));
    }
    assert_eq!(setup.runs().iter().sum::<usize>(), 2000);
}

#[test]
fn a_batch_waits_for_a_slot_and_grows_meanwhile() {
    let setup = setup(PARAMETERS);
    let held = setup.model.gate.lock().unwrap();
    setup.occupy();
    let waiting = [10, 20, 30].map(|x| (x, setup.submit(&[x])));
    assert_eq!((setup.batcher.waiting(), setup.runs()), (3, vec![]));
    drop(held);
    for (x, outputs) in waiting {
        assert_eq!(answer(outputs), Ok(sums(&[x])));
    }
    assert_eq!(setup.runs(), [3]);
}

#[test]
fn no_more_batches_run_at_once_than_may_though_there_are_slots() {
    let counts = Arc::new(Batches::default());
    let pool = Arc::new(Pool::new(None).unwrap());
    let parameters = Parameters { max_batch_size: 1, max_enqueued_batches: 1, ..PARAMETERS };
    let limits = Limits { slots: 4, batch_threads: 2, ..Limits::default() };
    let scheduler = Scheduler::new(limits, Arc::default());
    let setup = made(Arc::default(), counts, Batching::Parameters(pool, parameters), scheduler);
    let held = setup.model.gate.lock().unwrap();
    let mut waiting = Vec::new();
    for x in 0..3 {
        waiting.push((x, setup.submit(&[x])));
        until(|| setup.runs().len() == waiting.len().min(2));
    }
    // Work of others has the other slots.
    setup.occupy();
    assert_eq!((setup.batcher.waiting(), setup.runs().len()), (1, 2));
    assert_eq!(setup.ask(&[3]).unwrap_err().kind, Kind::Unavailable, "it counts as waiting");
    drop(held);
    for (x, outputs) in waiting {
        assert_eq!(answer(outputs), Ok(sums(&[x])));
    }
}

#[test]
fn what_waits_for_a_slot_when_the_server_stops_is_told_so() {
    let setup = setup(PARAMETERS);
    let model = setup.model.clone();
    let held = model.gate.lock().unwrap();
    setup.occupy();
    let waiting = [setup.submit(&[1]), setup.submit(&[])];
    let Setup { scheduler, batcher, lane, .. } = setup;
    drop(scheduler);
    for outputs in waiting {
        let error = answer(outputs).unwrap_err();
        assert_eq!((error.kind, &*error.message), (Kind::Unavailable, "The server is stopping"));
    }
    let late = batcher.submit(asked(&[1]), &lane).map(drop).unwrap_err();
    assert_eq!((late.kind, &*late.message), (Kind::Unavailable, "The server is stopping"));
    assert_eq!(batcher.waiting(), 0);
    drop(held);
}

#[test]
fn a_panic_is_that_of_its_batch_alone() {
    let setup = setup(Parameters { max_batch_size: 2, ..PARAMETERS });
    let answers = setup.beside(&[&[10], &[666], &[20], &[21]], false);
    let kinds: Vec<_> = answers[..2].iter().map(|answer| answer.as_ref().unwrap_err().kind).collect();
    assert_eq!(kinds, [Kind::Internal; 2]);
    assert_eq!(answers[2..], [Ok(sums(&[20])), Ok(sums(&[21]))]);
    assert_eq!(setup.runs(), [1, 2, 2]);
}

#[test]
fn the_model_is_in_use_until_the_last_run_ends_though_nobody_waits() {
    let setup = setup(PARAMETERS);
    let Setup { model, batcher, lane, in_use, .. } = setup;
    let in_use = in_use.into_inner().unwrap();
    let held = model.gate.lock().unwrap();
    let outputs = batcher.submit(asked(&[1]), &lane).unwrap();
    until(|| model.runs.lock().unwrap().len() == 1);
    drop((outputs, batcher));
    assert_eq!(in_use.try_recv(), Err(mpsc::TryRecvError::Empty));
    drop(held);
    assert_eq!(in_use.recv(), Err(mpsc::RecvError));
    assert_eq!(Arc::strong_count(&model), 1, "an unload frees it");
}

#[test]
fn warming_does_not_wait_for_others() {
    let setup = cold(Adder::default(), Parameters { batch_timeout: Duration::from_secs(3600), ..PARAMETERS });
    assert_eq!(setup.warm_with(&[1]), Ok(sums(&[1])));
}

#[test]
fn every_size_is_warmed_with_what_was_run_so_far() {
    let sizes = |allowed: &[usize]| {
        let parameters =
            Parameters { allowed_batch_sizes: allowed.to_vec(), max_batch_size: 12, ..PARAMETERS };
        let setup = cold(Adder::default(), parameters);
        setup.warm_with(&[7]).unwrap();
        setup.batcher.warm();
        setup.batcher.warm();
        setup.runs()[1..].to_vec()
    };
    assert_eq!(sizes(&[]), [1, 2, 4, 8, 12]);
    assert_eq!(sizes(&[3, 12]), [3, 12]);
}

/// A batcher without parameters, warmed with one row.
fn automatic(model: Adder) -> Setup {
    let counts = Arc::new(Batches::default());
    let batching = Batching::Automatic(Some(counts.clone()));
    let setup = made(Arc::new(model), counts, batching, Scheduler::with_slots(1));
    setup.warm_with(&[3]).unwrap();
    setup.batcher.warm();
    setup.model.runs.lock().unwrap().clear();
    setup
}

fn takes(setup: &Setup, run: &Run) -> bool {
    setup.batcher.takes(&run.feeds, &run.fetches)
}

#[test]
fn what_comes_during_a_run_is_run_together_without_parameters() {
    let setup = automatic(Adder::default());
    assert!(takes(&setup, &asked(&[1])));
    for round in 0..6 {
        let held = setup.model.gate.lock().unwrap();
        let begun = setup.runs().len();
        let first = setup.submit(&[7]);
        until(|| setup.runs().len() > begun);
        let others: Vec<_> = (0..20).map(|x| (x, setup.submit(&[x]))).collect();
        drop(held);
        assert_eq!(answer(first), Ok(sums(&[7])));
        for (x, outputs) in others {
            assert_eq!(answer(outputs), Ok(sums(&[x])), "round {round}");
        }
    }
    assert!(setup.runs().iter().any(|rows| *rows > 4), "{:?}", setup.runs());
}

#[test]
fn what_gives_something_else_together_is_left_alone() {
    let setup = automatic(Adder { reduces: true, ..Adder::default() });
    assert!(!takes(&setup, &asked(&[1])));
}

#[test]
fn what_has_no_rows_in_common_is_left_alone() {
    let setup = automatic(Adder::default());
    let mut other = asked(&[1, 2]);
    other.feeds[1].1 = other.feeds[1].1.rows(0..1);
    assert!(!takes(&setup, &other));
    assert!(!takes(&setup, &asked(&[])));
    let mut partial = asked(&[1]);
    partial.fetches.truncate(1);
    assert!(takes(&setup, &partial), "fewer outputs are no other run");
    partial.feeds.truncate(1);
    assert!(!takes(&setup, &partial));
}

#[test]
fn before_the_end_of_warm_up_nothing_is_run_together() {
    let counts = Arc::new(Batches::default());
    let setup = made(Arc::default(), counts, Batching::Automatic(None), Scheduler::with_slots(1));
    assert!(!takes(&setup, &asked(&[1])) && setup.batcher.runs_alone());
    setup.batcher.warm();
    assert!(!takes(&setup, &asked(&[1])) && !setup.batcher.runs_alone(), "nothing was seen");
}

#[test]
fn who_leaves_is_not_run_without_parameters() {
    let setup = automatic(Adder::default());
    let held = setup.model.gate.lock().unwrap();
    let first = setup.submit(&[7]);
    until(|| setup.runs().len() == 1);
    drop(setup.submit(&[1]));
    drop(held);
    assert_eq!(answer(first), Ok(sums(&[7])));
    assert_eq!(answer(setup.submit(&[2])), Ok(sums(&[2])));
    assert_eq!(setup.runs(), [1, 1]);
}

#[test]
fn one_bad_request_spoils_no_other_without_parameters() {
    let setup = automatic(Adder::default());
    for _ in 0..4 {
        let held = setup.model.gate.lock().unwrap();
        let begun = setup.runs().len();
        let first = setup.submit(&[7]);
        until(|| setup.runs().len() > begun);
        let (bad, good) = (setup.submit(&[-1]), setup.submit(&[2]));
        drop(held);
        assert_eq!(answer(first), Ok(sums(&[7])));
        assert!(answer(bad).is_err());
        assert_eq!(answer(good), Ok(sums(&[2])));
    }
}
