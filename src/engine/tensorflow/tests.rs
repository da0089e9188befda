//! The engine against the real library. Needs `SERVABLE_TENSORFLOW_LIBRARY` (the path of `libtensorflow_cc.so.2`) and
//! the models in `../shared/testdata`; if one is missing, prints why it skips.

use super::TensorFlow;
use super::{Options, reads};
use crate::engine::{Engine, LoadOptions, Model, RunOptions, Termination, Threads, contract};
use crate::error::Kind;
use crate::tensor::{Aligned, DType, Strings, Tensor};
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::time::Duration;

const CALLER: RunOptions = RunOptions { threads: Threads::Caller, timeout: None };
const HALF_PLUS_TWO: &str = "tensorflow_serving/saved_model_half_plus_two_cpu/00000123";

fn tensorflow() -> Option<TensorFlow> {
    let Some(library) = std::env::var_os("SERVABLE_TENSORFLOW_LIBRARY") else {
        crate::skipped::because("SERVABLE_TENSORFLOW_LIBRARY is not set");
        return None;
    };
    Some(TensorFlow::open(&PathBuf::from(library)).unwrap())
}

fn load(model: &str) -> Option<Box<dyn Model>> {
    let tensorflow = tensorflow()?;
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/testdata").join(model);
    if !path.exists() {
        crate::skipped::because(format_args!("{} is not here", path.display()));
        return None;
    }
    Some(tensorflow.load(&path, &serve()).unwrap())
}

fn serve() -> LoadOptions {
    let tensorflow = Options { tags: vec!["serve".to_owned()], ..Options::default() };
    LoadOptions { tensorflow, ..LoadOptions::default() }
}

fn floats(shape: Vec<i64>, values: &[f32]) -> Tensor {
    let mut aligned: Aligned<f32> = Aligned::new(64);
    aligned.extend_from_slice(values);
    Tensor::from_values(DType::Float, shape, aligned)
}

#[test]
fn it_keeps_the_contract() {
    let Some(tensorflow) = tensorflow() else { return };
    let floats = |values: &[f32]| floats(vec![2], values);
    let ints = |values: [i32; 2]| {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Tensor::numbers(DType::Int32, vec![2], bytes.into())
    };
    let example = contract::Example {
        folder: &PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/models/pair/1"),
        signature: "serving_default",
        inputs: &[("a", floats(&[1.5, 2.0])), ("b", ints([3, 5]))],
        outputs: &[("sum", floats(&[4.5, 7.0])), ("twice", ints([6, 10]))],
    };
    contract::check(&tensorflow, &serve(), &example);
}

#[test]
fn the_library_reads_its_files_in_pieces() {
    let Some(library) = std::env::var_os("SERVABLE_TENSORFLOW_LIBRARY").map(PathBuf::from) else { return };
    tensorflow();
    // Replaces again what opening it has replaced: at least `pread`, which its file systems use.
    assert!(reads::in_pieces(&library) >= 1);
}

#[test]
fn a_signature_runs_in_the_callers_thread_and_on_the_pool() {
    let Some(model) = load(HALF_PLUS_TWO) else { return };
    let signature = &model.signatures()["serving_default"];
    let feed = model.endpoint(&signature.inputs[0].tensor).unwrap();
    let fetch = model.endpoint(&signature.outputs[0].tensor).unwrap();
    let pool = RunOptions { threads: Threads::Pool, timeout: Some(Duration::from_secs(30)) };
    for options in [CALLER, RunOptions { threads: Threads::One, ..pool }, pool] {
        let out = model.run(&[(feed, floats(vec![3], &[1.0, 2.0, 5.0]))], &[fetch], options).unwrap();
        assert_eq!(bytemuck::pod_collect_to_vec::<u8, f32>(out[0].bytes()), [2.5, 3.0, 4.5]);
        assert_eq!(out[0].shape(), [3]);
    }
}

#[test]
fn a_loop_without_end_ends_with_its_timeout_in_one_thread_and_on_the_pool() {
    let Some(tensorflow) = tensorflow() else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/loop/1");
    let model = tensorflow.load(&folder, &serve()).unwrap();
    assert_eq!(model.termination("serving_default"), Termination::MayLoop);
    assert_eq!(model.termination("fill"), Termination::Finite);
    let signature = &model.signatures()["serving_default"];
    let feed = model.endpoint(&signature.inputs[0].tensor).unwrap();
    let fetch = model.endpoint(&signature.outputs[0].tensor).unwrap();
    let run = |steps: i64, threads, timeout| {
        let steps = Tensor::numbers(DType::Int64, vec![], steps.to_ne_bytes().to_vec().into());
        let timeout = Some(Duration::from_millis(timeout));
        model.run(&[(feed, steps)], &[fetch], RunOptions { threads, timeout })
    };
    for threads in [Threads::One, Threads::Pool] {
        let why = run(i64::MAX, threads, 50).unwrap_err();
        assert_eq!(why.kind, Kind::DeadlineExceeded, "{threads:?}: {why}");
        // Where more run than there are pools of one thread, the others share the other pool.
        std::thread::scope(|scope| {
            for _ in 0..64 {
                scope.spawn(|| assert_eq!(run(3, threads, 60_000).unwrap()[0].bytes(), 3i64.to_ne_bytes()));
            }
        });
    }
}

