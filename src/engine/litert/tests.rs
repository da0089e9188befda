//! The engine against the real library. Needs `SERVABLE_TFLITE_LIBRARY` (the path of `libLiteRt.so`), and some tests the
//! models in `../shared/testdata`; if one is missing, prints why it skips.

use super::fixture::{self, Field, Graph, tensor};
use super::{LiteRt, file::File};
use crate::engine::{Engine, LoadOptions, Model, RunOptions, Termination, Threads, contract};
use crate::error::{Error, Kind};
use crate::tensor::{Aligned, DType, Strings, Tensor};
use std::path::{Path, PathBuf};
use std::time::Duration;

const CALLER: RunOptions = RunOptions { threads: Threads::Caller, timeout: None };
const DEFAULT: &str = "serving_default";

fn litert() -> Option<LiteRt> {
    let Some(library) = std::env::var_os("SERVABLE_TFLITE_LIBRARY") else {
        crate::skipped::because("SERVABLE_TFLITE_LIBRARY is not set");
        return None;
    };
    Some(LiteRt::open(&PathBuf::from(library)).unwrap())
}

fn ours(model: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/models").join(model).join("1")
}

fn load(path: &Path) -> Option<Result<Box<dyn Model>, Error>> {
    let litert = litert()?;
    if !path.exists() {
        crate::skipped::because(format_args!("{} is not here", path.display()));
        return None;
    }
    Some(litert.load(path, &LoadOptions::default()))
}

fn serving(model: &str) -> Option<Box<dyn Model>> {
    let shared = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/testdata/tensorflow_serving");
    load(&shared.join(model).join("00000123")).map(Result::unwrap)
}

fn floats(shape: &[i64], values: &[f32]) -> Tensor {
    let mut aligned: Aligned<f32> = Aligned::new(64);
    aligned.extend_from_slice(values);
    Tensor::from_values(DType::Float, shape, aligned)
}

fn ints(values: &[i32]) -> Tensor {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor::numbers(DType::Int32, vec![values.len() as i64], bytes.into())
}

fn words(items: &[&str]) -> Tensor {
    Tensor::strings(vec![items.len() as i64], items.iter().collect::<Strings>())
}

/// Runs `signature` on `inputs`, by alias, and returns all outputs in the order of their aliases.
fn ask(
    model: &dyn Model,
    signature: &str,
    inputs: &[(&str, Tensor)],
    options: RunOptions,
) -> Result<Vec<Tensor>, Error> {
    let signature = &model.signatures()[signature];
    let feed = |(alias, tensor): &(&str, Tensor)| {
        let spec = &signature.inputs[signature.input(alias).unwrap()];
        (model.endpoint(&spec.tensor).unwrap(), tensor.clone())
    };
    let feeds: Vec<_> = inputs.iter().map(feed).collect();
    let fetches: Vec<_> =
        signature.outputs.iter().map(|spec| model.endpoint(&spec.tensor).unwrap()).collect();
    model.run(&feeds, &fetches, options)
}

fn values(tensor: &Tensor) -> Vec<f32> {
    bytemuck::pod_collect_to_vec(tensor.bytes())
}

#[test]
fn it_keeps_the_contract() {
    let Some(litert) = litert() else { return };
    let example = contract::Example {
        folder: &ours("tflite_pair"),
        signature: DEFAULT,
        inputs: &[("a", floats(&[2], &[1.5, 2.0])), ("b", ints(&[3, 5]))],
        outputs: &[("sum", floats(&[2], &[4.5, 7.0])), ("twice", ints(&[6, 10]))],
    };
    contract::check(&litert, &LoadOptions::default(), &example);
}

