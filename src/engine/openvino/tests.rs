//! The engine against the real library. Needs `SERVABLE_OPENVINO_LIBRARY` (the path of `libopenvino_c.so`); if it is
//! missing, prints why it skips.

use super::OpenVino;
use crate::engine::signature::{Signature, TensorSpec};
use crate::engine::{Endpoint, Engine, LoadOptions, Model, RunOptions, Termination, Threads, contract};
use crate::error::{Error, Kind, Result};
use crate::tensor::{Aligned, DType, Strings, Tensor};
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

mod at_once;
mod forms;
mod frozen;
mod measure;

const CALLER: RunOptions = RunOptions { threads: Threads::Caller, timeout: None };

fn openvino() -> Option<OpenVino> {
    let Some(library) = std::env::var_os("SERVABLE_OPENVINO_LIBRARY") else {
        crate::skipped::because("SERVABLE_OPENVINO_LIBRARY is not set");
        return None;
    };
    Some(OpenVino::open(&PathBuf::from(library)).unwrap())
}

fn folder(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models").join(model).join("1")
}

fn load(model: &str) -> Option<Result<Box<dyn Model>>> {
    Some(openvino()?.load(&folder(model), &LoadOptions::default()))
}

fn tensor<T: bytemuck::NoUninit + Send + Clone + 'static>(
    dtype: DType,
    shape: &[i64],
    values: &[T],
) -> Tensor {
    let mut aligned: Aligned<T> = Aligned::new(64);
    aligned.extend_from_slice(values);
    Tensor::from_values(dtype, shape, aligned)
}

fn floats(shape: &[i64], values: &[f32]) -> Tensor {
    tensor(DType::Float, shape, values)
}

fn ints(shape: &[i64], values: &[i32]) -> Tensor {
    tensor(DType::Int32, shape, values)
}

fn values<T: bytemuck::AnyBitPattern + bytemuck::NoUninit>(tensor: &Tensor) -> Vec<T> {
    bytemuck::pod_collect_to_vec(tensor.bytes())
}

fn signature(model: &dyn Model) -> &Signature {
    &model.signatures()["serving_default"]
}

fn feed(model: &dyn Model, alias: &str) -> Endpoint {
    let signature = signature(model);
    model.endpoint(&signature.inputs[signature.input(alias).unwrap()].tensor).unwrap()
}

fn fetch(model: &dyn Model, alias: &str) -> Endpoint {
    let signature = signature(model);
    model.endpoint(&signature.outputs[signature.output(alias).unwrap()].tensor).unwrap()
}

fn run_with(
    model: &dyn Model,
    feeds: &[(&str, Tensor)],
    fetches: &[&str],
    options: RunOptions,
) -> Result<Vec<Tensor>> {
    let feeds: Vec<_> = feeds.iter().map(|(alias, tensor)| (feed(model, alias), tensor.clone())).collect();
    let fetches: Vec<_> = fetches.iter().map(|alias| fetch(model, alias)).collect();
    model.run(&feeds, &fetches, options)
}

fn run(model: &dyn Model, feeds: &[(&str, Tensor)], fetches: &[&str]) -> Result<Vec<Tensor>> {
    run_with(model, feeds, fetches, CALLER)
}

#[test]
fn it_keeps_the_contract() {
    let Some(openvino) = openvino() else { return };
    let example = contract::Example {
        folder: &folder("openvino_pair"),
        signature: "serving_default",
        inputs: &[("a", floats(&[2], &[1.5, 2.0])), ("b", ints(&[2], &[3, 5]))],
        outputs: &[("sum", floats(&[2], &[4.5, 7.0])), ("twice", ints(&[2], &[6, 10]))],
    };
    contract::check(&openvino, &LoadOptions::default(), &example);
    // A file is a model by itself.
    let file = folder("openvino_pair").join("model.xml");
    contract::check(&openvino, &LoadOptions::default(), &contract::Example { folder: &file, ..example });
}

