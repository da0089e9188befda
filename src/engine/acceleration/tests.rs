//! The way of a model to a faster engine, with engines that are made up.

use super::chain::LIMIT;
use super::cut::Parts;
use super::decisions::Decisions;
use super::model::Accelerated;
use super::others::Others;
use super::prepare::{self, Rules, Tools};
use super::probe::Feeds;
use super::quantized::Calibration;
use super::report::{Progress, Report};
use crate::engine::choice::EngineKind;
use crate::engine::frozen::FrozenGraph;
use crate::engine::signature::{DEFAULT_SIGNATURE, Signature};
use crate::engine::{Endpoint, Model, RunOptions, Termination, Threads, fake};
use crate::error::{Error, Kind, Result};
use crate::pb::tensorflow::GraphDef;
use crate::tensor::{DType, Tensor};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

const OPTIONS: RunOptions = RunOptions { threads: Threads::Caller, timeout: None };
const SUM: Endpoint = Endpoint(3);

/// A model that adds, after a while, and does something to what it answers.
struct Made {
    adder: Box<dyn Model>,
    after: Box<dyn Fn(Vec<Tensor>) -> Result<Vec<Tensor>> + Send + Sync>,
    runs: Arc<AtomicUsize>,
    changes: bool,
    shares_cores: Arc<AtomicBool>,
    /// True if runs have to wait, as for a session that was let go.
    waits: Arc<AtomicBool>,
}

fn made(time: Duration, after: impl Fn(Vec<Tensor>) -> Result<Vec<Tensor>> + Send + Sync + 'static) -> Made {
    let adder = fake::model(move || std::thread::sleep(time));
    let (runs, shares_cores, waits) = (Arc::default(), Arc::default(), Arc::default());
    Made { adder, after: Box::new(after), runs, changes: false, shares_cores, waits }
}

impl Model for Made {
    fn signatures(&self) -> &BTreeMap<String, Signature> {
        self.adder.signatures()
    }

    fn endpoint(&self, tensor: &str) -> Option<Endpoint> {
        self.adder.endpoint(tensor)
    }

    fn changes_nothing(&self, signature: &str) -> bool {
        !self.changes && self.adder.changes_nothing(signature)
    }

    fn termination(&self, signature: &str) -> Termination {
        self.adder.termination(signature)
    }

    fn share_cores(&self, shared: bool) -> Result<()> {
        self.shares_cores.store(shared, Relaxed);
        Ok(())
    }

    fn run(
        &self,
        feeds: &[(Endpoint, Tensor)],
        fetches: &[Endpoint],
        options: RunOptions,
    ) -> Result<Vec<Tensor>> {
        self.runs.fetch_add(1, Relaxed);
        self.adder.run(feeds, fetches, options).and_then(&self.after)
    }

    fn run_at_once(
        &self,
        feeds: &[(Endpoint, Tensor)],
        fetches: &[Endpoint],
        options: RunOptions,
    ) -> Option<Result<Vec<Tensor>>> {
        (!self.waits.load(Relaxed)).then(|| self.run(feeds, fetches, options))
    }
}

type OpenedLower = Box<dyn Fn(Vec<Vec<Tensor>>) -> Result<Box<dyn Model>> + Send + Sync>;
type Opened = Box<dyn Fn(EngineKind) -> Result<Box<dyn Model>> + Send + Sync>;

/// Tools whose candidates are made by a function.
struct Given {
    open: Opened,
    plan: Result<(), String>,
    frozen: Arc<AtomicUsize>,
    cache: Option<PathBuf>,
    lower: Option<OpenedLower>,
}

impl Tools for Given {
    fn freeze(&self, _: &str, _: &Feeds) -> Result<FrozenGraph> {
        self.frozen.fetch_add(1, Relaxed);
        let signature = fake::model(|| {}).signatures()[DEFAULT_SIGNATURE].clone();
        Ok(FrozenGraph { graph: GraphDef::default(), inputs: signature.inputs, outputs: signature.outputs })
    }

    fn plan(&self, graph: &FrozenGraph) -> Result<Parts, String> {
        self.plan.clone().map(|()| Parts::whole(graph.clone()))
    }

    fn open(&self, engine: EngineKind, _: &FrozenGraph) -> Result<Box<dyn Model>> {
        (self.open)(engine)
    }

    fn precision(&self) -> Option<&'static str> {
        self.lower.as_ref().map(|_| "int8")
    }

    fn open_lower(&self, _: &FrozenGraph, calibration: &Calibration<'_>) -> Result<Box<dyn Model>> {
        let requests = (calibration.requests)()?;
        self.lower.as_ref().map_or_else(|| Err(Error::internal("not asked for")), |open| open(requests))
    }

    fn decisions(&self) -> Option<Decisions> {
        let cache = self.cache.as_ref()?;
        std::fs::create_dir_all(cache.join("model")).unwrap();
        Decisions::of(&cache.join("model"), "engines", cache)
    }

    fn fast_engine(&self) -> Result<(), String> {
        Ok(())
    }
}