#[test]
fn the_batch_may_be_any() {
    let Some(model) = load(&ours("tflite_dense")).map(Result::unwrap) else { return };
    let spec = &model.signatures()[DEFAULT].inputs[0];
    assert_eq!((spec.alias.as_str(), spec.shape.clone()), ("x", Some(vec![-1, 3])));
    for threads in [Threads::Caller, Threads::One, Threads::Pool] {
        for rows in [1, 3, 2, 17, 1] {
            let options = RunOptions { threads, timeout: None };
            let x = floats(&[rows, 3], &[1.0, 2.0, 3.0].repeat(rows as usize));
            let answer = ask(&*model, DEFAULT, &[("x", x)], options).unwrap();
            assert_eq!((answer[0].shape(), answer[0].dtype()), (&[rows, 2][..], DType::Float));
            assert_eq!(values(&answer[0]), [3.0, 13.0].repeat(rows as usize));
        }
    }
}

#[test]
fn eight_threads_may_run_different_batches() {
    let Some(model) = load(&ours("tflite_dense")).map(Result::unwrap) else { return };
    let model = &*model;
    std::thread::scope(|scope| {
        for number in 0..8_i64 {
            let threads = [Threads::Caller, Threads::Pool][number as usize % 2];
            scope.spawn(move || {
                for rows in (1..60).map(|round| 1 + (round * number) % 5) {
                    let x = floats(&[rows, 3], &[number as f32, 0.0, 0.0].repeat(rows as usize));
                    let answer =
                        ask(model, DEFAULT, &[("x", x)], RunOptions { threads, timeout: None }).unwrap();
                    let row = [number as f32 + 1.0, 1.0 - number as f32];
                    assert_eq!(values(&answer[0]), row.repeat(rows as usize));
                }
            });
        }
    });
}

#[test]
fn inputs_are_checked_before_the_library_sees_them() {
    let Some(model) = load(&ours("tflite_dense")).map(Result::unwrap) else { return };
    let good = || floats(&[1, 3], &[1.0, 2.0, 3.0]);
    for (bad, text) in [
        (floats(&[1, 4], &[0.0; 4]), "has to have shape [-1, 3], and it has shape [1, 4]"),
        (floats(&[3], &[0.0; 3]), "has to have shape [-1, 3], and it has shape [3]"),
        (floats(&[0, 3], &[]), "cannot run on empty tensors"),
        (floats(&[], &[1.0]), "has to have shape"),
        (ints(&[1]), "has to be of type float, and it is of type int32"),
    ] {
        let why = ask(&*model, DEFAULT, &[("x", bad)], CALLER).unwrap_err();
        assert_eq!(why.kind, Kind::InvalidArgument);
        assert!(why.message.contains(text), "{why}");
        assert_eq!(values(&ask(&*model, DEFAULT, &[("x", good())], CALLER).unwrap()[0]), [3.0, 13.0]);
    }
}

#[test]
fn shapes_that_the_operators_refuse_leave_the_next_run_unaffected() {
    let Some(model) = load(&ours("tflite_pair")).map(Result::unwrap) else { return };
    let run = |a: &[f32], b: &[i32]| {
        ask(&*model, DEFAULT, &[("a", floats(&[a.len() as i64], a)), ("b", ints(b))], CALLER)
    };
    for _ in 0..3 {
        let why = run(&[1.0, 2.0, 3.0], &[1, 2]).unwrap_err();
        assert_eq!(why.kind, Kind::InvalidArgument, "{why}");
        assert!(why.message.contains("\"a\" [3]"), "{why}");
        assert_eq!(values(&run(&[1.0, 2.0], &[1, 2]).unwrap()[0]), [2.0, 4.0]);
    }
}