#[test]
fn a_signature_has_the_names_types_and_shapes_of_the_model() {
    let declared = |specs: &[TensorSpec]| -> Vec<_> {
        let spec = |spec: &TensorSpec| (spec.alias.clone(), spec.dtype, spec.shape.clone().unwrap());
        specs.iter().map(spec).collect()
    };
    let Some(pair) = load("openvino_pair") else { return };
    let pair = pair.unwrap();
    let of_pair = signature(&*pair);
    assert_eq!(of_pair.method_name, "tensorflow/serving/predict");
    let spec = |name: &str, dtype, shape: &[i64]| (name.to_owned(), dtype, shape.to_vec());
    assert_eq!(declared(&of_pair.inputs), [spec("a", DType::Float, &[-1]), spec("b", DType::Int32, &[-1])]);
    assert_eq!(
        declared(&of_pair.outputs),
        [spec("sum", DType::Float, &[-1]), spec("twice", DType::Int32, &[-1])]
    );
    let fixed = load("openvino_fixed").unwrap().unwrap();
    assert_eq!(declared(&signature(&*fixed).outputs), [spec("y", DType::Float, &[2, 4])]);
    let unnamed = load("openvino_unnamed").unwrap().unwrap();
    let (inputs, outputs) = (&signature(&*unnamed).inputs, &signature(&*unnamed).outputs);
    assert_eq!(declared(inputs), [spec("input_0", DType::Int32, &[-1])]);
    assert_eq!(declared(outputs), [spec("output_0", DType::Int32, &[-1])]);
    let out = run(&*unnamed, &[("input_0", ints(&[2], &[1, -2]))], &["output_0"]).unwrap();
    assert_eq!(values::<i32>(&out[0]), [-1, 2]);
}

#[test]
fn every_type_comes_back_as_it_went_also_unaligned_and_without_elements() {
    let Some(model) = load("openvino_types") else { return };
    let model = model.unwrap();
    let all = &signature(&*model).inputs;
    assert_eq!(all.len(), super::types::TABLE.len());
    let tensors = |count: usize, shift: usize| -> Vec<(&str, Tensor)> {
        let made = |spec: &'_ TensorSpec| {
            let size = spec.dtype.size();
            let mut bytes = vec![0; shift];
            // 1, or 2.0: OpenVINO computes with 32 bits at most.
            let is_float = matches!(spec.dtype, DType::Float | DType::Double | DType::Half | DType::BFloat16);
            let element =
                |at: usize| if is_float { 0x40 * u8::from(at == size - 1) } else { u8::from(at == 0) };
            bytes.extend((0..count * size).map(|at| element(at % size)));
            let bytes = Bytes::from(bytes).slice(shift..);
            let shape = vec![i64::try_from(count).unwrap()];
            Tensor::numbers(spec.dtype, shape, bytes)
        };
        all.iter().map(|spec| (spec.alias.as_str(), made(spec))).collect()
    };
    for (count, shift) in [(3, 0), (4, 1), (0, 0), (1, 3), (0, 1)] {
        let fed = tensors(count, shift);
        let outputs: Vec<String> = fed.iter().map(|(alias, _)| alias.replace("x_", "y_")).collect();
        let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
        let out = run(&*model, &fed, &outputs).unwrap();
        for ((alias, fed), out) in fed.iter().zip(&out) {
            assert_eq!(out.dtype(), fed.dtype());
            assert_eq!(out.shape(), [i64::try_from(count).unwrap(), 1], "{alias}");
            assert_eq!(out.bytes(), fed.bytes(), "{alias}");
        }
    }
}

#[test]
fn integers_that_would_be_cut_are_refused() {
    let Some(model) = load("openvino_types") else { return };
    let model = model.unwrap();
    let zero = |spec: &TensorSpec| {
        (spec.alias.clone(), Tensor::numbers(spec.dtype, vec![1], vec![0; spec.dtype.size()].into()))
    };
    let fed: Vec<(String, Tensor)> = signature(&*model).inputs.iter().map(zero).collect();
    let with = |alias: &str, tensor: Tensor| {
        let mut fed: Vec<_> = fed.iter().map(|(alias, tensor)| (alias.as_str(), tensor.clone())).collect();
        fed.iter_mut().find(|fed| fed.0 == alias).unwrap().1 = tensor;
        run(&*model, &fed, &[&alias.replace("x_", "y_")])
    };
    assert_eq!(
        values::<i64>(&with("x_i64", tensor(DType::Int64, &[1], &[i64::from(i32::MIN)])).unwrap()[0]),
        [-(1 << 31)]
    );
    for (alias, bad) in [
        ("x_i64", tensor(DType::Int64, &[1], &[1_i64 << 31])),
        ("x_u64", tensor(DType::UInt64, &[1], &[u64::MAX])),
        ("x_u32", tensor(DType::UInt32, &[1], &[1_u32 << 31])),
    ] {
        let why = with(alias, bad).unwrap_err();
        assert_eq!(why.kind, Kind::InvalidArgument);
        assert!(why.message.contains(alias) && why.message.contains("32 bits"), "{why}");
    }
}

