//! A minimal engine, for tests of the code that uses engines.

use super::signature::{DEFAULT_SIGNATURE, Signature, TensorSpec};
use super::{Endpoint, Engine, LoadOptions, Model, RunOptions, Termination};
use crate::error::{Error, Result};
use crate::tensor::{Aligned, DType, Tensor};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// Loads any existing folder: inputs `a` and `b`, outputs `difference` and `sum`, all vectors of floats.
pub(crate) struct Fake;

const TENSORS: [&str; 4] = ["a", "b", "difference", "sum"];

struct Adder {
    signatures: BTreeMap<String, Signature>,
    before: Box<dyn Fn() + Send + Sync>,
    /// Whether each run would have to wait for another.
    is_busy: bool,
    /// What is added to each output.
    more: f32,
    on_interrupt: Box<dyn Fn() + Send + Sync>,
}

/// Returns the model of which no run begins at once.
pub(crate) fn busy() -> Box<dyn Model> {
    Box::new(Adder { is_busy: true, ..adder(|| {}) })
}

/// Returns the model, which calls `before` at the beginning of each run.
pub(crate) fn model(before: impl Fn() + Send + Sync + 'static) -> Box<dyn Model> {
    Box::new(adder(before))
}

/// Returns the model, whose runs hang until it is interrupted, and what they tell: "begun", and "interrupted" or, after a minute,
/// "late".
pub(crate) fn hanging() -> (Box<dyn Model>, Receiver<&'static str>) {
    let ((tells, told), (interrupt, interrupted)) = (channel(), channel::<()>());
    let (interrupt, interrupted) = (Mutex::new(Some(interrupt)), Mutex::new(interrupted));
    let before = move || {
        tells.send("begun").unwrap();
        let ended = interrupted.lock().unwrap().recv_timeout(Duration::from_secs(60));
        tells.send(if ended == Err(RecvTimeoutError::Timeout) { "late" } else { "interrupted" }).unwrap();
    };
    let on_interrupt = Box::new(move || drop(interrupt.lock().unwrap().take()));
    (Box::new(Adder { on_interrupt, ..adder(before) }), told)
}

/// Returns the model, whose outputs are all `more` than they should be.
pub(crate) fn off_by(more: f32) -> Box<dyn Model> {
    Box::new(Adder { more, ..adder(|| {}) })
}

fn adder(before: impl Fn() + Send + Sync + 'static) -> Adder {
    let spec = |tensor: &&str| TensorSpec {
        alias: (*tensor).to_owned(),
        tensor: (*tensor).to_owned(),
        dtype: DType::Float,
        shape: Some(vec![-1]),
    };
    let signature = Signature {
        name: DEFAULT_SIGNATURE.into(),
        method_name: "tensorflow/serving/predict".to_owned(),
        inputs: TENSORS[..2].iter().map(spec).collect(),
        outputs: TENSORS[2..].iter().map(spec).collect(),
        defaults: BTreeMap::new(),
    };
    let signatures = [(DEFAULT_SIGNATURE.to_owned(), signature)].into();
    Adder { signatures, before: Box::new(before), is_busy: false, more: 0.0, on_interrupt: Box::new(|| {}) }
}

impl Engine for Fake {
    fn shares_threads(&self, _: &LoadOptions) -> bool {
        true
    }

    fn load(&self, path: &Path, _: &LoadOptions) -> Result<Box<dyn Model>> {
        if !path.is_dir() {
            return Err(Error::not_found(format!("{} is no folder", path.display())));
        }
        Ok(model(|| {}))
    }
}

impl Model for Adder {
    fn signatures(&self) -> &BTreeMap<String, Signature> {
        &self.signatures
    }

    #[allow(clippy::cast_possible_truncation)] // There are four.
    fn endpoint(&self, tensor: &str) -> Option<Endpoint> {
        TENSORS.iter().position(|name| *name == tensor).map(|place| Endpoint(place as u32))
    }

    fn changes_nothing(&self, signature: &str) -> bool {
        self.signatures.contains_key(signature)
    }

    fn termination(&self, signature: &str) -> Termination {
        if self.signatures.contains_key(signature) { Termination::ByShapes } else { Termination::Unknown }
    }

    fn run(&self, feeds: &[(Endpoint, Tensor)], fetches: &[Endpoint], _: RunOptions) -> Result<Vec<Tensor>> {
        (self.before)();
        let fed = |place: u32| -> Result<Vec<f32>> {
            let mut found = feeds.iter().filter(|(endpoint, _)| *endpoint == Endpoint(place));
            match (found.next(), found.next()) {
                (Some((_, tensor)), None) if tensor.dtype() == DType::Float => {
                    Ok(bytemuck::pod_collect_to_vec(tensor.bytes()))
                }
                _ => {
                    Err(Error::invalid(format!("{} must be fed once, with floats", TENSORS[place as usize])))
                }
            }
        };
        let (a, b) = (fed(0)?, fed(1)?);
        if a.len() != b.len() {
            return Err(Error::invalid(format!("Incompatible shapes: [{}] vs. [{}]", a.len(), b.len())));
        }
        let sign = |fetch: &Endpoint| if fetch.0 == 2 { -1.0 } else { 1.0 };
        Ok(fetches.iter().map(|fetch| combined(&a, &b, sign(fetch), self.more)).collect())
    }

    fn interrupt(&self) {
        (self.on_interrupt)();
    }

    fn run_at_once(
        &self,
        feeds: &[(Endpoint, Tensor)],
        fetches: &[Endpoint],
        options: RunOptions,
    ) -> Option<Result<Vec<Tensor>>> {
        (!self.is_busy).then(|| self.run(feeds, fetches, options))
    }
}

#[allow(clippy::cast_possible_wrap)] // A length in memory.
fn combined(a: &[f32], b: &[f32], sign: f32, more: f32) -> Tensor {
    let mut values: Aligned<f32> = Aligned::new(64);
    a.iter().zip(b).for_each(|(a, b)| values.push(a + sign * b + more));
    Tensor::from_values(DType::Float, vec![a.len() as i64], values)
}

#[test]
fn it_keeps_the_contract() {
    let floats = |values: &[f32]| combined(values, &vec![0.0; values.len()], 1.0, 0.0);
    super::contract::check(
        &Fake,
        &LoadOptions::default(),
        &super::contract::Example {
            folder: Path::new(env!("CARGO_MANIFEST_DIR")),
            signature: DEFAULT_SIGNATURE,
            inputs: &[("a", floats(&[1.0, 2.0])), ("b", floats(&[3.0, 5.0]))],
            outputs: &[("difference", floats(&[-2.0, -3.0])), ("sum", floats(&[4.0, 7.0]))],
        },
    );
}
