//! Operations that may leave nothing of a tensor, for some shapes of a request.
//!
//! OpenVINO leaves out what has nothing to work on, so where a later operation would make numbers of nothing, its answer
//! is whatever is in memory: of an earlier request, or 0 where TensorFlow's is NaN; or the process ends. So it gets no
//! operation that may make an empty tensor of others: a slice such as `x[:, 3:]`, or a window without padding, over a
//! dimension whose size a request decides about. Where only the number of rows does, a window cannot, and the comparison
//! of answers has seen all shapes that there are beside it.
//!
//! Nor does it get a transposed convolution with a window of one point over such a dimension: with the second shape that
//! comes, OpenVINO's run does not end.
//!
//! Three more things are wrong for some shapes only, so that the comparison of answers may not see them (2026.4):
//! - An ellipsis that stands for no dimension ends the process, or other values are cut out.
//! - `SpaceToBatchND` fills blocks with those of another row where a padded dimension of a tensor of four or more is one
//!   block long. Of constants it is computed while the model is compiled, its int32 sizes being read as int64: that ends
//!   the process, or does not end.
//! - A softmax of a product in another product is fused. If the first run is of length 1, all later ones of 16 and more are
//!   wrong.

use super::gate::{Class, Gate};
use super::graph::{Graph, Node, Port};
use super::refusal::Refusal;
use super::types::{self, Shape};
use super::{attributes, operations};

/// Operations on sizes whose result may be 0 for sizes that are not.
const SHRINK: &[&str] = &["Sub", "Add", "AddV2", "FloorDiv", "FloorMod", "Minimum", "Min", "Sum", "Slice"];

/// Most dimensions of a slice: each has a bit in its masks.
const MOST_DIMENSIONS: usize = 62;

/// What is known of each node.
struct Known<'a, 'g> {
    graph: &'a Graph<'g>,
    gate: &'a Gate,
    shapes: Vec<Shape>,
    /// True if a request decides about a dimension beside the first one, the rows.
    open: Vec<bool>,
    /// True for sizes that may be 0.
    may_vanish: Vec<bool>,
    /// True if it depends on values of a request, or on what TensorFlow computes.
    valued: Vec<bool>,
}

/// Refuses the nodes that may make an empty tensor, or may not end.
pub(super) fn refuse(graph: &Graph<'_>, gate: &mut Gate) {
    let known = Known::new(graph, gate);
    let found: Vec<(usize, &str)> = (0..graph.nodes.len())
        .filter_map(|node| {
            let empty = known.empties(node).then_some("what may be empty for some shapes");
            let hangs = known.hangs(node).then_some("a window of a point, transposed");
            Some((node, empty.or(hangs).or(known.differs(node))?))
        })
        .collect();
    for (node, why) in found {
        gate.refuse(graph, node, Refusal::at(why, graph.nodes[node].def).0);
    }
}

fn is_open(shape: &[i64]) -> bool {
    shape.iter().skip(1).any(|size| *size < 0)
}

impl<'a, 'g> Known<'a, 'g> {
    fn new(graph: &'a Graph<'g>, gate: &'a Gate) -> Known<'a, 'g> {
        let none = || vec![false; graph.nodes.len()];
        let mut known = Known {
            graph,
            gate,
            shapes: types::shapes(graph),
            open: none(),
            may_vanish: none(),
            valued: none(),
        };
        for position in &graph.order {
            known.valued[*position] = known.has_values(*position);
            known.open[*position] = known.opens(*position);
            known.may_vanish[*position] = known.is_size(*position)
                && (SHRINK.contains(&&*graph.nodes[*position].def.op)
                    || graph.nodes[*position].data.iter().any(|port| known.may_vanish[port.node]));
        }
        known
    }

    fn is_size(&self, node: usize) -> bool {
        self.gate.allows(node) && matches!(self.gate.classes[node], Class::Size { .. })
    }