#[test]
fn what_does_not_fit_is_refused_with_what_is_expected() {
    let Some(model) = load("openvino_fixed") else { return };
    let model = model.unwrap();
    let good = [("x", floats(&[2, 3], &[1.0; 6]))];
    let refused = |feeds: &[(Endpoint, Tensor)], fetches: &[Endpoint], text: &str| {
        let why = model.run(feeds, fetches, CALLER).unwrap_err();
        assert_eq!(why.kind, Kind::InvalidArgument);
        assert!(why.message.contains(text), "{why}");
        assert_eq!(values::<f32>(&run(&*model, &good, &["y"]).unwrap()[0])[..2], [12.0, 15.0]);
    };
    let (x, y) = (feed(&*model, "x"), fetch(&*model, "y"));
    let expected = "float of shape [2, 3] is expected";
    for (bad, came) in [
        (floats(&[3, 3], &[0.0; 9]), "float of shape [3, 3]"),
        (floats(&[6], &[0.0; 6]), "float of shape [6]"),
        (floats(&[0, 3], &[]), "float of shape [0, 3]"),
        (floats(&[], &[0.0]), "float of shape []"),
        (ints(&[2, 3], &[0; 6]), "int32 of shape [2, 3]"),
        (Tensor::strings(vec![1], Strings::from_iter(["a"])), "string of shape [1]"),
    ] {
        refused(&[(x, bad)], &[y], &format!("Input \"x\" is {came}; {expected}"));
    }
    refused(&[], &[y], &format!("Input \"x\" is missing: {expected}"));
    let good = |endpoint| (endpoint, floats(&[2, 3], &[0.0; 6]));
    refused(&[good(x), good(x)], &[y], "Input \"x\" is fed more than once");
    refused(&[good(y)], &[y], "\"y\" is an output, which cannot be fed");
    refused(&[good(x)], &[x], "\"x\" is an input, which cannot be fetched");
    refused(&[good(x)], &[Endpoint(7)], "no endpoint 7");
    refused(&[good(Endpoint(u32::MAX))], &[y], "no endpoint");
    let nothing = run(&*model, &[("x", floats(&[2, 3], &[0.0; 6]))], &[]).unwrap();
    assert!(nothing.is_empty());
    // Bounds of a dimension; and what only OpenVINO can tell.
    let bounded = load("openvino_unnamed").unwrap().unwrap();
    assert!(run(&*bounded, &[("input_0", ints(&[9], &[0; 9]))], &["output_0"]).is_err());
    let pair = load("openvino_pair").unwrap().unwrap();
    let why =
        run(&*pair, &[("a", floats(&[2], &[0.0; 2])), ("b", ints(&[3], &[0; 3]))], &["sum"]).unwrap_err();
    assert_eq!(why.kind, Kind::InvalidArgument);
    let fits = [("a", floats(&[1], &[1.0])), ("b", ints(&[1], &[2]))];
    assert_eq!(values::<f32>(&run(&*pair, &fits, &["sum"]).unwrap()[0]), [3.0]);
}

#[test]
fn outputs_stay_as_they_are_whatever_is_run_later() {
    let Some(model) = load("openvino_wide") else { return };
    let model = model.unwrap();
    let of = |rows: i64, value: f32| {
        let count = usize::try_from(rows).unwrap() * 3;
        let fed = floats(&[rows, 3], &vec![value; count]);
        let out = run(&*model, &[("x", fed.clone())], &["relu", "large", "x"]).unwrap();
        assert_eq!(fed.bytes(), floats(&[rows, 3], &vec![value; count]).bytes(), "what is fed is only read");
        out
    };
    let kept: Vec<_> = (0..12_u8).map(|run| (run, of(i64::from(run % 3), f32::from(run)))).collect();
    let huge = of(300, -1.0);
    drop(load("openvino_wide"));
    drop(model);
    for (run, out) in &kept {
        let (value, rows) = (f32::from(*run), i64::from(run % 3));
        assert_eq!((out[0].shape(), out[1].shape()), (&[rows, 3][..], &[rows, 100_000][..]));
        assert!(values::<f32>(&out[0]).iter().chain(&values::<f32>(&out[2])).all(|y| *y == value));
        assert!(values::<f32>(&out[1]).iter().all(|y| *y == 3.0 * value));
        assert!(rows == 0 || (out[1].bytes().as_ptr() as usize).is_multiple_of(64));
    }
    assert!(values::<f32>(&huge[0]).iter().all(|y| *y == 0.0));
    assert!(values::<f32>(&huge[2]).iter().all(|y| *y == -1.0));
    assert_eq!(huge[2].shape(), [300, 3]);
}

