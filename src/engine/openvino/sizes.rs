//! Whether the time of a model's runs depends on values: whether one that is fed may be the size of a tensor.
//!
//! Sizes that follow from constants and from shapes alone, as in most exported models, do not count.

use super::xml::Tag;
use std::collections::HashMap;

/// Types of layers whose work, or the size of whose output, depends on the values of some inputs: their places. In small
/// letters; OpenVINO reads names of types without regard to case.
const BY_INPUTS: &[(&str, &[usize])] = &[
    ("adaptiveavgpool", &[1]),
    ("adaptivemaxpool", &[1]),
    ("batchtospace", &[1, 2, 3]),
    ("broadcast", &[1, 2]),
    ("col2im", &[1, 2]),
    ("convolutionbackpropdata", &[2]),
    ("dft", &[1, 2]),
    ("embeddingsegmentssum", &[3]),
    ("experimentaldetectrongenerateproposalssingleimage", &[0, 1, 2, 3]),
    ("eye", &[0, 1, 2, 3]),
    ("gather", &[2]),
    ("generateproposals", &[0, 1, 2, 3]),
    ("groupconvolutionbackpropdata", &[2]),
    ("idft", &[1, 2]),
    ("interpolate", &[1, 2, 3]),
    ("irdft", &[1, 2]),
    ("istft", &[2, 3, 4]),
    ("matrixnms", &[0, 1]),
    ("multiclassnms", &[0, 1, 2]),
    ("multinomial", &[1]),
    ("nmsrotated", &[0, 1, 2, 3, 4]),
    ("nonmaxsuppression", &[0, 1, 2, 3, 4, 5]),
    ("nonzero", &[0]),
    ("onehot", &[1]),
    ("pad", &[1, 2]),
    ("priorbox", &[0, 1]),
    ("priorboxclustered", &[0, 1]),
    ("randomuniform", &[0]),
    ("range", &[0, 1, 2]),
    ("rdft", &[1, 2]),
    ("reshape", &[1]),
    ("segmentmax", &[1, 2]),
    ("slice", &[1, 2, 3, 4]),
    ("spacetobatch", &[1, 2, 3]),
    ("sparsefillemptyrows", &[1, 2]),
    ("split", &[1]),
    ("squeeze", &[1]),
    ("stft", &[2, 3]),
    ("stridedslice", &[1, 2, 3]),
    ("tile", &[1]),
    ("topk", &[1]),
    ("transpose", &[1]),
    ("unique", &[0, 1]),
    ("unsqueeze", &[1]),
    ("variadicsplit", &[1, 2]),
];

/// Types of layers whose outputs do not follow from their inputs, or not from those alone.
const UNSETTLED: &[&str] =
    &["assign", "if", "loop", "multinomial", "parameter", "randomuniform", "readvalue", "tensoriterator"];

/// Returns the inputs whose values decide how much a layer of type `kind` computes.
fn by_inputs(kind: &str) -> &'static [usize] {
    match BY_INPUTS.iter().find(|(name, _)| *name == kind) {
        Some((_, places)) => places,
        // Which axes are left out.
        None if kind.starts_with("reduce") => &[1],
        None => &[],
    }
}

/// Collects layers and edges, tag by tag.
#[derive(Default)]
pub(super) struct Sizes {
    /// The graphs whose edges have not come yet, each within the one before it.
    graphs: Vec<Graph>,
    in_input: bool,
    in_edges: bool,
    by_values: bool,
}

#[derive(Default)]
struct Graph {
    layers: Vec<Layer>,
    edges: Vec<Edge>,
}

struct Layer {
    id: Option<u64>,
    kind: String,
    /// The numbers of the ports that are inputs, in their order.
    inputs: Vec<Option<u64>>,
}

/// From a layer to a port of another one.
struct Edge {
    from: Option<u64>,
    to: (Option<u64>, Option<u64>),
}

fn number(tag: Tag<'_>, name: &[u8]) -> Option<u64> {
    std::str::from_utf8(tag.value(name)?).ok()?.parse().ok()
}

