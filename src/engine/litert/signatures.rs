//! The signatures of a `.tflite` file as clients see them, and the tensors behind them.
//!
//! What TensorFlow Serving's tools stored comes first, as there; then the signatures that TensorFlow's converter writes;
//! without any, one is made of the inputs and outputs, with TensorFlow Serving's names.

use super::dtypes;
use super::file::{File, FileSignature, MOST_DIMENSIONS, Operator, Subgraph, TensorInfo, code};
use crate::engine::signature::{DEFAULT_SIGNATURE, Signature, TensorSpec};
use crate::engine::{Endpoint, Termination};
use crate::error::{Error, Kind, Result};
use crate::pb::tensorflow::tensor_info::Encoding;
use crate::pb::tensorflow::{SignatureDef, TensorInfo as DefInfo};
use crate::tensor::DType;
use prost::Message;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

const PREDICT: &str = "tensorflow/serving/predict";

/// What can be run, and by which names.
pub(super) struct Plan {
    pub(super) signatures: BTreeMap<String, Signature>,
    /// The runner of each signature.
    pub(super) runner_of: BTreeMap<String, usize>,
    pub(super) runners: Vec<Runner>,
    pub(super) endpoints: Vec<End>,
    /// The tensors of signatures by name.
    pub(super) names: BTreeMap<String, Endpoint>,
    /// The name of each tensor of a runner.
    name_of: HashMap<Place, String>,
    /// The runner of each subgraph that has one.
    of_subgraph: HashMap<usize, usize>,
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
    /// The first input of the runner that is this tensor.
    pub(super) input: Option<usize>,
    /// The first input, or output, before this one that is this tensor.
    pub(super) earlier: Option<usize>,
}

/// A tensor of a runner.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Place {
    runner: usize,
    tensor: usize,
}

/// Where an endpoint is.
#[derive(Clone, Copy)]
pub(super) struct End {
    place: Place,
    /// The first input of the runner that it is, and the first output.
    pub(super) input: Option<usize>,
    pub(super) output: Option<usize>,
}