#[test]
fn two_models_run_at_once_in_eight_threads() {
    let Some(pair) = load("openvino_pair") else { return };
    let (pair, wide) = (pair.unwrap(), load("openvino_wide").unwrap().unwrap());
    let (pair, wide) = (&*pair, &*wide);
    std::thread::scope(|scope| {
        for thread in 0..8_u8 {
            scope.spawn(move || {
                for round in 0..40_u8 {
                    let value = f32::from(thread) + f32::from(round);
                    if thread % 2 == 0 {
                        let fed = [("a", floats(&[1], &[value])), ("b", ints(&[1], &[1]))];
                        assert_eq!(values::<f32>(&run(pair, &fed, &["sum"]).unwrap()[0]), [value + 1.0]);
                    } else {
                        let out = run(wide, &[("x", floats(&[1, 3], &[value; 3]))], &["large"]).unwrap();
                        assert!(values::<f32>(&out[0]).iter().all(|y| *y == 3.0 * value));
                    }
                }
            });
        }
    });
}

#[test]
fn a_state_is_the_models_and_its_runs_follow_each_other() {
    let Some(model) = load("openvino_state") else { return };
    let model = model.unwrap();
    assert!(!model.changes_nothing("serving_default"));
    let total = |model: &dyn Model| {
        let options = RunOptions { threads: Threads::One, timeout: Some(Duration::from_secs(60)) };
        values::<f32>(&run_with(model, &[("x", floats(&[1], &[1.0]))], &["total"], options).unwrap()[0])[0]
    };
    assert_eq!([total(&*model), total(&*model), total(&*model)], [1.0, 2.0, 3.0]);
    assert!(run(&*model, &[], &["total"]).is_err());
    let (counted, model) = (std::sync::Mutex::new(Vec::new()), &*model);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..25).for_each(|_| counted.lock().unwrap().push(total(model))));
        }
        (0..25).for_each(|_| counted.lock().unwrap().push(total(model)));
    });
    assert_eq!(total(model), 129.0);
    assert_eq!(total(&*load("openvino_state").unwrap().unwrap()), 1.0);
}

#[test]
fn a_loop_ends_with_its_timeout() {
    let Some(model) = load("openvino_loop") else { return };
    let model = model.unwrap();
    assert_eq!(model.termination("serving_default"), Termination::MayLoop);
    let looped = |steps: i64, threads, timeout| {
        let steps = tensor(DType::Int64, &[], &[steps]);
        let fed = [("steps", steps), ("x", floats(&[1000], &[0.5; 1000]))];
        run_with(&*model, &fed, &["y"], RunOptions { threads, timeout: Some(timeout) })
    };
    let long = Duration::from_secs(60);
    for threads in [Threads::Caller, Threads::One, Threads::Pool] {
        assert!(values::<f32>(&looped(3, threads, long).unwrap()[0]).iter().all(|y| *y == 3.5));
    }
    let begun = Instant::now();
    let why = looped(100_000, Threads::One, Duration::from_millis(10)).unwrap_err();
    let took = begun.elapsed();
    assert_eq!(why.kind, Kind::DeadlineExceeded, "{why}");
    // The model goes on with it, and then with the next one.
    assert!(values::<f32>(&looped(2, Threads::Pool, long).unwrap()[0]).iter().all(|y| *y == 2.5));
    assert!(took < begun.elapsed() / 2, "{took:?} of {:?}", begun.elapsed());
    assert!(looped(1 << 31, Threads::One, long).unwrap_err().message.contains("32 bits"));
}

#[test]
fn runs_that_wait_for_one_that_takes_long_end_with_their_timeouts() {
    let Some(model) = load("openvino_loop") else { return };
    let model = model.unwrap();
    let looped = |steps: i64, timeout| {
        let fed = [("steps", tensor(DType::Int64, &[], &[steps])), ("x", floats(&[1000], &[0.5; 1000]))];
        let options = RunOptions { threads: Threads::One, timeout: Some(Duration::from_millis(timeout)) };
        run_with(&*model, &fed, &["y"], options)
    };
    let begun = Instant::now();
    // Takes a second or so; nothing ends it.
    let mut kinds = vec![looped(200_000, 10).unwrap_err().kind];
    kinds.extend((0..6).map(|_| looped(1, 1).unwrap_err().kind));
    let took = begun.elapsed();
    assert_eq!(kinds, [Kind::DeadlineExceeded; 7]);
    assert_eq!(values::<f32>(&looped(1, 60_000).unwrap()[0])[0], 1.5);
    assert!(took < begun.elapsed() / 2, "{took:?} of {:?}", begun.elapsed());
}

