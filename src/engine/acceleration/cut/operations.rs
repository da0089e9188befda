//! The operations that OpenVINO computes as TensorFlow does, each compared with it by itself.
//!
//! Left out on purpose, with what was seen:
//! - int64 and float64 arithmetic: computed as int32 and float32. Comparisons of int32: computed as float32, so 2²⁴ and
//!   2²⁴ + 1 are equal.
//! - Look-ups by values of the request (`GatherV2`, `Gather`): an index that is out of range is an error in TensorFlow
//!   and a value of 0 in OpenVINO.
//! - `Cast` to integers: other results beyond the range. `ArgMax`: other results with NaN; and it is short.
//! - `BatchMatMul` and `Slice` of values, `EnsureShape`: they answer what TensorFlow refuses.
//! - `Floor`, `Ceil`, `Round`, `Sign`, and comparisons (`Greater`, `Equal`, …): a difference of 1e-7 before them becomes 1.
//! - `Softplus`: where it is small, other results (of -10 by 1 %). `Erf` and `Erfc` are likewise as exact as 1 alone; the
//!   gate says where that suffices.
//! - `LogSoftmax`: beside a `Transpose`, OpenVINO moves that over it and keeps the axis.
//! - `Log1p`, `Expm1`, `LRN`, `Prod`, `Mod`, `Xdivy`, `DivNoNan`, `Atan2`: other results.
//!
//! What remains still differs for NaN, infinities and denormals (`Relu` of NaN is 0, `Exp` of NaN is infinite), for tensors
//! without elements, and above all for shapes that TensorFlow refuses: these may be answered, or end the process. So a
//! part may only run with shapes with which TensorFlow has run it, and with finite values. That suffices, because whether
//! TensorFlow refuses a run of such a part depends on nothing but the shapes of its inputs: no operation here looks at
//! values to decide about a shape, an index or an error. Tensors that become empty only within a part: see `empties.rs`.

/// What an operation takes: a letter for each input, see below; `*` repeats the letter before it.
/// What it gives: the letter of its outputs.
pub(super) struct Operation {
    pub(super) inputs: &'static str,
    pub(super) gives: char,
}

/// The letters:
/// - `f`: float32.
/// - `b`: bool.
/// - `i`: an int32 or uint8 of a request.
/// - `s`: a size, axis or index, made of shapes and constants.
/// - `n`: the same, certainly within int32.
/// - `c`: the same as `s`, made of constants alone.
/// - `m`: any of `f`, `b`, `i`, `s` that is only moved; all `m` of an operation, and what it gives, are of one kind.
/// - `x`: anything that has a shape, of which no more is read.
const TABLE: &[(&str, char, &[&str])] = &[
    ("f", 'f', UNARY),
    ("ff", 'f', &["Add", "AddV2", "Sub", "Mul", "RealDiv", "Maximum", "Minimum", "SquaredDifference", "Pow"]),
    ("f*", 'f', &["AddN"]),
    ("fff", 'f', &["ClipByValue"]),
    ("bb", 'b', &["LogicalAnd", "LogicalOr"]),
    ("b", 'b', &["LogicalNot"]),
    ("bff", 'f', &["SelectV2"]),
    ("fc", 'f', &["Mean", "Sum", "Max", "Min", "Pad", "MirrorPad", "ReverseV2"]),
    ("fcf", 'f', &["PadV2"]),
    ("fcs", 'f', &["SpaceToBatchND", "BatchToSpaceND"]),
    ("fs", 'f', &["ResizeBilinear", "ResizeNearestNeighbor"]),
    ("ff", 'f', &["MatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum", "BiasAdd"]),
    ("ff", 'f', &["Conv2D", "DepthwiseConv2dNative", "Conv3D"]),
    ("sff", 'f', &["Conv2DBackpropInput", "Conv3DBackpropInputV2"]),
    ("fffff", 'f', &["FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"]),
    ("icff", 'f', &["OneHot"]),
    ("ncff", 'f', &["OneHot"]),
    ("i", 'f', &["Cast"]),
    ("b", 'f', &["Cast"]),
    ("n", 'f', &["Cast"]),
    // What moves values.
    ("m", 'm', &["Identity", "StopGradient", "PreventGradient", "Snapshot", "Squeeze", "Unpack"]),
    ("m*", 'm', &["IdentityN", "Pack"]),
    ("m*c", 'm', &["ConcatV2"]),
    ("mc", 'm', &["ExpandDims", "Transpose"]),
    ("ms", 'm', &["Reshape", "Tile", "BroadcastTo"]),
    ("mssc", 'm', &["StridedSlice"]),
    ("mcc", 'm', &["GatherV2", "SplitV"]),
    ("cm", 'm', &["Split"]),
    ("sm", 'm', &["Fill"]),
    // What computes sizes.
    ("x", 's', &["Shape", "Size", "Rank"]),
    ("x*", 's', &["ShapeN"]),
    ("ss", 's', &["Add", "AddV2", "Sub", "Mul", "Maximum", "Minimum", "BroadcastArgs"]),
    ("sc", 's', &["Prod", "Sum", "Max", "Min", "FloorDiv", "FloorMod"]),
    ("sss", 's', &["Slice", "Range"]),
    ("s", 's', &["Cast"]),
];