const SLOW: Duration = Duration::from_millis(3);
const FAST: Duration = Duration::from_millis(1);

fn tools(open: impl Fn(EngineKind) -> Result<Box<dyn Model>> + Send + Sync + 'static) -> Given {
    Given { open: Box::new(open), plan: Ok(()), frozen: Arc::default(), cache: None, lower: None }
}

/// Tools with one kind of candidate, on the fast engine.
fn fast(candidate: impl Fn() -> Made + Send + Sync + 'static) -> Given {
    tools(move |engine| match engine {
        EngineKind::OpenVino => Ok(Box::new(candidate())),
        EngineKind::TensorFlow | EngineKind::Onnx | EngineKind::LiteRt => {
            Err(Error::invalid("TensorFlow cannot be frozen"))
        }
    })
}

fn accelerated(reference: Made, tools: Given, forced: bool) -> Accelerated {
    let rules = Rules { tolerance: 1e-5, forced, fresh: false, cores: 2 };
    let others = Box::leak(Box::new(Others::new()));
    Accelerated::new("m".to_owned(), Arc::new(reference), others, move |shared| {
        prepare::prepare(shared, &tools, rules)
    })
}

fn slow_reference() -> Made {
    made(SLOW, Ok)
}

fn feeds(values: [f32; 2]) -> Feeds {
    let tensor = |value: f32| Tensor::numbers(DType::Float, vec![1], value.to_le_bytes().to_vec().into());
    vec![(Endpoint(0), tensor(values[0])), (Endpoint(1), tensor(values[1]))]
}

/// Returns a request whose inputs both have `length` times `value`.
fn both(length: u8, value: f32) -> Feeds {
    let bytes: Vec<u8> = (0..length).flat_map(|_| value.to_le_bytes()).collect();
    let tensor = Tensor::numbers(DType::Float, vec![i64::from(length)], bytes.into());
    vec![(Endpoint(0), tensor.clone()), (Endpoint(1), tensor)]
}

fn sum(model: &dyn Model, values: [f32; 2]) -> Result<f32> {
    let outputs = model.run(&feeds(values), &[SUM], OPTIONS)?;
    Ok(f32::from_le_bytes(outputs[0].bytes().try_into().unwrap()))
}

/// Runs once, prepares, and returns what is reported.
fn prepared(model: &Accelerated) -> Report {
    assert_eq!(sum(model, [1.0, 2.0]), Ok(3.0));
    assert!(model.preparation().unwrap().prepare());
    report(model)
}

fn report(model: &Accelerated) -> Report {
    model.preparation().unwrap().reports().remove(0)
}

/// Adds `more` to every number of an answer.
fn off_by(more: f32) -> impl Fn(Vec<Tensor>) -> Result<Vec<Tensor>> + Clone {
    move |outputs| {
        let changed = |tensor: &Tensor| {
            let values = tensor
                .bytes()
                .chunks_exact(4)
                .map(|four| f32::from_le_bytes(four.try_into().unwrap()) + more);
            let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
            Tensor::numbers(DType::Float, tensor.shape().to_vec(), bytes.into())
        };
        Ok(outputs.iter().map(changed).collect())
    }
}

#[test]
fn runs_move_to_what_answers_the_same_and_faster() {
    let (reference, runs) = (slow_reference(), Arc::new(AtomicUsize::new(0)));
    let counted = runs.clone();
    let of_reference = reference.runs.clone();
    let model = accelerated(reference, fast(move || Made { runs: counted.clone(), ..made(FAST, Ok) }), false);
    let report = prepared(&model);
    assert_eq!((report.progress, &*report.engine), (Progress::Moved, "openvino"), "{report:?}");
    let [candidate] = &report.candidates[..] else { panic!("{report:?}") };
    assert_eq!((candidate.difference, &*candidate.refusal), (Some(0.0), ""));
    assert!(candidate.times.unwrap().alone.wall.0 > candidate.times.unwrap().alone.wall.1);
    let before = (of_reference.load(Relaxed), runs.load(Relaxed));
    assert_eq!(sum(&model, [2.0, 5.0]), Ok(7.0));
    assert_eq!((of_reference.load(Relaxed), runs.load(Relaxed)), (before.0, before.1 + 1));
    assert!(model.preparation().unwrap().prepare(), "what is decided is not tried again");
}

#[test]
fn what_answers_otherwise_or_slower_is_not_taken() {
    // What takes about as long is judged in `trial`: the processor's time is measured here with that of other tests.
    for (candidate, expected) in [
        (fast(|| made(FAST, off_by(0.5))), "a difference of"),
        (fast(|| made(4 * SLOW, Ok)), "slower"),
        (fast(|| made(FAST, |_| Err(Error::invalid("no")))), "it refused a run: no"),
        (fast(|| made(FAST, |_| panic!("a candidate's fault"))), "The server failed"),
        (tools(|_| Err(Error::invalid("unknown operation"))), "unknown operation"),
        (Given { plan: Err("a loop".to_owned()), ..tools(|_| Err(Error::invalid("frozen"))) }, "a loop"),
    ] {
        let reason = refusal(candidate);
        assert!(reason.contains(expected), "{reason}");
    }
}

