//! Checks of inputs and outputs, classes, readiness and metadata.

use super::inputs::{Expected, Inputs, MAX_RANK};
use super::outputs::Outputs;
use super::parameters::OfOutput;
use super::{OpenInference, classification, metadata, served};
use crate::config::Options;
use crate::engine::fake;
use crate::engine::signature::{Signature, TensorSpec};
use crate::error::{Error, Kind};
use crate::memory::{Account, Budget, Reservation};
use crate::methods::{ModelSpec, ServerState};
use crate::registry::{State, VersionChoice};
use crate::servable::placement::Policy;
use crate::servable::{Resources, Servable};
use crate::tensor::{DType, Tensor};
use bytes::Bytes;
use proptest::prelude::*;
use std::sync::Arc;

/// Inputs `n` (two floats in each row), `s` (any strings) and `d` (with a default); outputs `c` (complex), `n` and `s`.
fn signature() -> Signature {
    let spec = |alias: &str, dtype, shape: Option<&[i64]>| TensorSpec {
        alias: alias.to_owned(),
        tensor: alias.to_owned(),
        dtype,
        shape: shape.map(<[i64]>::to_vec),
    };
    Signature {
        name: "s".into(),
        method_name: String::new(),
        inputs: vec![
            spec("d", DType::Int32, Some(&[])),
            spec("n", DType::Float, Some(&[-1, 2])),
            spec("s", DType::String, None),
        ],
        outputs: vec![
            spec("c", DType::Complex64, None),
            spec("n", DType::Float, Some(&[-1, 2])),
            spec("s", DType::String, None),
        ],
        defaults: [("d".to_owned(), Tensor::numbers(DType::Int32, vec![], vec![7, 0, 0, 0].into()))].into(),
    }
}

fn message<T>(result: Result<T, Error>) -> String {
    let error = result.err().unwrap();
    assert_eq!(error.http_status(), 400, "{}", error.message);
    error.message.into_owned()
}

fn read(expected: Expected<'_>, data: &'static [u8]) -> Result<Tensor, Error> {
    expected.read(Bytes::from_static(data), &Reservation::default())
}

#[test]
fn inputs_are_put_in_the_order_of_the_signature() {
    let signature = signature();
    let mut inputs = Inputs::new("m", &signature);
    let expected = inputs.expect("s", "BYTES", &[1]).unwrap();
    let index = expected.index();
    inputs.put(index, read(expected, b"\x02\0\0\0ab").unwrap());
    let expected = inputs.expect("n", "FP32", &[1, 2]).unwrap();
    assert_eq!((expected.count, expected.bytes(), expected.index()), (2, Some(8), 1));
    let data = Bytes::from_static(&[0; 8]);
    let tensor = expected.read(data.clone(), &Reservation::default()).unwrap();
    assert_eq!(tensor.bytes().as_ptr(), data.as_ptr(), "borrowed");
    inputs.put(1, tensor);
    let all = inputs.finish().unwrap();
    assert_eq!(
        all.iter().map(Tensor::dtype).collect::<Vec<_>>(),
        [DType::Int32, DType::Float, DType::String]
    );
    assert_eq!(all[0].bytes(), [7, 0, 0, 0], "the signature's own");
    assert_eq!(all[2].as_strings().unwrap().get(0), b"ab");
}

