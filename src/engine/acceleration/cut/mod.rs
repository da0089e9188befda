//! Cuts a frozen graph into what OpenVINO may run, what TensorFlow computes before it, and what after it.
//!
//! The part in the middle is a set of nodes that the gate allows and that no path leaves and enters again. Along every
//! path, allowed and other nodes alternate: the stage of a node is the number of changes before it. All allowed nodes of
//! one stage may be in one part; so are those of earlier stages that need not run before it. The stage that leaves most
//! work in the part is chosen.

mod attributes;
mod empties;
mod gate;
mod graph;
mod numbers;
mod operations;
mod parts;
mod refusal;
mod types;

use crate::engine::frozen::FrozenGraph;
use gate::Gate;
use graph::{Graph, reach};
pub(in crate::engine::acceleration) use parts::Parts;
use refusal::Refusal;
use std::collections::BTreeMap;

/// Most stages that are tried: a graph of very many, each with little in it, is not worth a search.
const MOST_STAGES: usize = 4;
/// The part must hold at least this share of the whole work, as a divisor.
const LEAST_SHARE: u64 = 3;
/// How much more often than one of a matrix a weight of a convolution is used.
const USES_OF_KERNEL: u64 = 64;
/// The work of a product of two values, neither of which is a constant.
const WORK_OF_VALUES: u64 = 10_000;

/// Where a node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Before,
    Fast,
    After,
}

/// Cuts `frozen`; an error says why it stays with TensorFlow.
///
/// The parts run in the order before, fast, after. `inputs[i].tensor` of a part is always one of the signature's inputs
/// or an output, of the same name, of an earlier part. Each output of the signature is an output of exactly one part, or
/// one of the signature's inputs. No output of `fast` is taken by another node of it.
///
/// TensorFlow and OpenVINO differ for NaN, infinities, tensors without elements, and shapes that TensorFlow refuses. So
/// `fast` may be run with finite values, and with shapes of its inputs with which TensorFlow has run it; see
/// `operations.rs`.
pub(in crate::engine::acceleration) fn plan(frozen: &FrozenGraph) -> Result<Parts, Refusal> {
    let graph = Graph::new(frozen)?;
    let mut gate = Gate::new(&graph)?;
    empties::refuse(&graph, &mut gate);
    let work: Vec<u64> = works(&graph);
    let total: u64 = work.iter().sum();
    let mut choices: Vec<(u64, Vec<Place>)> = busiest(&stages(&graph, &gate), &gate, &work)
        .into_iter()
        .map(|stage| {
            let places = places(&graph, &gate, &stage);
            let moved = places.iter().zip(&work).filter(|(place, _)| **place == Place::Fast);
            (moved.map(|(_, work)| *work).sum(), places)
        })
        .filter(|(moved, _)| *moved > 0 && *moved >= total / LEAST_SHARE)
        .collect();
    choices.sort_by_key(|(moved, _)| std::cmp::Reverse(*moved));
    let mut refusal = nothing(&graph, &gate, total);
    for (_, places) in choices {
        match parts::assemble(&graph, &gate, &places) {
            Ok(parts) => return Ok(parts),
            Err(why) => refusal = why,
        }
    }
    Err(refusal)
}

/// Says why no part is worth moving: the first thing in the way.
fn nothing(graph: &Graph<'_>, gate: &Gate, total: u64) -> Refusal {
    let obstacles = graph.order.iter().filter(|node| {
        let node = &graph.nodes[**node];
        node.feed.is_none() && node.for_value
    });
    let first = obstacles.filter_map(|node| gate.why_not[*node].as_ref()).next();
    Refusal(match first {
        _ if total == 0 => "nothing worth moving: no convolution and no product of matrices".to_owned(),
        Some(obstacle) => format!("nothing worth moving: {obstacle}"),
        None => "nothing worth moving".to_owned(),
    })
}

