//! The signatures of a `.tflite` file as clients see them, and the tensors behind them.
//!
//! What TensorFlow Serving's tools stored comes first, as there; then the signatures that TensorFlow's converter writes;
//! without any, one is made of the inputs and outputs, with TensorFlow Serving's names.

use super::dtypes;
use super::file::{File, FileSignature, MOST_DIMENSIONS, Subgraph, TensorInfo, code};
use crate::engine::signature::{DEFAULT_SIGNATURE, Signature, TensorSpec};
use crate::engine::{Endpoint, Termination};
use crate::error::{Error, Kind, Result};
use crate::pb::tensorflow::tensor_info::Encoding;
use crate::pb::tensorflow::{SignatureDef, TensorInfo as DefInfo};
use crate::tensor::DType;
use prost::Message;
use std::collections::BTreeMap;

const PREDICT: &str = "tensorflow/serving/predict";

/// What can be run, and by which names.
pub(super) struct Plan {
    pub(super) signatures: BTreeMap<String, Signature>,
    /// The runner of each signature.
    pub(super) runner_of: BTreeMap<String, usize>,
    pub(super) runners: Vec<Runner>,
    pub(super) endpoints: Vec<Place>,
    /// The tensors of signatures by name.
    pub(super) names: BTreeMap<String, Endpoint>,
}

/// A subgraph that signatures run.
pub(super) struct Runner {
    /// LiteRT's number of the first signature that runs it.
    pub(super) index: usize,
    subgraph: usize,
    /// In LiteRT's order.
    pub(super) inputs: Vec<Io>,
    pub(super) outputs: Vec<Io>,
    pub(super) termination: Termination,
    pub(super) changes_nothing: bool,
    /// Whether runs share variables or tables, which each interpreter has for itself.
    pub(super) has_state: bool,
    /// Whether a run that failed may be tried again: it has changed no variable.
    pub(super) may_repeat: bool,
    /// Whether inputs may have any shape: all operators work element by element.
    pub(super) any_shape: bool,
}

/// An input or output.
#[derive(Clone)]
pub(super) struct Io {
    pub(super) tensor: usize,
    pub(super) name: String,
    /// Its name in the first signature that has it, for errors.
    pub(super) alias: String,
    pub(super) dtype: DType,
    /// LiteRT's number of the dtype.
    pub(super) element: i32,
    /// -1 where it is dynamic.
    pub(super) shape: Vec<i64>,
    /// Whether the file says that the first dimension is dynamic, or does not say it of any.
    pub(super) any_rows: bool,
}

/// Where an endpoint is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) runner: usize,
    pub(super) tensor: usize,
}

/// Operators whose results depend on more than their inputs: variables, tables, random numbers.
const STATE: [i32; 8] = [code::CALL_ONCE, 136, 137, 138, 139, 142, 143, code::ASSIGN_VARIABLE];
const RANDOM: [i32; 4] = [146, 148, 149, 204];

/// Operators that work element by element: DEQUANTIZE, FLOOR, LOGISTIC, RELU and its kin, TANH, and so on.
const ELEMENTWISE: [i32; 23] =
    [0, 6, 8, 14, 18, 19, 20, 21, 28, 41, 42, 47, 53, 55, 57, 59, 66, 75, 76, 92, 101, 104, 114];

/// Makes the plan of a file.
pub(super) fn plan(file: &File) -> Result<Plan> {
    if file.has_idle_loop() {
        return Err(Error::new(
            Kind::Unimplemented,
            "the body of one of its loops computes nothing, and LiteRT could not end such a loop: convert the model \
             again without it",
        ));
    }
    let mut plan = Plan {
        signatures: BTreeMap::new(),
        runner_of: BTreeMap::new(),
        runners: Vec::new(),
        endpoints: Vec::new(),
        names: BTreeMap::new(),
    };
    // Without signatures LiteRT has one, of the main graph.
    let subgraphs: Vec<usize> = if file.signatures.is_empty() {
        vec![0]
    } else {
        file.signatures.iter().map(|signature| signature.subgraph).collect()
    };
    for (index, subgraph) in subgraphs.into_iter().enumerate() {
        if !plan.runners.iter().any(|runner| runner.subgraph == subgraph) {
            plan.runners.push(runner(file, index, subgraph)?);
        }
    }
    plan.name_endpoints();
    plan.add_signatures(file)?;
    plan.name_inputs();
    Ok(plan)
}

