//! Follows a value forward through a graph: which operations take it, also inside the functions that are called with
//! it, and after operations that only move it.

use super::effects::node_of;
use crate::pb::tensorflow::attr_value::Value as Attr;
use crate::pb::tensorflow::{FunctionDef, GraphDef, NameAttrList, NodeDef};
use std::collections::{BTreeSet, HashMap, HashSet};

/// What an operation does with a value that it takes.
pub(super) enum Step<'g> {
    /// Its outputs hold the value.
    Moves,
    /// Its outputs hold what the value is the base64 of.
    DecodesBase64,
    /// It calls functions, whose first argument is the input at this position; what they return it returns.
    Calls(Vec<&'g str>, usize),
    /// It uses the value, and no more of it is left.
    Uses,
    /// It uses the value; this output holds text made of it.
    UsesForText(Port<'g>),
}

/// An output of a node. In a function's body it is written by name and place in the list of that name, in a graph by
/// its place among all outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Port<'g> {
    Every,
    One { name: &'g str, in_list: usize, of_all: usize },
}

/// A value: an output of a node of `scope`, or, without a node, an argument of that function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Value<'g> {
    /// The function; empty for the graph itself.
    pub(super) scope: &'g str,
    pub(super) node: &'g str,
    pub(super) port: Port<'g>,
    /// How often it was decoded from base64 since the start.
    pub(super) decoded: u8,
}

/// An operation that uses a value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Use<'g> {
    pub(super) scope: &'g str,
    pub(super) node: &'g NodeDef,
    pub(super) decoded: u8,
}

/// A graph with its functions, indexed.
pub(super) struct Flow<'g> {
    scopes: HashMap<&'g str, Scope<'g>>,
}

/// The graph, or the body of a function.
struct Scope<'g> {
    function: Option<&'g FunctionDef>,
    nodes: HashMap<&'g str, &'g NodeDef>,
    takers: HashMap<&'g str, Vec<Taker<'g>>>,
}

/// An input of a node, or of a function's end (`node` is `None`).
struct Taker<'g> {
    output: Output<'g>,
    node: Option<&'g NodeDef>,
    position: usize,
}

/// An output as an input names it: `node`, `node:1`, or in a function `node:name:1`.
#[derive(Clone, Copy)]
struct Output<'g> {
    node: &'g str,
    name: Option<&'g str>,
    index: usize,
}

/// Longest chain of base64 in base64 that is followed; also keeps a loop around such a step finite.
const MOST_DECODED: u8 = 2;

impl<'g> Flow<'g> {
    /// Indexes `graph`.
    pub(super) fn new(graph: &'g GraphDef) -> Flow<'g> {
        let functions = graph.library.iter().flat_map(|library| &library.function);
        let named = functions.filter_map(|function| {
            Some((function.signature.as_ref()?.name.as_str(), Scope::of_function(function)))
        });
        let whole = ("", Scope::new(&graph.node, None));
        Flow { scopes: named.chain(std::iter::once(whole)).collect() }
    }

    /// Returns whether there is a function `name`.
    pub(super) fn has(&self, name: &str) -> bool {
        !name.is_empty() && self.scopes.contains_key(name)
    }

    /// Returns node `name` of `scope`.
    pub(super) fn node(&self, scope: &str, name: &str) -> Option<&'g NodeDef> {
        self.scopes.get(scope)?.nodes.get(node_of(name)).copied()
    }

    /// Returns every use of the value `start`. `step` tells what an operation does; nodes of the graph that are not
    /// `needed` are passed over.
    pub(super) fn uses(
        &self,
        start: Value<'g>,
        needed: &HashSet<&str>,
        step: &impl Fn(&Self, &'g NodeDef) -> Step<'g>,
    ) -> Vec<Use<'g>> {
        let mut walk =
            Walk { flow: self, needed, step, found: Vec::new(), ahead: vec![start], calls: Calls::default() };
        let mut seen = HashSet::new();
        while let Some(value) = walk.ahead.pop() {
            if value.decoded <= MOST_DECODED && seen.insert(value) {
                walk.visit(value);
            }
        }
        walk.found
    }
}