/// Returns why `candidate` is not taken.
fn refusal(candidate: Given) -> String {
    let model = accelerated(slow_reference(), candidate, false);
    let report = prepared(&model);
    assert_eq!((report.progress, &*report.engine), (Progress::Stays, "tensorflow"), "{report:?}");
    assert_eq!(sum(&model, [2.0, 5.0]), Ok(7.0));
    report.reason
}

#[test]
fn where_answers_are_the_same_the_operator_may_force_it() {
    let model = accelerated(slow_reference(), fast(|| made(2 * SLOW, Ok)), true);
    assert_eq!(prepared(&model).progress, Progress::Moved);
    let wrong = accelerated(slow_reference(), fast(|| made(FAST, off_by(1.0))), true);
    assert_eq!(prepared(&wrong).progress, Progress::Stays);
}

#[test]
fn frozen_tensorflow_is_taken_where_the_other_engine_is_not() {
    let only_frozen = tools(|engine| match engine {
        EngineKind::TensorFlow => Ok(Box::new(made(FAST, Ok))),
        EngineKind::OpenVino | EngineKind::Onnx | EngineKind::LiteRt => Ok(Box::new(made(FAST, off_by(1.0)))),
    });
    let report = prepared(&accelerated(slow_reference(), only_frozen, false));
    assert_eq!((report.progress, &*report.engine), (Progress::Moved, "tensorflow frozen"));
    assert_eq!(report.candidates.len(), 2);
}

#[test]
fn what_is_short_or_changes_something_is_not_tried() {
    let short = accelerated(made(Duration::ZERO, Ok), fast(|| made(Duration::ZERO, Ok)), false);
    assert!(prepared(&short).reason.contains("less than 200 µs"));
    let changing = Made { changes: true, ..slow_reference() };
    let changing = accelerated(changing, fast(|| made(FAST, Ok)), true);
    let why = "runs of serving_default may change something that all of them read";
    assert_eq!(prepared(&changing).reason, why);
}

#[test]
fn a_refused_run_is_done_by_tensorflow_and_after_a_few_the_signature_stays() {
    // Refuses sums of a hundred and more.
    let refusing = |outputs: Vec<Tensor>| {
        let sum = outputs.last().map(|last| f32::from_le_bytes(last.bytes()[..4].try_into().unwrap()));
        if sum.unwrap() < 100.0 { Ok(outputs) } else { Err(Error::internal("too large")) }
    };
    let model = accelerated(slow_reference(), fast(move || made(FAST, refusing)), false);
    assert_eq!(prepared(&model).progress, Progress::Moved);
    for number in 1..=3 {
        assert_eq!(report(&model).progress, Progress::Moved);
        assert_eq!(sum(&model, [99.0, 1.0]), Ok(100.0));
        assert_eq!(report(&model).refused, number);
    }
    let report = report(&model);
    assert_eq!((report.progress, &*report.engine), (Progress::Stays, "tensorflow"));
    assert_eq!(report.reason, "3 runs were refused, the last one: too large");
}

#[test]
fn what_tensorflow_refuses_too_is_the_clients_fault() {
    let model = accelerated(slow_reference(), fast(|| made(FAST, Ok)), false);
    prepared(&model);
    let unequal = vec![
        feeds([1.0, 1.0])[0].clone(),
        (Endpoint(1), Tensor::numbers(DType::Float, vec![0], vec![].into())),
    ];
    for _ in 0..5 {
        assert_eq!(model.run(&unequal, &[SUM], OPTIONS).unwrap_err().kind, Kind::InvalidArgument);
    }
    assert_eq!((report(&model).progress, report(&model).refused), (Progress::Moved, 0));
}

