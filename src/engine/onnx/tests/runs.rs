//! Runs: every dtype and shape, wrong inputs, loops without end, threads.

use super::model::{self, Dim, Message, graph, initializer, node, value};
use super::{BOOL, CALLER, FLOAT, INT64, STRING, as_floats, endpoint, floats, ints, load, onnx, x_to_y};
use crate::engine::{Model, RunOptions, Termination, Threads};
use crate::error::Kind;
use crate::tensor::{DType, Strings, Tensor};
use bytes::Bytes;
use std::time::{Duration, Instant};

/// Every type of elements that is served: ONNX's number, and ours.
const TYPES: [(i64, DType); 18] = [
    (1, DType::Float),
    (2, DType::UInt8),
    (3, DType::Int8),
    (4, DType::UInt16),
    (5, DType::Int16),
    (6, DType::Int32),
    (7, DType::Int64),
    (8, DType::String),
    (9, DType::Bool),
    (10, DType::Half),
    (11, DType::Double),
    (12, DType::UInt32),
    (13, DType::UInt64),
    (16, DType::BFloat16),
    (17, DType::Float8E4M3Fn),
    (18, DType::Float8E4M3Fnuz),
    (19, DType::Float8E5M2),
    (20, DType::Float8E5M2Fnuz),
];

fn strings_of(tensor: &Tensor) -> Vec<Vec<u8>> {
    tensor.as_strings().unwrap().iter().map(<[u8]>::to_vec).collect()
}

#[test]
fn every_dtype_comes_back_as_it_went() {
    let Some(onnx) = onnx() else { return };
    for (number, dtype) in TYPES {
        let model = load(onnx, &model::model(&model::identity(number, None))).unwrap();
        for shape in [&[2, 2][..], &[], &[0], &[3, 0, 2], &[1, 1, 1, 1, 1]] {
            let count = usize::try_from(shape.iter().product::<i64>()).unwrap();
            let tensor = if dtype == DType::String {
                let texts = ["", "short", "\u{0}\u{ff}", &"long ".repeat(100)];
                Tensor::strings(shape, (0..count).map(|at| texts[at % 4]).collect::<Strings>())
            } else {
                let bytes: Vec<u8> = (0..count * dtype.size()).map(|at| u8::from(at % 2 == 1)).collect();
                Tensor::numbers(dtype, shape, bytes.into())
            };
            let out =
                x_to_y(&*model, tensor.clone()).unwrap_or_else(|why| panic!("{dtype:?} {shape:?}: {why}"));
            assert_eq!((out.dtype(), out.shape()), (dtype, shape));
            assert_eq!(out.bytes(), tensor.bytes(), "{dtype:?} {shape:?}");
            if dtype == DType::String {
                assert_eq!(strings_of(&out), strings_of(&tensor));
            }
        }
    }
}

/// Adds `x` to itself, for rows of two floats.
fn doubling() -> Vec<u8> {
    let rows = [Dim::Any, Dim::Of(2)];
    model::model(&graph(
        &[node("Add", &["x", "x"], &["y"])],
        &[],
        &[value("x", FLOAT, Some(&rows))],
        &[value("y", FLOAT, Some(&rows))],
    ))
}

#[test]
fn what_does_not_fit_is_refused_with_what_was_expected() {
    let Some(onnx) = onnx() else { return };
    let model = load(onnx, &doubling()).unwrap();
    let expects = "Input \"x\" expects float of shape [-1, 2] (-1 is any size), but";
    for (tensor, came) in [
        (floats(&[1, 3], &[0.0; 3]), "float of shape [1, 3]"),
        (floats(&[2], &[0.0; 2]), "float of shape [2]"),
        (floats(&[], &[0.0]), "float of shape []"),
        (floats(&[2, 0], &[]), "float of shape [2, 0]"),
        (ints(&[1, 2], &[0, 0]), "int64 of shape [1, 2]"),
        (Tensor::strings(vec![1, 2], Strings::from_iter(["a", "b"])), "string of shape [1, 2]"),
    ] {
        let why = x_to_y(&*model, tensor).unwrap_err();
        assert_eq!(
            (why.kind, &*why.message),
            (Kind::InvalidArgument, &*format!("{expects} {came} was given"))
        );
    }
    let (x, y) = (endpoint(&*model, "x"), endpoint(&*model, "y"));
    let row = floats(&[1, 2], &[1.0, 2.0]);
    let texts = [
        (model.run(&[], &[y], CALLER), "Input \"x\" is missing"),
        (model.run(&[(x, row.clone()), (x, row.clone())], &[y], CALLER), "Input \"x\" is fed more than once"),
        (model.run(&[(y, row.clone())], &[y], CALLER), "\"y\" is no input of the model"),
        (model.run(&[(x, row.clone())], &[x], CALLER), "\"x\" is no output of the model"),
    ];
    for (result, text) in texts {
        assert_eq!(result.unwrap_err().message, text);
    }
    assert!(model.run(&[(x, row)], &[], CALLER).unwrap().is_empty());
}