#[test]
fn each_fault_of_an_input_is_said() {
    let signature = signature();
    let mut inputs = Inputs::new("m", &signature);
    let said = |inputs: &Inputs<'_>, name, datatype, shape: &[i64]| {
        message(inputs.expect(name, datatype, shape).map(|_| ()))
    };
    assert!(said(&inputs, "x", "FP32", &[1]).starts_with("unexpected inference input 'x' for model 'm'"));
    assert!(said(&inputs, "n", "float", &[1, 2]).contains("does not know"));
    assert_eq!(
        said(&inputs, "n", "INT64", &[1, 2]),
        "inference input 'n' data-type is 'INT64', but model 'm' expects 'FP32'"
    );
    for shape in [&[][..], &[2], &[1, 3], &[1, 2, 1]] {
        assert!(said(&inputs, "n", "FP32", shape).starts_with("unexpected shape for input 'n'"), "{shape:?}");
    }
    for shape in [&[-1, 2][..], &[i64::MIN, 2], &[i64::MAX, 2], &[1 << 40, 1 << 40], &[0, i64::MAX, i64::MAX]]
    {
        let (name, datatype) = if shape.len() == 2 { ("n", "FP32") } else { ("s", "BYTES") };
        assert!(said(&inputs, name, datatype, shape).contains("which no tensor has"), "{shape:?}");
    }
    assert!(said(&inputs, "s", "BYTES", &[1; MAX_RANK + 1]).contains("which no tensor has"));
    let of = |data| message(read(inputs.expect("n", "FP32", &[1, 2]).unwrap(), data));
    assert!(of(b"").starts_with("unexpected total byte size 0 for input 'n', expecting 8"));
    assert!(of(&[0; 9]).starts_with("unexpected total byte size 9 for input 'n', expecting 8"));
    let of = |count, data| message(read(inputs.expect("s", "BYTES", &[count]).unwrap(), data));
    assert!(of(1, b"\x03\0\0\0ab").contains("beyond the end"));
    assert!(of(1 << 62, b"\x01\0\0\0a").contains("not enough bytes"));
    assert!(of(0, b"a").contains("after the last one"));
    let tensor = read(inputs.expect("n", "FP32", &[0, 2]).unwrap(), b"").unwrap();
    inputs.put(1, tensor);
    assert_eq!(said(&inputs, "n", "FP32", &[0, 2]), "input 'n' already exists in request");
    assert!(message(inputs.finish()).starts_with(
        "expected 3 inputs but got 2 inputs for model 'm'. Got input(s) ['d','n'], but missing required input(s) ['s']"
    ));
}

#[test]
fn outputs_are_chosen_by_name() {
    let signature = signature();
    let mut outputs = Outputs::new("m", &signature);
    let classes = OfOutput { classes: 2, ..OfOutput::default() };
    outputs.add("s", OfOutput::default()).unwrap();
    outputs.add("n", classes.clone()).unwrap();
    assert!(message(outputs.add("n", classes.clone())).contains("already requested"));
    assert!(message(outputs.add("x", classes.clone())).starts_with("unexpected inference output 'x'"));
    let chosen = outputs.finish().unwrap();
    assert_eq!(
        (&chosen.positions[..], chosen.said(1), chosen.said(2)),
        (&[2, 1][..], classes.clone(), OfOutput::default())
    );
    assert!(message(Outputs::new("m", &signature).add("s", classes)).contains("needs numbers"));
    // Without names, all are wanted, of which one cannot be told.
    assert!(message(Outputs::new("m", &signature).finish()).contains("complex64"));
}

