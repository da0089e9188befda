//! Classify, regress and multi-inference: from `tf.Example`s to classes and numbers (docs/spec/grpc.md sections 6 and
//! 7).
//!
//! Order of checks, as in TensorFlow Serving: signature → its structure → input → run → output.

use super::{ModelSpec, ServerState, debug_text};
use crate::engine::Endpoint;
use crate::engine::signature::{Signature, TensorSpec, named};
use crate::error::{Error, Kind, Result};
use crate::metrics::Api;
use crate::servable::{Run, Servable};
use crate::tensor::{DType, Strings, Tensor};

/// The input of classify and regress.
#[derive(Clone, Debug)]
pub struct Input {
    /// The signature; empty for the default one.
    pub signature_name: String,
    /// Serialized Examples, each preceded by the context's bytes if there is a context: protobuf merges them, and the
    /// Example's own features win.
    pub examples: Strings,
}

/// The answer of classify: `rows × columns` classes.
#[derive(Clone, Debug)]
pub struct Classifications {
    /// Number of examples.
    pub rows: usize,
    /// Number of classes per example.
    pub columns: usize,
    /// Row-major labels; `None` if the model has none (they are empty then).
    pub labels: Option<Strings>,
    /// Row-major scores; `None` if the model has none (they are 0 then).
    pub scores: Option<Vec<f32>>,
}

/// The method of a task in a multi-inference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskMethod {
    /// Classes.
    Classify,
    /// Numbers.
    Regress,
}

/// The method name of classify signatures.
const CLASSIFY: &str = "tensorflow/serving/classify";
/// The method name of regress signatures.
const REGRESS: &str = "tensorflow/serving/regress";

/// One classify or regress. `T` is an output: in a signature, or a position among the fetched tensors.
#[derive(Clone, Copy, Debug)]
enum Task<T> {
    /// `classes` and `scores`, at least one of them.
    Classify {
        /// Labels.
        classes: Option<T>,
        /// Scores.
        scores: Option<T>,
    },
    /// `outputs`.
    Regress {
        /// Numbers.
        output: T,
    },
}

/// A task bound to a signature.
#[derive(Clone, Copy, Debug)]
struct Bound<'s> {
    /// The input for serialized Examples.
    input: &'s TensorSpec,
    task: Task<&'s TensorSpec>,
}

/// How to read the outputs of a run for examples.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Number of examples.
    rows: usize,
    /// Number of tensors fetched.
    count: usize,
    tasks: Vec<Task<usize>>,
}

/// The answer to one task.
#[derive(Clone, Debug)]
pub enum TaskAnswer {
    /// The answer of classify.
    Classes(Classifications),
    /// The answer of regress.
    Values(Vec<f32>),
}

/// Plans a run that returns classes for each example.
pub fn classify(server: &ServerState, servable: &Servable, input: Input) -> Result<(Run, Fetched)> {
    let signature = find(servable, &input.signature_name)?;
    let bound = classify_task(server, servable, signature)?;
    plan(Api::Classify, servable, signature, &[bound], input.examples)
}

/// Plans a run that returns a number for each example.
pub fn regress(server: &ServerState, servable: &Servable, input: Input) -> Result<(Run, Fetched)> {
    let signature = find(servable, &input.signature_name)?;
    let bound = regress_task(server, servable, signature)?;
    plan(Api::Regress, servable, signature, &[bound], input.examples)
}

/// Plans a single run for all `tasks`, of which there is at least one. It is placed like those of the first one's
/// signature.
pub fn multi_inference(
    server: &ServerState,
    servable: &Servable,
    tasks: &[(ModelSpec, TaskMethod)],
    examples: Strings,
) -> Result<(Run, Fetched)> {
    let bound = tasks
        .iter()
        .map(|(spec, method)| task(server, servable, find(servable, &spec.signature_name)?, *method))
        .collect::<Result<Vec<_>>>()?;
    let first = find(servable, tasks.first().map_or("", |(spec, _)| &spec.signature_name))?;
    plan(Api::MultiInference, servable, first, &bound, examples)
}

/// Returns the method of a task that names `method_name`, if signature `name` supports it.
pub fn method(
    server: &ServerState,
    servable: &Servable,
    name: &str,
    method_name: &str,
) -> Result<TaskMethod> {
    let signature = find(servable, name)?;
    let method = match method_name {
        CLASSIFY => TaskMethod::Classify,
        REGRESS => TaskMethod::Regress,
        other => {
            let message = format!("Unsupported signature method_name: {other}");
            return Err(Error::new(Kind::Unimplemented, message));
        }
    };
    task(server, servable, signature, method).map(|_| method)
}

/// Binds `method` to `signature`, if the signature supports it.
fn task<'s>(
    server: &ServerState,
    servable: &Servable,
    signature: &'s Signature,
    method: TaskMethod,
) -> Result<Bound<'s>> {
    match method {
        TaskMethod::Classify => classify_task(server, servable, signature),
        TaskMethod::Regress => regress_task(server, servable, signature),
    }
}

