//! Writes status and metadata in protobuf's JSON form (docs/spec/rest.md sections 7.6 and 7.7).
//!
//! Indentation of one space, original field names, every field printed in the order of its number, 64-bit integers as
//! strings, enums by name, bytes as base64. Absent messages and unset members of a oneof are omitted.

use crate::json::float::{self, Float};
use crate::pb::tensorflow as pb;
use crate::pb::tensorflow::serving::SignatureDefMap;
use crate::registry::VersionStatus;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use prost::Message as _;
use std::collections::BTreeMap;
use std::fmt::Display;

/// Writes the body of a status reply, with the versions in the given order (newest first).
pub fn status(versions: &[VersionStatus]) -> Vec<u8> {
    let mut json = Json::default();
    json.object(|json| {
        json.list("model_version_status", versions, |json, version| {
            json.object(|json| {
                json.quoted("version", version.version);
                json.string("state", version.state.name());
                json.message("status", |json| {
                    let (code, message) = match &version.error {
                        Some(error) => (error.kind.name(), error.message.as_ref()),
                        None => ("OK", ""),
                    };
                    json.string("error_code", code);
                    json.string("error_message", message);
                });
            });
        });
    });
    json.finish().into_bytes()
}

/// Writes the body of a metadata reply: the model and version asked for, and all signatures, sorted by name.
pub fn metadata(name: &str, version: i64, signature_def_map: &SignatureDefMap) -> Vec<u8> {
    let mut spec = Json::default();
    spec.object(|json| {
        json.string("name", name);
        json.quoted("version", version);
        json.string("signature_name", "");
    });
    let mut signatures = Json::default();
    signatures.object(|json| json.map("signature_def", &signature_def_map.signature_def, signature));
    let (spec, signatures) = (spec.finish(), signatures.finish());
    // TensorFlow Serving joins two texts, each with its own line end.
    format!("{{\n\"model_spec\":{spec},\n\"metadata\": {{\"signature_def\": {signatures}}}\n}}\n")
        .into_bytes()
}

fn signature(json: &mut Json, signature: &pb::SignatureDef) {
    json.object(|json| {
        json.map("inputs", &signature.inputs, tensor_info);
        json.map("outputs", &signature.outputs, tensor_info);
        json.string("method_name", &signature.method_name);
        json.map("defaults", &signature.defaults, serialized_tensor);
    });
}

/// Components may hold components, up to protobuf's nesting limit (100).
fn tensor_info(json: &mut Json, info: &pb::TensorInfo) {
    use pb::tensor_info::Encoding;
    json.object(|json| {
        if let Some(Encoding::Name(name)) = &info.encoding {
            json.string("name", name);
        }
        json.dtype("dtype", info.dtype);
        json.shape("tensor_shape", info.tensor_shape.as_ref());
        match &info.encoding {
            Some(Encoding::CooSparse(sparse)) => json.message("coo_sparse", |json| {
                json.string("values_tensor_name", &sparse.values_tensor_name);
                json.string("indices_tensor_name", &sparse.indices_tensor_name);
                json.string("dense_shape_tensor_name", &sparse.dense_shape_tensor_name);
            }),
            Some(Encoding::CompositeTensor(composite)) => json.message("composite_tensor", |json| {
                // The fields of `type_spec` are unknown here.
                json.list("components", &composite.components, tensor_info);
            }),
            Some(Encoding::Name(_)) | None => {}
        }
    });
}

/// Defaults stay serialized in our messages; a model with an unreadable one does not load.
fn serialized_tensor(json: &mut Json, value: &Bytes) {
    tensor(json, &pb::TensorProto::decode(value.clone()).unwrap_or_default());
}

/// Variants may hold tensors, up to protobuf's nesting limit (100).
fn tensor(json: &mut Json, tensor: &pb::TensorProto) {
    json.object(|json| {
        json.dtype("dtype", tensor.dtype);
        json.shape("tensor_shape", tensor.tensor_shape.as_ref());
        json.plain("version_number", tensor.version_number);
        json.bytes("tensor_content", &tensor.tensor_content);
        json.list("float_val", &tensor.float_val, Json::float);
        json.list("double_val", &tensor.double_val, Json::double);
        json.list("int_val", &tensor.int_val, Json::display);
        json.list("string_val", &tensor.string_val, |json, bytes| json.base64(bytes));
        json.list("scomplex_val", &tensor.scomplex_val, Json::float);
        json.list("int64_val", &tensor.int64_val, Json::display_quoted);
        json.list("bool_val", &tensor.bool_val, Json::display);
        json.list("dcomplex_val", &tensor.dcomplex_val, Json::double);
        json.list("half_val", &tensor.half_val, Json::display);
        json.list("resource_handle_val", &tensor.resource_handle_val, resource_handle);
        json.list("variant_val", &tensor.variant_val, |json, variant| {
            json.object(|json| {
                json.string("type_name", &variant.type_name);
                json.bytes("metadata", &variant.metadata);
                json.list("tensors", &variant.tensors, self::tensor);
            });
        });
        json.list("uint32_val", &tensor.uint32_val, Json::display);
        json.list("uint64_val", &tensor.uint64_val, Json::display_quoted);
        json.bytes("float8_val", &tensor.float8_val);
    });
}

