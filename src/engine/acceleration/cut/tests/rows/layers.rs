//! Convolutions, products, pools, pictures, reductions.

use super::super::builder::{Builder, text};
use super::{Case, bytes, case, flag, floats, int, ints, list, mixed, of_type, some};
use crate::pb::tensorflow::attr_value::Value;
use crate::tensor::{DType, Tensor};

/// Operations that sum.
pub(super) const SUMS: [&str; 10] = [
    "Conv2D",
    "DepthwiseConv2dNative",
    "Conv3D",
    "Conv2DBackpropInput",
    "Conv3DBackpropInputV2",
    "MatMul",
    "BatchMatMulV2",
    "BatchMatMulV3",
    "Einsum",
    "ResizeBilinear",
];

type Set<'a> = (&'a str, Value);

pub(super) fn cases() -> Vec<Case> {
    let parts = [pools(), convolutions(), transposed(), products(), norms(), resizes(), rearranged()];
    parts.into_iter().chain([reductions(), paddings(), one_hot()]).flatten().collect()
}

/// An input of pictures with `channels`.
fn pictures(graph: &mut Builder, channels: i64) -> &mut Builder {
    graph.input("x", DType::Float, &[-1, -1, -1, channels])
}

fn pools() -> Vec<Case> {
    let flat = |op, padding: &'static str, window: [i64; 4], strides: [i64; 4]| {
        let requests: [&[Tensor]; 2] = [&[mixed(&[1, 5, 4, 2])], &[mixed(&[2, 3, 7, 2])]];
        case(op, &requests, |graph| {
            pictures(graph, 2)
                .floats("op", op, &["x"])
                .all(&[("ksize", list(&window)), ("strides", list(&strides))]);
            graph.all(&[("padding", text(padding)), ("data_format", text("NHWC"))]);
        })
    };
    let deep = |op, padding: &'static str| {
        case(op, &[&[mixed(&[1, 3, 4, 5, 2])]], |graph| {
            graph.input("x", DType::Float, &[-1, -1, -1, -1, 2]).floats("op", op, &["x"]);
            graph.all(&[("ksize", list(&[1, 2, 2, 2, 1])), ("strides", list(&[1, 2, 1, 2, 1]))]);
            graph.all(&[("padding", text(padding)), ("data_format", text("NDHWC"))]);
        })
    };
    let ways = [([1, 2, 2, 1], [1, 2, 2, 1]), ([1, 3, 2, 1], [1, 1, 2, 1]), ([1, 3, 3, 1], [1, 2, 2, 1])];
    let both = ["SAME", "VALID"];
    let of = |op| {
        let flat = ways
            .iter()
            .flat_map(move |(window, strides)| both.map(|padding| flat(op, padding, *window, *strides)));
        flat.collect::<Vec<_>>()
    };
    let mut cases: Vec<Case> = ["MaxPool", "AvgPool"].into_iter().flat_map(of).collect();
    cases.extend(["MaxPool3D", "AvgPool3D"].into_iter().flat_map(|op| both.map(|padding| deep(op, padding))));
    cases
}

fn convolution(op: &'static str, set: &[Set<'_>]) -> Case {
    case(op, &[&[mixed(&[1, 7, 6, 2])], &[mixed(&[2, 5, 5, 2])]], |graph| {
        pictures(graph, 2).numbers("w", &[3, 3, 2, 2], &some(36)).floats("op", op, &["x", "w"]).all(set);
        graph.with("data_format", text("NHWC"));
    })
}

