//! Synthetic calls of a model that is particular about what it is fed.

use super::*;
use crate::batch::{Batching, Parameters, Pool, Scheduler};
use crate::engine::content::{Content, Feature, PictureFormat};
use crate::engine::{Model, RunOptions, Termination};
use crate::pb::tensorflow::Example;
use crate::pb::tensorflow::feature::Kind as FeatureKind;
use crate::servable::Resources;
use crate::servable::placement::Policy;
use crate::tensor::DType;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use prost::Message;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// One signature, `s`, whose inputs are `x` and, if declared, more; refuses what `accepts` does not accept.
struct Particular {
    signatures: BTreeMap<String, Signature>,
    contents: BTreeMap<String, Content>,
    changes_nothing: bool,
    termination: Termination,
    accepts: fn(&Tensor) -> bool,
    fed: Arc<Mutex<Vec<Tensor>>>,
}

impl Model for Particular {
    fn signatures(&self) -> &BTreeMap<String, Signature> {
        &self.signatures
    }

    fn endpoint(&self, tensor: &str) -> Option<Endpoint> {
        let position = ["x", "y", "z"].iter().position(|name| *name == tensor);
        position.and_then(|index| index.try_into().ok()).map(Endpoint)
    }

    fn changes_nothing(&self, _: &str) -> bool {
        self.changes_nothing
    }

    fn termination(&self, _: &str) -> Termination {
        self.termination
    }

    fn content(&self, _: &str, input: &str) -> Option<&Content> {
        self.contents.get(input)
    }

    fn run(&self, feeds: &[(Endpoint, Tensor)], fetches: &[Endpoint], _: RunOptions) -> Result<Vec<Tensor>> {
        self.fed.lock().unwrap().extend(feeds.iter().map(|(_, tensor)| tensor.clone()));
        if feeds.iter().all(|(_, tensor)| (self.accepts)(tensor)) {
            Ok(fetches.iter().map(|_| feeds[0].1.clone()).collect())
        } else {
            Err(Error::invalid("too small\nand more"))
        }
    }
}

fn spec(alias: &str, dtype: DType, shape: Option<&[i64]>) -> TensorSpec {
    let tensor = alias.to_owned();
    TensorSpec { alias: alias.to_owned(), tensor, dtype, shape: shape.map(<[i64]>::to_vec) }
}

fn particular(inputs: Vec<TensorSpec>, contents: &[(&str, Content)]) -> Particular {
    let signature = Signature {
        name: "s".into(),
        method_name: String::new(),
        inputs,
        outputs: vec![spec("y", DType::Float, None)],
        defaults: BTreeMap::new(),
    };
    Particular {
        signatures: [("s".to_owned(), signature)].into(),
        contents: contents.iter().map(|(alias, content)| ((*alias).to_owned(), content.clone())).collect(),
        changes_nothing: true,
        termination: Termination::ByShapes,
        accepts: |_| true,
        fed: Arc::default(),
    }
}

/// Warms `model`; returns the reason why it stays cold, and what it was fed.
fn warmed(model: Particular, policy: Policy) -> (Option<String>, Vec<Tensor>) {
    let fed = model.fed.clone();
    let scheduler = Scheduler::with_slots(1);
    let (servable, _drain) =
        Servable::new("m".to_owned(), 1, Box::new(model), Resources::plain(policy, &scheduler));
    let mut cold = call(&servable, &|| Threads::Own, |_| false);
    assert!(cold.iter().all(|cold| cold.signature == "s"));
    let fed = fed.lock().unwrap().clone();
    (cold.pop().map(|cold| cold.why), fed)
}

/// Returns the string that an input which holds `content` is fed.
fn string(content: Content) -> Vec<u8> {
    let model = particular(vec![spec("x", DType::String, Some(&[-1]))], &[("x", content)]);
    let (cold, fed) = warmed(model, Policy::Auto);
    assert_eq!((cold, fed[0].shape()), (None, &[1][..]));
    fed[0].as_strings().unwrap().get(0).to_vec()
}

#[test]
fn strings_hold_what_the_model_decodes() {
    use PictureFormat::{Bmp, Gif, Jpeg, Png, WebP};
    for (format, start) in
        [(Jpeg, &b"\xff\xd8\xff"[..]), (Png, b"\x89PNG"), (Gif, b"GIF8"), (Bmp, b"BM"), (WebP, b"RIFF")]
    {
        assert!(string(Content::Picture(format)).starts_with(start), "{format:?}");
    }
    assert_eq!(string(Content::Text), b"text");
    assert_eq!(string(Content::Number), b"0");
    let coded = string(Content::Base64(Box::new(Content::Picture(Jpeg))));
    assert!(URL_SAFE.decode(coded).unwrap().starts_with(b"\xff\xd8\xff"));
}

#[test]
fn an_example_has_the_features_declared() {
    let features = [
        ("x", Feature::Floats(3)),
        ("id", Feature::Integers(1)),
        ("image", Feature::Strings(1, Some(Content::Picture(PictureFormat::Png)))),
        ("words", Feature::Strings(2, None)),
    ];
    let content =
        Content::Example(features.into_iter().map(|(key, feature)| (key.to_owned(), feature)).collect());
    let made = Example::decode(&string(content)[..]).unwrap().features.unwrap().feature;
    let kind = |key: &str| made[key].kind.clone().unwrap();
    assert_eq!(made.len(), 4);
    assert!(matches!(kind("x"), FeatureKind::FloatList(list) if list.value == [0.0; 3]));
    assert!(matches!(kind("id"), FeatureKind::Int64List(list) if list.value == [0]));
    assert!(matches!(kind("image"), FeatureKind::BytesList(list) if list.value[0].starts_with(b"\x89PNG")));
    assert!(matches!(kind("words"), FeatureKind::BytesList(list) if list.value == ["", ""]));
}

