//! The elements of tensors in JSON, by dtype: their schemas.

use super::text::Object;
use crate::config::NonUtf8;
use crate::engine::signature::{Signature, TensorSpec};
use crate::tensor::DType;

/// What an element is in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Element {
    Bool,
    Float,
    Double,
    Half,
    BFloat16,
    Int8,
    Int16,
    Int32,
    Int64,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    /// A string, or a base64 object.
    Bytes,
    /// A string alone.
    Text,
    /// A base64 object alone.
    Base64,
}

/// Element, its name in components, its type in JSON and its format.
const TABLE: [(Element, &str, &str, &str); 16] = [
    (Element::Bool, "bool", "boolean", ""),
    (Element::Float, "float32", "number", "float"),
    (Element::Double, "float64", "number", "double"),
    (Element::Half, "float16", "number", "float16"),
    (Element::BFloat16, "bfloat16", "number", "bfloat16"),
    (Element::Int8, "int8", "integer", "int8"),
    (Element::Int16, "int16", "integer", "int16"),
    (Element::Int32, "int32", "integer", "int32"),
    (Element::Int64, "int64", "integer", "int64"),
    (Element::UInt8, "uint8", "integer", "uint8"),
    (Element::UInt16, "uint16", "integer", "uint16"),
    (Element::UInt32, "uint32", "integer", "uint32"),
    (Element::UInt64, "uint64", "integer", "uint64"),
    (Element::Bytes, "bytes", "", ""),
    (Element::Text, "text", "string", ""),
    (Element::Base64, "base64", "", ""),
];

impl Element {
    /// Returns the elements of dtype `dtype` that the Open Inference Protocol has.
    fn of(dtype: DType) -> Option<Element> {
        Some(match dtype {
            DType::Bool => Element::Bool,
            DType::Float => Element::Float,
            DType::Double => Element::Double,
            DType::Half => Element::Half,
            DType::BFloat16 => Element::BFloat16,
            DType::Int8 => Element::Int8,
            DType::Int16 => Element::Int16,
            DType::Int32 => Element::Int32,
            DType::Int64 => Element::Int64,
            DType::UInt8 => Element::UInt8,
            DType::UInt16 => Element::UInt16,
            DType::UInt32 => Element::UInt32,
            DType::UInt64 => Element::UInt64,
            DType::String => Element::Bytes,
            DType::Invalid
            | DType::Complex64
            | DType::QInt8
            | DType::QUInt8
            | DType::QInt32
            | DType::QInt16
            | DType::QUInt16
            | DType::Complex128
            | DType::Resource
            | DType::Variant
            | DType::Float8E5M2
            | DType::Float8E4M3Fn
            | DType::Float8E4M3Fnuz
            | DType::Float8E4M3B11Fnuz
            | DType::Float8E5M2Fnuz
            | DType::Int4
            | DType::UInt4
            | DType::Int2
            | DType::UInt2
            | DType::Float4E2M1Fn => return None,
        })
    }

    /// Returns the elements of `input`; `None` if its dtype has no form in JSON. `v2`: in the Open Inference Protocol, not
    /// in TensorFlow Serving's API.
    pub(super) fn sent(input: &TensorSpec, v2: bool) -> Option<Element> {
        // TensorFlow Serving's API has no numbers for these.
        Element::of(input.dtype).filter(|element| v2 || *element != Element::UInt16)
    }

    /// Returns the elements of `output`, of which `non_utf8` says what strings become.
    pub(super) fn told(output: &TensorSpec, v2: bool, non_utf8: NonUtf8) -> Option<Element> {
        let element = Element::sent(output, v2)?;
        Some(match (element, v2, non_utf8) {
            (Element::Bytes, false, _) if output.alias.ends_with("_bytes") => Element::Base64,
            (Element::Bytes, false, NonUtf8::Raw) => Element::Text,
            _ => element,
        })
    }

    /// Returns all that appear in `signature`, as inputs or outputs.
    pub(super) fn all_of(signature: &Signature, non_utf8: NonUtf8) -> impl Iterator<Item = Element> {
        let sent = signature.inputs.iter().filter_map(|spec| Element::sent(spec, true));
        let told =
            move |spec| [false, true].into_iter().filter_map(move |v2| Element::told(spec, v2, non_utf8));
        sent.chain(signature.outputs.iter().flat_map(told))
    }