#[test]
fn no_rows_and_many_rows_are_answered() {
    let Some(onnx) = onnx() else { return };
    let model = load(onnx, &doubling()).unwrap();
    let none = x_to_y(&*model, floats(&[0, 2], &[])).unwrap();
    assert_eq!((none.shape(), none.bytes()), (&[0, 2][..], &[][..]));
    for rows in [1_i64, 7, 32, 3] {
        let values: Vec<f32> = (0..2 * rows).map(|value| value as f32).collect();
        let out = x_to_y(&*model, floats(&[rows, 2], &values)).unwrap();
        assert_eq!(as_floats(&out), values.iter().map(|value| 2.0 * value).collect::<Vec<_>>());
    }
}

#[test]
fn errors_of_the_runtime_are_the_clients_without_its_sources() {
    let Some(onnx) = onnx() else { return };
    let any = [Dim::Any];
    let bytes = model::model(&graph(
        &[node("Add", &["a", "b"], &["y"])],
        &[],
        &[value("a", FLOAT, None), value("b", FLOAT, Some(&any))],
        &[value("y", FLOAT, None)],
    ));
    let model = load(onnx, &bytes).unwrap();
    let feeds = [
        (endpoint(&*model, "a"), floats(&[2], &[0.0; 2])),
        (endpoint(&*model, "b"), floats(&[3], &[0.0; 3])),
    ];
    let why = model.run(&feeds, &[endpoint(&*model, "y")], CALLER).unwrap_err();
    assert_eq!(why.kind, Kind::InvalidArgument);
    assert!(why.message.contains("2 by 3"), "{why}");
    assert!(!why.message.contains("/onnxruntime") && !why.message.contains("::"), "{why}");
}

#[test]
fn tensors_arrive_from_any_address() {
    let Some(onnx) = onnx() else { return };
    let model = load(onnx, &doubling()).unwrap();
    let values: Vec<f32> = (0..2000_u16).map(f32::from).collect();
    let aligned = floats(&[1000, 2], &values);
    let mut shifted = vec![0_u8];
    shifted.extend_from_slice(aligned.bytes());
    let shifted = Tensor::numbers(DType::Float, vec![1000, 2], Bytes::from(shifted).slice(1..));
    let outs = [aligned, shifted].map(|tensor| as_floats(&x_to_y(&*model, tensor).unwrap()));
    assert!(outs.iter().all(|out| out.iter().zip(&values).all(|(y, x)| *y == 2.0 * x)));
}

#[test]
fn outputs_outlive_their_inputs_and_the_model() {
    let Some(onnx) = onnx() else { return };
    // A computed output, a constant, and an input that is an output too.
    let any = [Dim::Any];
    let bytes = model::model(&graph(
        &[node("Add", &["x", "x"], &["y"])],
        &[initializer("w", FLOAT, &[1], &7_f32.to_le_bytes())],
        &[value("x", FLOAT, Some(&any))],
        &[
            value("y", FLOAT, Some(&any)),
            value("w", FLOAT, Some(&[Dim::Of(1)])),
            value("x", FLOAT, Some(&any)),
        ],
    ));
    let model = load(onnx, &bytes).unwrap();
    let fetches = ["y", "w", "x", "y"].map(|name| endpoint(&*model, name));
    let out = model.run(&[(endpoint(&*model, "x"), floats(&[2], &[1.0, 2.0]))], &fetches, CALLER).unwrap();
    drop(model);
    let out: Vec<_> = out.iter().map(as_floats).collect();
    assert_eq!(out, [vec![2.0, 4.0], vec![7.0], vec![1.0, 2.0], vec![2.0, 4.0]]);
    // An identity of strings and of numbers must not hand out the memory of its input.
    let model = load(onnx, &model::model(&model::identity(FLOAT, Some(&any)))).unwrap();
    let input = floats(&[2], &[1.0, 2.0]);
    let address = input.bytes().as_ptr();
    let out = x_to_y(&*model, input).unwrap();
    assert_ne!(out.bytes().as_ptr(), address);
}