/// Returns a rough measure of what each node computes: the elements of the largest constant that is multiplied.
fn works(graph: &Graph<'_>) -> Vec<u64> {
    let mut constants: Vec<Option<u64>> = vec![None; graph.nodes.len()];
    let mut works = vec![0; graph.nodes.len()];
    for position in &graph.order {
        let node = &graph.nodes[*position];
        let inputs = node.data.iter().map(|port| constants[port.node]);
        let op = node.def.op.as_str();
        if op == "Const" {
            let shape = attributes::constant_shape(node.def).unwrap_or_default();
            constants[*position] = Some(shape.iter().fold(1, |count: u64, dim| {
                count.saturating_mul(u64::try_from(*dim).unwrap_or(0)).min(u64::MAX >> 32)
            }));
        } else if operations::is_heavy(op) {
            let uses = if op.contains("onv") { USES_OF_KERNEL } else { 1 };
            works[*position] = inputs.flatten().max().map_or(WORK_OF_VALUES, |count| count.max(1) * uses);
        } else if !node.in_flow {
            let count = inputs.clone().map(|count| count.unwrap_or(0)).max();
            constants[*position] = count.filter(|_| inputs.clone().all(|count| count.is_some()));
        }
    }
    works
}

/// Returns the stage of each node: odd for those that are allowed, even for others.
fn stages(graph: &Graph<'_>, gate: &Gate) -> Vec<usize> {
    let mut stages = vec![0; graph.nodes.len()];
    let mut of_flow = None;
    for position in &graph.order {
        let node = &graph.nodes[*position];
        let after = |stage: usize, odd: bool| if (stage % 2 == 1) == odd { stage } else { stage + 1 };
        stages[*position] = if node.in_flow {
            *of_flow.get_or_insert_with(|| {
                let flow = (0..graph.nodes.len()).filter(|node| graph.nodes[*node].in_flow);
                let needs = flow.flat_map(|node| graph.needs(node));
                after(needs.map(|needed| stages[needed]).max().unwrap_or(0), false)
            })
        } else if gate.allows(*position) {
            after(node.data.iter().map(|port| stages[port.node]).max().unwrap_or(0), true)
        } else {
            after(graph.needs(*position).map(|needed| stages[needed]).max().unwrap_or(0), false)
        };
    }
    stages
}

/// Returns the allowed nodes with work of those stages that have most.
fn busiest(stages: &[usize], gate: &Gate, work: &[u64]) -> Vec<Vec<usize>> {
    let mut by_stage: BTreeMap<usize, (u64, Vec<usize>)> = BTreeMap::new();
    for (node, stage) in stages.iter().enumerate() {
        if gate.allows(node) && work[node] > 0 {
            let (sum, nodes) = by_stage.entry(*stage).or_default();
            *sum += work[node];
            nodes.push(node);
        }
    }
    let mut found: Vec<(u64, Vec<usize>)> = by_stage.into_values().collect();
    found.sort_by_key(|(sum, _)| std::cmp::Reverse(*sum));
    found.into_iter().take(MOST_STAGES).map(|(_, nodes)| nodes).collect()
}

/// Returns where each node runs if the allowed nodes `stage`, all of one stage, are in the fast part.
fn places(graph: &Graph<'_>, gate: &Gate, stage: &[usize]) -> Vec<Place> {
    let count = graph.nodes.len();
    // Before it: what other nodes compute for it, with all that these need. Branches and loops stay together.
    let needed = reach(count, stage.iter().copied(), |node, next| {
        if gate.allows(node) {
            next.extend(graph.nodes[node].data.iter().map(|port| port.node));
        } else {
            next.extend(graph.needs(node));
        }
    });
    let flow = (0..count).filter(|node| graph.nodes[*node].in_flow);
    let with_flow = flow.clone().any(|node| needed[node]);
    let starts = (0..count).filter(|node| needed[*node] && !gate.allows(*node));
    let before = graph.behind(starts.chain(flow.filter(|_| with_flow)));
    let mut places = vec![Place::After; count];
    for position in &graph.order {
        let after = |node: usize| places[node] == Place::After;
        places[*position] = if before[*position] {
            Place::Before
        } else if gate.allows(*position) && !graph.nodes[*position].data.iter().any(|port| after(port.node)) {
            Place::Fast
        } else {
            Place::After
        };
    }
    places
}

#[cfg(test)]
mod tests;