fn resource_handle(json: &mut Json, handle: &pb::ResourceHandleProto) {
    json.object(|json| {
        json.string("device", &handle.device);
        json.string("container", &handle.container);
        json.string("name", &handle.name);
        json.quoted("hash_code", handle.hash_code);
        json.string("maybe_type_name", &handle.maybe_type_name);
        json.list("dtypes_and_shapes", &handle.dtypes_and_shapes, |json, item| {
            json.object(|json| {
                json.dtype("dtype", item.dtype);
                json.shape("shape", item.shape.as_ref());
            });
        });
    });
}

/// A protobuf-JSON text being written.
#[derive(Default)]
struct Json {
    text: String,
    depth: usize,
    /// True if the innermost open container has content already.
    filled: bool,
}

impl Json {
    fn finish(mut self) -> String {
        self.text.push('\n');
        self.text
    }

    fn container(&mut self, open: char, close: char, content: impl FnOnce(&mut Json)) {
        self.text.push(open);
        self.depth += 1;
        self.filled = false;
        content(self);
        self.depth -= 1;
        if self.filled {
            self.new_line();
        }
        self.text.push(close);
        self.filled = true;
    }

    fn object(&mut self, fields: impl FnOnce(&mut Json)) {
        self.container('{', '}', fields);
    }

    fn new_line(&mut self) {
        self.text.push('\n');
        self.text.extend(std::iter::repeat_n(' ', self.depth));
    }

    /// Starts the next entry of the innermost open container.
    fn next(&mut self) {
        if self.filled {
            self.text.push(',');
        }
        self.filled = true;
        self.new_line();
    }

    fn key(&mut self, name: &str) {
        self.next();
        self.escaped(name);
        self.text.push_str(": ");
    }

    fn message(&mut self, name: &str, fields: impl FnOnce(&mut Json)) {
        self.key(name);
        self.object(fields);
    }

    fn list<T>(&mut self, name: &str, items: &[T], write: impl Fn(&mut Json, &T)) {
        self.key(name);
        self.container('[', ']', |json| {
            for item in items {
                json.next();
                write(json, item);
            }
        });
    }

    fn map<T>(&mut self, name: &str, map: &BTreeMap<String, T>, write: impl Fn(&mut Json, &T)) {
        self.message(name, |json| {
            for (key, value) in map {
                json.key(key);
                write(json, value);
            }
        });
    }

    fn string(&mut self, name: &str, value: &str) {
        self.key(name);
        self.escaped(value);
    }

    fn plain(&mut self, name: &str, value: impl Display) {
        self.key(name);
        self.display(&value);
    }

    fn quoted(&mut self, name: &str, value: impl Display) {
        self.key(name);
        self.display_quoted(&value);
    }

    fn bytes(&mut self, name: &str, value: &[u8]) {
        self.key(name);
        self.base64(value);
    }

    /// Writes a `DataType`; numbers without a name stay numbers.
    fn dtype(&mut self, name: &str, number: i32) {
        match pb::DataType::try_from(number) {
            Ok(dtype) => self.string(name, dtype.as_str_name()),
            Err(_) => self.plain(name, number),
        }
    }

    fn shape(&mut self, name: &str, shape: Option<&pb::TensorShapeProto>) {
        let Some(shape) = shape else { return };
        self.message(name, |json| {
            json.list("dim", &shape.dim, |json, dim| {
                json.object(|json| {
                    json.quoted("size", dim.size);
                    json.string("name", &dim.name);
                });
            });
            json.plain("unknown_rank", shape.unknown_rank);
        });
    }

    fn display(&mut self, value: &impl Display) {
        self.text.push_str(&value.to_string());
    }

    fn display_quoted(&mut self, value: &impl Display) {
        self.text.push_str(&format!("\"{value}\""));
    }

