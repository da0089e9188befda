//! Models in two forms, for runs that are alone and for runs that come at once.

use super::*;
use crate::engine::forms::Spread;
use crate::engine::forms::tests::{has_one_core, run_at_once};
use crate::engine::openvino::model::Loaded;
use crate::engine::openvino::{Precision, loading};

fn pair() -> Option<Loaded> {
    Some(loading::ir(openvino()?.library, &folder("openvino_pair")).unwrap())
}

fn sum(model: &Loaded, first: f32) -> f32 {
    let feeds = [("a", floats(&[2], &[first, 2.0])), ("b", ints(&[2], &[3, 5]))];
    values::<f32>(&run(model, &feeds, &["sum"]).unwrap()[0])[0]
}

#[test]
fn both_forms_answer_alike() {
    let Some(model) = pair() else { return };
    assert!((sum(&model, 1.5) - 4.5).abs() < f32::EPSILON && !model.forms.has(Spread::CoreEach));
    model.share_cores(true).unwrap();
    assert_ne!(model.forms.has(Spread::CoreEach), has_one_core());
    assert!((sum(&model, 1.5) - 4.5).abs() < f32::EPSILON);
    let missing = model.run(&[], &[fetch(&model, "sum")], CALLER).unwrap_err();
    assert!(missing.message.contains("is missing"), "{missing}");
    model.share_cores(false).unwrap();
    assert!((sum(&model, 2.5) - 5.5).abs() < f32::EPSILON && !model.forms.has(Spread::CoreEach));
}

#[test]
fn runs_that_come_at_once_get_the_second_form() {
    let Some(model) = pair().filter(|_| !has_one_core()) else { return };
    let run = |first| assert!((sum(&model, first) - (first + 3.0)).abs() < f32::EPSILON);
    run_at_once(run, || model.forms.has(Spread::CoreEach));
    assert!(model.forms.has(Spread::CoreEach));
}

#[test]
fn a_model_that_may_have_one_request_has_one_form() {
    let Some(openvino) = openvino() else { return };
    for name in ["openvino_state", "openvino_loop"] {
        let model = loading::ir(openvino.library, &folder(name)).unwrap();
        model.share_cores(true).unwrap();
        assert!(!model.forms.has(Spread::CoreEach), "{name}");
    }
}

#[test]
fn a_second_form_that_cannot_be_made_leaves_the_first() {
    let Some(openvino) = openvino().filter(|_| !has_one_core()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let model = loading::frozen(openvino.library, &super::frozen::small(), path, Precision::F32).unwrap();
    // Neither the graph nor what was compiled of it.
    std::fs::remove_dir_all(folder.path()).unwrap();
    assert_eq!(model.share_cores(true).unwrap_err().kind, Kind::Unimplemented);
    let out = run(&model, &[("x", floats(&[1, 2], &[1.0, 1.0]))], &["sum"]).unwrap();
    assert!(values::<f32>(&out[0]) == [2.0, 3.0]);
    model.share_cores(false).unwrap();
}

/// Rows and columns of the weights: 36 MB of floats.
const SIZE: usize = 3_000;

/// A model with large weights: y = x times weights.
fn large() -> Option<Loaded> {
    let openvino = openvino().filter(|_| !has_one_core())?;
    let folder = tempfile::tempdir().unwrap();
    let xml = super::measure::LARGE.replace("100000000", &(4 * SIZE * SIZE).to_string());
    std::fs::write(folder.path().join("model.xml"), xml.replace("5000", &SIZE.to_string())).unwrap();
    std::fs::write(folder.path().join("model.bin"), vec![0x3c; 4 * SIZE * SIZE]).unwrap();
    Some(loading::ir(openvino.library, folder.path()).unwrap())
}

fn product(model: &Loaded) -> Vec<f32> {
    let x: Vec<f32> = (0..SIZE).map(|at| if at % 3 == 0 { 1.0 } else { 0.5 }).collect();
    values(&run(model, &[("x", floats(&[1, 3_000], &x))], &["y"]).unwrap()[0])
}

/// Runs in so many threads until the model has the form `wanted` alone; returns whether it got there and all answers were
/// like `expected`.
fn run_until_alone(model: &Loaded, callers: usize, wanted: Spread, expected: &[f32]) -> bool {
    let begun = Instant::now();
    let is_there = || model.forms.has(wanted) && !model.forms.has(wanted.other());
    let alike =
        |got: &[f32]| got.iter().zip(expected).all(|(got, one)| (got - one).abs() <= 1e-5 * one.abs());
    let caller = || {
        let mut alike_so_far = true;
        while !is_there() && begun.elapsed() < Duration::from_secs(60) {
            alike_so_far &= alike(&product(model));
        }
        alike_so_far && alike(&product(model))
    };
    let all = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..callers).map(|_| scope.spawn(caller)).collect();
        callers.into_iter().all(|caller| caller.join().unwrap())
    });
    all && is_there()
}