    fn opens(&self, position: usize) -> bool {
        let node = &self.graph.nodes[position];
        if let Some(shape) = &self.shapes[position] {
            return is_open(shape);
        }
        if node.feed.is_some() || !self.gate.allows(position) {
            return true;
        }
        let turned = || types::integers(self.graph, node.data[1]).is_none_or(|axes| axes.first() != Some(&0));
        node.data.iter().any(|port| self.open[port.node]) || (node.def.op == "Transpose" && turned())
    }

    fn empties(&self, position: usize) -> bool {
        let node = &self.graph.nodes[position];
        if !self.gate.allows(position) || node.data.is_empty() || self.is_size(position) {
            return false;
        }
        let open = || self.open[node.data[0].node];
        match node.def.op.as_str() {
            "StridedSlice" => self.slice_empties(node),
            "MaxPool" | "AvgPool" | "MaxPool3D" | "AvgPool3D" => {
                is_bare(node) && open() && attributes::ints(node.def, "ksize").iter().any(|size| *size > 1)
            }
            op if operations::is_convolution(op) => {
                let window = self.window(node);
                let is_point = window.is_some_and(|window| window.iter().all(|size| *size == 1));
                is_bare(node) && open() && !is_point
            }
            "BatchToSpaceND" => open(),
            "Fill" | "Tile" | "BroadcastTo" | "Range" => {
                node.data.iter().any(|port| self.may_vanish[port.node] && self.open[port.node])
            }
            _ => false,
        }
    }

    /// Returns whether OpenVINO's run of the node may not end.
    fn hangs(&self, position: usize) -> bool {
        let node = &self.graph.nodes[position];
        let is_transposed = matches!(&*node.def.op, "Conv2DBackpropInput" | "Conv3DBackpropInputV2");
        is_transposed
            && self.gate.allows(position)
            && node.data.iter().any(|port| self.open[port.node])
            && self.window(node).is_none_or(|window| window.contains(&1))
    }

    fn has_values(&self, position: usize) -> bool {
        let node = &self.graph.nodes[position];
        match node.def.op.as_str() {
            _ if node.feed.is_some() || !self.gate.allows(position) => true,
            "Shape" | "ShapeN" | "Size" | "Rank" | "ZerosLike" | "OnesLike" => false,
            _ => node.data.iter().any(|port| self.valued[port.node]),
        }
    }