impl Sizes {
    /// Takes note of a tag.
    pub(super) fn see(&mut self, tag: Tag<'_>) {
        match tag.name() {
            b"layers" => self.graphs.push(Graph::default()),
            b"layer" => {
                let kind = tag.value(b"type").unwrap_or_default().to_ascii_lowercase();
                let kind = String::from_utf8_lossy(&kind).into_owned();
                let layer = Layer { id: number(tag, b"id"), kind, inputs: Vec::new() };
                match self.graphs.last_mut() {
                    Some(graph) => graph.layers.push(layer),
                    None => self.graphs.push(Graph { layers: vec![layer], edges: Vec::new() }),
                }
                self.in_input = false;
            }
            b"input" => self.in_input = !tag.is_empty(),
            b"/input" => self.in_input = false,
            b"port" if self.in_input => {
                let layer = self.graphs.last_mut().and_then(|graph| graph.layers.last_mut());
                layer.into_iter().for_each(|layer| layer.inputs.push(number(tag, b"id")));
            }
            b"edges" if !tag.is_empty() => self.in_edges = true,
            b"edge" if self.in_edges => {
                let to = (number(tag, b"to-layer"), number(tag, b"to-port"));
                let edge = Edge { from: number(tag, b"from-layer"), to };
                if let Some(graph) = self.graphs.last_mut() {
                    graph.edges.push(edge);
                }
            }
            b"edges" | b"/edges" => {
                self.in_edges = false;
                self.by_values |= self.graphs.pop().is_some_and(|graph| graph.by_values());
            }
            _ => {}
        }
    }

    /// Returns whether a value that is fed may decide how much is computed. A graph without edges is taken to do so.
    pub(super) fn by_values(&self) -> bool {
        let layers = || self.graphs.iter().flat_map(|graph| &graph.layers);
        self.by_values || layers().any(|layer| !by_inputs(&layer.kind).is_empty())
    }
}

impl Graph {
    fn by_values(&self) -> bool {
        let places: HashMap<u64, usize> =
            self.layers.iter().enumerate().filter_map(|(at, layer)| Some((layer.id?, at))).collect();
        let place = |id: Option<u64>| places.get(&id?).copied();
        let mut sources = HashMap::new();
        let mut readers = vec![Vec::new(); self.layers.len()];
        for Edge { from, to } in &self.edges {
            let (Some(from), Some(reader), Some(port)) = (place(*from), place(to.0), to.1) else {
                return true;
            };
            if sources.insert((reader, port), from).is_some() {
                return true;
            }
            readers[from].push(reader);
        }
        if places.len() < self.layers.len() {
            return true;
        }
        let settled = self.settled(&readers);
        let is_settled = |layer: usize, port: Option<u64>| {
            let source = port.and_then(|port| sources.get(&(layer, port)));
            source.is_some_and(|source| settled[*source])
        };
        self.layers.iter().enumerate().any(|(at, layer)| {
            let mut sizes = by_inputs(&layer.kind).iter().filter_map(|place| layer.inputs.get(*place));
            sizes.any(|port| !is_settled(at, *port))
        })
    }

    /// Returns for each layer whether its outputs follow from constants and shapes alone. `readers`: the layers that read
    /// an output of each, one for each edge.
    fn settled(&self, readers: &[Vec<usize>]) -> Vec<bool> {
        let is_start = |layer: &Layer| matches!(&*layer.kind, "const" | "constant" | "shapeof");
        let mut settled: Vec<bool> = self.layers.iter().map(is_start).collect();
        let mut waits: Vec<usize> = self.layers.iter().map(|layer| layer.inputs.len()).collect();
        let mut ahead: Vec<usize> = (0..settled.len()).filter(|at| settled[*at]).collect();
        while let Some(at) = ahead.pop() {
            for reader in &readers[at] {
                waits[*reader] = waits[*reader].saturating_sub(1);
                let is_new = waits[*reader] == 0 && !settled[*reader];
                if is_new && !UNSETTLED.contains(&&*self.layers[*reader].kind) {
                    settled[*reader] = true;
                    ahead.push(*reader);
                }
            }
        }
        settled
    }
}

#[cfg(test)]
mod tests {
    use super::super::xml::tags;
    use super::*;

