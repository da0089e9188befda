//! A run as it is asked for, checked against what the file has.

use super::file::MOST_DIMENSIONS;
use super::signatures::{End, Io, Plan};
use crate::engine::Endpoint;
use crate::error::{Error, Result};
use crate::tensor::{Tensor, element_count};
use smallvec::{SmallVec, smallvec};

/// A run that has been checked: the number of its runner, its inputs in order, and the positions of its outputs.
pub(super) struct Call<'a> {
    pub(super) runner: usize,
    pub(super) inputs: Vec<&'a Tensor>,
    pub(super) outputs: Vec<usize>,
}

impl<'a> Call<'a> {
    /// Checks a run of `plan`. The work grows as the number of its tensors.
    pub(super) fn new(
        plan: &Plan,
        feeds: &'a [(Endpoint, Tensor)],
        fetches: &[Endpoint],
    ) -> Result<Call<'a>> {
        let runner = runner(plan, feeds, fetches)?;
        let inputs = inputs(plan, runner, feeds)?;
        let output = |fetch: &Endpoint| {
            let output = end(plan, *fetch)?.output;
            output.ok_or_else(|| Error::invalid("An input is asked for as an output"))
        };
        let outputs = fetches.iter().map(output).collect::<Result<Vec<_>>>()?;
        Ok(Call { runner, inputs, outputs })
    }
}

fn end(plan: &Plan, endpoint: Endpoint) -> Result<End> {
    let end = plan.endpoints.get(endpoint.0 as usize).copied();
    end.ok_or_else(|| Error::internal(format!("The model has no endpoint {}", endpoint.0)))
}

/// Returns the number of the one runner that all of a run's endpoints belong to.
fn runner(plan: &Plan, feeds: &[(Endpoint, Tensor)], fetches: &[Endpoint]) -> Result<usize> {
    let endpoints = fetches.iter().chain(feeds.iter().map(|(endpoint, _)| endpoint));
    let mut runners = endpoints.map(|endpoint| Ok(end(plan, *endpoint)?.runner()));
    let nothing = || Err(Error::invalid("Nothing is fed, and nothing is asked for"));
    let first = runners.next().unwrap_or_else(nothing)?;
    for runner in runners {
        if runner? != first {
            return Err(Error::invalid("A run cannot be of several graphs of a TensorFlow Lite model"));
        }
    }
    Ok(first)
}

/// Returns the tensors fed, in the order of the runner's inputs.
fn inputs<'a>(plan: &Plan, runner: usize, feeds: &'a [(Endpoint, Tensor)]) -> Result<Vec<&'a Tensor>> {
    let runner = &plan.runners[runner];
    // For each input, what is fed to it, and whether that is so twice.
    let mut fed: SmallVec<[(Option<&'a Tensor>, bool); 4]> = smallvec![(None, false); runner.inputs.len()];
    for (endpoint, tensor) in feeds {
        if let Some(input) = end(plan, *endpoint)?.input {
            let (first, twice) = &mut fed[input];
            *twice = first.replace(tensor).is_some();
        }
    }
    let input = |io: &Io| match io.input.map_or((None, false), |input| fed[input]) {
        (None, _) => Err(Error::invalid(format!("Input {:?} is missing", io.alias))),
        (Some(_), true) => Err(Error::invalid(format!("Input {:?} is fed twice", io.alias))),
        (Some(tensor), false) => check(io, runner.any_shape, tensor).map(|()| tensor),
    };
    let inputs = runner.inputs.iter().map(input).collect::<Result<Vec<_>>>()?;
    if feeds.len() != inputs.len() {
        return Err(Error::invalid("A tensor is fed that is no input of the model"));
    }
    Ok(inputs)
}

/// Checks a tensor that is fed to `io`.
fn check(io: &Io, any_shape: bool, tensor: &Tensor) -> Result<()> {
    let name = &io.alias;
    if tensor.dtype() != io.dtype {
        let (is, wanted) = (tensor.dtype().name(), io.dtype.name());
        return Err(Error::invalid(format!(
            "Input {name:?} has to be of type {wanted}, and it is of type {is}"
        )));
    }
    let shape = tensor.shape();
    if shape.len() > MOST_DIMENSIONS || shape.iter().any(|dim| i32::try_from(*dim).is_err()) {
        return Err(Error::invalid(format!(
            "Input {name:?} has shape {shape:?}, which is too large for LiteRT"
        )));
    }
    if element_count(shape) == Some(0) {
        return Err(Error::invalid(format!(
            "Input {name:?} has shape {shape:?}: LiteRT cannot run on empty tensors"
        )));
    }
    let fits = |(index, (dim, wanted)): (usize, (&i64, &i64))| {
        dim == wanted || *wanted < 0 || (index == 0 && io.any_rows)
    };
    let same_rank = shape.len() == io.shape.len();
    let any_shape = any_shape && !shape.is_empty() && !io.shape.is_empty();
    if any_shape || (same_rank && shape.iter().zip(&io.shape).enumerate().all(fits)) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "Input {name:?} has to have shape {:?}, and it has shape {shape:?}",
        io.shape
    )))
}

