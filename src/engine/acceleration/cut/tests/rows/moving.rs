//! Operations that move values: floats, and what is made floats afterwards.

use super::super::builder::Builder;
use super::elementwise::cast;
use super::{Case, bytes, case, floats, int, ints, list, types};
use crate::tensor::{DType, Tensor};

/// Dtypes that are moved, each with a tensor of shape [2, 3] at its edges.
fn kinds() -> [(DType, Tensor); 4] {
    [
        (DType::Float, floats(&[2, 3], &[-0.0, 1e38, -1e-30, f32::MIN_POSITIVE, f32::MAX, 0.1])),
        (DType::Int32, ints(&[2, 3], &[i32::MIN, i32::MAX, -1, 0, 1, 16_777_217])),
        (DType::UInt8, bytes(DType::UInt8, &[2, 3], &[0, 1, 2, 127, 128, 255])),
        (DType::Bool, bytes(DType::Bool, &[2, 3], &[0, 1, 1, 0, 1, 0])),
    ]
}

/// Returns a case of each dtype: `build` makes node `moved` of the input `x`.
fn moved(op: &'static str, build: impl Fn(&mut Builder, DType)) -> Vec<Case> {
    let of = |(dtype, tensor): (DType, Tensor)| {
        case(op, &[&[tensor]], |graph| {
            build(graph.input("x", dtype, &[-1, -1]), dtype);
            if dtype == DType::Float {
                graph.floats("op", "Identity", &["moved"]);
            } else {
                cast(graph, "moved", dtype);
            }
        })
    };
    kinds().into_iter().map(of).collect()
}

pub(super) fn cases() -> Vec<Case> {
    let parts = [passed_on(), reshaped(), joined(), apart(), strided(), gathered(), filled()];
    parts.into_iter().flatten().collect()
}

fn passed_on() -> Vec<Case> {
    let of = |op: &'static str| {
        moved(op, |graph, dtype| {
            graph.node("moved", op, &["x"], &[("T", dtype)]);
        })
    };
    let mut cases: Vec<Case> =
        ["Identity", "StopGradient", "PreventGradient", "Snapshot"].into_iter().flat_map(of).collect();
    cases.extend(moved("IdentityN", |graph, dtype| {
        graph.node("moved", "IdentityN", &["x"], &[]).with("T", types(&[dtype]));
    }));
    cases
}

fn reshaped() -> Vec<Case> {
    let one = |op: &'static str, second: &'static str, sizes: &'static [i32]| {
        moved(op, move |graph, dtype| {
            graph.vector("sizes", sizes).node(
                "moved",
                op,
                &["x", "sizes"],
                &[("T", dtype), (second, DType::Int32)],
            );
        })
    };
    let mut cases = one("Reshape", "Tshape", &[3, -1]);
    cases.extend(one("Reshape", "Tshape", &[-1]));
    cases.extend(one("Tile", "Tmultiples", &[2, 3]));
    cases.extend(one("BroadcastTo", "Tidx", &[2, 2, 3]));
    cases.extend(one("Transpose", "Tperm", &[1, 0]));
    for axis in [0, -1, 1] {
        cases.extend(moved("ExpandDims", move |graph, dtype| {
            graph.integers("axis", &[axis]);
            graph.node("moved", "ExpandDims", &["x", "axis"], &[("T", dtype), ("Tdim", DType::Int32)]);
        }));
    }
    for axes in [[1], [-2]] {
        cases.extend(moved("Squeeze", move |graph, dtype| {
            graph.integers("axis", &[1]);
            graph.node("thin", "ExpandDims", &["x", "axis"], &[("T", dtype), ("Tdim", DType::Int32)]);
            graph.node("moved", "Squeeze", &["thin"], &[("T", dtype)]).with("squeeze_dims", list(&axes));
        }));
    }
    cases
}

fn joined() -> Vec<Case> {
    let mut cases = Vec::new();
    for axis in [0, 1, -1] {
        cases.extend(moved("Pack", move |graph, dtype| {
            graph
                .node("moved", "Pack", &["x", "x"], &[("T", dtype)])
                .all(&[("N", int(2)), ("axis", int(axis))]);
        }));
        let axis = i32::try_from(axis).unwrap();
        cases.extend(moved("ConcatV2", move |graph, dtype| {
            graph.integers("axis", &[axis]);
            graph.node("moved", "ConcatV2", &["x", "x", "axis"], &[("T", dtype), ("Tidx", DType::Int32)]);
            graph.with("N", int(2));
        }));
    }
    cases
}