#[test]
fn classes_are_the_greatest_of_each_row() {
    let classes = |dtype, shape: &[i64], bytes: Vec<u8>, count| {
        let tensor =
            classification::of(&Tensor::numbers(dtype, shape, bytes.into()), count, &Reservation::default())
                .unwrap();
        let all = tensor.as_strings().unwrap().iter().map(|text| String::from_utf8(text.to_vec()).unwrap());
        (tensor.shape().to_vec(), all.collect::<Vec<_>>())
    };
    let floats = |all: &[f32]| all.iter().flat_map(|one| one.to_le_bytes()).collect::<Vec<u8>>();
    assert_eq!(
        classes(DType::Float, &[2, 3], floats(&[0.5, f32::NAN, 2.0, -1.0, -0.0, 0.0]), 2),
        (vec![2, 2], ["2.000000:2", "0.500000:0", "-0.000000:1", "0.000000:2"].map(String::from).to_vec())
    );
    assert_eq!(
        classes(DType::Float, &[2], floats(&[f32::NAN, f32::NEG_INFINITY]), 9),
        (vec![2], ["-inf:1", "nan:0"].map(String::from).to_vec())
    );
    assert_eq!(classes(DType::UInt8, &[], vec![200], 1), (vec![1], vec!["200:0".to_owned()]));
    assert_eq!(classes(DType::Int8, &[3], vec![0, 255, 1], 2).1, ["1:2", "0:0"]);
    assert_eq!(classes(DType::Half, &[2], vec![0, 0x3c, 0, 0xc0], 2).1, ["1.000000:0", "-2.000000:1"]);
    assert_eq!(classes(DType::BFloat16, &[1], vec![0x80, 0x3f], 1).1, ["1.000000:0"]);
    assert_eq!(classes(DType::Float, &[0, 3], vec![], 2), (vec![0, 0], vec![]));
    assert_eq!(classes(DType::Float, &[2, 0], vec![], 2), (vec![2, 0], vec![]));
    // Rows that are none take no time.
    assert_eq!(classes(DType::Float, &[1 << 60, 0], vec![], 2), (vec![1 << 60, 0], vec![]));
}

#[test]
fn classes_are_counted_before_they_are_there() {
    let bytes: Vec<u8> = [f64::MIN; 1000].iter().flat_map(|one| one.to_le_bytes()).collect();
    let scores = Tensor::numbers(DType::Double, &[1000][..], bytes.into());
    let held = |limit| Reservation::new(Account::new(Budget::new(limit)));
    for (classes, least) in [(1, 8000 + 8 + 320), (1_000_000_000, 16_000 + 320_000)] {
        let memory = held(16 << 20);
        let tensor = classification::of(&scores, classes, &memory).unwrap();
        let text: usize = tensor.as_strings().unwrap().iter().map(<[u8]>::len).sum();
        assert!(memory.bytes() >= least.max(text) && memory.bytes() < 3 * least, "{}", memory.bytes());
    }
    // Half of a budget is a connection's.
    assert_eq!(classification::of(&scores, 1, &held(8000)).unwrap_err().kind, Kind::ResourceExhausted);
    assert_eq!(
        classification::of(&scores, 1000, &held(128 << 10)).unwrap_err().kind,
        Kind::ResourceExhausted
    );
}

#[test]
fn binary_truth_values_are_0_or_1() {
    let spec = TensorSpec { alias: "t".into(), tensor: "t".into(), dtype: DType::Bool, shape: None };
    let signature = Signature { inputs: vec![spec], ..signature() };
    let inputs = Inputs::new("m", &signature);
    let said = |data| read(inputs.expect("t", "BOOL", &[3]).unwrap(), data);
    assert_eq!(said(&[0, 1, 1]).unwrap().bytes(), [0, 1, 1]);
    assert!(message(said(&[0, 2, 1])).starts_with("input 't' has a BOOL that is neither 0 nor 1"));
}

fn serving() -> (Arc<ServerState>, OpenInference) {
    let server = Arc::new(ServerState::for_tests(Options::closed()));
    let resources = Resources::plain(Policy::Caller, &server.scheduler);
    let (servable, _drain) = Servable::new("m".to_owned(), 3, fake::model(|| {}), resources);
    server.registry.publish(servable);
    server.registry.set_state("m", 4, State::Loading, None);
    server.registry.set_labels("m", [("new".to_owned(), 3), ("next".to_owned(), 4)].into());
    (server.clone(), OpenInference::new(server, Arc::new(true.into()), None, None))
}

fn spec(name: &str, choice: VersionChoice) -> ModelSpec {
    ModelSpec { name: name.to_owned(), choice, signature_name: String::new() }
}