/// Plans a single run for all `tasks`, placed like those of `signature` and counted under `api`: every distinct input is
/// fed the same examples, every distinct output is fetched.
fn plan(
    api: Api,
    servable: &Servable,
    signature: &Signature,
    tasks: &[Bound<'_>],
    examples: Strings,
) -> Result<(Run, Fetched)> {
    if examples.is_empty() {
        return Err(Error::invalid("Input is empty."));
    }
    let rows = examples.len();
    #[allow(clippy::cast_possible_wrap)] // A length in memory.
    let fed = Tensor::strings(vec![rows as i64], examples);
    let mut feeds: Vec<(Endpoint, Tensor)> = Vec::new();
    let mut fetches: Vec<Endpoint> = Vec::new();
    let mut fetch = |output: &TensorSpec| {
        let output = servable.endpoint(output)?;
        Ok(fetches.iter().position(|fetch| *fetch == output).unwrap_or_else(|| {
            fetches.push(output);
            fetches.len() - 1
        }))
    };
    let mut places = Vec::with_capacity(tasks.len());
    for Bound { input, task } in tasks {
        let input = servable.endpoint(input)?;
        if feeds.iter().all(|(endpoint, _)| *endpoint != input) {
            feeds.push((input, fed.clone()));
        }
        places.push(task.try_map(&mut fetch)?);
    }
    let fetched = Fetched { rows, count: fetches.len(), tasks: places };
    Ok((Run { api, signature: signature.name.clone(), feeds, fetches }, fetched))
}

impl Task<&TensorSpec> {
    /// Replaces each output by its place, in order.
    fn try_map(&self, mut place: impl FnMut(&TensorSpec) -> Result<usize>) -> Result<Task<usize>> {
        Ok(match self {
            Task::Classify { classes, scores } => Task::Classify {
                classes: classes.map(&mut place).transpose()?,
                scores: scores.map(&mut place).transpose()?,
            },
            Task::Regress { output } => Task::Regress { output: place(output)? },
        })
    }
}

impl Fetched {
    /// Returns the answer of classify.
    pub fn classes(&self, outputs: &[Tensor]) -> Result<Classifications> {
        match self.answers(outputs)?.into_iter().next() {
            Some(TaskAnswer::Classes(classes)) => Ok(classes),
            Some(TaskAnswer::Values(_)) | None => {
                Err(Error::internal("A classify task was answered with no classes"))
            }
        }
    }

    /// Returns the answer of regress.
    pub fn values(&self, outputs: &[Tensor]) -> Result<Vec<f32>> {
        match self.answers(outputs)?.into_iter().next() {
            Some(TaskAnswer::Values(values)) => Ok(values),
            Some(TaskAnswer::Classes(_)) | None => {
                Err(Error::internal("A regress task was answered with no numbers"))
            }
        }
    }

    /// Returns the answer to each task.
    pub fn answers(&self, outputs: &[Tensor]) -> Result<Vec<TaskAnswer>> {
        let (want, got) = (self.count, outputs.len());
        if got != want {
            return Err(Error::invalid(format!("Expected {want} output tensor(s).  Got: {got}")));
        }
        self.tasks.iter().map(|task| task.read(self.rows, outputs)).collect()
    }
}

impl Task<usize> {
    fn read(&self, rows: usize, outputs: &[Tensor]) -> Result<TaskAnswer> {
        match *self {
            Task::Classify { classes, scores } => {
                let output = |place: Option<usize>| place.map(|place| &outputs[place]);
                read_classes(rows, output(classes), output(scores)).map(TaskAnswer::Classes)
            }
            Task::Regress { output } => read_values(rows, &outputs[output]).map(TaskAnswer::Values),
        }
    }
}

/// Returns the signature for classify and regress.
fn find<'s>(servable: &'s Servable, name: &str) -> Result<&'s Signature> {
    servable
        .signature(name)
        .ok_or_else(|| Error::invalid(format!("No signature was found with the name: {}", named(name))))
}

/// Checks that `signature` can classify.
fn classify_task<'s>(
    server: &ServerState,
    servable: &Servable,
    signature: &'s Signature,
) -> Result<Bound<'s>> {
    check_method(server, signature, "classification", CLASSIFY)?;
    one_input(signature)?;
    let outputs = signature.outputs.len();
    if !(1..=2).contains(&outputs) {
        return Err(Error::invalid(format!("Expected one or two output Tensors, found {outputs}")));
    }
    let input = input(servable, signature, "classification")?;
    let output = |alias| signature.output(alias).map(|index| &signature.outputs[index]);
    let (classes, scores) = (output("classes"), output("scores"));
    if classes.is_none() && scores.is_none() {
        return Err(Error::invalid(format!(
            "Expected classification signature outputs to contain at least one of \"classes\" or \"scores\". \
             Signature was: {}",
            debug_text::signature(servable, &signature.name)
        )));
    }
    Ok(Bound { input, task: Task::Classify { classes, scores } })
}

