//! Random graphs: no cut panics, and what is cut computes what the whole computes.

use super::builder::Builder;
use super::checks;
use crate::engine::acceleration::cut::plan;
use crate::engine::frozen::FrozenGraph;
use crate::tensor::DType;
use proptest::prelude::*;

/// The choice of an operation, of what it takes, and of a node that it waits for.
type Step = (u8, u16, u16, Option<u16>);

/// What the nodes so far give.
struct Known {
    floats: Vec<String>,
    masks: Vec<String>,
    sizes: Vec<String>,
    integers: Vec<String>,
    nodes: Vec<String>,
}

fn pick(from: &[String], choice: u16) -> &str {
    &from[usize::from(choice) % from.len()]
}

/// Adds a node; all that it takes is there and of the right dtype.
fn step(graph: &mut Builder, known: &mut Known, number: usize, (op, one, other, wait): Step) {
    let name = format!("n{number}");
    let (left, right) = (pick(&known.floats, one).to_owned(), pick(&known.floats, other).to_owned());
    let waited = wait.map(|choice| format!("^{}", pick(&known.nodes, choice)));
    let inputs = |graph: &mut Builder, op: &str, data: &[&str], types: &[(&str, DType)]| {
        let all: Vec<&str> = data.iter().copied().chain(waited.as_deref()).collect();
        graph.node(&name, op, &all, types);
    };
    let floats = [("T", DType::Float)];
    match op % 14 {
        0 => inputs(graph, "Relu", &[&left], &floats),
        1 => inputs(graph, "AddV2", &[&left, &right], &floats),
        2 | 3 => inputs(graph, "MatMul", &[&left, &right], &floats),
        4 | 5 => inputs(graph, "Round", &[&left], &floats),
        6 => inputs(graph, "Identity", &[&left], &floats),
        7 => inputs(graph, "SelectV2", &[pick(&known.masks, one), &left, &right], &floats),
        8 => inputs(graph, "Reshape", &[&left, pick(&known.sizes, other)], &floats),
        9 => inputs(graph, "Split", &["axis", &left], &floats),
        10 => inputs(graph, "Greater", &[&left, &right], &floats),
        11 => inputs(graph, "Shape", &[&left], &[("T", DType::Float), ("out_type", DType::Int32)]),
        12 => {
            inputs(graph, "ArgMax", &[&left, "axis"], &[("T", DType::Float), ("output_type", DType::Int64)])
        }
        _ => inputs(graph, "Assert", &[pick(&known.masks, one)], &[]),
    }
    match op % 14 {
        9 => known.floats.extend([name.clone(), format!("{name}:1")]),
        0..=8 => known.floats.push(name.clone()),
        10 => known.masks.push(name.clone()),
        11 => known.sizes.push(name.clone()),
        12 => known.integers.push(name.clone()),
        _ => {}
    }
    known.nodes.push(name);
}

fn graph(steps: &[Step], outputs: &[u16]) -> FrozenGraph {
    let mut graph = Builder::default();
    graph.input("x", DType::Float, &[-1, 8]).input("y", DType::Float, &[-1, 8]).input(
        "m",
        DType::Bool,
        &[-1, 8],
    );
    graph.integers("axis", &[1]).integers("sizes", &[-1, 8]).weights("w", &[8, 8]);
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let mut known = Known {
        floats: owned(&["x", "y", "w"]),
        masks: owned(&["m"]),
        sizes: owned(&["sizes"]),
        integers: Vec::new(),
        nodes: owned(&["x", "axis", "w"]),
    };
    for (number, chosen) in steps.iter().enumerate() {
        step(&mut graph, &mut known, number, *chosen);
    }
    let kinds = [(&known.floats, DType::Float), (&known.masks, DType::Bool), (&known.integers, DType::Int64)];
    let all: Vec<(&str, DType)> =
        kinds.iter().flat_map(|(names, dtype)| names.iter().map(|name| (name.as_str(), *dtype))).collect();
    let last = known.floats.last().map(|name| (name.as_str(), DType::Float));
    let chosen = outputs.iter().map(|choice| all[usize::from(*choice) % all.len()]);
    graph.with_outputs(&chosen.chain(last).collect::<Vec<_>>())
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let wait = proptest::option::weighted(0.1, any::<u16>());
    proptest::collection::vec((any::<u8>(), any::<u16>(), any::<u16>(), wait), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn parts_compute_what_the_whole_computes(
        steps in steps(),
        outputs in proptest::collection::vec(any::<u16>(), 0..4),
    ) {
        let whole = graph(&steps, &outputs);
        if let Ok(parts) = plan(&whole) {
            checks::well_formed(&whole, &parts);
            checks::computes_the_same(&whole, &parts);
        }
    }

    #[test]
    fn broken_graphs_never_panic(
        steps in steps(),
        cuts in proptest::collection::vec((any::<u16>(), any::<u16>()), 1..4),
    ) {
        let mut whole = graph(&steps, &[]);
        for (node, source) in cuts {
            let count = whole.graph.node.len();
            let name = whole.graph.node[usize::from(source) % count].name.clone();
            let node = &mut whole.graph.node[usize::from(node) % count];
            match source % 4 {
                0 => node.input.clear(),
                1 => node.input.push(format!("{name}:{}", source % 3)),
                2 => node.attr.clear(),
                _ => node.input.iter_mut().for_each(|input| input.clone_from(&name)),
            }
        }
        let _ = plan(&whole);
    }
}

/// The random graphs are of all kinds: those that are moved whole, those that are cut, those that are refused.
#[test]
fn random_graphs_are_of_all_kinds() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut kinds = [0; 4];
    for number in 0..400 {
        let steps = steps().new_tree(&mut runner).unwrap().current();
        match plan(&graph(&steps, &[number; 2][..usize::from(number % 3)])) {
            Err(_) => kinds[0] += 1,
            Ok(parts) => {
                kinds[1 + usize::from(parts.before.is_some()) + usize::from(parts.after.is_some())] += 1
            }
        }
    }
    assert!(kinds.iter().all(|count| *count > 10), "{kinds:?}");
}
