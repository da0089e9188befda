//! Operations on sizes, which come from shapes and constants.

use super::super::builder::Builder;
use super::elementwise::cast;
use super::{Case, case, flag, int, mixed, of_type};
use crate::tensor::{DType, Tensor};

/// Returns a case in each of both dtypes: `build` makes node `size` of `s`, the shape of a matrix.
fn sized(op: &'static str, build: impl Fn(&mut Builder, DType)) -> Vec<Case> {
    let of = |dtype: DType| {
        let requests: [&[Tensor]; 3] = [&[mixed(&[2, 3])], &[mixed(&[1, 1])], &[mixed(&[7, 4])]];
        case(op, &requests, |graph| {
            graph.input("x", DType::Float, &[-1, -1]);
            graph.node("s", "Shape", &["x"], &[("T", DType::Float), ("out_type", dtype)]);
            build(graph, dtype);
            cast(graph, "size", dtype);
        })
    };
    vec![of(DType::Int32)]
}

pub(super) fn cases() -> Vec<Case> {
    let parts = [read(), of_two(), of_many(), parts_of(), as_int64()];
    parts.into_iter().flatten().collect()
}

fn read() -> Vec<Case> {
    let of_x = |op: &'static str, set: &'static [(&'static str, bool)]| {
        sized(op, move |graph, dtype| {
            graph.node("size", op, &["x"], &[("T", DType::Float)]);
            for (name, _) in set {
                graph.with(name, of_type(dtype));
            }
        })
    };
    let mut cases = of_x("Shape", &[("out_type", true)]);
    cases.extend(of_x("Size", &[("out_type", true)]));
    cases.extend(of_x("Rank", &[]));
    cases.extend(sized("ShapeN", |graph, dtype| {
        graph
            .node("shapes", "ShapeN", &["x", "x"], &[("T", DType::Float), ("out_type", dtype)])
            .with("N", int(2));
        graph.node("size", "AddV2", &["shapes", "shapes:1"], &[("T", dtype)]);
    }));
    cases
}

fn of_two() -> Vec<Case> {
    let with = |op: &'static str, values: &'static [i32]| {
        sized(op, move |graph, dtype| {
            graph.vector("c", values).node("size", op, &["s", "c"], &[("T", dtype)]);
        })
    };
    let mut cases: Vec<Case> = ["Add", "AddV2", "Sub", "Mul", "Maximum", "Minimum"]
        .into_iter()
        .flat_map(|op| [with(op, &[2, -3]), with(op, &[1_000_000, 16_777_217])])
        .flatten()
        .collect();
    for op in ["FloorDiv", "FloorMod"] {
        cases.extend(with(op, &[2, 3]));
        // Of negative ones, too.
        cases.extend(sized(op, move |graph, dtype| {
            graph.vector("c", &[2, 5]).vector("less", &[-9, -16_777_217]);
            graph.node("below", "AddV2", &["s", "less"], &[("T", dtype)]);
            graph.node("size", op, &["below", "c"], &[("T", dtype)]);
        }));
    }
    cases.extend(sized("BroadcastArgs", |graph, dtype| {
        graph.vector("c", &[5, 1, 1]).node("size", "BroadcastArgs", &["s", "c"], &[("T", dtype)]);
    }));
    cases
}

fn of_many() -> Vec<Case> {
    let of = |op: &'static str| {
        sized(op, move |graph, dtype| {
            graph.vector("axes", &[0]).vector("c", &[-7, 16_777_217]);
            graph.node("shifted", "AddV2", &["s", "c"], &[("T", dtype)]);
            let of = if op == "Prod" { "s" } else { "shifted" };
            graph.node("size", op, &[of, "axes"], &[("T", dtype), ("Tidx", DType::Int32)]);
            graph.with("keep_dims", flag(false));
        })
    };
    ["Prod", "Sum", "Max", "Min"].into_iter().flat_map(of).collect()
}

fn parts_of() -> Vec<Case> {
    let mut cases = sized("Slice", |graph, dtype| {
        graph.vector("begin", &[1]).vector("count", &[1]);
        graph.node("size", "Slice", &["s", "begin", "count"], &[("T", dtype), ("Index", DType::Int32)]);
    });
    cases.extend(sized("Slice", |graph, dtype| {
        graph.vector("begin", &[0]).vector("count", &[-1]);
        graph.node("size", "Slice", &["s", "begin", "count"], &[("T", dtype), ("Index", DType::Int32)]);
    }));
    for (from, by) in [(0, 1), (-3, 2), (100, -7)] {
        cases.extend(sized("Range", move |graph, dtype| {
            graph.node("all", "Size", &["x"], &[("T", DType::Float), ("out_type", dtype)]);
            graph.integers("from", &[from]).integers("by", &[by]);
            graph.node("size", "Range", &["from", "all", "by"], &[("Tidx", dtype)]);
        }));
    }
    cases
}

/// Sizes of int64, as far as they become values.
fn as_int64() -> Vec<Case> {
    let of = |from: DType, to: DType| {
        case("Cast", &[&[mixed(&[2, 3])]], |graph| {
            graph.input("x", DType::Float, &[-1, -1]);
            graph.node("s", "Shape", &["x"], &[("T", DType::Float), ("out_type", from)]);
            graph
                .node("other", "Cast", &["s"], &[("SrcT", from), ("DstT", to)])
                .with("Truncate", flag(false));
            cast(graph, "other", to);
        })
    };
    vec![of(DType::Int32, DType::Int64), of(DType::Int64, DType::Int32)]
}