impl End {
    pub(super) fn runner(self) -> usize {
        self.place.runner
    }
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
        name_of: HashMap::new(),
        of_subgraph: HashMap::new(),
    };
    let marked = file.marked(marks);
    // Without signatures LiteRT has one, of the main graph.
    let subgraphs: Vec<usize> = if file.signatures.is_empty() {
        vec![0]
    } else {
        file.signatures.iter().map(|signature| signature.subgraph).collect()
    };
    for (index, subgraph) in subgraphs.into_iter().enumerate() {
        if let Entry::Vacant(vacant) = plan.of_subgraph.entry(subgraph) {
            vacant.insert(plan.runners.len());
            plan.runners.push(runner(file, index, subgraph, marked[subgraph])?);
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
            let outputs: Vec<usize> = runner.outputs.iter().map(|io| io.tensor).collect();
            let outputs = first_places(&outputs);
            for io in runner.inputs.iter().chain(&runner.outputs) {
                let place = Place { runner: number, tensor: io.tensor };
                if self.name_of.contains_key(&place) {
                    continue;
                }
                // Graphs may use one name for different tensors.
                let mut name = io.name.clone();
                while self.names.contains_key(&name) {
                    name = format!("{name}@{}.{}", runner.subgraph, io.tensor);
                }
                let endpoint = Endpoint(u32::try_from(self.endpoints.len()).unwrap_or(u32::MAX));
                self.names.insert(name.clone(), endpoint);
                self.name_of.insert(place, name);
                let output = outputs.get(&io.tensor).copied();
                self.endpoints.push(End { place, input: io.input, output });
            }
        }
    }

    fn name_inputs(&mut self) {
        let mut aliases: HashMap<Place, &String> = HashMap::new();
        for (name, runner) in self.runner_of.iter().rev() {
            for spec in &self.signatures[name].inputs {
                let endpoint = self.names.get(&spec.tensor);
                let place = endpoint.map(|endpoint| self.endpoints[endpoint.0 as usize].place);
                if let Some(place) = place.filter(|place| place.runner == *runner) {
                    aliases.insert(place, &spec.alias);
                }
            }
        }
        for (number, runner) in self.runners.iter_mut().enumerate() {
            for io in &mut runner.inputs {
                if let Some(alias) = aliases.get(&Place { runner: number, tensor: io.tensor }) {
                    io.alias.clone_from(alias);
                }
            }
        }
    }

    fn add_signatures(&mut self, file: &File) -> Result<()> {
        let main = self.of_subgraph.get(&0).copied();
        if let Some(main) = main.filter(|_| !file.signature_defs.is_empty()) {
            let ends = [by_name(&self.runners[main].inputs), by_name(&self.runners[main].outputs)];
            let defs = file.signature_defs.iter();
            return defs.into_iter().try_for_each(|(name, bytes)| self.add_def(main, &ends, name, bytes));
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
        let Some(number) = self.of_subgraph.get(&signature.subgraph).copied() else { return Ok(()) };
        let runner = &self.runners[number];
        let named = |aliases: &BTreeMap<String, usize>, ios: &[Io]| -> Vec<(String, Io)> {
            let of: HashMap<usize, &Io> = ios.iter().rev().map(|io| (io.tensor, io)).collect();
            let io = |tensor: &usize| of.get(tensor).copied().cloned();
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
    fn add_def(&mut self, number: usize, ends: &[ByName; 2], name: &str, bytes: &[u8]) -> Result<()> {
        let def = SignatureDef::decode(bytes)
            .map_err(|why| damaged(format!("its signature {name:?} cannot be read ({why})")))?;
        let specs =
            |infos: &BTreeMap<String, DefInfo>, ios: &ByName, what: &str| -> Result<Vec<TensorSpec>> {
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
        let specs = [specs(&def.inputs, &ends[0], "input")?, specs(&def.outputs, &ends[1], "output")?];
        self.add(number, name, &def.method_name, specs);
        Ok(())
    }

    /// Returns the specs of inputs or outputs of runner `number`, by alias.
    fn specs(&self, number: usize, named: Vec<(String, Io)>) -> Vec<TensorSpec> {
        let name_of = |tensor: usize| self.name_of.get(&Place { runner: number, tensor }).cloned();
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

/// Inputs or outputs by name; of several with one name, the first.
type ByName = HashMap<String, Io>;

fn by_name(ios: &[Io]) -> ByName {
    ios.iter().rev().map(|io| (io.name.clone(), io.clone())).collect()
}

/// Returns the input or output that a stored signature means: early converters cut `:0` from names.
fn resolved<'a>(info: &DefInfo, ios: &'a ByName) -> Option<&'a Io> {
    let Some(Encoding::Name(name)) = &info.encoding else { return None };
    ios.get(name).or_else(|| ios.get(cut(name)))
}

fn cut(name: &str) -> &str {
    name.split(':').next().unwrap_or(name)
}

/// Names inputs or outputs by their tensors, as TensorFlow Serving does: without `:0`, unless that makes two the same.
fn plain_aliases(ios: &[Io]) -> Result<Vec<(String, Io)>> {
    let (mut whole, mut short) = (HashMap::<&str, usize>::new(), HashMap::<&str, usize>::new());
    for io in ios {
        *whole.entry(&io.name).or_default() += 1;
        *short.entry(cut(&io.name)).or_default() += 1;
    }
    let alias = |io: &Io| match cut(&io.name) {
        _ if io.name.is_empty() => Err(damaged("an input or output has no name".to_owned())),
        _ if whole[&*io.name] > 1 => Err(damaged(format!("tensor name: {} has multiple indices", io.name))),
        "" => Ok((io.name.clone(), io.clone())),
        name if short[name] > 1 => Ok((io.name.clone(), io.clone())),
        name => Ok((name.to_owned(), io.clone())),
    };
    ios.iter().map(alias).collect()
}

/// Operators whose work goes by a size that may be computed or fed: TILE, FILL, RANGE, BROADCAST_TO, and what selects.
const SIZED: [i32; 8] = [69, 94, 96, 109, 120, 121, 130, 143];

/// Marks of operators, for [`File::marked`].
const IS_LOOP: u8 = 1;
const IS_SIZED: u8 = 2;
const HAS_STATE: u8 = 4;
const ASSIGNS: u8 = 8;
const IS_RANDOM: u8 = 16;
const IS_NOT_ELEMENTWISE: u8 = 32;

/// Returns what a run depends on by `operator`.
fn marks(operator: &Operator) -> u8 {
    let code = operator.code;
    let marks = [
        (IS_LOOP, matches!(code, code::WHILE | code::STABLEHLO_WHILE)),
        (IS_SIZED, SIZED.contains(&code)),
        (HAS_STATE, STATE.contains(&code)),
        (ASSIGNS, code == code::ASSIGN_VARIABLE),
        (IS_RANDOM, RANDOM.contains(&code)),
        (IS_NOT_ELEMENTWISE, !ELEMENTWISE.contains(&code)),
    ];
    marks.iter().filter(|(_, has)| *has).fold(0, |all, (mark, _)| all | mark)
}

/// `marked`: the marks of all operators that a run may reach.
fn runner(file: &File, index: usize, subgraph: usize, marked: u8) -> Result<Runner> {
    let graph = &file.subgraphs[subgraph];
    let has = |marks: u8| marked & marks != 0;
    let inputs = ios(graph, &graph.inputs)?;
    let termination = match () {
        () if has(IS_LOOP) => Termination::MayLoop,
        () if inputs.iter().any(|io| io.dtype == DType::String) || has(IS_SIZED) => Termination::Finite,
        () => Termination::ByShapes,
    };
    Ok(Runner {
        index,
        subgraph,
        inputs,
        outputs: ios(graph, &graph.outputs)?,
        termination,
        changes_nothing: !has(HAS_STATE | IS_RANDOM),
        has_state: has(HAS_STATE),
        may_repeat: !has(ASSIGNS),
        any_shape: !has(IS_NOT_ELEMENTWISE),
    })
}

/// Returns `tensors`, which are the inputs or the outputs of `graph`.
fn ios(graph: &Subgraph, tensors: &[usize]) -> Result<Vec<Io>> {
    let (inputs, first) = (first_places(&graph.inputs), first_places(tensors));
    let io = |(place, tensor): (usize, &usize)| {
        let earlier = first.get(tensor).copied().filter(|first| *first < place);
        Ok(Io { input: inputs.get(tensor).copied(), earlier, ..io(&graph.tensors[*tensor], *tensor)? })
    };
    tensors.iter().enumerate().map(io).collect()
}

/// Returns the first place of each of `tensors`.
fn first_places(tensors: &[usize]) -> HashMap<usize, usize> {
    tensors.iter().enumerate().rev().map(|(place, tensor)| (*tensor, place)).collect()
}

/// Returns a tensor that is an input or an output, in no place yet.
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
        input: None,
        earlier: None,
    })
}