#[test]
fn where_small_values_fail_larger_ones_are_tried() {
    let picture = Content::Picture(PictureFormat::Jpeg);
    let model = |inputs: Vec<TensorSpec>, accepts: fn(&Tensor) -> bool| Particular {
        accepts,
        ..particular(inputs, &[("x", picture.clone())])
    };
    let pictures = vec![spec("x", DType::String, Some(&[]))];
    let large = |tensor: &Tensor| tensor.as_strings().unwrap().get(0).len() > 1000;
    assert_eq!(warmed(model(pictures.clone(), large), Policy::Auto).0, None);
    let image = || vec![spec("x", DType::Float, Some(&[-1, -1, -1, 3]))];
    let (cold, fed) = warmed(model(image(), |tensor| tensor.shape()[1] >= 224), Policy::Auto);
    assert_eq!(cold, None);
    let shapes: Vec<_> = fed.iter().map(Tensor::shape).collect();
    assert_eq!(shapes[..3], [[1, 1, 1, 3], [1, 32, 32, 3], [1, 224, 224, 3]]);
    let (cold, fed) = warmed(model(pictures, |_| false), Policy::Auto);
    assert_eq!((cold.as_deref(), fed.len()), (Some("a call with made-up values failed: too small"), 3));
    // Nothing would change for an input without open dimensions.
    let fixed = particular(vec![spec("x", DType::Float, Some(&[-1, 4]))], &[]);
    assert_eq!(warmed(Particular { accepts: |_| false, ..fixed }, Policy::Auto).1.len(), 1);
}

#[test]
fn inputs_of_unknown_rank_are_fed_one_row_and_defaults_themselves() {
    let inputs = vec![spec("x", DType::Float, None), spec("z", DType::String, Some(&[]))];
    let mut model = particular(inputs, &[]);
    let default = Tensor::strings(Vec::new(), ["given"].into_iter().collect());
    model.signatures.get_mut("s").unwrap().defaults.insert("z".to_owned(), default);
    let (cold, fed) = warmed(model, Policy::Auto);
    assert_eq!((cold, fed[0].shape()), (None, &[1][..]));
    assert_eq!(fed[1].as_strings().unwrap().get(0), b"given");
}

#[test]
fn what_stays_cold_says_why() {
    let numbers = || vec![spec("x", DType::Float, Some(&[-1]))];
    let cases = [
        (Particular { changes_nothing: false, ..particular(numbers(), &[]) }, "a run may change something"),
        (
            Particular { termination: Termination::MayLoop, ..particular(numbers(), &[]) },
            "a run may not end, and could not be stopped",
        ),
        (
            particular(vec![spec("x", DType::String, None)], &[]),
            "input x takes strings, and the model does not tell of what",
        ),
        (particular(vec![spec("x", DType::Variant, None)], &[]), "input x takes neither numbers nor strings"),
        (
            particular(vec![spec("x", DType::Float, Some(&[1 << 30]))], &[]),
            "input x is too large to be made up",
        ),
        (
            particular(vec![spec("nowhere", DType::Float, None)], &[]),
            "Tensor nowhere, specified in signature, is not in the graph",
        ),
    ];
    for (model, why) in cases {
        let (cold, fed) = warmed(model, Policy::Caller);
        assert_eq!((cold.as_deref(), fed.len()), (Some(why), 0));
    }
    assert_eq!(
        warmed(Particular { termination: Termination::MayLoop, ..particular(numbers(), &[]) }, Policy::Auto)
            .0,
        None
    );
}

#[test]
fn signatures_without_inputs_and_those_already_warm_are_left_alone() {
    let model = particular(Vec::new(), &[]);
    assert_eq!(warmed(model, Policy::Auto).0, None);
    let model = particular(vec![spec("x", DType::Float, None)], &[]);
    let fed = model.fed.clone();
    let scheduler = Scheduler::with_slots(1);
    let (servable, _drain) =
        Servable::new("m".to_owned(), 1, Box::new(model), Resources::plain(Policy::Auto, &scheduler));
    assert_eq!(call(&servable, &|| Threads::Own, |signature| signature == "s"), []);
    assert!(fed.lock().unwrap().is_empty());
}

#[test]
fn every_size_of_batch_is_warmed_with_strings_too() {
    let model = particular(vec![spec("x", DType::String, Some(&[-1]))], &[("x", Content::Text)]);
    let fed = model.fed.clone();
    let parameters = Parameters {
        max_batch_size: 4,
        batch_timeout: Duration::ZERO,
        max_enqueued_batches: 1,
        allowed_batch_sizes: vec![1, 2, 4],
        pad_variable_length_inputs: false,
        split_at: None,
    };
    let batching = Some(Batching::Parameters(Arc::new(Pool::new(None).unwrap()), parameters));
    let scheduler = Scheduler::with_slots(1);
    let (servable, _drain) = Servable::new(
        "m".to_owned(),
        1,
        Box::new(model),
        Resources { batching, ..Resources::plain(Policy::Auto, &scheduler) },
    );
    assert_eq!(call(&servable, &|| Threads::Own, |_| false), []);
    fed.lock().unwrap().clear();
    servable.warm_batches();
    let fed = fed.lock().unwrap();
    let rows: Vec<_> = fed.iter().map(Tensor::row_count).collect();
    assert_eq!(rows, [1, 2, 4]);
    assert!(fed.iter().all(|tensor| tensor.as_strings().unwrap().iter().all(|string| string == b"text")));
}