#[test]
fn a_run_that_fails_for_its_request_leaves_the_interpreter() {
    let Some(litert) = litert() else { return };
    let load = |model: &str| {
        let bytes = super::read(&ours(model).join("model.tflite")).unwrap();
        super::model::Loaded::new(litert.library, bytes).unwrap()
    };
    let idle = |model: &super::model::Loaded| model.idle(1);
    let pair = load("tflite_pair");
    let sum = |a: i64, b: usize| {
        let a = floats(&[a], &vec![0.5; a as usize]);
        Ok::<_, Error>(values(&ask(&pair, DEFAULT, &[("a", a), ("b", ints(&vec![2; b]))], CALLER)?[0]))
    };
    for (a, b) in [(3, 2), (2, 2), (3, 2), (2, 3), (3, 3), (5, 4), (7, 7), (2, 2), (4, 9), (9, 9)] {
        match sum(a, b) {
            Ok(values) => assert!(a as usize == b && values == vec![2.5; b], "{a} {b} {values:?}"),
            Err(why) => assert!(a as usize != b && why.kind == Kind::InvalidArgument, "{a} {b} {why}"),
        }
        assert_eq!(idle(&pair), 1, "{a} {b}");
    }
    let picking = load("tflite_words");
    let pick =
        |order: i32| ask(&picking, DEFAULT, &[("words", words(&["one"])), ("order", ints(&[order]))], CALLER);
    for _ in 0..3 {
        assert_eq!(pick(7).unwrap_err().kind, Kind::InvalidArgument);
        assert_eq!(idle(&picking), 1);
        assert_eq!(pick(0).unwrap()[1].as_strings().unwrap().iter().next(), Some(&b"one"[..]));
    }
}

#[test]
fn every_dtype_comes_and_goes() {
    let Some(model) = load(&ours("tflite_types")).map(Result::unwrap) else { return };
    assert_eq!(model.signatures().len(), 12);
    for (name, signature) in model.signatures() {
        let dtype = signature.inputs[0].dtype;
        for rows in [2_i64, 3] {
            let x = if dtype == DType::String {
                words(&["a", "", "bc"][..rows as usize])
            } else {
                let bytes = 0..rows as usize * dtype.size();
                Tensor::numbers(
                    dtype,
                    vec![rows],
                    bytes.map(|byte| (byte % 2) as u8).collect::<Vec<u8>>().into(),
                )
            };
            let answer =
                ask(&*model, name, &[("x", x.clone())], CALLER).unwrap_or_else(|why| panic!("{name}: {why}"));
            assert_eq!((answer[0].dtype(), answer[0].shape()), (dtype, &[rows, 1][..]), "{name}");
            assert_eq!(answer[0].bytes(), x.bytes(), "{name}");
            let strings = |tensor: &Tensor| -> Vec<Vec<u8>> {
                tensor.as_strings().iter().flat_map(|strings| strings.iter().map(<[u8]>::to_vec)).collect()
            };
            assert_eq!(strings(&answer[0]), strings(&x), "{name}");
        }
    }
}

#[test]
fn strings_are_read_and_written() {
    let Some(model) = load(&ours("tflite_words")).map(Result::unwrap) else { return };
    assert_eq!(model.termination(DEFAULT), Termination::Finite);
    let long = "x".repeat(100_000);
    for items in [&["one", "", "three"][..], &["ä\0"], &[long.as_str(), "b"]] {
        let order: Vec<i32> = (0..items.len() as i32).rev().collect();
        let answer =
            ask(&*model, DEFAULT, &[("words", words(items)), ("order", ints(&order))], CALLER).unwrap();
        let echo: Vec<_> = answer[0].as_strings().unwrap().iter().collect();
        let mut picked: Vec<_> = answer[1].as_strings().unwrap().iter().collect();
        picked.reverse();
        assert_eq!(echo, items.iter().map(|item| item.as_bytes()).collect::<Vec<_>>());
        assert_eq!(picked, echo);
    }
}

#[test]
fn a_loop_ends_by_its_timeout() {
    let Some(model) = load(&ours("tflite_loop")).map(Result::unwrap) else { return };
    assert_eq!(model.termination(DEFAULT), Termination::MayLoop);
    let run = |steps: i32, options| {
        let steps = Tensor::numbers(DType::Int32, vec![], steps.to_le_bytes().to_vec().into());
        ask(&*model, DEFAULT, &[("steps", steps)], options)
    };
    assert_eq!(run(7, CALLER).unwrap()[0].bytes(), 7_i32.to_le_bytes());
    let short = RunOptions { threads: Threads::One, timeout: Some(Duration::from_millis(50)) };
    assert_eq!(run(i32::MAX, short).unwrap_err().kind, Kind::DeadlineExceeded);
    assert_eq!(run(7, CALLER).unwrap()[0].bytes(), 7_i32.to_le_bytes());
}