fn damaged(why: String) -> Error {
    Error::new(Kind::DataLoss, why)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{self, Graph, tensor};
    use super::*;
    use crate::host::clock::thread_cpu_time;
    use std::time::Duration;

    #[test]
    fn the_work_grows_as_the_number_of_tensors() {
        const COUNT: i32 = 20_000;
        // As many empty strings, which are the content of every tensor.
        let strings: Vec<u8> = [&[COUNT][..], &[4 * (COUNT + 2); COUNT as usize + 1]]
            .concat()
            .iter()
            .flat_map(|one| one.to_le_bytes())
            .collect();
        let tensors = (0..COUNT).map(|index| tensor(&format!("x{index}:0"), 5, &[COUNT], 1)).collect();
        let graph =
            Graph { tensors, inputs: Vec::new(), outputs: (0..COUNT).collect(), operators: Vec::new() };
        let bytes = fixture::file(vec![graph], &[&strings]);
        let begun = thread_cpu_time();
        let plan = plan(&File::read(&bytes).unwrap()).unwrap();
        assert_eq!(plan.signatures[DEFAULT_SIGNATURE].outputs.len(), COUNT as usize);
        assert_eq!(plan.signatures[DEFAULT_SIGNATURE].outputs[1].tensor, "x1:0");
        let took = thread_cpu_time().zip(begun).map(|(now, begun)| now.saturating_sub(begun));
        assert!(took.is_none_or(|took| took < Duration::from_secs(10)), "{took:?}");
    }
}