#[test]
fn strings_are_computed_with() {
    let Some(onnx) = onnx() else { return };
    let any = [Dim::Any];
    let bytes = model::model(&graph(
        &[node("StringConcat", &["x", "x"], &["y"])],
        &[],
        &[value("x", STRING, Some(&any))],
        &[value("y", STRING, Some(&any))],
    ));
    let model = load(onnx, &bytes).unwrap();
    let out = x_to_y(&*model, Tensor::strings(vec![3], Strings::from_iter(["a", "", "bc"]))).unwrap();
    assert_eq!(strings_of(&out), [b"aa".to_vec(), vec![], b"bcbc".to_vec()]);
}

/// Counts from 0 to `x`: a loop that has no other limit. Its body is `nodes` and constants.
fn counting(body: &Message) -> Vec<u8> {
    let scalar = Some(&[][..]);
    let looped = node("Loop", &["x", "", "zero"], &["y"]);
    model::model(&graph(
        &[model::with_graph(looped, "body", body)],
        &[initializer("zero", INT64, &[], &[0; 8])],
        &[value("x", INT64, scalar)],
        &[value("y", INT64, scalar)],
    ))
}

/// The body that adds one.
fn adding() -> Message {
    let scalar = Some(&[][..]);
    graph(
        &[node("Identity", &["goes_on"], &["still"]), node("Add", &["count", "one"], &["next"])],
        &[initializer("one", INT64, &[], &1_i64.to_le_bytes())],
        &[value("i", INT64, scalar), value("goes_on", BOOL, scalar), value("count", INT64, scalar)],
        &[value("still", BOOL, scalar), value("next", INT64, scalar)],
    )
}

/// The body that only passes its values on.
fn passing() -> Message {
    let scalar = Some(&[][..]);
    graph(
        &[node("Identity", &["goes_on"], &["still"]), node("Identity", &["count"], &["next"])],
        &[],
        &[value("i", INT64, scalar), value("goes_on", BOOL, scalar), value("count", INT64, scalar)],
        &[value("still", BOOL, scalar), value("next", INT64, scalar)],
    )
}

/// The body that does nothing at all.
fn idle() -> Message {
    let scalar = Some(&[][..]);
    graph(
        &[],
        &[initializer("still", BOOL, &[], &[1]), initializer("next", INT64, &[], &[0; 8])],
        &[value("i", INT64, scalar), value("goes_on", BOOL, scalar), value("count", INT64, scalar)],
        &[value("still", BOOL, scalar), value("next", INT64, scalar)],
    )
}

/// The bodies of which ONNX Runtime's optimisations would leave nothing: what `nodes` compute is not used, or a constant.
fn vanishing() -> impl Iterator<Item = Message> {
    let zero = || initializer("zero", INT64, &[], &[0; 8]);
    let branch = |op| graph(&[node(op, &["count"], &["z"])], &[], &[], &[value("z", INT64, Some(&[]))]);
    let chosen = model::with_graph(node("If", &["still"], &["u"]), "then_branch", &branch("Identity"));
    let chosen = model::with_graph(chosen, "else_branch", &branch("Neg"));
    let nodes = [
        vec![node("Identity", &["count"], &["u"])],
        vec![model::with_number(node("Cast", &["count"], &["u"]), "to", INT64)],
        vec![node("Identity", &["count"], &["u"]), node("Identity", &["u"], &["v"])],
        vec![chosen],
    ];
    nodes.into_iter().map(move |nodes| {
        let scalar = Some(&[][..]);
        graph(
            &nodes,
            &[initializer("still", BOOL, &[], &[1]), zero()],
            &[value("i", INT64, scalar), value("goes_on", BOOL, scalar), value("count", INT64, scalar)],
            &[value("still", BOOL, scalar), value("zero", INT64, scalar)],
        )
    })
}