#[test]
fn a_variable_cannot_be_returned() {
    let Some(model) = load(&ours("tflite_counter")).map(Result::unwrap) else { return };
    assert!(!model.changes_nothing(DEFAULT));
    for _ in 0..3 {
        let why = ask(&*model, DEFAULT, &[("step", floats(&[], &[1.0]))], CALLER).unwrap_err();
        assert_eq!(why.kind, Kind::Unimplemented, "{why}");
    }
}

#[test]
fn a_table_is_one_for_all_runs() {
    let Some(model) = load(&ours("tflite_lookup")).map(Result::unwrap) else { return };
    assert!(!model.changes_nothing(DEFAULT));
    let find = |options| {
        let answer = ask(&*model, DEFAULT, &[("word", words(&["two", "three", "one"]))], options).unwrap();
        assert_eq!(bytemuck::pod_collect_to_vec::<u8, i64>(answer[0].bytes()), [2, -1, 1]);
    };
    std::thread::scope(|scope| {
        for threads in [Threads::Caller, Threads::Pool, Threads::One, Threads::Pool] {
            scope.spawn(move || (0..25).for_each(|_| find(RunOptions { threads, timeout: None })));
        }
    });
}

#[test]
fn what_litert_cannot_do_is_refused_with_advice() {
    let Some(litert) = litert() else { return };
    for (model, text) in [("tflite_flex", "FlexMatrixDeterminant"), ("tflite_where", "depends on values")] {
        let why = litert.load(&ours(model), &LoadOptions::default()).err().unwrap();
        assert_eq!(why.kind, Kind::Unimplemented, "{why}");
        assert!(why.message.contains(text), "{why}");
    }
}

#[test]
fn tensorflow_servings_models_are_served() {
    let Some(model) = serving("saved_model_half_plus_two_tflite") else { return };
    let half_plus_two = |model: &dyn Model, alias: &str| {
        for (shape, x, y) in [
            (&[1_i64, 1][..], &[2.0_f32][..], &[3.0_f32][..]),
            (&[1], &[2.0], &[3.0]),
            (&[3], &[1.0, 2.0, 5.0], &[2.5, 3.0, 4.5]),
        ] {
            let answer = ask(model, DEFAULT, &[(alias, floats(shape, x))], CALLER).unwrap();
            assert_eq!((answer[0].shape(), values(&answer[0])), (shape, y.to_vec()));
        }
    };
    let signature = &model.signatures()[DEFAULT];
    assert_eq!(signature.method_name, "tensorflow/serving/predict");
    assert_eq!(signature.inputs[0].shape, Some(vec![1, 1]));
    half_plus_two(&*model, "x");

    let Some(model) = serving("saved_model_half_plus_two_tflite_with_sigdef") else { return };
    let signature = &model.signatures()[DEFAULT];
    let input = &signature.inputs[0];
    assert_eq!((input.alias.as_str(), input.tensor.as_str()), ("x", "tflite_input"));
    half_plus_two(&*model, "x");
}

#[test]
fn a_custom_operator_is_named() {
    let shared = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/testdata/tensorflow_serving");
    let Some(loaded) = load(&shared.join("parse_example_tflite/00000123")) else { return };
    let why = loaded.err().unwrap();
    assert_eq!(why.kind, Kind::Unimplemented);
    assert!(why.message.contains("ParseExampleV2"), "{why}");
}