impl<'g> Scope<'g> {
    fn new(nodes: &'g [NodeDef], function: Option<&'g FunctionDef>) -> Scope<'g> {
        let mut takers: HashMap<&str, Vec<Taker<'_>>> = HashMap::new();
        for node in nodes {
            for (position, input) in data_inputs(node).enumerate() {
                let output = Output::read(input, function.is_some());
                takers.entry(output.node).or_default().push(Taker { output, node: Some(node), position });
            }
        }
        let returned = function.iter().flat_map(|function| {
            let results = function.signature.iter().flat_map(|signature| &signature.output_arg).enumerate();
            results.filter_map(|(position, result)| Some((position, function.ret.get(&result.name)?)))
        });
        for (position, source) in returned {
            let output = Output::read(source, true);
            takers.entry(output.node).or_default().push(Taker { output, node: None, position });
        }
        Scope { function, nodes: nodes.iter().map(|node| (node.name.as_str(), node)).collect(), takers }
    }

    fn of_function(function: &'g FunctionDef) -> Scope<'g> {
        Scope::new(&function.node_def, Some(function))
    }

    fn argument(&self, position: usize) -> Option<&'g str> {
        Some(self.function?.signature.as_ref()?.input_arg.get(position)?.name.as_str())
    }

    fn result(&self, position: usize) -> Option<&'g str> {
        Some(self.function?.signature.as_ref()?.output_arg.get(position)?.name.as_str())
    }
}

/// Returns the inputs of `node` that carry values, in order.
pub(super) fn data_inputs(node: &NodeDef) -> impl Iterator<Item = &str> {
    node.input.iter().map(String::as_str).filter(|input| !input.starts_with('^'))
}

impl<'g> Output<'g> {
    fn read(input: &'g str, in_function: bool) -> Output<'g> {
        let (node, rest) = input.split_once(':').unwrap_or((input, ""));
        let (name, index) = match rest.rsplit_once(':') {
            Some((name, index)) => (Some(name), index),
            // The second part is a name only in a function.
            None if in_function && !rest.is_empty() && rest.parse::<usize>().is_err() => (Some(rest), "0"),
            None => (None, rest),
        };
        Output { node, name, index: index.parse().unwrap_or(0) }
    }

    fn is(self, port: Port<'_>) -> bool {
        match (port, self.name) {
            (Port::Every, _) => true,
            (Port::One { name, in_list, .. }, Some(named)) => name == named && in_list == self.index,
            (Port::One { of_all, .. }, None) => of_all == self.index,
        }
    }
}

/// Where functions were called with the value, and what they were seen to return of it.
#[derive(Default)]
struct Calls<'g> {
    sites: HashMap<&'g str, Vec<(&'g str, &'g NodeDef)>>,
    returned: HashMap<&'g str, BTreeSet<(usize, u8)>>,
}

struct Walk<'f, 'g, S> {
    flow: &'f Flow<'g>,
    needed: &'f HashSet<&'f str>,
    step: &'f S,
    found: Vec<Use<'g>>,
    ahead: Vec<Value<'g>>,
    calls: Calls<'g>,
}

impl<'g, S: Fn(&Flow<'g>, &'g NodeDef) -> Step<'g>> Walk<'_, 'g, S> {
    fn visit(&mut self, value: Value<'g>) {
        let flow = self.flow;
        let Some(takers) = flow.scopes.get(value.scope).and_then(|scope| scope.takers.get(value.node)) else {
            return;
        };
        for taker in takers.iter().filter(|taker| taker.output.is(value.port)) {
            match taker.node {
                Some(node) if value.scope.is_empty() && !self.needed.contains(node.name.as_str()) => {}
                Some(node) => self.take(value, node, taker.position),
                None => self.leave(value, taker.position),
            }
        }
    }