#[test]
fn a_branch_follows_its_condition() {
    let Some(model) = load("openvino_branch") else { return };
    let model = model.unwrap();
    assert_eq!(model.termination("serving_default"), Termination::Finite);
    for (yes, y) in [(1_u8, 6.0), (0, 4.0), (1, 6.0)] {
        let fed = [("yes", tensor(DType::Bool, &[], &[yes])), ("x", floats(&[1], &[5.0]))];
        assert_eq!(values::<f32>(&run(&*model, &fed, &["y"]).unwrap()[0]), [y]);
    }
}

/// Returns the error of loading a copy of the model `openvino_fixed` that `change` has changed.
fn loaded_after(change: impl Fn(&Path)) -> Option<Error> {
    let openvino = openvino()?;
    let copy = tempfile::tempdir().unwrap();
    for file in ["model.xml", "model.bin"] {
        std::fs::copy(folder("openvino_fixed").join(file), copy.path().join(file)).unwrap();
    }
    change(copy.path());
    Some(openvino.load(copy.path(), &LoadOptions::default()).err().expect("it must not load"))
}

#[test]
fn cut_and_foreign_files_are_errors_that_name_them() {
    let write = |file: &'static str, content: &'static [u8]| {
        move |folder: &Path| std::fs::write(folder.join(file), content).unwrap()
    };
    let Some(cut) = loaded_after(write("model.bin", b"cut")) else { return };
    assert!(cut.kind == Kind::DataLoss && cut.message.contains("model.bin has 3 bytes"), "{cut}");
    let missing = loaded_after(|folder| std::fs::remove_file(folder.join("model.bin")).unwrap()).unwrap();
    assert!(missing.kind == Kind::NotFound && missing.message.contains("model.bin"), "{missing}");
    let pipe = loaded_after(|folder| {
        std::fs::remove_file(folder.join("model.bin")).unwrap();
        std::fs::create_dir(folder.join("model.bin")).unwrap();
    })
    .unwrap();
    assert!(pipe.kind == Kind::FailedPrecondition && pipe.message.contains("a folder"), "{pipe}");
    for foreign in [&b""[..], b"\x08\x0a onnx", b"<html><body/></html>", b"<?xml version=\"1.0\"?><net/>"] {
        let why = loaded_after(write("model.xml", foreign)).unwrap();
        assert!(why.kind == Kind::DataLoss && why.message.contains("model.xml"), "{why}");
    }
    let xml = std::fs::read(folder("openvino_fixed").join("model.xml")).unwrap();
    for length in (0..xml.len()).step_by(97) {
        let why =
            loaded_after(|folder| std::fs::write(folder.join("model.xml"), &xml[..length]).unwrap()).unwrap();
        assert!(matches!(why.kind, Kind::DataLoss | Kind::Unimplemented), "{length}: {why}");
        assert!(why.message.contains("model.xml"), "{why}");
    }
    let text = String::from_utf8(xml).unwrap();
    for (from, to) in [
        ("\"MatMul\"", "\"Nowhere\""),
        ("\"opset1\"", "\"opset99\""),
        ("from-layer=\"0\"", "from-layer=\"77\""),
    ] {
        assert!(text.contains(from));
        let why =
            loaded_after(|folder| std::fs::write(folder.join("model.xml"), text.replace(from, to)).unwrap());
        let why = why.unwrap();
        assert!(why.kind == Kind::Unimplemented && why.message.contains("by OpenVINO: "), "{why}");
        assert!(!why.message.contains("Exception from"), "{why}");
    }
}

#[test]
fn types_that_cannot_be_moved_are_refused_at_the_load() {
    for (model, name, kind) in [("openvino_strings", "\"x\"", "string"), ("openvino_small", "\"x\"", "u4")] {
        let Some(loaded) = load(model) else { return };
        let why = loaded.err().expect("it must not load");
        assert_eq!(why.kind, Kind::Unimplemented);
        assert!(why.message.contains(name) && why.message.contains(kind), "{why}");
    }
}