#[test]
fn a_file_that_is_cut_is_refused() {
    let Some(litert) = litert() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.tflite");
    for model in ["tflite_dense", "tflite_types", "tflite_loop"] {
        let whole = std::fs::read(ours(model).join("model.tflite")).unwrap();
        for end in (0..whole.len()).step_by(61) {
            std::fs::write(&file, &whole[..end]).unwrap();
            let why = litert.load(folder.path(), &LoadOptions::default()).err().unwrap();
            assert_eq!(why.kind, Kind::DataLoss, "cut at {end}: {why}");
            assert!(why.message.contains("copy it again"), "{why}");
        }
    }
}

#[test]
fn a_file_with_a_byte_changed_is_read_or_refused() {
    for model in ["tflite_dense", "tflite_words", "tflite_loop"] {
        let whole = std::fs::read(ours(model).join("model.tflite")).unwrap();
        mutants(&whole).for_each(|changed| drop(File::read(&changed)));
    }
}

/// Returns `whole` with each of its bytes changed, one at a time, in two ways.
fn mutants(whole: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..whole.len()).flat_map(move |place| {
        [0xff, 0x01].map(|change| {
            let mut changed = whole.to_vec();
            changed[place] ^= change;
            changed
        })
    })
}

#[test]
fn a_file_with_a_byte_changed_that_loads_does_not_end_the_process() {
    if litert().is_none() {
        return;
    }
    for model in ["tflite_dense", "tflite_words", "tflite_loop"] {
        let whole = std::fs::read(ours(model).join("model.tflite")).unwrap();
        survives(mutants(&whole).filter(|changed| File::read(changed).is_ok()));
    }
}

/// In the environment of a process that loads the files in the folder that it says.
const FOLDER: &str = "SERVABLE_TEST_TFLITE_FOLDER";

/// Loads each version below the folder of [`FOLDER`] and runs it once; does nothing without one.
#[test]
fn in_a_process_of_its_own() {
    let (Some(folder), Some(litert)) = (std::env::var_os(FOLDER), litert()) else { return };
    for version in std::fs::read_dir(folder).unwrap() {
        let path = version.unwrap().path();
        eprintln!("{}", path.display());
        let Ok(model) = litert.load(&path, &LoadOptions::default()) else { continue };
        for signature in model.signatures().values() {
            let shape = |dims: &[i64]| -> Vec<i64> { dims.iter().map(|dim| (*dim).max(1)).collect() };
            let zeros = |spec: &crate::engine::signature::TensorSpec| {
                let shape = shape(spec.shape.as_deref().unwrap_or_default());
                let count: i64 = shape.iter().product();
                let tensor = if spec.dtype == DType::String {
                    Tensor::strings(shape, (0..count).map(|_| "").collect::<Strings>())
                } else {
                    Tensor::numbers(spec.dtype, shape, vec![0; count as usize * spec.dtype.size()].into())
                };
                (model.endpoint(&spec.tensor).unwrap(), tensor)
            };
            let feeds: Vec<_> = signature.inputs.iter().map(zeros).collect();
            let fetches: Vec<_> =
                signature.outputs.iter().filter_map(|spec| model.endpoint(&spec.tensor)).collect();
            let timeout = Some(Duration::from_millis(200));
            let _ = model.run(&feeds, &fetches, RunOptions { threads: Threads::One, timeout });
        }
    }
}

/// Loads and runs `files` in another process, which has to end as it should.
fn survives(files: impl Iterator<Item = Vec<u8>>) {
    let folder = tempfile::tempdir().unwrap();
    let mut count = 0;
    for (number, bytes) in files.enumerate() {
        count = number + 1;
        let version = folder.path().join(number.to_string());
        std::fs::create_dir(&version).unwrap();
        std::fs::write(version.join("model.tflite"), bytes).unwrap();
    }
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.env(FOLDER, folder.path()).args(["--nocapture", "--exact"]);
    let output = child.arg("engine::litert::tests::in_a_process_of_its_own").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {}", output.status, &said[said.len().saturating_sub(400)..]);
    let loaded = said.lines().filter(|line| line.starts_with(&*folder.path().to_string_lossy())).count();
    assert!(loaded == count && count > 0, "{loaded} of {count}");
}

