//! Where graphs are cut, and what the parts are called.

use super::builder::Builder;
use super::checks;
use crate::engine::acceleration::cut::parts::Parts;
use crate::engine::acceleration::cut::plan;
use crate::engine::frozen::FrozenGraph;
use crate::tensor::DType;

fn cut(graph: &FrozenGraph) -> Parts {
    let parts = plan(graph).unwrap();
    checks::well_formed(graph, &parts);
    checks::computes_the_same(graph, &parts);
    parts
}

fn outputs(part: &FrozenGraph) -> Vec<&str> {
    part.outputs.iter().map(|output| output.tensor.as_str()).collect()
}

fn has(part: Option<&FrozenGraph>, name: &str) -> bool {
    part.is_some_and(|part| part.graph.node.iter().any(|node| node.name == name))
}

fn floats() -> Builder {
    let mut graph = Builder::default();
    graph.input("x", DType::Float, &[-1, 8]);
    graph
}

#[test]
fn no_path_leaves_the_part_and_comes_back() {
    let mut graph = floats();
    graph.dense("small", "x", 8).floats("round", "Round", &["small"]).dense("large", "round", 64);
    graph.floats("both", "AddV2", &["large", "x"]);
    let parts = cut(&graph.frozen(&["both"]));
    assert!(has(parts.before.as_ref(), "small") && has(Some(&parts.fast), "large"));
    let mut graph = floats();
    graph.dense("large", "x", 64).floats("round", "Round", &["large"]).dense("small", "round", 8);
    let parts = cut(&graph.frozen(&["small"]));
    assert!(has(Some(&parts.fast), "large") && has(parts.after.as_ref(), "small"));
}

#[test]
fn a_branch_that_may_wait_joins_the_later_part() {
    let mut graph = floats();
    graph.input("y", DType::Float, &[-1, 8]).floats("round", "Round", &["y"]);
    graph.dense("one", "x", 8).dense("other", "round", 8).floats("sum", "AddV2", &["one", "other"]);
    let parts = cut(&graph.frozen(&["sum"]));
    assert!(has(Some(&parts.fast), "one") && has(Some(&parts.fast), "other"));
    assert!(!has(parts.before.as_ref(), "one") && parts.after.is_none());
}

#[test]
fn too_little_is_not_moved() {
    let mut graph = floats();
    for layer in 0..8 {
        let (from, to) = (format!("r{layer}"), format!("r{}", layer + 1));
        let source = if layer == 0 { "x".to_owned() } else { from };
        graph.dense(&format!("d{layer}"), &source, 8).floats(&to, "Round", &[&format!("d{layer}")]);
    }
    let why = plan(&graph.frozen(&["r8"])).unwrap_err().to_string();
    assert_eq!(why, "nothing worth moving: an operation that is not known to be alike in node r1 (Round)");
}

#[test]
fn an_output_in_the_middle_is_one_of_the_fast_part_under_its_own_name() {
    let mut graph = floats();
    graph.dense("y", "x", 8).floats("z", "Relu", &["y"]).floats("w", "Round", &["y"]);
    let parts = cut(&graph.frozen(&["y", "z", "w"]));
    assert_eq!(outputs(&parts.fast), ["y:0", "z:0", "y/cut:0"]);
    assert_eq!(outputs(parts.after.as_ref().unwrap()), ["w:0"]);
}

#[test]
fn outputs_that_openvino_would_merge_or_rename_stay() {
    // Another name of an input, of a constant, and the same output twice.
    let mut graph = floats();
    graph.floats("same", "Identity", &["x"]).weights("fixed", &[2]).dense("y", "x", 8);
    let parts = cut(&graph.frozen(&["same", "fixed", "y", "y", "x"]));
    assert_eq!(outputs(&parts.fast), ["y:0"]);
    assert_eq!(outputs(parts.after.as_ref().unwrap()), ["same:0", "fixed:0"]);
    // Not the first output of a node.
    let mut graph = floats();
    graph.dense("y", "x", 8).integers("axis", &[1]).floats("halves", "Split", &["axis", "y"]);
    let parts = cut(&graph.frozen(&["halves:0", "halves:1"]));
    assert_eq!(outputs(parts.after.as_ref().unwrap()), ["halves:0", "halves:1"]);
}

