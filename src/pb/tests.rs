//! What the hand-made choices of the generator promise.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;

use super::tensorflow::serving::{ExampleList, Input, input};
use super::tensorflow::{
    AttrValue, DataType, Example, Feature, Features, Int64List, NodeDef, SavedModel, attr_value, feature,
    tensor_info,
};

fn example(value: i64) -> Example {
    let list = feature::Kind::Int64List(Int64List { value: vec![value] });
    let features = [("x".to_owned(), Feature { kind: Some(list) })];
    Example { features: Some(Features { feature: features.into() }) }
}

#[test]
fn an_input_keeps_its_examples_as_they_came() {
    let examples = [example(1), example(-7)].map(|example| Bytes::from(example.encode_to_vec()));
    let list = ExampleList { examples: examples.to_vec() };
    let wire = Input { kind: Some(input::Kind::ExampleList(list)) }.encode_to_vec();

    let Some(input::Kind::ExampleList(list)) = Input::decode(&wire[..]).unwrap().kind else {
        panic!("not an example list");
    };
    assert_eq!(list.examples, examples);
    assert_eq!(Example::decode(list.examples[1].clone()).unwrap(), example(-7));
}

#[test]
fn a_constant_borrows_its_value_from_the_file() {
    let value = Bytes::from_static(b"\x08\x01\x22\x04\x00\x00\x80\x3f");
    let attr = AttrValue { value: Some(attr_value::Value::Tensor(value)) };
    let node = NodeDef { attr: [("value".to_owned(), attr)].into(), ..NodeDef::default() };
    let wire = Bytes::from(node.encode_to_vec());

    let node = NodeDef::decode(wire.clone()).unwrap();
    let Some(attr_value::Value::Tensor(value)) = &node.attr["value"].value else {
        panic!("not a tensor");
    };
    assert!(wire.as_ptr_range().contains(&value.as_ptr()), "the value was copied");
}

#[test]
fn the_descriptors_hold_the_services_and_the_true_types() {
    let files = prost_types::FileDescriptorSet::decode(super::DESCRIPTORS).unwrap();
    let services: Vec<String> = files
        .file
        .iter()
        .flat_map(|file| file.service.iter().map(|service| format!("{}.{}", file.package(), service.name())))
        .collect();
    assert_eq!(
        services,
        [
            "inference.GRPCInferenceService",
            "tensorflow.ProfilerService",
            "tensorflow.serving.ModelService",
            "tensorflow.serving.PredictionService"
        ]
    );
    let input = files.file.iter().find(|file| file.name() == "tensorflow/serving/input.proto").unwrap();
    let list = input.message_type.iter().find(|message| message.name() == "ExampleList").unwrap();
    assert_eq!(list.field[0].type_name(), ".tensorflow.Example");
}

/// `saved_model.pb` of every model in the shared data beside the checkout, if that is there.
fn shared_models() -> Vec<PathBuf> {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let (mut folders, mut found) = (vec![shared.join("testdata"), shared.join("mobilenet")], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else if entry.file_name() == "saved_model.pb" {
                found.push(entry.path());
            }
        }
    }
    found
}

#[test]
fn real_models_parse() {
    let models = shared_models();
    if models.is_empty() {
        crate::skipped::because("no models beside the checkout (../shared)");
    }
    for path in models {
        let file = Bytes::from(std::fs::read(&path).unwrap());
        let model = SavedModel::decode(file).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(model.saved_model_schema_version, 1);
        for graph in &model.meta_graphs {
            assert!(graph.meta_info_def.as_ref().unwrap().tags.contains(&"serve".to_owned()));
            assert!(!graph.graph_def.as_ref().unwrap().node.is_empty());
            assert!(!graph.signature_def.is_empty());
        }
        if path.ends_with("saved_model_half_plus_two_cpu/00000123/saved_model.pb") {
            let signature = &model.meta_graphs[0].signature_def["serving_default"];
            let input = &signature.inputs["x"];
            assert_eq!(input.encoding, Some(tensor_info::Encoding::Name("x:0".to_owned())));
            assert_eq!(input.dtype(), DataType::DtFloat);
            assert_eq!(signature.method_name, "tensorflow/serving/predict");
        }
    }
}
