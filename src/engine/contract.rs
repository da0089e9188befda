//! The contract of engines, as a test that each engine runs on a model of its own.

use super::signature::{Signature, TensorSpec};
use super::{Endpoint, Engine, LoadOptions, Model, RunOptions, Termination, Threads};
use crate::error::Kind;
use crate::tensor::{DType, Tensor};
use std::path::Path;
use std::thread;
use std::time::Duration;

/// A model for the engine, with a request and its correct answer.
pub(crate) struct Example<'a> {
    pub(crate) folder: &'a Path,
    /// A signature without side effects, whose runs end by their shapes.
    pub(crate) signature: &'a str,
    /// Every input by its alias; none holds strings.
    pub(crate) inputs: &'a [(&'a str, Tensor)],
    pub(crate) outputs: &'a [(&'a str, Tensor)],
}

/// Panics if `engine` breaks the contract.
pub(crate) fn check(engine: &dyn Engine, options: &LoadOptions, example: &Example<'_>) {
    let nowhere = example.folder.join("nothing/here");
    let missing = engine.load(&nowhere, options).err().expect("a folder that is not there cannot be loaded");
    assert_eq!(missing.kind, Kind::NotFound, "{missing}");

    let _shared = engine.shares_threads(options);
    let model = &*engine.load(example.folder, options).unwrap();
    signatures_are_whole(model);
    let signature = &model.signatures()[example.signature];
    assert!(model.changes_nothing(example.signature) && !model.changes_nothing("no such signature"));
    assert_eq!(model.termination(example.signature), Termination::ByShapes);
    assert_eq!(model.termination("no such signature"), Termination::Unknown);
    assert_eq!(model.endpoint("no such tensor"), None);
    order_does_not_matter(model, signature, example);
    bad_runs_are_errors(model, signature, example);
    runs_may_overlap(model, signature, example);
    // Two versions from one folder can be loaded at once, and each is freed separately.
    let other = engine.load(example.folder, options).unwrap();
    drop(engine.load(example.folder, options).unwrap());
    assert_answer(&*other, signature, example, CALLER);
    assert_answer(model, signature, example, CALLER);
}

const CALLER: RunOptions = RunOptions { threads: Threads::Caller, timeout: None };
const ONE: RunOptions = RunOptions { threads: Threads::One, timeout: Some(Duration::from_secs(60)) };
const POOL: RunOptions = RunOptions { threads: Threads::Pool, timeout: Some(Duration::from_secs(60)) };

/// Checks that names match their keys and that aliases ascend.
fn signatures_are_whole(model: &dyn Model) {
    assert!(!model.signatures().is_empty());
    for (name, signature) in model.signatures() {
        assert_eq!(**name, *signature.name);
        for specs in [&signature.inputs, &signature.outputs] {
            assert!(specs.is_sorted_by(|one, next| one.alias < next.alias), "{name}");
        }
    }
}

fn endpoint(model: &dyn Model, specs: &[TensorSpec], alias: &str) -> Endpoint {
    let spec = specs.iter().find(|spec| spec.alias == alias).unwrap();
    model.endpoint(&spec.tensor).unwrap()
}

fn feeds(model: &dyn Model, signature: &Signature, example: &Example<'_>) -> Vec<(Endpoint, Tensor)> {
    let feed = |(alias, tensor): &(&str, Tensor)| (endpoint(model, &signature.inputs, alias), tensor.clone());
    example.inputs.iter().map(feed).collect()
}

fn assert_answer(model: &dyn Model, signature: &Signature, example: &Example<'_>, options: RunOptions) {
    let fetches: Vec<_> =
        example.outputs.iter().map(|(alias, _)| endpoint(model, &signature.outputs, alias)).collect();
    let answer = model.run(&feeds(model, signature, example), &fetches, options).unwrap();
    assert_equal(&answer, example.outputs.iter());
}

/// Checks that the tensors of `answer` equal those `expected`, bit by bit.
fn assert_equal<'a>(answer: &[Tensor], expected: impl ExactSizeIterator<Item = &'a (&'a str, Tensor)>) {
    assert_eq!(answer.len(), expected.len());
    for (tensor, (alias, expected)) in answer.iter().zip(expected) {
        assert_eq!((tensor.dtype(), tensor.shape()), (expected.dtype(), expected.shape()), "{alias}");
        assert_eq!(tensor.bytes(), expected.bytes(), "{alias}");
    }
}

fn order_does_not_matter(model: &dyn Model, signature: &Signature, example: &Example<'_>) {
    let mut feeds = feeds(model, signature, example);
    for options in [CALLER, ONE, POOL] {
        assert_answer(model, signature, example, options);
        feeds.reverse();
        // All outputs in reverse with the last one repeated, and one output alone.
        let backwards: Vec<_> = example.outputs.iter().rev().chain(example.outputs.first()).collect();
        for asked in [&backwards[..], &backwards[..1]] {
            let fetches: Vec<_> =
                asked.iter().map(|(alias, _)| endpoint(model, &signature.outputs, alias)).collect();
            let answer = model.run(&feeds, &fetches, options).unwrap();
            assert_equal(&answer, asked.iter().copied());
        }
    }
}

/// Checks that an invalid run is an error and leaves the next run unaffected.
fn bad_runs_are_errors(model: &dyn Model, signature: &Signature, example: &Example<'_>) {
    let fetches = [endpoint(model, &signature.outputs, example.outputs[0].0)];
    let good = feeds(model, signature, example);
    let mut other_dtype = good.clone();
    other_dtype[0].1 = Tensor::numbers(DType::Complex128, vec![1], vec![0; 16].into());
    let twice = [&good[..1], &good[..]].concat();
    for (what, bad) in [("another dtype", &other_dtype[..]), ("nothing", &[]), ("an input twice", &twice)] {
        assert!(model.run(bad, &fetches, CALLER).is_err(), "a run was fed {what}");
        assert_answer(model, signature, example, CALLER);
    }
}

fn runs_may_overlap(model: &dyn Model, signature: &Signature, example: &Example<'_>) {
    thread::scope(|scope| {
        for options in [CALLER, ONE, POOL, CALLER, ONE, POOL] {
            scope.spawn(move || (0..50).for_each(|_| assert_answer(model, signature, example, options)));
        }
    });
}