#[cfg(test)]
mod tests {
    use super::super::file::File;
    use super::super::fixture::{self, Graph, tensor};
    use super::super::signatures::plan;
    use super::*;
    use crate::host::clock::thread_cpu_time;
    use crate::tensor::DType;
    use std::time::Duration;

    /// The plan of a graph of `count` inputs, which are its outputs in reverse.
    fn reversing(count: i32) -> Plan {
        let tensors = (0..count).map(|index| tensor(&format!("x{index}"), 0, &[1], 0)).collect();
        let (inputs, outputs) = ((0..count).collect(), (0..count).rev().collect());
        let graph = Graph { tensors, inputs, outputs, operators: Vec::new() };
        plan(&File::read(&fixture::file(vec![graph], &[])).unwrap()).unwrap()
    }

    fn one(value: f32) -> Tensor {
        Tensor::numbers(DType::Float, vec![1], value.to_le_bytes().to_vec().into())
    }

    #[test]
    fn inputs_come_in_order_and_outputs_are_found() {
        let plan = reversing(3);
        let feed = |name: &str, value| (plan.names[name], one(value));
        let [x0, x1, x2] = [feed("x0", 0.0), feed("x1", 1.0), feed("x2", 2.0)];
        let feeds = [x2.clone(), x0.clone(), x1.clone()];
        let call = Call::new(&plan, &feeds, &[x1.0, x0.0, x1.0]).unwrap();
        let values: Vec<_> = call.inputs.iter().map(|tensor| tensor.bytes()).collect();
        assert_eq!(values, [0.0_f32, 1.0, 2.0].map(f32::to_le_bytes));
        assert_eq!(call.outputs, [1, 2, 1]);
        for (feeds, text) in [
            (&[][..], "Nothing is fed"),
            (&[x0.clone(), x2.clone()], "Input \"x1\" is missing"),
            (&[x0.clone(), x1.clone(), x2.clone(), x1.clone()], "Input \"x1\" is fed twice"),
        ] {
            let why = Call::new(&plan, feeds, &[]).err().unwrap();
            assert!(why.message.contains(text), "{why}");
        }
    }

    #[test]
    fn the_work_grows_as_the_number_of_tensors() {
        const COUNT: i32 = 20_000;
        let plan = reversing(COUNT);
        let feeds: Vec<_> = plan.names.values().map(|endpoint| (*endpoint, one(1.0))).collect();
        let fetches: Vec<_> = plan.names.values().copied().collect();
        let begun = thread_cpu_time();
        let call = Call::new(&plan, &feeds, &fetches).unwrap();
        let took = thread_cpu_time().zip(begun).map(|(now, begun)| now.saturating_sub(begun));
        assert_eq!((call.inputs.len(), call.outputs.len()), (COUNT as usize, COUNT as usize));
        assert!(took.is_none_or(|took| took < Duration::from_secs(1)), "{took:?}");
    }
}