fn convolutions() -> Vec<Case> {
    let mut cases = Vec::new();
    for op in ["Conv2D", "DepthwiseConv2dNative"] {
        for padding in ["SAME", "VALID"] {
            for (strides, dilations) in
                [([1, 1, 1, 1], [1, 1, 1, 1]), ([1, 2, 2, 1], [1, 1, 1, 1]), ([1, 1, 1, 1], [1, 2, 2, 1])]
            {
                // TensorFlow has no kernel for it.
                if op != "Conv2D" && dilations != [1; 4] {
                    continue;
                }
                let places = [("strides", list(&strides)), ("dilations", list(&dilations))];
                let none = [("padding", text(padding)), ("explicit_paddings", list(&[]))];
                cases.push(convolution(op, &[places, none].concat()));
            }
        }
    }
    let explicit = list(&[0, 0, 1, 2, 0, 1, 0, 0]);
    let ones = [("strides", list(&[1, 1, 1, 1])), ("dilations", list(&[1, 1, 1, 1]))];
    let explicit = [("padding", text("EXPLICIT")), ("explicit_paddings", explicit)];
    cases.push(convolution("Conv2D", &[ones, explicit].concat()));
    for padding in ["SAME", "VALID"] {
        cases.push(case("Conv3D", &[&[mixed(&[1, 4, 3, 5, 2])]], |graph| {
            graph.input("x", DType::Float, &[-1, -1, -1, -1, 2]).numbers("w", &[2, 3, 2, 2, 1], &some(24));
            graph.floats("op", "Conv3D", &["x", "w"]).all(&[("strides", list(&[1, 1, 2, 1, 1]))]);
            graph.all(&[
                ("dilations", list(&[1; 5])),
                ("padding", text(padding)),
                ("data_format", text("NDHWC")),
            ]);
        }));
    }
    cases
}

/// Convolutions whose output is larger than what they take; several sizes of it are possible.
fn transposed() -> Vec<Case> {
    let flat = |size: i32, padding: &'static str, from: i64| {
        case("Conv2DBackpropInput", &[&[mixed(&[1, from, from, 2])]], |graph| {
            pictures(graph, 2).vector("size", &[1, size, size, 3]).numbers("w", &[3, 3, 3, 2], &some(54));
            graph
                .floats("op", "Conv2DBackpropInput", &["size", "w", "x"])
                .with("strides", list(&[1, 2, 2, 1]));
            graph.all(&[
                ("padding", text(padding)),
                ("dilations", list(&[1; 4])),
                ("data_format", text("NHWC")),
            ]);
            graph.with("explicit_paddings", list(&[]));
        })
    };
    let deep = |size: i32, padding: &'static str, from: i64| {
        case("Conv3DBackpropInputV2", &[&[mixed(&[1, from, from, from, 2])]], |graph| {
            graph.input("x", DType::Float, &[-1, -1, -1, -1, 2]).vector("size", &[1, size, size, size, 1]);
            graph.numbers("w", &[3, 3, 3, 1, 2], &some(54)).node(
                "op",
                "Conv3DBackpropInputV2",
                &["size", "w", "x"],
                &[("T", DType::Float), ("Tshape", DType::Int32)],
            );
            graph.all(&[("strides", list(&[1, 2, 2, 2, 1])), ("padding", text(padding))]);
            graph.all(&[("dilations", list(&[1; 5])), ("data_format", text("NDHWC"))]);
        })
    };
    let sizes = [(7, "SAME", 4), (8, "SAME", 4), (7, "VALID", 3), (8, "VALID", 3)];
    let flat = sizes.iter().map(|(size, padding, from)| flat(*size, padding, *from));
    flat.chain(sizes.iter().map(|(size, padding, from)| deep(*size, padding, *from))).collect()
}

fn products() -> Vec<Case> {
    let mut cases = Vec::new();
    for (left, right) in [(false, false), (true, false), (false, true), (true, true)] {
        let shapes = |turned| if turned { [3, 2] } else { [2, 3] };
        let (x, z) = (mixed(&shapes(left)), mixed(&shapes(!right)));
        cases.push(case("MatMul", &[&[x, z]], |graph| {
            graph.input("x", DType::Float, &[-1, -1]).input("z", DType::Float, &[-1, -1]);
            graph
                .floats("op", "MatMul", &["x", "z"])
                .all(&[("transpose_a", flag(left)), ("transpose_b", flag(right))]);
        }));
        for op in ["BatchMatMulV2", "BatchMatMulV3"] {
            let with_rows = |rows: &[i64], shape: [i64; 2]| mixed(&[rows, &shape].concat());
            let (x, z) = (with_rows(&[2, 1], shapes(left)), with_rows(&[3], shapes(!right)));
            cases.push(case(op, &[&[x, z]], |graph| {
                graph.input("x", DType::Float, &[-1, -1, -1, -1]).input("z", DType::Float, &[-1, -1, -1]);
                graph.floats("op", op, &["x", "z"]).all(&[("adj_x", flag(left)), ("adj_y", flag(right))]);
                if op == "BatchMatMulV3" {
                    graph.all(&["Ta", "Tb", "Tout"].map(|name| (name, of_type(DType::Float))));
                }
            }));
        }
    }
    let sums: [(&str, &[i64], &[i64]); 6] = [
        ("ab,bc->ac", &[2, 3], &[3, 4]),
        ("abc,cde->abde", &[1, 2, 3], &[3, 2, 2]),
        ("abcd,cde->abe", &[1, 2, 3, 2], &[3, 2, 2]),
        ("aecd,abcd->acbe", &[1, 2, 3, 2], &[1, 4, 3, 2]),
        ("ab,ab->ab", &[2, 3], &[2, 3]),
        ("...ab,bc->...ac", &[2, 2, 3], &[3, 4]),
    ];
    cases.extend(sums.map(|(equation, left, right)| {
        case("Einsum", &[&[mixed(left), mixed(right)]], |graph| {
            graph.input("x", DType::Float, &vec![-1; left.len()]).input(
                "z",
                DType::Float,
                &vec![-1; right.len()],
            );
            graph.floats("op", "Einsum", &["x", "z"]).all(&[("N", int(2)), ("equation", text(equation))]);
        })
    }));
    cases
}