    /// The value is input `position` of `node`.
    fn take(&mut self, value: Value<'g>, node: &'g NodeDef, position: usize) {
        let output = |port: Port<'g>, decoded: u8| Value { node: &node.name, port, decoded, ..value };
        match (self.step)(self.flow, node) {
            Step::Moves => self.ahead.push(output(Port::Every, value.decoded)),
            Step::DecodesBase64 => self.ahead.push(output(Port::Every, value.decoded + 1)),
            Step::Calls(functions, first) => {
                for function in functions {
                    self.call(value, node, function, position.checked_sub(first));
                }
            }
            Step::Uses => self.found.push(Use { scope: value.scope, node, decoded: value.decoded }),
            Step::UsesForText(port) => {
                self.found.push(Use { scope: value.scope, node, decoded: value.decoded });
                self.ahead.push(output(port, value.decoded));
            }
        }
    }

    /// `node` calls `function` with the value as argument `position`.
    fn call(&mut self, value: Value<'g>, node: &'g NodeDef, function: &'g str, position: Option<usize>) {
        let Some(scope) = self.flow.scopes.get(function) else { return };
        let Some(argument) = position.and_then(|position| scope.argument(position)) else { return };
        self.ahead.push(Value { scope: function, node: argument, port: Port::Every, decoded: value.decoded });
        let site = (value.scope, node);
        let sites = self.calls.sites.entry(function).or_default();
        if !sites.iter().any(|(scope, known)| *scope == site.0 && std::ptr::eq(*known, node)) {
            sites.push(site);
            let returned = self.calls.returned.get(function).cloned().unwrap_or_default();
            for (position, decoded) in returned {
                self.give_back(site, function, position, decoded);
            }
        }
    }

    /// The value is result `position` of the function that it is in.
    fn leave(&mut self, value: Value<'g>, position: usize) {
        self.calls.returned.entry(value.scope).or_default().insert((position, value.decoded));
        for site in self.calls.sites.get(value.scope).cloned().unwrap_or_default() {
            self.give_back(site, value.scope, position, value.decoded);
        }
    }

    /// Result `position` of `function`, which the node `site` calls, holds the value.
    fn give_back(&mut self, site: (&'g str, &'g NodeDef), function: &'g str, position: usize, decoded: u8) {
        let (scope, node) = site;
        // Functions that are named by attributes return one list; one that is the operation itself, its own results.
        let result = self.flow.scopes.get(function).and_then(|scope| scope.result(position));
        let port = match result {
            Some(name) if node.op == function => Port::One { name, in_list: 0, of_all: position },
            _ => Port::One { name: "output", in_list: position, of_all: position },
        };
        self.ahead.push(Value { scope, node: &node.name, port, decoded });
        if is_loop(node) {
            // What one round returns the next one takes.
            for next in functions_of(node, &["cond", "body"]) {
                let argument = self.flow.scopes.get(next).and_then(|scope| scope.argument(position));
                let next = argument.map(|node| Value { scope: next, node, port: Port::Every, decoded });
                self.ahead.extend(next);
            }
        }
    }
}

/// Returns whether `node` runs its body over and over.
pub(super) fn is_loop(node: &NodeDef) -> bool {
    matches!(node.op.as_str(), "While" | "StatelessWhile")
}

/// Returns the functions that the attributes `names` of `node` name.
pub(super) fn functions_of<'g>(node: &'g NodeDef, names: &[&str]) -> Vec<&'g str> {
    let attrs = names.iter().filter_map(|name| node.attr.get(*name)?.value.as_ref());
    attrs.flat_map(functions_in).map(|function| function.name.as_str()).collect()
}

/// Returns the functions that an attribute names.
#[allow(clippy::wildcard_enum_match_arm)] // The other kinds of attributes.
fn functions_in(attr: &Attr) -> &[NameAttrList] {
    match attr {
        Attr::Func(function) => std::slice::from_ref(function),
        Attr::List(list) => &list.func,
        _ => &[],
    }
}