    /// Returns its name in components.
    pub(super) fn name(self) -> &'static str {
        TABLE[self as usize].1
    }

    /// Returns the JSON of a number that is made up: 1.0, and 0 where it may be an index; `None` for strings.
    pub(super) fn made_up(self) -> Option<&'static str> {
        match TABLE[self as usize].2 {
            "boolean" => Some("true"),
            "number" => Some("1.0"),
            "integer" => Some("0"),
            _ => None,
        }
    }

    /// Writes the schema of one element.
    pub(super) fn write(self, schema: &mut Object<'_>) {
        if self == Element::Bytes {
            return schema.schema("Bytes");
        }
        if self == Element::Base64 {
            return schema.schema("Base64");
        }
        let (_, _, kind, format) = TABLE[self as usize];
        schema.text("type", kind);
        if !format.is_empty() {
            schema.text("format", format);
        }
        if let Some((least, most)) = self.range() {
            schema.integer("minimum", least);
            schema.integer("maximum", most);
        }
    }

    /// Returns the least and the greatest whole number.
    fn range(self) -> Option<(i64, u64)> {
        let signed = |bits: u32| (-(1i64 << (bits - 1)), (1u64 << (bits - 1)) - 1);
        match self {
            Element::Int8 => Some(signed(8)),
            Element::Int16 => Some(signed(16)),
            Element::Int32 => Some(signed(32)),
            Element::Int64 => Some((i64::MIN, i64::MAX.unsigned_abs())),
            Element::UInt8 => Some((0, u8::MAX.into())),
            Element::UInt16 => Some((0, u16::MAX.into())),
            Element::UInt32 => Some((0, u32::MAX.into())),
            Element::UInt64 => Some((0, u64::MAX)),
            Element::Bool
            | Element::Float
            | Element::Double
            | Element::Half
            | Element::BFloat16
            | Element::Bytes
            | Element::Text
            | Element::Base64 => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::text::Text;
    use super::*;
    use serde_json::{Value, json};

    fn schema(element: Element) -> Value {
        let mut text = Text::new(1000);
        text.object(|object| element.write(object));
        serde_json::from_slice(&text.finish().unwrap()).unwrap()
    }

    fn spec(alias: &str, dtype: DType) -> TensorSpec {
        TensorSpec { alias: alias.to_owned(), tensor: String::new(), dtype, shape: None }
    }

    #[test]
    fn the_table_is_in_the_order_of_the_elements() {
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, index);
        }
    }

    #[test]
    fn every_dtype_has_its_schema_or_none() {
        let whole = |format: &str, least: i64, most: u64| json!({"type": "integer", "format": format, "minimum": least, "maximum": most});
        let number = |format: &str| json!({"type": "number", "format": format});
        for (dtype, expected) in [
            (DType::Bool, json!({"type": "boolean"})),
            (DType::Float, number("float")),
            (DType::Double, number("double")),
            (DType::Half, number("float16")),
            (DType::BFloat16, number("bfloat16")),
            (DType::Int8, whole("int8", -128, 127)),
            (DType::Int16, whole("int16", -32768, 32767)),
            (DType::Int32, whole("int32", i32::MIN.into(), 2147483647)),
            (DType::Int64, whole("int64", i64::MIN, i64::MAX as u64)),
            (DType::UInt8, whole("uint8", 0, 255)),
            (DType::UInt16, whole("uint16", 0, 65535)),
            (DType::UInt32, whole("uint32", 0, u32::MAX.into())),
            (DType::UInt64, whole("uint64", 0, u64::MAX)),
            (DType::String, json!({"$ref": "#/components/schemas/Bytes"})),
        ] {
            assert_eq!(schema(Element::sent(&spec("x", dtype), true).unwrap()), expected, "{dtype:?}");
        }
        let all = (0..34).filter_map(DType::from_number);
        let without = all.filter(|dtype| Element::sent(&spec("x", *dtype), true).is_none());
        assert_eq!(without.count(), 20);
        assert_eq!(Element::sent(&spec("x", DType::UInt16), false), None);
    }

    #[test]
    fn strings_come_back_as_the_server_prints_them() {
        let told = |alias, v2, non_utf8| Element::told(&spec(alias, DType::String), v2, non_utf8).unwrap();
        for (alias, v2, non_utf8, expected) in [
            ("x", false, NonUtf8::Raw, Element::Text),
            ("x", false, NonUtf8::Base64, Element::Bytes),
            ("x_bytes", false, NonUtf8::Raw, Element::Base64),
            ("x_bytes", false, NonUtf8::Base64, Element::Base64),
            ("x_bytes", true, NonUtf8::Raw, Element::Bytes),
        ] {
            assert_eq!(told(alias, v2, non_utf8), expected, "{alias} {v2} {non_utf8:?}");
        }
        assert_eq!(schema(Element::Text), json!({"type": "string"}));
        assert_eq!(schema(Element::Base64), json!({"$ref": "#/components/schemas/Base64"}));
    }
}