#[test]
fn new_names_do_not_collide() {
    let mut graph = floats();
    graph.dense("y", "x", 8).floats("y/cut", "Relu", &["y"]).floats("y/value", "Tanh", &["y"]);
    graph.floats("y/cut_", "Round", &["y"]);
    let parts = cut(&graph.frozen(&["y", "y/cut", "y/value", "y/cut_"]));
    assert!(outputs(&parts.fast).contains(&"y/cut__:0"));
}

#[test]
fn sizes_are_computed_where_they_are_needed() {
    let mut graph = floats();
    graph.dense("y", "x", 8);
    graph.node("n", "Shape", &["y"], &[("T", DType::Float), ("out_type", DType::Int32)]);
    let parts = cut(&graph.with_outputs(&[("y", DType::Float), ("n", DType::Int32)]));
    assert!(!has(Some(&parts.fast), "n") && has(parts.after.as_ref(), "n"));
}

#[test]
fn a_threshold_for_computed_numbers_is_tensorflows() {
    let mut graph = floats();
    graph.dense("y", "x", 8).floats("m", "Greater", &["y", "x"]).floats("s", "SelectV2", &["m", "y", "x"]);
    let parts = cut(&graph.frozen(&["s"]));
    assert_eq!(outputs(&parts.fast), ["y/cut:0"]);
    assert!(has(parts.after.as_ref(), "m") && has(parts.after.as_ref(), "s"));
}

#[test]
fn constants_are_copied_and_other_outputs_cross_under_a_name_of_their_own() {
    let mut graph = floats();
    graph.integers("axis", &[1]).dense("y", "x", 8).floats("halves", "Split", &["axis", "y"]);
    graph.floats("left", "Round", &["halves"]).floats("right", "Round", &["halves:1"]);
    graph.floats("w", "MatMul", &["left", "y/weights"]);
    let parts = cut(&graph.frozen(&["w", "right"]));
    assert_eq!(outputs(&parts.fast), ["halves/cut:0", "halves/cut_1:0"]);
    assert!(has(Some(&parts.fast), "y/weights") && has(parts.after.as_ref(), "y/weights"));
}

#[test]
fn loops_and_branches_stay_whole() {
    let mut graph = floats();
    graph.input("go", DType::Bool, &[]).floats("enter", "Enter", &["x"]);
    graph.floats("merge", "Merge", &["enter", "next"]).node("cond", "LoopCond", &["go"], &[]);
    graph.floats("switch", "Switch", &["merge", "cond"]).dense("inside", "switch:1", 8);
    graph.floats("next", "NextIteration", &["inside"]).floats("exit", "Exit", &["switch"]);
    let alone = plan(&graph.frozen(&["exit"])).unwrap_err().to_string();
    assert_eq!(alone, "nothing worth moving: a loop or branch in node enter (Enter)");
    let parts = plan(&graph.dense("y", "exit", 8).frozen(&["y"])).unwrap();
    checks::well_formed(&graph.frozen(&["y"]), &parts);
    assert!(has(parts.before.as_ref(), "inside") && has(Some(&parts.fast), "y"));
    // A branch that is dead: nothing of it may be asked for.
    let mut graph = floats();
    graph.input("go", DType::Bool, &[]).floats("switch", "Switch", &["x", "go"]);
    graph.dense("then", "switch:1", 8).dense("else", "switch", 8).floats("merge", "Merge", &["then", "else"]);
    let parts = plan(&graph.dense("y", "merge", 8).frozen(&["y"])).unwrap();
    assert!(has(parts.before.as_ref(), "then") && !has(Some(&parts.fast), "else"));
}

#[test]
fn a_value_that_cannot_be_handed_over_is_no_place_to_cut() {
    let mut graph = floats();
    graph.dense("y", "x", 8).floats("z", "OfUnknownType", &["x"]).dense("w", "z", 8);
    let parts = plan(&graph.frozen(&["y", "w"])).unwrap();
    assert!(has(Some(&parts.fast), "y") && !has(Some(&parts.fast), "w"));
}

#[test]
fn very_long_chains_are_cut() {
    const LENGTH: usize = 100_000;
    let mut graph = floats();
    let mut last = "x".to_owned();
    for node in 0..LENGTH {
        let (name, op) = (format!("n{node}"), if node % 2 == 0 { "Relu" } else { "Round" });
        graph.floats(&name, if node < LENGTH / 2 { "Relu" } else { op }, &[&last]);
        last = name;
    }
    graph.dense("y", &last, 8);
    let parts = plan(&graph.frozen(&["y"])).unwrap();
    assert!(parts.before.unwrap().graph.node.len() > LENGTH - 3);
}