/// Checks that `signature` can regress.
fn regress_task<'s>(
    server: &ServerState,
    servable: &Servable,
    signature: &'s Signature,
) -> Result<Bound<'s>> {
    check_method(server, signature, "regression", REGRESS)?;
    one_input(signature)?;
    if signature.outputs.len() != 1 {
        return Err(Error::invalid("Expected one output Tensor."));
    }
    let input = input(servable, signature, "regression")?;
    let Some(output) = signature.output("outputs") else {
        return Err(Error::invalid(format!(
            "No regression outputs found in SignatureDef: {}",
            debug_text::signature(servable, &signature.name)
        )));
    };
    Ok(Bound { input, task: Task::Regress { output: &signature.outputs[output] } })
}

fn check_method(server: &ServerState, signature: &Signature, what: &str, method: &str) -> Result<()> {
    if server.options.method_name_check && signature.method_name != method {
        return Err(Error::invalid(format!(
            "Expected {what} signature method_name to be {method}. Was: {}",
            signature.method_name
        )));
    }
    Ok(())
}

fn one_input(signature: &Signature) -> Result<()> {
    if signature.inputs.len() == 1 { Ok(()) } else { Err(Error::invalid("Expected one input Tensor.")) }
}

fn input<'s>(servable: &Servable, signature: &'s Signature, what: &str) -> Result<&'s TensorSpec> {
    let found = signature.input("inputs").map(|index| &signature.inputs[index]);
    found.ok_or_else(|| {
        Error::invalid(format!(
            "No {what} inputs found in SignatureDef: {}",
            debug_text::signature(servable, &signature.name)
        ))
    })
}

fn read_classes(rows: usize, classes: Option<&Tensor>, scores: Option<&Tensor>) -> Result<Classifications> {
    let labels = classes.map(|tensor| -> Result<_> {
        let columns = columns(tensor, "classes", DType::String, rows)?;
        Ok((columns, tensor.as_strings().cloned().unwrap_or_default()))
    });
    let (label_columns, labels) = labels.transpose()?.unzip();
    let scores = scores.map(|tensor| -> Result<_> {
        let columns = columns(tensor, "scores", DType::Float, rows)?;
        Ok((columns, bytemuck::pod_collect_to_vec::<u8, f32>(tensor.bytes())))
    });
    let (score_columns, scores) = scores.transpose()?.unzip();
    match (label_columns, score_columns) {
        (Some(labels), Some(scores)) if labels != scores => Err(Error::invalid(format!(
            "Tensors class and score should match in dim_size(1). Got {labels} vs. {scores}"
        ))),
        _ => {
            let columns = label_columns.or(score_columns).unwrap_or(0);
            Ok(Classifications { rows, columns, labels, scores })
        }
    }
}

/// Returns the number of columns of an output of classify, which must be a `[rows, columns]` of `dtype`.
fn columns(tensor: &Tensor, what: &str, dtype: DType, rows: usize) -> Result<usize> {
    let [first, second] = *tensor.shape() else {
        let shape = shape_text(tensor.shape());
        return Err(Error::invalid(format!(
            "Expected Tensor shape: [batch_size num_classes] but got {shape}"
        )));
    };
    if tensor.dtype() != dtype {
        return Err(Error::invalid(format!(
            "Expected {what} Tensor of {}. Got: {}",
            dtype.proto_name(),
            tensor.dtype().proto_name()
        )));
    }
    if usize::try_from(first) != Ok(rows) {
        return Err(Error::invalid(format!("Expected {what} output batch size of {rows}. Got: {first}")));
    }
    usize::try_from(second).map_err(|_| Error::new(Kind::Internal, "An output has a negative dimension"))
}

fn read_values(rows: usize, tensor: &Tensor) -> Result<Vec<f32>> {
    let first = match *tensor.shape() {
        [first] | [first, 1] => first,
        _ => {
            return Err(Error::invalid(format!(
                "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {}",
                shape_text(tensor.shape())
            )));
        }
    };
    if usize::try_from(first) != Ok(rows) {
        return Err(Error::invalid(format!(
            "Input batch size did not match output batch size: {rows} vs. {first}"
        )));
    }
    if tensor.dtype() != DType::Float {
        let got = tensor.dtype().proto_name();
        return Err(Error::invalid(format!("Expected output Tensor of DT_FLOAT.  Got: {got}")));
    }
    Ok(bytemuck::pod_collect_to_vec(tensor.bytes()))
}

fn shape_text(shape: &[i64]) -> String {
    format!("[{}]", shape.iter().map(i64::to_string).collect::<Vec<_>>().join(","))
}