    fn float(&mut self, value: &f32) {
        self.number(*value, 6);
    }

    fn double(&mut self, value: &f64) {
        self.number(*value, 15);
    }

    /// Writes `value` with `short` digits if that reads back the same; anything but a number becomes a string.
    fn number<F: Float>(&mut self, value: F, short: u32) {
        let text = float::short_or_exact(value, short);
        if text.ends_with(|last: char| last.is_ascii_digit()) {
            self.text.push_str(&text);
        } else {
            self.escaped(&text);
        }
    }

    fn base64(&mut self, value: &[u8]) {
        self.text.push('"');
        STANDARD.encode_string(value, &mut self.text);
        self.text.push('"');
    }

    fn escaped(&mut self, value: &str) {
        self.text.push('"');
        for character in value.chars() {
            match character {
                '"' => self.text.push_str(r#"\""#),
                '\\' => self.text.push_str(r"\\"),
                '\u{8}' => self.text.push_str(r"\b"),
                '\u{c}' => self.text.push_str(r"\f"),
                '\n' => self.text.push_str(r"\n"),
                '\r' => self.text.push_str(r"\r"),
                '\t' => self.text.push_str(r"\t"),
                _ if is_invisible(character) || matches!(character, '<' | '>') => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        self.text.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                _ => self.text.push(character),
            }
        }
        self.text.push('"');
    }
}

/// Returns whether protobuf's JSON escapes `character` beyond JSON's own rule
/// (`src/google/protobuf/json/internal/writer.cc`): control and format characters, which would be invisible.
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{ad}'
            | '\u{600}'..='\u{603}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2064}'
            | '\u{206a}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0001}'
            | '\u{e0020}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::registry::State;

    fn text(body: Vec<u8>) -> String {
        String::from_utf8(body).unwrap()
    }

    fn info(name: &str, dtype: i32, dims: &[i64]) -> pb::TensorInfo {
        let dim = dims
            .iter()
            .map(|size| pb::tensor_shape_proto::Dim { size: *size, name: String::new() })
            .collect();
        pb::TensorInfo {
            encoding: Some(pb::tensor_info::Encoding::Name(name.to_owned())),
            dtype,
            tensor_shape: Some(pb::TensorShapeProto { dim, unknown_rank: false }),
        }
    }

    fn map(signature: pb::SignatureDef) -> SignatureDefMap {
        SignatureDefMap { signature_def: BTreeMap::from([("serving_default".to_owned(), signature)]) }
    }