#[test]
fn new_shapes_and_numbers_that_are_not_finite_are_tensorflows() {
    let (reference, fast_runs) = (slow_reference(), Arc::new(AtomicUsize::new(0)));
    let (of_reference, counted) = (reference.runs.clone(), fast_runs.clone());
    let model = accelerated(reference, fast(move || Made { runs: counted.clone(), ..made(FAST, Ok) }), false);
    prepared(&model);
    let runs = || (of_reference.load(Relaxed), fast_runs.load(Relaxed));
    let five = |value: f32| both(5, value);
    let ran_by = |feeds: &Feeds| {
        let before = runs();
        model.run(feeds, &[Endpoint(2), SUM], OPTIONS).unwrap();
        model.settle();
        let after = runs();
        (after.0 - before.0, after.1 - before.1)
    };
    assert_eq!(
        [ran_by(&five(1.0)), ran_by(&five(2.0))],
        [(2, 2), (0, 1)],
        "TensorFlow first; with its numbers, and made-up ones"
    );
    for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(ran_by(&five(special)), (1, 0));
    }
    assert_eq!([ran_by(&five(-LIMIT / 2.0)), ran_by(&five(f32::MIN_POSITIVE))], [(0, 1); 2]);
    for large in [LIMIT, -LIMIT, f32::MAX] {
        assert_eq!(ran_by(&five(large)), (1, 0), "sums and products of such numbers are infinite");
    }
    let none = Tensor::numbers(DType::Float, vec![0], vec![].into());
    let none = vec![(Endpoint(0), none.clone()), (Endpoint(1), none)];
    assert_eq!([ran_by(&none), ran_by(&none)], [(1, 0), (1, 0)]);
    assert_eq!((report(&model).progress, report(&model).refused), (Progress::Moved, 0));
}

/// Does `after` to answers of more than 20 numbers, which are none that a model is prepared with.
fn where_it_is_long(
    after: impl Fn(Vec<Tensor>) -> Result<Vec<Tensor>> + Clone,
) -> impl Fn(Vec<Tensor>) -> Result<Vec<Tensor>> + Clone {
    move |outputs| if outputs[0].shape()[0] > 20 { after(outputs) } else { Ok(outputs) }
}

/// Runs with inputs of this length, and returns the first number of the sum.
fn sum_of(model: &Accelerated, length: u8) -> f32 {
    let outputs = model.run(&both(length, 1.0), &[Endpoint(2), SUM], OPTIONS).unwrap();
    model.settle();
    f32::from_le_bytes(outputs[1].bytes()[..4].try_into().unwrap())
}

#[test]
fn shapes_for_which_the_other_engine_answers_otherwise_stay() {
    for (after, why) in [
        (Box::new(off_by(0.5)) as Box<dyn Fn(_) -> _ + Send + Sync>, "new shapes: a difference of"),
        (Box::new(|_| Err(Error::internal("too long"))), "new shapes: it refused a run: too long"),
        (Box::new(|_| panic!("a fault with these shapes")), "new shapes: it refused a run: "),
    ] {
        let (after, runs) = (Arc::new(after), Arc::new(AtomicUsize::new(0)));
        let counted = runs.clone();
        let open = move || {
            let after = after.clone();
            Made { runs: counted.clone(), ..made(FAST, where_it_is_long(move |outputs| after(outputs))) }
        };
        let model = accelerated(slow_reference(), fast(open), false);
        assert_eq!(prepared(&model).progress, Progress::Moved);
        for (length, refused) in [(30, 1), (31, 2)] {
            assert_eq!([sum_of(&model, length), sum_of(&model, 5)], [2.0; 2]);
            let before = runs.load(Relaxed);
            assert_eq!([sum_of(&model, length), sum_of(&model, length)], [2.0; 2]);
            assert_eq!(runs.load(Relaxed), before, "it is tried once");
            assert_eq!((report(&model).progress, report(&model).refused), (Progress::Moved, refused));
        }
        assert_eq!(sum_of(&model, 32), 2.0);
        let report = report(&model);
        assert_eq!(report.progress, Progress::Stays);
        assert!(
            report.reason.starts_with(&format!("3 runs were refused, the last one: {why}")),
            "{report:?}"
        );
    }
}

#[test]
fn new_shapes_are_tried_one_at_a_time_and_for_nobody_no_more() {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let open = move || Made { runs: counted.clone(), ..made(FAST, Ok) };
    let model = accelerated(slow_reference(), fast(open), false);
    prepared(&model);
    let before = runs.load(Relaxed);
    let run = |length| model.run(&both(length, 1.0), &[Endpoint(2), SUM], OPTIONS).map(drop).unwrap();
    let waiting = model.keeps_waiting();
    [30, 31, 30].into_iter().for_each(run);
    drop(waiting);
    model.settle();
    assert_eq!(runs.load(Relaxed), before + 2, "the first one alone, with its numbers and made-up ones");
    run(30);
    assert_eq!(runs.load(Relaxed), before + 3, "it is known");
    let waiting = model.keeps_waiting();
    run(31);
    model.end();
    drop(waiting);
    // The model, and what it moved to, wait for nothing any more.
    drop(model);
    assert_eq!(runs.load(Relaxed), before + 3);
}