fn norms() -> Vec<Case> {
    let pixels = floats(&[1, 2, 2, 2], &[0.0, -0.0, 1.0, -1.0, 1e3, -1e3, 1e-3, 5.0]);
    let of = |op: &'static str, statistics: [f32; 4]| {
        case(op, &[std::slice::from_ref(&pixels), &[mixed(&[2, 1, 3, 2])]], |graph| {
            pictures(graph, 2).numbers("scale", &[2], &[1.5, -0.5]).numbers("offset", &[2], &[0.25, -2.0]);
            graph.numbers("mean", &[2], &statistics[..2]).numbers("variance", &[2], &statistics[2..]);
            graph.floats("op", op, &["x", "scale", "offset", "mean", "variance"]);
            if op != "FusedBatchNorm" {
                graph.with("U", of_type(DType::Float));
            }
            if op == "FusedBatchNormV3" {
                graph.with("exponential_avg_factor", Value::F(1.0));
            }
            graph.all(&[
                ("epsilon", Value::F(1e-3)),
                ("is_training", flag(false)),
                ("data_format", text("NHWC")),
            ]);
        })
    };
    let ops = ["FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"];
    ops.into_iter().flat_map(|op| [of(op, [0.5, -3.0, 2.0, 0.25]), of(op, [0.0, 1e3, 0.0, 1e6])]).collect()
}

fn resizes() -> Vec<Case> {
    let mut cases = Vec::new();
    for op in ["ResizeBilinear", "ResizeNearestNeighbor"] {
        for (corners, centers) in [(false, false), (true, false), (false, true)] {
            for size in [[5, 7], [2, 2], [1, 1], [6, 8], [3, 4]] {
                cases.push(case(op, &[&[mixed(&[1, 3, 4, 2])], &[mixed(&[2, 1, 1, 2])]], |graph| {
                    pictures(graph, 2).vector("size", &size).floats("op", op, &["x", "size"]);
                    graph.all(&[("align_corners", flag(corners)), ("half_pixel_centers", flag(centers))]);
                }));
            }
        }
    }
    cases
}

fn rearranged() -> Vec<Case> {
    let of = |op: &'static str, channels: i64, shape: &[i64]| {
        case(op, &[&[mixed(shape)]], |graph| {
            pictures(graph, channels).floats("op", op, &["x"]);
            graph.all(&[("block_size", int(2)), ("data_format", text("NHWC"))]);
        })
    };
    let blocks = |op: &'static str, beside: &'static str, shape: &[i64], sizes: &[i32]| {
        case(op, &[&[mixed(shape)]], |graph| {
            let pairs: Vec<u8> = sizes.iter().flat_map(|value| value.to_le_bytes()).collect();
            pictures(graph, 1).vector("block", &[2, 2]).constant("pairs", DType::Int32, &[2, 2], pairs);
            let types = [("T", DType::Float), ("Tblock_shape", DType::Int32), (beside, DType::Int32)];
            graph.node("op", op, &["x", "block", "pairs"], &types);
        })
    };
    vec![
        of("DepthToSpace", 8, &[2, 2, 3, 8]),
        of("SpaceToDepth", 2, &[2, 4, 6, 2]),
        blocks("SpaceToBatchND", "Tpaddings", &[1, 3, 4, 1], &[0, 1, 2, 0]),
        blocks("BatchToSpaceND", "Tcrops", &[4, 2, 2, 1], &[0, 1, 1, 0]),
    ]
}