    #[test]
    fn status_lists_every_version() {
        let error = Some(Error::not_found("no \"x\" in <model>\n"));
        let versions = [
            VersionStatus { version: 123, state: State::Available, error: None, on_demand: false },
            VersionStatus { version: 2, state: State::End, error, on_demand: false },
        ];
        let expected = r#"{
 "model_version_status": [
  {
   "version": "123",
   "state": "AVAILABLE",
   "status": {
    "error_code": "OK",
    "error_message": ""
   }
  },
  {
   "version": "2",
   "state": "END",
   "status": {
    "error_code": "NOT_FOUND",
    "error_message": "no \"x\" in \u003cmodel\u003e\n"
   }
  }
 ]
}
"#;
        assert_eq!(text(status(&versions)), expected);
    }

    #[test]
    fn metadata_as_recorded() {
        let signature = pb::SignatureDef {
            inputs: BTreeMap::from([("x".to_owned(), info("x:0", 1, &[-1]))]),
            method_name: "tensorflow/serving/predict".to_owned(),
            ..Default::default()
        };
        let expected = r#"{
"model_spec":{
 "name": "m",
 "version": "123",
 "signature_name": ""
}
,
"metadata": {"signature_def": {
 "signature_def": {
  "serving_default": {
   "inputs": {
    "x": {
     "name": "x:0",
     "dtype": "DT_FLOAT",
     "tensor_shape": {
      "dim": [
       {
        "size": "-1",
        "name": ""
       }
      ],
      "unknown_rank": false
     }
    }
   },
   "outputs": {},
   "method_name": "tensorflow/serving/predict",
   "defaults": {}
  }
 }
}
}
}
"#;
        assert_eq!(text(metadata("m", 123, &map(signature))), expected);
    }

    #[test]
    fn tensor_infos_of_every_kind() {
        use pb::tensor_info::{CompositeTensor, CooSparse, Encoding};
        let unknown = pb::TensorShapeProto { dim: vec![], unknown_rank: true };
        let sparse = CooSparse { values_tensor_name: "v".to_owned(), ..Default::default() };
        let composite =
            CompositeTensor { components: vec![info("c:0", 101, &[])], type_spec: Default::default() };
        let inputs = [
            ("a", pb::TensorInfo { dtype: 77, tensor_shape: Some(unknown), encoding: None }),
            ("b", pb::TensorInfo { encoding: Some(Encoding::CooSparse(sparse)), ..Default::default() }),
            (
                "c",
                pb::TensorInfo { encoding: Some(Encoding::CompositeTensor(composite)), ..Default::default() },
            ),
        ];
        let inputs = inputs.map(|(name, info)| (name.to_owned(), info)).into();
        let all = text(metadata("m", 1, &map(pb::SignatureDef { inputs, ..Default::default() })));
        let (_, inputs) = all.split_once("\"inputs\": ").unwrap();
        let (inputs, _) = inputs.split_once(",\n   \"outputs\"").unwrap();
        let expected = r#"{
    "a": {
     "dtype": 77,
     "tensor_shape": {
      "dim": [],
      "unknown_rank": true
     }
    },
    "b": {
     "dtype": "DT_INVALID",
     "coo_sparse": {
      "values_tensor_name": "v",
      "indices_tensor_name": "",
      "dense_shape_tensor_name": ""
     }
    },
    "c": {
     "dtype": "DT_INVALID",
     "composite_tensor": {
      "components": [
       {
        "name": "c:0",
        "dtype": "DT_FLOAT_REF",
        "tensor_shape": {
         "dim": [],
         "unknown_rank": false
        }
       }
      ]
     }
    }
   }"#;
        assert_eq!(inputs, expected);
    }

    #[test]
    fn default_values_in_full() {
        let value = pb::TensorProto {
            dtype: 9,
            tensor_content: b"hi".as_slice().into(),
            float_val: vec![1.0, 0.1, 1.0 / 3.0, 1e10, f32::NAN, f32::NEG_INFINITY],
            double_val: vec![0.1 + 0.2, 1e15, 5e-324, -0.0, 1.5],
            string_val: vec![b"\xff".as_slice().into()],
            int64_val: vec![-1],
            bool_val: vec![true],
            variant_val: vec![pb::VariantTensorDataProto {
                tensors: vec![Default::default()],
                ..Default::default()
            }],
            resource_handle_val: vec![pb::ResourceHandleProto { hash_code: 7, ..Default::default() }],
            ..Default::default()
        };
        let defaults = BTreeMap::from([("x".to_owned(), value.encode_to_vec().into())]);
        let all = text(metadata("m", 1, &map(pb::SignatureDef { defaults, ..Default::default() })));
        let compact: String = all.split_whitespace().collect();
        let (_, defaults) = compact.split_once("\"defaults\":").unwrap();
        let expected = concat!(
            r#"{"x":{"dtype":"DT_INT64","version_number":0,"tensor_content":"aGk=","#,
            r#""float_val":[1,0.1,0.333333343,1e+10,"NaN","-Infinity"],"#,
            r#""double_val":[0.30000000000000004,1e+15,4.94065645841247e-324,-0,1.5],"int_val":[],"#,
            r#""string_val":["/w=="],"scomplex_val":[],"int64_val":["-1"],"bool_val":[true],"dcomplex_val":[],"#,
            r#""half_val":[],"resource_handle_val":[{"device":"","container":"","name":"","hash_code":"7","#,
            r#""maybe_type_name":"","dtypes_and_shapes":[]}],"variant_val":[{"type_name":"","metadata":"","#,
            r#""tensors":[{"dtype":"DT_INVALID","version_number":0,"tensor_content":"","float_val":[],"#,
            r#""double_val":[],"int_val":[],"string_val":[],"scomplex_val":[],"int64_val":[],"bool_val":[],"#,
            r#""dcomplex_val":[],"half_val":[],"resource_handle_val":[],"variant_val":[],"uint32_val":[],"#,
            r#""uint64_val":[],"float8_val":""}]}],"uint32_val":[],"uint64_val":[],"float8_val":""}}"#,
        );
        assert!(defaults.starts_with(expected), "{defaults}");
    }

    #[test]
    fn what_cannot_be_seen_is_escaped() {
        let mut json = Json::default();
        json.escaped("a/é\u{7f}\u{200b}\u{e0001}\u{1}\u{1f600}\t");
        assert_eq!(json.text, "\"a/é\\u007f\\u200b\\udb40\\udc01\\u0001\u{1f600}\\t\"");
    }
}