#[test]
fn a_loop_without_end_ends_at_its_deadline() {
    let Some(onnx) = onnx() else { return };
    for body in [adding(), passing()].into_iter().chain(vanishing()) {
        let model = load(onnx, &counting(&body)).unwrap();
        assert_eq!(model.termination("serving_default"), Termination::MayLoop);
        let run = |steps, threads, timeout| {
            let feeds = [(endpoint(&*model, "x"), ints(&[], &[steps]))];
            let timeout = Some(Duration::from_millis(timeout));
            model.run(&feeds, &[endpoint(&*model, "y")], RunOptions { threads, timeout })
        };
        for threads in [Threads::Caller, Threads::One, Threads::Pool] {
            let why = run(i64::MAX, threads, 50).unwrap_err();
            assert_eq!(why.kind, Kind::DeadlineExceeded, "{threads:?}: {why}");
            assert_eq!(why.message, "The run did not end within 50ms");
            // A run that ends in time is not disturbed, and neither are those that run at once.
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| assert_eq!(run(3, threads, 60_000).unwrap()[0].shape(), [0_i64; 0]));
                }
            });
        }
    }
    let model = load(onnx, &counting(&adding())).unwrap();
    assert_eq!(x_to_y(&*model, ints(&[], &[5])).unwrap().bytes(), 5_i64.to_le_bytes());
}

#[test]
fn a_loop_that_could_not_be_ended_is_refused() {
    let Some(onnx) = onnx() else { return };
    let why = super::refusal(onnx, &counting(&idle()));
    assert_eq!(why.kind, Kind::InvalidArgument);
    assert!(why.message.contains("the body of one of its loops computes nothing"), "{why}");
}

#[test]
fn two_models_run_at_once_in_many_threads() {
    let Some(onnx) = onnx() else { return };
    let (double, same) =
        (load(onnx, &doubling()).unwrap(), load(onnx, &model::model(&model::identity(FLOAT, None))).unwrap());
    let check = |model: &dyn Model, factor: f32, thread: u16| {
        for run in 0..100_u16 {
            let values = [f32::from(thread), f32::from(run)];
            let out = x_to_y(model, floats(&[1, 2], &values)).unwrap();
            assert_eq!(as_floats(&out), values.map(|value| factor * value));
        }
    };
    std::thread::scope(|scope| {
        for thread in 0..8_u16 {
            let (model, factor) = if thread % 2 == 0 { (&*double, 2.0) } else { (&*same, 1.0) };
            scope.spawn(move || check(model, factor, thread));
        }
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_model_has_a_thread_for_each_other_core_while_it_is_loaded() {
    let Some(onnx) = onnx() else { return };
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let name = "engine::onnx::tests::runs::a_model_has_a_thread_for_each_other_core_while_it_is_loaded";
    if std::env::var_os("SERVABLE_TEST_THREADS").is_none() {
        // In a process of its own: the other tests start and end threads.
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let child = child.env("SERVABLE_TEST_THREADS", "1").args(["--exact", name, "--test-threads=1"]);
        assert!(child.status().unwrap().success());
        return;
    }
    let before = threads();
    let models: Vec<_> = (0..5).map(|_| load(onnx, &doubling()).unwrap()).collect();
    for model in &models {
        x_to_y(&**model, floats(&[1000, 2], &[1.0; 2000])).unwrap();
    }
    // The thread of a run is one of them.
    let others = std::thread::available_parallelism().unwrap().get() - 1;
    // The thread in which a load ran may end after it.
    let until = |count: usize| {
        let end = Instant::now() + Duration::from_secs(20);
        while threads() != count && Instant::now() < end {
            std::thread::yield_now();
        }
        assert_eq!(threads(), count);
    };
    until(before + models.len() * others);
    drop(models);
    until(before);
}