    /// Returns why OpenVINO may compute something else than TensorFlow for some shapes.
    fn differs(&self, position: usize) -> Option<&'static str> {
        let node = &self.graph.nodes[position];
        let first = node.data.first().filter(|_| self.gate.allows(position))?;
        let rank = || self.shapes[first.node].as_ref().filter(|_| first.output == 0).map(Vec::len);
        match node.def.op.as_str() {
            "StridedSlice" if self.is_idle_ellipsis(node, rank()) => Some("an ellipsis of nothing"),
            "SpaceToBatchND" | "BatchToSpaceND" if !self.valued[first.node] => Some("blocks of a constant"),
            "SpaceToBatchND" if self.open[first.node] && rank() != Some(3) => Some("blocks of an open size"),
            "Softmax" if self.open[first.node] && self.is_attention(position) => {
                Some("attention of any length without a mask")
            }
            _ => None,
        }
    }

    /// Returns whether an ellipsis may stand for no dimension of a value of `rank`.
    fn is_idle_ellipsis(&self, node: &Node<'_>, rank: Option<usize>) -> bool {
        let mask = |name: &str| attributes::int(node.def, name).unwrap_or(0);
        let (ellipsis, added) = (mask("ellipsis_mask"), mask("new_axis_mask"));
        let strides = node.data.get(3).and_then(|port| types::integers(self.graph, *port));
        let count = strides.map_or(usize::MAX, |strides| strides.len());
        let taken = (0..count.min(MOST_DIMENSIONS)).filter(|place| (ellipsis | added) & (1i64 << place) == 0);
        let taken = taken.count();
        // Of unknown values, `x[..., 1:]` is one of two dimensions at least.
        ellipsis != 0 && rank.map_or(taken > 1, |rank| taken >= rank)
    }

    /// Returns whether a softmax is of a product, scaled or not, and goes into another one.
    fn is_attention(&self, position: usize) -> bool {
        let nodes = &self.graph.nodes;
        let is_product = |node: usize| nodes[node].def.op.starts_with("BatchMatMul");
        let source = nodes[position].data[0].node;
        let is_scaled = matches!(&*nodes[source].def.op, "Mul" | "RealDiv");
        let is_score =
            is_product(source) || (is_scaled && nodes[source].data.iter().any(|port| is_product(port.node)));
        let takes = |node: &usize| nodes[*node].data.iter().any(|port| port.node == position);
        is_score && (0..nodes.len()).filter(takes).any(is_product)
    }

    /// Returns the size of the window of a convolution, if it is known.
    fn window(&self, node: &Node<'_>) -> Option<&[i64]> {
        let shape = self.shapes[node.data.get(1)?.node].as_deref()?;
        shape.split_last_chunk::<2>().map(|(window, _)| window)
    }

    fn slice_empties(&self, node: &Node<'_>) -> bool {
        let mask = |name: &str| attributes::int(node.def, name).unwrap_or(0);
        let [value, begin, end, strides] = node.data[..] else { return true };
        let Some(strides) = types::integers(self.graph, strides) else { return true };
        let are_bounds_open = self.open[begin.node] || self.open[end.node];
        let (ellipsis, added) = (mask("ellipsis_mask"), mask("new_axis_mask"));
        let shape = self.shapes[value.node].as_deref().filter(|_| value.output == 0);
        let mut dimension = 0;
        for (place, stride) in strides.iter().enumerate().take(MOST_DIMENSIONS) {
            let bit = 1i64 << place;
            if added & bit != 0 || ellipsis & bit != 0 {
                continue;
            }
            let is_after_ellipsis = ellipsis & (bit - 1) != 0;
            let size = shape.filter(|_| !is_after_ellipsis).and_then(|shape| shape.get(dimension));
            let is_fixed = size.is_some_and(|size| *size >= 0)
                || (!self.open[value.node] && (is_after_ellipsis || dimension > 0));
            dimension += 1;
            if mask("shrink_axis_mask") & bit != 0 || (is_fixed && !are_bounds_open) {
                continue;
            }
            let bound =
                |name, port| if mask(name) & bit != 0 { Bound::Open } else { self.bound(port, place) };
            let leaves_some = match (*stride > 0, bound("begin_mask", begin), bound("end_mask", end)) {
                (_, Bound::Open, Bound::Open)
                | (false, Bound::At(-1), Bound::Open)
                | (true, Bound::Open | Bound::At(0), Bound::Size) => true,
                (true, Bound::Open | Bound::At(0), Bound::At(end)) => end > 0,
                (true, Bound::At(begin), Bound::Open) => begin <= 0,
                _ => false,
            };
            if !leaves_some {
                return true;
            }
        }
        false
    }

    /// Returns the bound of a slice at `place` of the vector `port`.
    fn bound(&self, port: Port, place: usize) -> Bound {
        if let Some(values) = types::integers(self.graph, port) {
            return values.get(place).map_or(Bound::Any, |value| Bound::At(*value));
        }
        let vector = &self.graph.nodes[port.node];
        let Some(element) = vector.data.get(place).filter(|_| vector.def.op == "Pack") else {
            return Bound::Any;
        };
        match types::integers(self.graph, *element).as_deref() {
            Some([value]) => Bound::At(*value),
            _ if self.is_size(element.node) && !self.may_vanish[element.node] => Bound::Size,
            _ => Bound::Any,
        }
    }
}

/// Where a slice begins or ends.
#[derive(Clone, Copy)]
enum Bound {
    /// Where the dimension does.
    Open,
    At(i64),
    /// At the size of a dimension that is there.
    Size,
    Any,
}

/// Returns whether nothing, or not certainly enough, is added around what a window goes over.
fn is_bare(node: &Node<'_>) -> bool {
    attributes::text(node.def, "padding") != Some(b"SAME")
}
