//! The dtypes of values, and their shapes as far as those of a part's inputs are known.

use super::attributes;
use super::graph::{Graph, Port};
use crate::pb::tensorflow::NodeDef;
use crate::tensor::DType;

/// Operations all of whose outputs have the dtype of this attribute.
const BY_ATTRIBUTE: &[(&str, &[&str])] = &[
    ("dtype", &["Const", "Placeholder", "PlaceholderWithDefault", "DecodeImage", "DecodePng", "Empty"]),
    ("DstT", &["Cast"]),
    ("out_type", &["Shape", "ShapeN", "Size", "DecodeRaw", "StringToNumber", "Bucketize"]),
    ("output_type", &["ArgMax", "ArgMin"]),
    ("Tparams", &["Gather", "GatherV2", "GatherNd"]),
    ("Tout", &["BatchMatMulV3", "ComplexAbs", "Real", "Imag", "Angle"]),
    ("Tidx", &["Range"]),
    ("element_dtype", &["TensorListStack", "TensorListGetItem", "TensorListGather"]),
    ("Tcomplex", &["RFFT", "RFFT2D"]),
    ("Treal", &["IRFFT", "IRFFT2D"]),
];

/// Operations all of whose outputs have this dtype.
const FIXED: &[(DType, &[&str])] = &[
    (
        DType::Bool,
        &[
            "Equal",
            "NotEqual",
            "Less",
            "LessEqual",
            "Greater",
            "GreaterEqual",
            "LogicalAnd",
            "LogicalOr",
            "LogicalNot",
            "IsNan",
            "IsInf",
            "IsFinite",
            "Any",
            "All",
            "LoopCond",
            "RegexFullMatch",
            "StaticRegexFullMatch",
        ],
    ),
    (DType::Int32, &["Rank", "StringLength", "NonMaxSuppressionV3", "TensorListLength", "InvertPermutation"]),
    (DType::Int64, &["Where", "StringToHashBucket", "StringToHashBucketFast", "StringToHashBucketStrong"]),
    (DType::UInt8, &["DecodeJpeg", "DecodeAndCropJpeg", "DecodeBmp", "DecodeGif"]),
    (DType::Float, &["ResizeBilinear", "ResizeBicubic", "CropAndResize", "ScaleAndTranslate"]),
    (
        DType::String,
        &[
            "AsString",
            "StringJoin",
            "StringLower",
            "StringUpper",
            "StringStrip",
            "RegexReplace",
            "StaticRegexReplace",
            "Substr",
            "DecodeBase64",
            "EncodeBase64",
            "ReduceJoin",
        ],
    ),
];

/// Further operations all of whose outputs have the dtype `T`, besides those of `operations.rs`.
const AS_INPUT: &[&str] = &[
    "Abs",
    "Ceil",
    "ClipByValue",
    "Cumsum",
    "DynamicStitch",
    "EnsureShape",
    "Floor",
    "FloorDiv",
    "FloorMod",
    "Enter",
    "Exit",
    "MatrixBandPart",
    "MatrixDiag",
    "Mod",
    "OneHot",
    "Round",
    "ScatterNd",
    "Sign",
    "Softplus",
    "SparseToDense",
    "TensorScatterUpdate",
    "TruncateDiv",
    "ResizeNearestNeighbor",
    "ReverseSequence",
    "Roll",
    "SegmentSum",
    "SegmentMean",
    "Select",
    "UnsortedSegmentSum",
    "Merge",
    "Switch",
    "NextIteration",
    "Fill",
    "BroadcastArgs",
    "ZerosLike",
    "OnesLike",
];

/// Returns the dtype of an output of `node`; `None` if it is not known. `plain`: its operation is one that `T` types.
pub(super) fn dtype(node: &NodeDef, output: usize, plain: bool) -> Option<DType> {
    let op = node.op.as_str();
    if let Some((attribute, _)) = BY_ATTRIBUTE.iter().find(|(_, ops)| ops.contains(&op)) {
        return attributes::dtype(node, attribute, output);
    }
    if let Some((dtype, _)) = FIXED.iter().find(|(_, ops)| ops.contains(&op)) {
        return Some(*dtype);
    }
    match (op, output) {
        ("Merge", 1) => Some(DType::Int32),
        ("TopKV2" | "TopK", 1) => Some(attributes::dtype(node, "index_type", 0).unwrap_or(DType::Int32)),
        ("TopKV2" | "TopK", 0) => attributes::dtype(node, "T", 0),
        ("ParseExampleV2" | "ParseExample", _) => parsed(node, output),
        _ if plain || AS_INPUT.contains(&op) => attributes::dtype(node, "T", output),
        _ => None,
    }
}