/// Every output counts: they are joined again, the other way round.
fn again(graph: &mut Builder, dtype: DType, parts: &[&str]) {
    graph.integers("along", &[1]);
    let all: Vec<&str> = parts.iter().rev().copied().chain(["along"]).collect();
    graph.node("moved", "ConcatV2", &all, &[("T", dtype), ("Tidx", DType::Int32)]);
    graph.with("N", int(i64::try_from(parts.len()).unwrap()));
}

fn apart() -> Vec<Case> {
    let mut cases = moved("Unpack", |graph, dtype| {
        graph.node("parts", "Unpack", &["x"], &[("T", dtype)]).all(&[("num", int(3)), ("axis", int(1))]);
        graph.node("moved", "Pack", &["parts:2", "parts", "parts:1"], &[("T", dtype)]);
        graph.all(&[("N", int(3)), ("axis", int(0))]);
    });
    cases.extend(moved("Split", |graph, dtype| {
        graph.integers("axis", &[-1]).node("parts", "Split", &["axis", "x"], &[("T", dtype)]);
        graph.with("num_split", int(3));
        again(graph, dtype, &["parts", "parts:1", "parts:2"]);
    }));
    cases.extend(moved("SplitV", |graph, dtype| {
        graph.integers("axis", &[1]).vector("sizes", &[1, -1]);
        let types = [("T", dtype), ("Tlen", DType::Int32)];
        graph.node("parts", "SplitV", &["x", "sizes", "axis"], &types).with("num_split", int(2));
        again(graph, dtype, &["parts", "parts:1"]);
    }));
    cases
}

/// What a slice is made of: begin, end, strides; then the masks of begin, end, ellipsis, new axis, shrunk axis.
type Slice = ([&'static [i32]; 3], [i64; 5]);

const SLICES: [Slice; 9] = [
    ([&[0, 1], &[2, 3], &[1, 1]], [0; 5]),
    ([&[0, 0], &[0, 0], &[1, 2]], [3, 3, 0, 0, 0]),
    ([&[0, 0], &[0, 0], &[-1, -1]], [3, 3, 0, 0, 0]),
    ([&[-1, -3], &[-5, -1], &[-1, 1]], [0; 5]),
    ([&[0, -1], &[0, 0], &[1, 1]], [1, 1, 0, 0, 2]),
    ([&[0, 0, 1], &[0, 0, 2], &[1, 1, 1]], [0, 0, 1, 2, 0]),
    ([&[1], &[2], &[1]], [0, 0, 0, 0, 1]),
    ([&[-9, -9], &[9, 9], &[1, 1]], [0; 5]),
    ([&[0, 2], &[9, -9], &[1, -2]], [0; 5]),
];

fn strided() -> Vec<Case> {
    let names = ["begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask"];
    let of = |([begin, end, strides], masks): Slice| {
        moved("StridedSlice", move |graph, dtype| {
            graph.vector("begin", begin).vector("end", end).vector("strides", strides);
            let types = [("T", dtype), ("Index", DType::Int32)];
            graph.node("moved", "StridedSlice", &["x", "begin", "end", "strides"], &types);
            for (name, mask) in names.iter().zip(masks) {
                graph.with(name, int(mask));
            }
        })
    };
    SLICES.into_iter().flat_map(of).collect()
}

fn gathered() -> Vec<Case> {
    let of = |axis: i32, indices: &'static [i32]| {
        moved("GatherV2", move |graph, dtype| {
            graph.vector("indices", indices).integers("axis", &[axis]);
            let types = [("Tparams", dtype), ("Tindices", DType::Int32), ("Taxis", DType::Int32)];
            graph.node("moved", "GatherV2", &["x", "indices", "axis"], &types).with("batch_dims", int(0));
        })
    };
    [of(0, &[1, 0, 1, 1]), of(1, &[2, 0]), of(-1, &[1])].into_iter().flatten().collect()
}

/// A scalar, as often as a shape has elements.
fn filled() -> Vec<Case> {
    moved("Fill", |graph, dtype| {
        graph.node("s", "Shape", &["x"], &[("T", dtype), ("out_type", DType::Int32)]);
        for name in ["begin", "end", "strides"] {
            graph.vector(name, &[i32::from(name != "begin"); 2]);
        }
        let types = [("T", dtype), ("Index", DType::Int32)];
        graph.node("one", "StridedSlice", &["x", "begin", "end", "strides"], &types);
        let masks = ["begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask"].map(|name| (name, int(0)));
        graph.all(&masks).with("shrink_axis_mask", int(3));
        graph.node("moved", "Fill", &["s", "one"], &[("T", dtype), ("index_type", DType::Int32)]);
    })
}