#[test]
fn an_if_with_options_of_no_type_does_not_call_itself() {
    let Some(litert) = litert() else { return };
    // All graphs have the same inputs, so that LiteRT would let the first call itself.
    let with = |kind: u8| {
        let tensors = || vec![tensor("c", 6, &[1], 0), tensor("x", 0, &[1], 0), tensor("y", 0, &[1], 0)];
        let calls = Field::Table(vec![(0, Field::Word(1)), (1, Field::Word(1))]);
        let main = Graph {
            tensors: tensors(),
            inputs: vec![0, 1],
            outputs: vec![2],
            operators: vec![(118, vec![0, 0, 1], vec![2], vec![(3, Field::Byte(kind)), (4, calls)])],
        };
        let relu = Graph {
            tensors: tensors(),
            inputs: vec![0, 1],
            outputs: vec![2],
            operators: vec![(19, vec![1], vec![2], vec![])],
        };
        fixture::file(vec![main, relu], &[])
    };
    survives([0, 93].into_iter().map(with));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.tflite"), with(92)).unwrap();
    let model = litert.load(folder.path(), &LoadOptions::default()).unwrap();
    let condition = Tensor::numbers(DType::Bool, vec![1], vec![1].into());
    let answer = ask(&*model, DEFAULT, &[("c", condition), ("x", floats(&[1], &[-3.0]))], CALLER).unwrap();
    assert_eq!(values(&answer[0]), [0.0]);
}

/// The file of a loop whose condition and body have so many operators. It goes on as long as `c` is true.
fn looping(operators: [usize; 2]) -> Vec<u8> {
    let graph = |operators: Vec<fixture::Op>, outputs: Vec<i32>| Graph {
        tensors: vec![
            tensor("c", 6, &[1], 0),
            tensor("x", 0, &[1], 0),
            tensor("d", 6, &[1], 0),
            tensor("y", 0, &[1], 0),
        ],
        inputs: vec![0, 1],
        outputs,
        operators,
    };
    let calls = Field::Table(vec![(0, Field::Word(1)), (1, Field::Word(2))]);
    let options = vec![(3, Field::Byte(93)), (4, calls)];
    let main = graph(vec![(119, vec![0, 1], vec![2, 3], options)], vec![2, 3]);
    let relu = |count| (0..count).map(|_| (19, vec![1], vec![3], vec![])).collect();
    let condition = graph(relu(operators[0]), vec![0]);
    let body = graph(relu(operators[1]), vec![0, if operators[1] > 0 { 3 } else { 1 }]);
    fixture::file(vec![main, condition, body], &[])
}

#[test]
fn a_loop_that_could_not_be_ended_is_refused() {
    let Some(litert) = litert() else { return };
    let folder = tempfile::tempdir().unwrap();
    let load = |operators| {
        std::fs::write(folder.path().join("model.tflite"), looping(operators)).unwrap();
        litert.load(folder.path(), &LoadOptions::default())
    };
    for operators in [[0, 1], [1, 0]] {
        let model = load(operators).unwrap();
        let run = |c, timeout| {
            let c = Tensor::numbers(DType::Bool, vec![1], vec![c].into());
            let options = RunOptions { threads: Threads::One, timeout };
            ask(&*model, DEFAULT, &[("c", c), ("x", floats(&[1], &[1.0]))], options)
        };
        let short = Some(Duration::from_millis(20));
        assert_eq!(run(1, short).unwrap_err().kind, Kind::DeadlineExceeded, "{operators:?}");
        assert_eq!(values(&run(0, None).unwrap()[1]), [1.0]);
    }
    let why = load([0, 0]).err().unwrap();
    assert_eq!(why.kind, Kind::Unimplemented);
    assert!(why.message.contains("computes nothing"), "{why}");
}