#[test]
fn a_loop_without_end_is_interrupted() {
    let Some(tensorflow) = tensorflow() else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/loop/1");
    for threads in [Threads::One, Threads::Pool] {
        let model = tensorflow.load(&folder, &serve()).unwrap();
        let signature = &model.signatures()["serving_default"];
        let feed = model.endpoint(&signature.inputs[0].tensor).unwrap();
        let fetch = model.endpoint(&signature.outputs[0].tensor).unwrap();
        let steps = Tensor::numbers(DType::Int64, vec![], i64::MAX.to_ne_bytes().to_vec().into());
        let options = RunOptions { threads, timeout: Some(Duration::from_secs(600)) };
        let model = &*model;
        std::thread::scope(|scope| {
            let runs = scope.spawn(move || model.run(&[(feed, steps)], &[fetch], options));
            model.interrupt();
            let why = runs.join().unwrap().unwrap_err();
            assert_ne!(why.kind, Kind::DeadlineExceeded, "{threads:?}: {why}");
        });
    }
}

#[test]
#[cfg(target_os = "linux")]
fn one_thread_is_none_of_the_shared_pool() {
    /// Returns the CPU time of the threads of pools that are not shared.
    fn used() -> Duration {
        let threads = std::fs::read_dir("/proc/self/task").unwrap().filter_map(|thread| {
            let thread = thread.unwrap().path();
            let name = std::fs::read_to_string(thread.join("comm")).ok()?;
            let time = std::fs::read_to_string(thread.join("schedstat")).ok()?;
            let is_single = name.starts_with("tf_Compute") && name.trim() != "tf_Compute0";
            is_single.then(|| time.split(' ').next()?.parse().ok().map(Duration::from_nanos))?
        });
        threads.sum()
    }
    let Some(tensorflow) = tensorflow() else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/loop/1");
    let model = tensorflow.load(&folder, &serve()).unwrap();
    let signature = &model.signatures()["serving_default"];
    let feed = model.endpoint(&signature.inputs[0].tensor).unwrap();
    let fetch = model.endpoint(&signature.outputs[0].tensor).unwrap();
    let steps = Tensor::numbers(DType::Int64, vec![], i64::MAX.to_ne_bytes().to_vec().into());
    let before = used();
    let options = RunOptions { threads: Threads::One, timeout: Some(Duration::from_millis(500)) };
    model.run(&[(feed, steps)], &[fetch], options).unwrap_err();
    assert!(used() - before >= Duration::from_millis(20));
}

#[test]
fn large_aligned_tensors_and_unaligned_ones_arrive_alike() {
    let Some(model) = load(HALF_PLUS_TWO) else { return };
    let signature = &model.signatures()["serving_default"];
    let feed = model.endpoint(&signature.inputs[0].tensor).unwrap();
    let fetch = model.endpoint(&signature.outputs[0].tensor).unwrap();
    let values: Vec<f32> = (0..10_000_u16).map(f32::from).collect();
    let aligned = floats(vec![10_000], &values);
    let mut shifted = vec![0u8];
    shifted.extend_from_slice(aligned.bytes());
    let unaligned = Tensor::numbers(DType::Float, vec![10_000], Bytes::from(shifted).slice(1..));
    for input in [aligned, unaligned] {
        let out = model.run(&[(feed, input)], &[fetch], CALLER).unwrap();
        let out: Vec<f32> = bytemuck::pod_collect_to_vec(out[0].bytes());
        assert!(out.iter().zip(&values).all(|(y, x)| *y == 0.5 * x + 2.0));
    }
}

#[test]
fn every_dtype_that_the_c_api_moves_comes_back_as_it_went() {
    let Some(model) = load("ident/1") else { return };
    let mut seen = 0;
    for signature in model.signatures().values().filter(|signature| signature.name.starts_with("id_")) {
        let (input, output) = (&signature.inputs[0], &signature.outputs[0]);
        let (feed, fetch) = (model.endpoint(&input.tensor).unwrap(), model.endpoint(&output.tensor).unwrap());
        let tensor = if input.dtype == DType::String {
            Tensor::strings(
                vec![2, 2],
                Strings::from_iter(["", "short", "\u{0}\u{ff}", &"long ".repeat(100)]),
            )
        } else {
            let bytes: Vec<u8> = (0..4 * input.dtype.size()).map(|at| u8::from(at % 2 == 1)).collect();
            Tensor::numbers(input.dtype, vec![2, 2], bytes.into())
        };
        let out = model.run(&[(feed, tensor.clone())], &[fetch], CALLER).unwrap();
        assert_eq!(out[0].dtype(), input.dtype);
        assert_eq!(out[0].shape(), [2, 2]);
        assert_eq!(out[0].bytes(), tensor.bytes());
        let strings = |tensor: &Tensor| {
            tensor.as_strings().map(|all| all.iter().map(<[u8]>::to_vec).collect::<Vec<_>>())
        };
        assert_eq!(strings(&out[0]), strings(&tensor));
        seen += 1;
    }
    assert!(seen >= 12, "only {seen} signatures");
}

