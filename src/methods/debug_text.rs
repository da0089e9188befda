//! Prints a signature in protobuf's text format, for the few messages of TensorFlow Serving that contain one.

use super::info;
use crate::pb::tensorflow::tensor_info::Encoding;
use crate::pb::tensorflow::{DataType, SignatureDef, TensorInfo, TensorShapeProto};
use crate::servable::Servable;
use std::fmt::Write;

/// The beginning of protobuf's dumps, which keeps programs from parsing them.
const MARKER: &str = "goo.gle/debugproto  \n";

/// Prints signature `name` of `servable`. For an unreadable one, prints only the marker.
pub(super) fn signature(servable: &Servable, name: &str) -> String {
    let mut text = MARKER.to_owned();
    let map = info::signature_defs(servable).unwrap_or_default();
    if let Some(def) = map.signature_def.get(name) {
        print(&mut text, def);
    }
    text
}

fn print(text: &mut String, def: &SignatureDef) {
    for (field, infos) in [("inputs", &def.inputs), ("outputs", &def.outputs)] {
        for (alias, info) in infos {
            line(text, 0, &format!("{field} {{"));
            line(text, 1, &format!("key: {}", quoted(alias)));
            line(text, 1, "value {");
            tensor_info(text, info);
            line(text, 1, "}");
            line(text, 0, "}");
        }
    }
    if !def.method_name.is_empty() {
        line(text, 0, &format!("method_name: {}", quoted(&def.method_name)));
    }
}

fn tensor_info(text: &mut String, info: &TensorInfo) {
    if let Some(Encoding::Name(name)) = &info.encoding {
        line(text, 2, &format!("name: {}", quoted(name)));
    }
    if info.dtype != 0 {
        let name = DataType::try_from(info.dtype)
            .map_or_else(|_| info.dtype.to_string(), |d| d.as_str_name().to_owned());
        line(text, 2, &format!("dtype: {name}"));
    }
    if let Some(shape) = &info.tensor_shape {
        tensor_shape(text, shape);
    }
}

fn tensor_shape(text: &mut String, shape: &TensorShapeProto) {
    line(text, 2, "tensor_shape {");
    for dim in &shape.dim {
        line(text, 3, "dim {");
        if dim.size != 0 {
            line(text, 4, &format!("size: {}", dim.size));
        }
        if !dim.name.is_empty() {
            line(text, 4, &format!("name: {}", quoted(&dim.name)));
        }
        line(text, 3, "}");
    }
    if shape.unknown_rank {
        line(text, 3, "unknown_rank: true");
    }
    line(text, 2, "}");
}

fn line(text: &mut String, level: usize, content: &str) {
    // Writing to a String does not fail.
    let _infallible = writeln!(text, "{:indent$}{content}", "", indent = 2 * level);
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