#[test]
fn models_are_ready_not_ready_or_unknown() {
    let (server, view) = serving();
    let label = |label: &str| VersionChoice::Label(label.to_owned());
    for (name, choice, ready) in [
        ("m", VersionChoice::Latest, Ok(true)),
        ("m", VersionChoice::Version(3), Ok(true)),
        ("m", VersionChoice::Version(4), Ok(false)),
        ("m", VersionChoice::Version(5), Err(Kind::NotFound)),
        ("m", label("new"), Ok(true)),
        ("m", label("next"), Ok(false)),
        ("m", label("x"), Err(Kind::NotFound)),
        ("n", VersionChoice::Latest, Err(Kind::NotFound)),
    ] {
        let spec = spec(name, choice);
        assert_eq!(view.is_model_ready(&spec).map_err(|error| error.kind), ready, "{spec:?}");
        let servable = server.registry.resolve(&spec.name, &spec.choice);
        let served = served(&server, &spec, servable.as_deref()).map(|_| ()).map_err(|error| error.kind);
        let expected = match ready {
            Ok(true) => Ok(()),
            Ok(false) => Err(Kind::Unavailable),
            Err(kind) => Err(if spec.choice == label("x") { Kind::InvalidArgument } else { kind }),
        };
        assert_eq!(served, expected, "{spec:?}");
    }
    let signature =
        |name: &str| ModelSpec { signature_name: name.to_owned(), ..spec("m", VersionChoice::Latest) };
    assert_eq!(view.is_model_ready(&signature("serving_default")), Ok(true));
    assert_eq!(view.is_model_ready(&signature("x")).unwrap_err().http_status(), 400);
    assert!(view.is_ready());
}

#[tokio::test]
async fn clients_change_models_where_that_is_allowed() {
    let (server, _) = serving();
    let view = |control| OpenInference::new(server.clone(), Arc::new(true.into()), control, None);
    let refused = view(None).change(super::repository::Change::Load, "m".to_owned()).await;
    assert_eq!(refused.unwrap_err().kind, Kind::PermissionDenied);
    let control: super::repository::ModelControl = Arc::new(|change, model, asker| {
        assert_eq!((change.word(), model, asker.has_left()), ("unload", "m", false));
        Ok(())
    });
    assert_eq!(view(Some(control)).change(super::repository::Change::Unload, "m".to_owned()).await, Ok(()));
}

#[test]
fn a_version_tells_its_tensors() {
    let (server, _) = serving();
    let servable = server.registry.resolve("m", &VersionChoice::Latest);
    let told = metadata::of_model(&server, &spec("m", VersionChoice::Latest), servable.as_deref()).unwrap();
    assert_eq!((told.versions, told.platform), (vec![3], ""));
    let names: Vec<_> = told.inputs.iter().map(|one| (&*one.name, one.datatype(), &one.shape[..])).collect();
    assert_eq!(names, [("a", "FP32", &[-1][..]), ("b", "FP32", &[-1])]);
    let config = metadata::config(&server, &spec("m", VersionChoice::Latest), servable.as_deref()).unwrap();
    assert_eq!((config.max_batch_size, config.dims(&config.metadata.inputs[0])), (0, &[-1][..]));
    let missing = ModelSpec { signature_name: "x".to_owned(), ..spec("m", VersionChoice::Latest) };
    assert_eq!(metadata::of_model(&server, &missing, servable.as_deref()).unwrap_err().http_status(), 400);
}

proptest! {
    #[test]
    fn any_input_is_read_or_refused(
        name in "[dns]", datatype in "FP32|BYTES|INT32|x", shape in proptest::collection::vec(-2i64..5, 0..4),
        data in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let signature = signature();
        let inputs = Inputs::new("m", &signature);
        if let Ok(expected) = inputs.expect(&name, &datatype, &shape)
            && let Ok(tensor) = expected.read(data.into(), &Reservation::default())
        {
            prop_assert_eq!(tensor.shape(), &shape[..]);
        }
    }
}