#[test]
fn a_wrong_dtype_is_refused_with_tensorflows_text() {
    let Some(model) = load(HALF_PLUS_TWO) else { return };
    let signature = &model.signatures()["serving_default"];
    let feed = model.endpoint(&signature.inputs[0].tensor).unwrap();
    let fetch = model.endpoint(&signature.outputs[0].tensor).unwrap();
    let text = Tensor::strings(vec![1], Strings::from_iter(["a"]));
    let error = model.run(&[(feed, text.clone())], &[fetch], CALLER).unwrap_err();
    assert_eq!(error.kind, Kind::InvalidArgument);
    assert!(error.message.starts_with("Expects arg[0] to be float but string is provided"), "{error}");
    let twice = model.run(&[(feed, text.clone()), (feed, text)], &[fetch], CALLER).unwrap_err();
    assert!(twice.message.contains("fed more than once"), "{twice}");
}

#[test]
fn a_saved_model_in_text_has_the_same_signatures() {
    let Some(tensorflow) = tensorflow() else { return };
    // A minimal one: an identity.
    const TEXT: &str = r#"
        saved_model_schema_version: 1
        meta_graphs {
          meta_info_def { tags: "serve" }
          graph_def {
            node {
              name: "x" op: "Placeholder"
              attr { key: "dtype" value { type: DT_FLOAT } } attr { key: "shape" value { shape { unknown_rank: true } } }
            }
            node { name: "y" op: "Identity" input: "x" attr { key: "T" value { type: DT_FLOAT } } }
            versions { producer: 27 }
          }
          signature_def {
            key: "serving_default"
            value {
              inputs { key: "x" value { name: "x:0" dtype: DT_FLOAT tensor_shape { unknown_rank: true } } }
              outputs { key: "y" value { name: "y:0" dtype: DT_FLOAT tensor_shape { unknown_rank: true } } }
              method_name: "tensorflow/serving/predict"
            }
          }
        }"#;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("saved_model.pbtxt"), TEXT).unwrap();
    let model = tensorflow.load(folder.path(), &serve()).unwrap();
    let signature = &model.signatures()["serving_default"];
    let feed = model.endpoint(&signature.inputs[0].tensor).unwrap();
    let fetch = model.endpoint(&signature.outputs[0].tensor).unwrap();
    let out = model.run(&[(feed, floats(vec![1], &[1.5]))], &[fetch], CALLER).unwrap();
    assert_eq!(bytemuck::pod_collect_to_vec::<u8, f32>(out[0].bytes()), [1.5]);
    assert!(model.changes_nothing("serving_default"));
}

#[test]
fn what_is_no_saved_model_says_so() {
    let Some(tensorflow) = tensorflow() else { return };
    let missing = tensorflow.load(&PathBuf::from("/nowhere"), &serve()).err().unwrap();
    assert_eq!(missing.kind, Kind::NotFound);
    let folder = std::env::temp_dir().join(format!("servable-damaged-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("saved_model.pb"), b"\x12\xff\xff").unwrap();
    let damaged = tensorflow.load(&folder, &serve()).err().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(damaged.kind, Kind::DataLoss);
    assert!(damaged.message.contains("copy the folder again"), "{damaged}");
}

#[test]
fn a_session_that_was_let_go_is_loaded_again_and_answers_the_same() {
    let Some(tensorflow) = tensorflow() else { return };
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/mobilenet/mobilenet_v2_float/1");
    if !path.exists() {
        crate::skipped::because(format_args!("{} is not here", path.display()));
        return;
    }
    let model = tensorflow.load_resting(&path, &serve(), Duration::from_secs(60)).unwrap();
    let signature = &model.signatures()["serving_default"];
    let end = |spec: &crate::engine::signature::TensorSpec| model.endpoint(&spec.tensor).unwrap();
    let picture = floats(vec![1, 224, 224, 3], &vec![0.25; 224 * 224 * 3]);
    let run = || {
        let outputs: Vec<_> = signature.outputs.iter().map(end).collect();
        let answer = model.run(&[(end(&signature.inputs[0]), picture.clone())], &outputs, CALLER);
        answer.unwrap().iter().map(|tensor| tensor.bytes().to_vec()).collect::<Vec<_>>()
    };
    let before = run();
    model.let_go_after(Duration::from_secs(60));
    assert!(!model.has_session());
    assert_eq!(run(), before);
    assert!(model.has_session());
}