    /// Writes a graph of layers, each with its type and the layers that its inputs come from.
    fn graph(layers: &[(&str, &[usize])]) -> String {
        let (mut text, mut edges) = (String::from("<layers>"), String::new());
        for (id, (kind, sources)) in layers.iter().enumerate() {
            // Ports need not be numbered from 0.
            let ports: String = (0..sources.len())
                .map(|port| format!("<port id=\"{}\"><dim>1</dim></port>", port + 3))
                .collect();
            let input = if ports.is_empty() { ports } else { format!("<input>{ports}</input>") };
            text += &format!(
                "<layer id=\"{id}\" type=\"{kind}\">{input}<output><port id=\"9\"/></output></layer>"
            );
            for (port, source) in sources.iter().enumerate() {
                edges += &format!(
                    "<edge from-layer=\"{source}\" from-port=\"9\" to-layer=\"{id}\" to-port=\"{}\"/>",
                    port + 3
                );
            }
        }
        format!("{text}</layers><edges>{edges}</edges>")
    }

    fn by_values(xml: &str) -> bool {
        let mut sizes = Sizes::default();
        tags(xml.as_bytes()).for_each(|tag| sizes.see(tag));
        sizes.by_values()
    }

    #[test]
    fn sizes_of_constants_and_shapes_are_no_values() {
        for (layers, expected) in [
            (&[("Parameter", &[][..]), ("Relu", &[0])][..], false),
            (&[("Parameter", &[]), ("Const", &[]), ("Reshape", &[0, 1])], false),
            (&[("Parameter", &[]), ("Parameter", &[]), ("Reshape", &[0, 1])], true),
            (&[("Parameter", &[]), ("Parameter", &[]), ("reshape", &[0, 1])], true),
            (
                &[("Parameter", &[]), ("ShapeOf", &[0]), ("Const", &[]), ("Add", &[1, 2]), ("Tile", &[0, 3])],
                false,
            ),
            (
                &[("Parameter", &[]), ("Convert", &[0]), ("Const", &[]), ("Add", &[1, 2]), ("Tile", &[2, 3])],
                true,
            ),
            (&[("Const", &[]), ("Parameter", &[]), ("Range", &[0, 1, 0])], true),
            (&[("Const", &[]), ("Range", &[0, 0, 0])], false),
            (&[("Const", &[]), ("RandomUniform", &[0, 0, 0]), ("Range", &[0, 1, 0])], true),
            (&[("Parameter", &[]), ("NonZero", &[0])], true),
            (&[("Parameter", &[]), ("Const", &[]), ("ReduceSum", &[0, 1])], false),
            (&[("Parameter", &[]), ("ReduceSum", &[0, 0])], true),
        ] {
            assert_eq!(by_values(&graph(layers)), expected, "{layers:?}");
        }
    }

    #[test]
    fn graphs_in_layers_have_edges_of_their_own() {
        let inner = |size| graph(&[("Parameter", &[]), (size, &[]), ("Tile", &[0, 1])]);
        for (size, expected) in [("Const", false), ("Parameter", true)] {
            let outer = graph(&[("Parameter", &[]), ("Const", &[]), ("If", &[0]), ("Tile", &[0, 1])]);
            let with_body = |text: &str| {
                let back = "<back_edges><edge from-layer=\"1\" to-layer=\"0\"/></back_edges>";
                outer.replacen("type=\"If\">", &format!("type=\"If\">{back}<body>{text}</body>"), 1)
            };
            assert_eq!(by_values(&with_body(&inner(size))), expected);
        }
    }

    #[test]
    fn what_cannot_be_told_counts_as_values() {
        let good = graph(&[("Parameter", &[]), ("Const", &[]), ("Tile", &[0, 1])]);
        assert!(!by_values(&good));
        for (from, to) in [
            ("<edge from-layer=\"1\"", "<edge from-layer=\"x\""),
            ("to-port=\"4\"", "to-port=\"3\""),
            ("to-port=\"4\"", "to-port=\"5\""),
            ("<layer id=\"1\"", "<layer id=\"0\""),
            ("edges>", "hedges>"),
        ] {
            assert!(good.contains(from) && by_values(&good.replace(from, to)), "{from}");
        }
    }
}