/// Returns the dtype of a dense feature; those of the others are not needed.
fn parsed(node: &NodeDef, output: usize) -> Option<DType> {
    let sparse = (0..).find(|place| attributes::dtype(node, "sparse_types", *place).is_none())?;
    attributes::dtype(node, "Tdense", output.checked_sub(3 * sparse)?)
}

/// A shape, -1 for unknown dimensions; `None` if the rank is unknown.
pub(super) type Shape = Option<Vec<i64>>;

/// Operations whose output has the shape of the first input.
const SAME_SHAPE: &[&str] = &[
    "Identity",
    "StopGradient",
    "PreventGradient",
    "Snapshot",
    "Cast",
    "Exit",
    "Neg",
    "Relu",
    "Sqrt",
    "Rsqrt",
    "Softmax",
    "LookupTableFindV2",
    "StringToNumber",
];

/// Operations whose output has the shape that their inputs broadcast to.
const BROADCAST: &[&str] = &[
    "Add",
    "AddV2",
    "Sub",
    "Mul",
    "RealDiv",
    "Maximum",
    "Minimum",
    "SelectV2",
    "Less",
    "LessEqual",
    "Greater",
    "GreaterEqual",
    "Equal",
    "NotEqual",
];

/// Returns the shapes of the first output of every node, as far as known: enough for what models compute before their
/// first large operation.
pub(super) fn shapes(graph: &Graph<'_>) -> Vec<Shape> {
    let mut shapes: Vec<Shape> = vec![None; graph.nodes.len()];
    for node in &graph.order {
        shapes[*node] = shape(graph, *node, &shapes);
    }
    shapes
}

fn shape(graph: &Graph<'_>, position: usize, shapes: &[Shape]) -> Shape {
    let node = &graph.nodes[position];
    if let Some(place) = node.feed {
        return graph.frozen.inputs[place].shape.clone();
    }
    let of = |port: &Port| -> Shape { shapes[port.node].clone().filter(|_| port.output == 0) };
    let input = |place: usize| node.data.get(place).and_then(of);
    let constant = |place: usize| -> Shape { integers(graph, *node.data.get(place)?) };
    match node.def.op.as_str() {
        "Const" => attributes::constant_shape(node.def),
        op if SAME_SHAPE.contains(&op) => input(0),
        op if BROADCAST.contains(&op) => {
            node.data.iter().map(of).reduce(|left, right| broadcast(&left?, &right?)).flatten()
        }
        "GatherV2" if constant(2)? == [0] && attributes::int(node.def, "batch_dims").unwrap_or(0) == 0 => {
            Some([input(1)?.as_slice(), input(0)?.get(1..)?].concat())
        }
        "TensorListStack" => Some([&[-1], constant(1)?.as_slice()].concat()),
        "Reshape" => constant(1),
        "StridedSlice" if attributes::int(node.def, "shrink_axis_mask") == Some(1) => match input(0)?.len() {
            1 => Some(Vec::new()),
            _ => None,
        },
        "ExpandDims" => {
            let (mut shape, axis) = (input(0)?, *constant(1)?.first()?);
            let place = if axis < 0 { shape.len() as i64 + 1 + axis } else { axis };
            let place = usize::try_from(place).ok().filter(|place| *place <= shape.len())?;
            shape.insert(place, 1);
            Some(shape)
        }
        "ResizeBilinear" | "ResizeNearestNeighbor" | "ResizeBicubic" => {
            let (images, size) = (input(0)?, constant(1)?);
            Some(vec![*images.first()?, *size.first()?, *size.get(1)?, *images.get(3)?])
        }
        _ => None,
    }
}

/// Returns the integers of a constant, also behind what only passes it on.
pub(super) fn integers(graph: &Graph<'_>, port: Port) -> Option<Vec<i64>> {
    let mut node = &graph.nodes[port.node];
    for _ in 0..LONGEST_CHAIN {
        match node.def.op.as_str() {
            "Identity" | "StopGradient" => node = &graph.nodes[node.data.first()?.node],
            _ => return attributes::constant_integers(node.def, MOST_INTEGERS),
        }
    }
    None
}

/// Most nodes between a constant and its use.
const LONGEST_CHAIN: usize = 16;

/// Most elements of a constant that is read.
pub(super) const MOST_INTEGERS: usize = 1024;

fn broadcast(left: &[i64], right: &[i64]) -> Shape {
    let rank = left.len().max(right.len());
    let dim =
        |shape: &[i64], place: usize| (place + shape.len()).checked_sub(rank).map_or(1, |place| shape[place]);
    let both = (0..rank).map(|place| match (dim(left, place), dim(right, place)) {
        (1, other) | (other, 1) => other,
        (-1, known) | (known, -1) => known,
        (known, _) => known,
    });
    Some(both.collect())
}