impl Plan {
    fn name_endpoints(&mut self) {
        for (number, runner) in self.runners.iter().enumerate() {
            for io in runner.inputs.iter().chain(&runner.outputs) {
                let place = Place { runner: number, tensor: io.tensor };
                if self.endpoints.contains(&place) {
                    continue;
                }
                // Graphs may use one name for different tensors.
                let other = || format!("{}@{}.{}", io.name, runner.subgraph, io.tensor);
                let name = if self.names.contains_key(&io.name) { other() } else { io.name.clone() };
                let endpoint = Endpoint(u32::try_from(self.endpoints.len()).unwrap_or(u32::MAX));
                self.names.insert(name, endpoint);
                self.endpoints.push(place);
            }
        }
    }

    fn name_inputs(&mut self) {
        for (name, runner) in self.runner_of.iter().rev() {
            for spec in &self.signatures[name].inputs {
                let tensor =
                    self.names.get(&spec.tensor).map(|endpoint| self.endpoints[endpoint.0 as usize].tensor);
                let inputs = self.runners[*runner].inputs.iter_mut();
                inputs.filter(|io| Some(io.tensor) == tensor).for_each(|io| io.alias.clone_from(&spec.alias));
            }
        }
    }

    fn add_signatures(&mut self, file: &File) -> Result<()> {
        let main = self.runners.iter().position(|runner| runner.subgraph == 0);
        if let Some(main) = main.filter(|_| !file.signature_defs.is_empty()) {
            return file.signature_defs.iter().try_for_each(|(name, bytes)| self.add_def(main, name, bytes));
        }
        file.signatures.iter().try_for_each(|signature| self.add_of_file(signature))?;
        if file.signatures.is_empty() {
            let runner = &self.runners[0];
            let (inputs, outputs) = (plain_aliases(&runner.inputs)?, plain_aliases(&runner.outputs)?);
            self.add(0, DEFAULT_SIGNATURE, PREDICT, [self.specs(0, inputs), self.specs(0, outputs)]);
        }
        Ok(())
    }

    fn add(&mut self, runner: usize, name: &str, method_name: &str, [inputs, outputs]: [Vec<TensorSpec>; 2]) {
        let signature = Signature {
            name: name.into(),
            method_name: method_name.to_owned(),
            inputs,
            outputs,
            defaults: BTreeMap::new(),
        };
        self.runner_of.insert(name.to_owned(), runner);
        self.signatures.insert(name.to_owned(), signature);
    }

    /// Adds a signature that TensorFlow's converter wrote.
    fn add_of_file(&mut self, signature: &FileSignature) -> Result<()> {
        let same = |runner: &Runner| runner.subgraph == signature.subgraph;
        let Some(number) = self.runners.iter().position(same) else { return Ok(()) };
        let runner = &self.runners[number];
        let named = |aliases: &BTreeMap<String, usize>, ios: &[Io]| -> Vec<(String, Io)> {
            let io = |tensor: &usize| ios.iter().find(|io| io.tensor == *tensor).cloned();
            aliases.iter().filter_map(|(alias, tensor)| Some((alias.clone(), io(tensor)?))).collect()
        };
        let inputs = self.specs(number, named(&signature.inputs, &runner.inputs));
        let outputs = self.specs(number, named(&signature.outputs, &runner.outputs));
        let key = if signature.key.is_empty() { DEFAULT_SIGNATURE } else { &signature.key };
        if self.signatures.contains_key(key) {
            return Err(damaged(format!("two signatures are called {key:?}")));
        }
        self.add(number, key, PREDICT, [inputs, outputs]);
        Ok(())
    }

    /// Adds a signature that TensorFlow Serving's tools stored.
    fn add_def(&mut self, number: usize, name: &str, bytes: &[u8]) -> Result<()> {
        let def = SignatureDef::decode(bytes)
            .map_err(|why| damaged(format!("its signature {name:?} cannot be read ({why})")))?;
        let runner = &self.runners[number];
        let specs = |infos: &BTreeMap<String, DefInfo>, ios: &[Io], what: &str| -> Result<Vec<TensorSpec>> {
            let spec = |(alias, info): (&String, &DefInfo)| {
                let io = resolved(info, ios).ok_or_else(|| {
                    damaged(format!("Signature {what} {alias} references an unknown tensor"))
                })?;
                let spec = self.specs(number, vec![(alias.clone(), io.clone())]).pop();
                let shape = info.tensor_shape.as_ref().filter(|shape| !shape.unknown_rank);
                let shape = shape.map(|shape| shape.dim.iter().map(|dim| dim.size).collect());
                spec.map(|spec| TensorSpec { shape, ..spec }).ok_or_else(|| damaged(String::new()))
            };
            infos.iter().map(spec).collect()
        };
        let specs =
            [specs(&def.inputs, &runner.inputs, "input")?, specs(&def.outputs, &runner.outputs, "output")?];
        self.add(number, name, &def.method_name, specs);
        Ok(())
    }