#[test]
fn a_blank_request_says_too_little_of_new_shapes() {
    // Twice the sum of zeros is the sum.
    let doubled = |outputs: Vec<Tensor>| {
        let twice = |tensor: &Tensor| {
            let numbers = tensor.bytes().chunks_exact(4);
            let bytes: Vec<u8> = numbers
                .flat_map(|four| (2.0 * f32::from_le_bytes(four.try_into().unwrap())).to_le_bytes())
                .collect();
            Tensor::numbers(DType::Float, tensor.shape().to_vec(), bytes.into())
        };
        Ok(outputs.iter().map(twice).collect())
    };
    let model = accelerated(slow_reference(), fast(move || made(FAST, where_it_is_long(doubled))), false);
    assert_eq!(prepared(&model).progress, Progress::Moved);
    let answer = |value: f32| {
        let outputs = model.run(&both(30, value), &[Endpoint(2), SUM], OPTIONS).unwrap();
        model.settle();
        f32::from_le_bytes(outputs[1].bytes()[..4].try_into().unwrap())
    };
    assert_eq!([answer(0.0), answer(1.0)], [0.0, 2.0]);
    assert_eq!(report(&model).refused, 1);
}

#[test]
fn numbers_that_are_not_finite_say_nothing_of_new_shapes() {
    let model = accelerated(slow_reference(), fast(|| made(FAST, infinite_above(100.0))), false);
    prepared(&model);
    let run = |value: f32| model.run(&both(30, value), &[Endpoint(2), SUM], OPTIONS).map(drop).unwrap();
    run(99.0);
    model.settle();
    run(1.0);
    model.settle();
    assert_eq!((report(&model).progress, report(&model).refused), (Progress::Moved, 0));
}

#[test]
fn in_lower_precision_new_shapes_are_not_compared() {
    let (reference, inexact) = (slow_reference(), || Ok(made(FAST, off_by(0.05))));
    let of_reference = reference.runs.clone();
    let model = accelerated(reference, with_lower(fast(|| made(2 * FAST, Ok)), inexact), false);
    assert_eq!(prepared(&model).engine, "openvino int8");
    let before = of_reference.load(Relaxed);
    assert_eq!([sum_of(&model, 30), sum_of(&model, 30)], [2.0, 2.05]);
    assert_eq!(of_reference.load(Relaxed), before + 1);
}

/// Makes sums of more than `most` infinite.
fn infinite_above(most: f32) -> impl Fn(Vec<Tensor>) -> Result<Vec<Tensor>> + Clone {
    move |outputs| {
        let sum = f32::from_le_bytes(outputs.last().unwrap().bytes()[..4].try_into().unwrap());
        if sum < most { Ok(outputs) } else { off_by(f32::INFINITY)(outputs) }
    }
}

#[test]
fn answers_that_are_not_finite_are_tensorflows() {
    let reference = slow_reference();
    let of_reference = reference.runs.clone();
    let model = accelerated(reference, fast(|| made(FAST, infinite_above(100.0))), false);
    assert_eq!(prepared(&model).progress, Progress::Moved);
    let before = of_reference.load(Relaxed);
    assert_eq!([sum(&model, [99.0, 1.0]), sum(&model, [1.0, 1.0])], [Ok(100.0), Ok(2.0)]);
    assert_eq!(of_reference.load(Relaxed), before + 1);
}

#[test]
fn what_has_numbers_where_tensorflow_has_none_for_large_inputs_stays() {
    let reference = made(SLOW, infinite_above(1e14));
    let report = prepared(&accelerated(reference, fast(|| made(FAST, Ok)), false));
    assert_eq!(report.progress, Progress::Stays);
    assert!(report.reason.contains("instead of inf, for very large or small inputs"), "{}", report.reason);
}

#[test]
fn a_deadline_is_not_tried_twice() {
    let late = |outputs: Vec<Tensor>| {
        let sum = f32::from_le_bytes(outputs.last().unwrap().bytes()[..4].try_into().unwrap());
        if sum < 100.0 { Ok(outputs) } else { Err(Error::new(Kind::DeadlineExceeded, "late")) }
    };
    let model = accelerated(slow_reference(), fast(move || made(FAST, late)), false);
    prepared(&model);
    assert_eq!(sum(&model, [99.0, 1.0]).unwrap_err().kind, Kind::DeadlineExceeded);
    assert_eq!(report(&model).refused, 0);
}

#[test]
fn without_a_request_it_waits_for_one() {
    let model = accelerated(slow_reference(), fast(|| made(FAST, Ok)), false);
    let preparation = model.preparation().unwrap();
    assert!(!preparation.prepare());
    assert_eq!(report(&model).reason, "no request has come that could be tried");
    assert_eq!(prepared(&model).progress, Progress::Moved);
}

#[test]
fn a_model_that_goes_ends_its_preparation() {
    let (began, begins) = std::sync::mpsc::channel();
    let runs = Arc::new(AtomicUsize::new(0));
    let (counted, (go_on, goes_on)) = (runs.clone(), std::sync::mpsc::channel::<()>());
    let goes_on = std::sync::Mutex::new(goes_on);
    let opening = tools(move |_| {
        began.send(()).unwrap();
        // Until the model is about to be dropped.
        goes_on.lock().unwrap().recv().unwrap_err();
        Ok(Box::new(Made { runs: counted.clone(), ..made(FAST, Ok) }))
    });
    let model = accelerated(slow_reference(), opening, false);
    assert_eq!(sum(&model, [1.0, 2.0]), Ok(3.0));
    let preparation = model.preparation().unwrap();
    let preparing = {
        let preparation = preparation.clone();
        std::thread::spawn(move || preparation.prepare())
    };
    begins.recv().unwrap();
    model.end();
    drop(go_on);
    drop(model);
    assert_eq!(runs.load(Relaxed), 0, "a candidate was run for nobody");
    assert!(preparing.join().unwrap() && preparation.reports().is_empty());
    assert!(preparation.prepare(), "there is nothing to do");
}