const UNARY: &[&str] = &[
    "Rsqrt",
    "Sqrt",
    "Square",
    "Exp",
    "Log",
    "Tanh",
    "Sigmoid",
    "Relu",
    "Relu6",
    "Elu",
    "Selu",
    "LeakyRelu",
    "Softsign",
    "Erf",
    "Erfc",
    "Neg",
    "Abs",
    "Reciprocal",
    "Inv",
    "Softmax",
    "MaxPool",
    "AvgPool",
    "MaxPool3D",
    "AvgPool3D",
    "DepthToSpace",
    "SpaceToDepth",
    "ZerosLike",
    "OnesLike",
];

/// The operations that are worth moving.
const HEAVY: [&str; 9] = [
    "Conv2D",
    "DepthwiseConv2dNative",
    "Conv3D",
    "Conv2DBackpropInput",
    "Conv3DBackpropInputV2",
    "MatMul",
    "BatchMatMulV2",
    "BatchMatMulV3",
    "Einsum",
];

/// Returns the ways in which operation `op` may be used; none, if OpenVINO must not run it.
pub(super) fn allowed(op: &str) -> impl Iterator<Item = Operation> {
    let rows = TABLE.iter().filter(move |(.., ops)| ops.contains(&op));
    rows.map(|(inputs, gives, _)| Operation { inputs, gives: *gives })
}

/// Returns every operation of the table.
#[cfg(test)]
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    TABLE.iter().flat_map(|(.., ops)| ops.iter().copied())
}

/// Returns whether `op` is worth moving.
pub(super) fn is_heavy(op: &str) -> bool {
    HEAVY.contains(&op)
}

/// Returns whether `op` goes over a tensor with a window of weights.
pub(super) fn is_convolution(op: &str) -> bool {
    matches!(op, "Conv2D" | "DepthwiseConv2dNative" | "Conv3D")
}

/// Returns whether `op` sums, multiplies or counts sizes, which may exceed int32.
pub(super) fn grows(op: &str) -> bool {
    matches!(op, "Add" | "AddV2" | "Sub" | "Mul" | "Prod" | "Sum" | "Range" | "Size")
}

impl Operation {
    /// Returns a letter for each of `count` inputs; `None` if it does not take as many.
    pub(super) fn letters(&self, count: usize) -> Option<Vec<char>> {
        let fixed = self.inputs.chars().filter(|letter| *letter != '*').count();
        let repeats = self.inputs.contains('*');
        if count < fixed || (count > fixed && !repeats) {
            return None;
        }
        let mut letters = Vec::with_capacity(count);
        for letter in self.inputs.chars() {
            match (letter, letters.last().copied()) {
                ('*', Some(last)) => letters.extend(std::iter::repeat_n(last, count - fixed)),
                _ => letters.push(letter),
            }
        }
        Some(letters)
    }
}

/// Parts of the names of operations whose result depends on more than their inputs.
const STATE: &[(&str, &[&str])] = &[
    ("a table", &["Table"]),
    (
        "random numbers",
        &["Random", "Truncated", "Multinomial", "Sampler", "Shuffle", "Rng", "Seed", "Dropout"],
    ),
    (
        "random numbers",
        &["Stateful", "NonDeterministic", "Skipgram", "NegTrain", "SampleDistorted", "CudnnRNN"],
    ),
    (
        "state",
        &[
            "Variable",
            "VarHandle",
            "VarIs",
            "Assign",
            "Stack",
            "Scatter",
            "Restore",
            "Save",
            "Resource",
            "Handle",
            "Session",
        ],
    ),
    (
        "state",
        &["BoostedTrees", "MemoryCache", "TensorsMap", "IterId", "Counter", "StatsAggregator", "Checkpoint"],
    ),
    ("input or output", &["Read", "Write", "Dataset", "Iterator", "Summary", "Print", "Socket", "Timestamp"]),
    (
        "input or output",
        &["RecordInput", "ImportEvent", "FileSystem", "Dump", "Debug", "Sleep", "LoadAndRemap"],
    ),
    ("a queue", &["Queue", "Enqueue", "Dequeue", "Barrier", "Stage", "Unstage", "Mutex", "Accumulator"]),
    ("a queue", &["MapPeek", "MapSize", "MapClear", "MapIncomplete"]),
    ("foreign code", &["PyFunc", "Func", "Xla", ">"]),
    ("communication", &["Send", "Recv", "Collective", "Nccl", "AllToAll", "CrossReplica", "Rpc", "Worker"]),
    ("communication", &["Tpu", "TPU", "DTensor", "Minibatch", "Dedup", "Scoped"]),
];

/// Operations whose names contain such a part but whose result depends on their inputs alone.
const STATELESS: &[&str] = &[
    "Unstack",
    "Unpack",
    "TensorListStack",
    "TensorListScatter",
    "TensorListScatterV2",
    "TensorListScatterIntoExistingList",
    "ScatterNd",
    "TensorScatterUpdate",
    "TensorScatterAdd",
    "TensorScatterSub",
    "TensorScatterMax",
    "TensorScatterMin",
];

/// Returns what makes a run of `op` depend on more than its inputs, or do more than compute.
pub(super) fn state(op: &str) -> Option<&'static str> {
    if STATELESS.contains(&op) || op.starts_with("Stateless") || op.starts_with("TensorArray") {
        return None;
    }
    let found = STATE.iter().find(|(_, parts)| parts.iter().any(|part| op.contains(part)));
    found.map(|(what, _)| *what)
}