    /// Returns the specs of inputs or outputs of runner `number`, by alias.
    fn specs(&self, number: usize, named: Vec<(String, Io)>) -> Vec<TensorSpec> {
        let name_of = |tensor: usize| {
            let place = Place { runner: number, tensor };
            let is_it = |endpoint: &Endpoint| self.endpoints[endpoint.0 as usize] == place;
            self.names.iter().find(|(_, endpoint)| is_it(endpoint)).map(|(name, _)| name.clone())
        };
        let spec = |(alias, io): (String, Io)| TensorSpec {
            alias,
            tensor: name_of(io.tensor).unwrap_or_default(),
            dtype: io.dtype,
            shape: Some(io.shape),
        };
        let mut specs: Vec<_> = named.into_iter().map(spec).collect();
        specs.sort_by(|one, other| one.alias.cmp(&other.alias));
        specs
    }
}

/// Returns the input or output that a stored signature means: early converters cut `:0` from names.
fn resolved<'a>(info: &DefInfo, ios: &'a [Io]) -> Option<&'a Io> {
    let Some(Encoding::Name(name)) = &info.encoding else { return None };
    let named = |wanted: &str| ios.iter().find(|io| io.name == wanted);
    named(name).or_else(|| named(cut(name)))
}

fn cut(name: &str) -> &str {
    name.split(':').next().unwrap_or(name)
}

/// Names inputs or outputs by their tensors, as TensorFlow Serving does: without `:0`, unless that makes two the same.
fn plain_aliases(ios: &[Io]) -> Result<Vec<(String, Io)>> {
    let same = |io: &Io, name: fn(&str) -> &str| {
        ios.iter().filter(|other| name(&other.name) == name(&io.name)).count()
    };
    let alias = |io: &Io| match () {
        () if io.name.is_empty() => Err(damaged("an input or output has no name".to_owned())),
        () if same(io, |name| name) > 1 => {
            Err(damaged(format!("tensor name: {} has multiple indices", io.name)))
        }
        () if same(io, cut) > 1 || cut(&io.name).is_empty() => Ok((io.name.clone(), io.clone())),
        () => Ok((cut(&io.name).to_owned(), io.clone())),
    };
    ios.iter().map(alias).collect()
}

/// Operators whose work goes by a size that may be computed or fed: TILE, FILL, RANGE, BROADCAST_TO, and what selects.
const SIZED: [i32; 8] = [69, 94, 96, 109, 120, 121, 130, 143];

fn runner(file: &File, index: usize, subgraph: usize) -> Result<Runner> {
    let graph = &file.subgraphs[subgraph];
    let codes: Vec<i32> = file.reached(subgraph).iter().map(|operator| operator.code).collect();
    let has = |list: &[i32]| codes.iter().any(|code| list.contains(code));
    let inputs = ios(graph, &graph.inputs)?;
    let termination = match () {
        () if has(&[code::WHILE, code::STABLEHLO_WHILE]) => Termination::MayLoop,
        () if inputs.iter().any(|io| io.dtype == DType::String) || has(&SIZED) => Termination::Finite,
        () => Termination::ByShapes,
    };
    Ok(Runner {
        index,
        subgraph,
        inputs,
        outputs: ios(graph, &graph.outputs)?,
        termination,
        changes_nothing: !has(&STATE) && !has(&RANDOM),
        has_state: has(&STATE),
        may_repeat: !has(&[code::ASSIGN_VARIABLE]),
        any_shape: codes.iter().all(|code| ELEMENTWISE.contains(code)),
    })
}

fn ios(graph: &Subgraph, tensors: &[usize]) -> Result<Vec<Io>> {
    tensors.iter().map(|tensor| io(&graph.tensors[*tensor], *tensor)).collect()
}

fn io(info: &TensorInfo, tensor: usize) -> Result<Io> {
    let (dtype, element) = dtypes::of(info.dtype).ok_or_else(|| {
        Error::new(
            Kind::Unimplemented,
            format!(
                "tensor {:?} is of type {}, which cannot be an input or output here: convert the model again with \
                 another type there, such as float32",
                info.name, info.dtype
            ),
        )
    })?;
    let shape = info.signature.as_ref().unwrap_or(&info.shape);
    if shape.len() > MOST_DIMENSIONS {
        let why = format!(
            "tensor {:?} has {} dimensions, and {MOST_DIMENSIONS} are possible",
            info.name,
            shape.len()
        );
        return Err(Error::new(Kind::Unimplemented, why));
    }
    Ok(Io {
        tensor,
        name: info.name.clone(),
        alias: info.name.clone(),
        dtype,
        element,
        shape: shape.iter().map(|dim| i64::from(*dim)).collect(),
        any_rows: info.signature.as_ref().is_none_or(|signature| signature.first() == Some(&-1)),
    })
}

fn damaged(why: String) -> Error {
    Error::new(Kind::DataLoss, why)
}