#[test]
fn what_was_decided_is_not_measured_again() {
    let cache = tempfile::tempdir().unwrap();
    let with_cache = |tools: Given| Given { cache: Some(cache.path().to_owned()), ..tools };
    let first = prepared(&accelerated(slow_reference(), with_cache(fast(|| made(FAST, Ok))), false));
    // Slower by now, which nobody looks at, and equal, which is looked at.
    let again = prepared(&accelerated(slow_reference(), with_cache(fast(|| made(2 * SLOW, Ok))), false));
    assert_eq!((again.progress, again.candidates[0].times), (Progress::Moved, first.candidates[0].times));
    let wrong = with_cache(fast(|| made(FAST, off_by(1.0))));
    assert_eq!(prepared(&accelerated(slow_reference(), wrong, false)).progress, Progress::Stays);
    let last = with_cache(fast(|| made(FAST, Ok)));
    let frozen = last.frozen.clone();
    let report = prepared(&accelerated(slow_reference(), last, false));
    assert!(
        report.progress == Progress::Stays && report.reason.contains("a difference"),
        "{}",
        report.reason
    );
    assert_eq!(frozen.load(Relaxed), 0);
}

#[test]
fn requests_while_it_moves_are_all_answered() {
    let model = accelerated(slow_reference(), fast(|| made(FAST, Ok)), false);
    assert_eq!(sum(&model, [1.0, 2.0]), Ok(3.0));
    let preparation = model.preparation().unwrap();
    std::thread::scope(|scope| {
        let preparing = scope.spawn(move || preparation.prepare());
        let model = &model;
        for caller in 0..3u8 {
            scope.spawn(move || {
                (0..60u8).for_each(|run| {
                    let (one, other) = (f32::from(caller), f32::from(run));
                    assert_eq!(sum(model, [one, other]), Ok(one + other));
                })
            });
        }
        assert!(preparing.join().unwrap());
    });
    assert_eq!(report(&model).progress, Progress::Moved);
}

#[test]
fn a_run_for_some_outputs_says_nothing_of_the_others() {
    let (reference, fast_runs) = (slow_reference(), Arc::new(AtomicUsize::new(0)));
    let counted = fast_runs.clone();
    let model = accelerated(reference, fast(move || Made { runs: counted.clone(), ..made(FAST, Ok) }), false);
    prepared(&model);
    let four = both(4, 0.0);
    let ran = |fetches: &[Endpoint]| {
        let before = fast_runs.load(Relaxed);
        model.run(&four, fetches, OPTIONS).unwrap();
        model.settle();
        fast_runs.load(Relaxed) - before
    };
    let all = [Endpoint(2), SUM];
    // The first run for all is TensorFlow's, and then tried, also with made-up numbers.
    assert_eq!([ran(&[SUM]), ran(&[SUM]), ran(&all), ran(&all), ran(&[SUM])], [0, 0, 2, 1, 1]);
}

#[test]
fn a_signature_whose_runs_are_mostly_declined_goes_back() {
    let model = accelerated(slow_reference(), fast(|| made(FAST, Ok)), false);
    prepared(&model);
    for _ in 0..64 {
        assert_eq!(report(&model).progress, Progress::Moved);
        sum(&model, [f32::INFINITY, 1.0]).unwrap();
    }
    assert_eq!(report(&model).progress, Progress::Stays);
}

#[test]
fn a_failure_of_the_moment_is_not_kept() {
    let cache = tempfile::tempdir().unwrap();
    let with_cache = |tools: Given| Given { cache: Some(cache.path().to_owned()), ..tools };
    let broken = with_cache(tools(|_| Err(Error::new(Kind::Unavailable, "the disk is full"))));
    assert_eq!(prepared(&accelerated(slow_reference(), broken, false)).progress, Progress::Stays);
    let mended = with_cache(fast(|| made(FAST, Ok)));
    assert_eq!(prepared(&accelerated(slow_reference(), mended, false)).progress, Progress::Moved);
}

/// Candidates whose one in int8 is made by `lower`, calibrated by requests that are counted.
fn with_lower(tools: Given, lower: impl Fn() -> Result<Made> + Send + Sync + 'static) -> Given {
    let open = move |_: Vec<Vec<Tensor>>| Ok(Box::new(lower()?) as Box<dyn Model>);
    Given { lower: Some(Box::new(open)), ..tools }
}