#[test]
fn a_run_at_once_waits_for_no_other() {
    let (Some(litert), Some(lookup)) = (litert(), load(&ours("tflite_lookup"))) else { return };
    let lookup = lookup.unwrap();
    let word = (lookup.endpoint(&lookup.signatures()[DEFAULT].inputs[0].tensor).unwrap(), words(&["two"]));
    let id = lookup.endpoint(&lookup.signatures()[DEFAULT].outputs[0].tensor).unwrap();
    let at_once = || lookup.run_at_once(std::slice::from_ref(&word), &[id], CALLER);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let all: Vec<_> = (0..cores).map(|_| litert.library.cores.take(false, None).unwrap()).collect();
    assert!(at_once().is_none());
    drop(all);
    // Other tests run meanwhile.
    let begun = std::time::Instant::now();
    while at_once().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::yield_now();
    }
}

#[test]
fn strings_of_an_earlier_run_are_not_returned_by_a_later_one() {
    let Some(model) = load(&ours("tflite_words")).map(Result::unwrap) else { return };
    let long = "y".repeat(3 << 20);
    for items in [&["secret", "b", "c"][..], &["x"], &[long.as_str(), ""], &[""], &["", "z"]] {
        let order: Vec<i32> = (0..items.len() as i32).collect();
        let answer =
            ask(&*model, DEFAULT, &[("words", words(items)), ("order", ints(&order))], CALLER).unwrap();
        for strings in answer.iter().map(|tensor| tensor.as_strings().unwrap()) {
            assert!(strings.iter().eq(items.iter().map(|item| item.as_bytes())));
        }
    }
}

#[test]
fn a_model_without_inputs_answers() {
    let Some(litert) = litert() else { return };
    let tensors = vec![tensor("a", 0, &[2], 1), tensor("y", 0, &[2], 0)];
    let operators = vec![(19, vec![0], vec![1], vec![])];
    let graph = Graph { tensors, inputs: vec![], outputs: vec![1], operators };
    let content: Vec<u8> = [-1.0_f32, 2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.tflite"), fixture::file(vec![graph], &[&content])).unwrap();
    let model = litert.load(folder.path(), &LoadOptions::default()).unwrap();
    for _ in 0..2 {
        assert_eq!(values(&ask(&*model, DEFAULT, &[], CALLER).unwrap()[0]), [0.0, 2.0]);
    }
}

#[test]
fn a_model_of_many_tensors_answers_each_in_its_place() {
    const COUNT: i32 = 300;
    let Some(litert) = litert() else { return };
    let tensors =
        ["x", "y"].map(|kind| (0..COUNT).map(move |one| tensor(&format!("{kind}{one}"), 0, &[1], 0)));
    let operators = (0..COUNT).map(|one| (19, vec![one], vec![COUNT + one], vec![])).collect();
    let outputs = (COUNT..2 * COUNT).rev().collect();
    let tensors = tensors.into_iter().flatten().collect();
    let graph = Graph { tensors, inputs: (0..COUNT).collect(), outputs, operators };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.tflite"), fixture::file(vec![graph], &[])).unwrap();
    let loaded = super::read(&folder.path().join("model.tflite")).unwrap();
    let model = super::model::Loaded::new(litert.library, loaded).unwrap();
    let end = |kind: &str, one: i32| model.endpoint(&format!("{kind}{one}")).unwrap();
    let feeds: Vec<_> = (0..COUNT).rev().map(|one| (end("x", one), floats(&[1], &[one as f32]))).collect();
    let fetches: Vec<_> = (0..COUNT).map(|one| end("y", one)).collect();
    for threads in [Threads::Caller, Threads::Pool] {
        let answer = model.run(&feeds, &fetches, RunOptions { threads, timeout: None }).unwrap();
        let answer: Vec<f32> = answer.iter().flat_map(values).collect();
        assert!(answer.iter().copied().eq((0..COUNT).map(|one| one as f32)), "{answer:?}");
    }
}