fn reductions() -> Vec<Case> {
    let edges = [1.0, -0.0, 0.0, 1e20, -1e20, 3e38, -3e38, 1e-20, 5.0, -5.0, f32::MAX, f32::MIN];
    let of = |op: &'static str, axes: &[i32], keep: bool| {
        case(op, &[&[mixed(&[2, 3, 5])], &[floats(&[1, 12, 1], &edges)], &[mixed(&[1, 1, 1])]], |graph| {
            graph.input("x", DType::Float, &[-1, -1, -1]).vector("axes", axes);
            graph.node("op", op, &["x", "axes"], &[("T", DType::Float), ("Tidx", DType::Int32)]);
            graph.with("keep_dims", flag(keep));
        })
    };
    let ways: [(&[i32], bool); 4] = [(&[1], false), (&[-1], true), (&[0, 2], false), (&[2, 0, 1], true)];
    let of_all = |op| ways.map(|(axes, keep)| of(op, axes, keep));
    ["Mean", "Sum", "Max", "Min"].into_iter().flat_map(of_all).collect()
}

fn paddings() -> Vec<Case> {
    let pairs = |sizes: [i32; 4]| sizes.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let types = [("T", DType::Float), ("Tpaddings", DType::Int32)];
    let of = |op: &'static str, sizes, set: &[Set<'_>]| {
        case(op, &[&[mixed(&[3, 4])]], |graph| {
            graph.input("x", DType::Float, &[-1, -1]).constant("pairs", DType::Int32, &[2, 2], pairs(sizes));
            graph.node("op", op, &["x", "pairs"], &types).all(set);
        })
    };
    let filled = case("PadV2", &[&[mixed(&[2, 2]), floats(&[], &[-0.5])]], |graph| {
        graph.input("x", DType::Float, &[-1, -1]).input("z", DType::Float, &[]);
        graph.constant("pairs", DType::Int32, &[2, 2], pairs([1, 0, 2, 3]));
        graph.node("op", "PadV2", &["x", "pairs", "z"], &types);
    });
    let turned = |axes: &[i32]| {
        case("ReverseV2", &[&[mixed(&[3, 4])]], |graph| {
            graph.input("x", DType::Float, &[-1, -1]).vector("axes", axes);
            graph.node("op", "ReverseV2", &["x", "axes"], &[("T", DType::Float), ("Tidx", DType::Int32)]);
        })
    };
    vec![
        of("Pad", [1, 2, 0, 3], &[]),
        of("Pad", [0; 4], &[]),
        of("MirrorPad", [1, 2, 3, 0], &[("mode", text("REFLECT"))]),
        of("MirrorPad", [3, 1, 2, 4], &[("mode", text("SYMMETRIC"))]),
        filled,
        turned(&[1]),
        turned(&[-2]),
    ]
}

/// Indices that a request gives, out of range too, and those of a range.
fn one_hot() -> Vec<Case> {
    let set = |axis| [("T", of_type(DType::Float)), ("TI", of_type(DType::Int32)), ("axis", int(axis))];
    let shared = |graph: &mut Builder| {
        graph.integers("depth", &[3]).numbers("on", &[], &[1.5]).numbers("off", &[], &[-0.5]);
    };
    let of = |axis| {
        let indices = ints(&[8], &[-1, 0, 1, 2, 3, i32::MIN, i32::MAX, -3]);
        case("OneHot", &[&[indices]], |graph| {
            shared(graph.input("x", DType::Int32, &[-1]));
            graph.node("op", "OneHot", &["x", "depth", "on", "off"], &[]).all(&set(axis));
        })
    };
    let of_sizes = case("OneHot", &[&[bytes(DType::Bool, &[2, 5], &[0; 10])]], |graph| {
        shared(graph.input("x", DType::Bool, &[-1, -1]));
        graph.node("s", "Shape", &["x"], &[("T", DType::Bool), ("out_type", DType::Int32)]);
        graph.node("op", "OneHot", &["s", "depth", "on", "off"], &[]).all(&set(-1));
    });
    vec![of(-1), of(0), of(1), of_sizes]
}