#[test]
fn what_is_asked_for_in_lower_precision_is_measured_and_taken_if_it_is_faster() {
    let inexact = || Ok(made(FAST, off_by(0.05)));
    let model = accelerated(slow_reference(), with_lower(fast(|| made(2 * FAST, Ok)), inexact), false);
    let report = prepared(&model);
    assert_eq!((report.progress, &*report.engine, &*report.reason), (Progress::Moved, "openvino int8", ""));
    let [exact, lower] = &report.candidates[..] else { panic!("{report:?}") };
    assert_eq!((&*exact.refusal, exact.agreement), ("openvino int8 was asked for", None));
    assert!(lower.difference.unwrap() > 0.03 && lower.refusal.is_empty(), "{lower:?}");
    assert_eq!(sum(&model, [1.0, 2.0]), Ok(3.05));
}

#[test]
fn what_is_not_accurate_or_not_faster_stays_in_floats_of_32_bits_and_says_so() {
    type Lower = fn() -> Result<Made>;
    let cases: [(Lower, &str); 5] = [
        (
            || Ok(made(Duration::ZERO, off_by(1.0))),
            "a difference of 1.0e0 of the largest value, more than 1e-1",
        ),
        (|| Ok(made(Duration::ZERO, off_by(f32::NAN))), "not finite where TensorFlow's are"),
        (|| Ok(made(2 * FAST, Ok)), "not faster than with floats of 32 bits"),
        (|| Ok(made(4 * SLOW, Ok)), "slower"),
        (|| Err(Error::new(Kind::Unavailable, "the process was killed")), "the process was killed"),
    ];
    for (lower, expected) in cases {
        let report =
            prepared(&accelerated(slow_reference(), with_lower(fast(|| made(FAST, Ok)), lower), false));
        assert_eq!((report.progress, &*report.engine), (Progress::Moved, "openvino"), "{expected}");
        assert!(report.reason.starts_with("not in int8: ") && report.reason.contains(expected), "{report:?}");
    }
}

#[test]
fn without_requests_that_say_something_nothing_is_in_lower_precision() {
    let lower = || Ok(made(Duration::ZERO, Ok));
    let model = accelerated(slow_reference(), with_lower(fast(|| made(FAST, Ok)), lower), false);
    assert_eq!(sum(&model, [0.0, 0.0]), Ok(0.0));
    assert!(model.preparation().unwrap().prepare());
    let report = report(&model);
    assert_eq!((report.progress, &*report.engine), (Progress::Moved, "openvino"));
    assert!(report.reason.contains("its accuracy is measured by requests, and none is known"), "{report:?}");
}

#[test]
fn the_operator_may_force_lower_precision_as_far_as_it_is_accurate() {
    let slow = || Ok(made(2 * SLOW, off_by(0.05)));
    let report = prepared(&accelerated(slow_reference(), with_lower(fast(|| made(FAST, Ok)), slow), true));
    assert_eq!(&*report.engine, "openvino int8");
    let wrong = || Ok(made(FAST, off_by(1.0)));
    let report = prepared(&accelerated(slow_reference(), with_lower(fast(|| made(FAST, Ok)), wrong), true));
    assert_eq!(&*report.engine, "openvino");
}

#[test]
fn a_decision_for_lower_precision_is_kept_and_measured_again() {
    let cache = tempfile::tempdir().unwrap();
    let with_cache = |tools: Given| Given { cache: Some(cache.path().to_owned()), ..tools };
    let taken = || with_lower(fast(|| made(2 * FAST, Ok)), || Ok(made(FAST, off_by(0.05))));
    assert_eq!(prepared(&accelerated(slow_reference(), with_cache(taken()), false)).engine, "openvino int8");
    let again = prepared(&accelerated(slow_reference(), with_cache(taken()), false));
    assert_eq!(
        (&*again.engine, again.candidates.len()),
        ("openvino int8", 1),
        "the other one is not even made"
    );
    // It is not accurate any more: the one with 32 bits is tried, and that is kept, with the reason.
    let wrong = || with_lower(fast(|| made(FAST, Ok)), || Ok(made(FAST, off_by(1.0))));
    for _ in 0..2 {
        let report = prepared(&accelerated(slow_reference(), with_cache(wrong()), false));
        assert_eq!(&*report.engine, "openvino");
        assert!(report.reason.contains("not in int8: a difference of"), "{}", report.reason);
    }
}