#[test]
fn large_weights_are_there_once_in_the_form_that_most_runs_want() {
    let Some(model) = large() else { return };
    let expected = product(&model);
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    assert!(run_until_alone(&model, cores + 2, Spread::CoreEach, &expected));
    // Other tests' runs are beside these now and then.
    model.forms.is_long_unchanged();
    assert!(run_until_alone(&model, 1, Spread::AllCores, &expected));
    // To try it out, both are there, and the first stays.
    model.share_cores(true).unwrap();
    assert!(product(&model).len() == SIZE && model.forms.has(Spread::AllCores));
    model.share_cores(false).unwrap();
    assert!(model.forms.has(Spread::AllCores) && !model.forms.has(Spread::CoreEach));
}

#[test]
fn a_large_model_changes_its_form_no_sooner_than_after_a_while() {
    let Some(model) = large() else { return };
    let expected = product(&model);
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    assert!(run_until_alone(&model, cores + 2, Spread::CoreEach, &expected));
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(500) {
        product(&model);
    }
    assert!(!model.forms.has(Spread::AllCores));
}

/// Runs that add a vector of so many floats to one of so many integers.
fn sizes(model: &Loaded, a: usize, b: usize) -> Result<Vec<f32>> {
    let length = |count: usize| i64::try_from(count).unwrap();
    let feeds = [("a", floats(&[length(a)], &vec![1.5; a])), ("b", ints(&[length(b)], &vec![2; b]))];
    Ok(values::<f32>(&run(model, &feeds, &["sum"])?[0]))
}

#[test]
fn a_run_that_fails_changes_no_later_answer() {
    let Some(model) = pair() else { return };
    for (a, b) in [(0, 3), (3, 2), (0, 2), (2, 5)] {
        assert_eq!(sizes(&model, 2, 2).unwrap(), [3.5; 2]);
        assert_eq!(sizes(&model, a, b).unwrap_err().kind, Kind::InvalidArgument);
        let feeds = [("a", floats(&[2], &[1.5; 2])), ("b", ints(&[2], &[2; 2]))]
            .map(|(alias, tensor)| (feed(&model, alias), tensor));
        let at_once = model.run_at_once(&feeds, &[fetch(&model, "sum")], CALLER);
        // The form that was made anew has no request yet.
        assert!(at_once.is_none());
        assert_eq!(sizes(&model, 2, 2).unwrap(), [3.5; 2], "after {a} and {b}");
    }
}

#[test]
fn runs_that_fail_at_once_change_no_answer() {
    let Some(model) = pair() else { return };
    std::thread::scope(|scope| {
        let failing = scope.spawn(|| (0..10).all(|at| sizes(&model, 0, 3 + at).is_err()));
        for _ in 0..40 {
            assert_eq!(sizes(&model, 2, 2).unwrap(), [3.5; 2]);
        }
        assert!(failing.join().unwrap());
    });
}