#[test]
fn it_is_calibrated_by_the_requests_that_came() {
    let seen: Arc<std::sync::Mutex<Vec<Vec<Tensor>>>> = Arc::default();
    let kept = seen.clone();
    let open = move |requests: Vec<Vec<Tensor>>| {
        *kept.lock().unwrap() = requests;
        Ok(Box::new(made(FAST, Ok)) as Box<dyn Model>)
    };
    let tools = Given { lower: Some(Box::new(open)), ..fast(|| made(FAST, Ok)) };
    let model = accelerated(slow_reference(), tools, true);
    for values in [[0.0, 0.0], [3.0, 4.0], [5.0, 0.0]] {
        sum(&model, values).unwrap();
    }
    assert!(model.preparation().unwrap().prepare());
    let expected: Vec<Vec<Tensor>> = [[3.0, 4.0], [5.0, 0.0]]
        .map(|values| feeds(values).into_iter().map(|(_, tensor)| tensor).collect())
        .to_vec();
    let bytes = |requests: &[Vec<Tensor>]| -> Vec<Vec<u8>> {
        requests.iter().flatten().map(|tensor| tensor.bytes().to_vec()).collect()
    };
    assert_eq!(
        bytes(&seen.lock().unwrap()),
        bytes(&expected),
        "the zeros of a synthetic warm-up say nothing"
    );
}

#[test]
fn what_runs_that_come_at_once_take_is_compared_too_and_left_afterwards() {
    let shared = Arc::new(AtomicBool::new(false));
    let seen = shared.clone();
    let open = move || {
        let (seen, wrong) = (seen.clone(), off_by(1.0));
        let shares_cores = seen.clone();
        let after = move |outputs| if seen.load(Relaxed) { wrong(outputs) } else { Ok(outputs) };
        Made { shares_cores, ..made(FAST, after) }
    };
    let report = prepared(&accelerated(slow_reference(), fast(open), false));
    assert_eq!(report.progress, Progress::Stays, "{report:?}");
    assert!(!shared.load(Relaxed), "another signature may run on the same model");
}

#[test]
fn what_is_refused_in_serving_stays_at_the_next_start() {
    let cache = tempfile::tempdir().unwrap();
    let with_cache = |tools: Given| Given { cache: Some(cache.path().to_owned()), ..tools };
    // Refuses whatever comes once it serves: while it is compared, no sum is as large.
    let refusing = |outputs: Vec<Tensor>| {
        let sum = f32::from_le_bytes(outputs.last().unwrap().bytes()[..4].try_into().unwrap());
        if sum < 100.0 { Ok(outputs) } else { Err(Error::internal("too large")) }
    };
    let tools = with_cache(fast(move || made(FAST, refusing)));
    let decisions = tools.decisions().unwrap();
    let model = accelerated(slow_reference(), tools, false);
    assert_eq!(prepared(&model).progress, Progress::Moved);
    for _ in 0..3 {
        assert_eq!(sum(&model, [99.0, 1.0]), Ok(100.0));
    }
    // It is written beside.
    let begun = std::time::Instant::now();
    while !decisions.read(DEFAULT_SIGNATURE).is_some_and(|kept| kept.engine.is_empty()) {
        assert!(begun.elapsed() < Duration::from_secs(30), "it was not kept");
        std::thread::yield_now();
    }
    let next = prepared(&accelerated(slow_reference(), with_cache(fast(|| made(FAST, Ok))), false));
    assert_eq!(next.progress, Progress::Stays);
    assert_eq!(next.reason, "3 runs were refused, the last one: too large");
}

#[test]
fn times_taken_beside_others_are_not_kept_where_they_refuse() {
    let cache = tempfile::tempdir().unwrap();
    let with_cache = |tools: Given| Given { cache: Some(cache.path().to_owned()), ..tools };
    let others: &'static Others = Box::leak(Box::new(Others::new()));
    let rules = Rules { tolerance: 1e-5, forced: false, fresh: false, cores: 2 };
    // Each of its runs meets one of somebody else.
    let busy = with_cache(fast(move || {
        made(4 * SLOW, move |outputs| {
            others.note();
            Ok(outputs)
        })
    }));
    let model = Accelerated::new("m".to_owned(), Arc::new(slow_reference()), others, move |shared| {
        prepare::prepare(shared, &busy, rules)
    });
    let report = prepared(&model);
    assert!(report.progress == Progress::Stays && report.reason.contains("slower"), "{report:?}");
    let quiet = with_cache(fast(|| made(FAST, Ok)));
    assert_eq!(prepared(&accelerated(slow_reference(), quiet, false)).progress, Progress::Moved);
}

#[test]
fn a_run_of_no_signature_does_not_wait_for_tensorflow_where_others_are_served() {
    let reference = slow_reference();
    let (waits, runs) = (reference.waits.clone(), reference.runs.clone());
    let model = accelerated(reference, fast(|| made(FAST, Ok)), false);
    prepared(&model);
    // An input is no output of the signature. The outputs of several signatures together are of none, either.
    let at_once = || model.run_at_once(&feeds([1.0, 2.0]), &[Endpoint(0)], OPTIONS);
    assert!(at_once().unwrap().is_ok());
    let before = runs.load(Relaxed);
    waits.store(true, Relaxed);
    assert!(at_once().is_none());
    assert_eq!(runs.load(Relaxed), before);
}
