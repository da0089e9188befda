//! The protocol's datatypes: their names, and the numbers that Triton's configuration has for them.

use crate::tensor::DType;

/// dtype, name, number in `inference.DataType`.
const TABLE: [(DType, &str, i32); 14] = [
    (DType::Bool, "BOOL", 1),
    (DType::UInt8, "UINT8", 2),
    (DType::UInt16, "UINT16", 3),
    (DType::UInt32, "UINT32", 4),
    (DType::UInt64, "UINT64", 5),
    (DType::Int8, "INT8", 6),
    (DType::Int16, "INT16", 7),
    (DType::Int32, "INT32", 8),
    (DType::Int64, "INT64", 9),
    (DType::Half, "FP16", 10),
    (DType::Float, "FP32", 11),
    (DType::Double, "FP64", 12),
    (DType::String, "BYTES", 13),
    (DType::BFloat16, "BF16", 14),
];

/// Returns the protocol's name of `dtype`; `None` if it has none, as for complex numbers.
pub fn name(dtype: DType) -> Option<&'static str> {
    row(dtype).map(|row| row.1)
}

/// Returns the name of `dtype`; the one in TensorFlow's messages if the protocol has none.
pub fn any_name(dtype: DType) -> &'static str {
    name(dtype).unwrap_or_else(|| dtype.name())
}

/// Returns the dtype of the protocol's `name`.
pub fn named(name: &str) -> Option<DType> {
    TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
}

/// Returns the number of `dtype` in `inference.DataType`; 0 (`TYPE_INVALID`) if it has none.
pub fn number(dtype: DType) -> i32 {
    row(dtype).map_or(0, |row| row.2)
}

/// Returns the name of `dtype` in a configuration: `TYPE_FP32`, …
pub fn config_name(dtype: DType) -> String {
    match name(dtype) {
        None => "TYPE_INVALID".to_owned(),
        Some("BYTES") => "TYPE_STRING".to_owned(),
        Some(name) => format!("TYPE_{name}"),
    }
}

fn row(dtype: DType) -> Option<&'static (DType, &'static str, i32)> {
    TABLE.iter().find(|row| row.0 == dtype)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_dtypes() {
        for (index, (dtype, known, number)) in TABLE.into_iter().enumerate() {
            assert_eq!((name(dtype), named(known)), (Some(known), Some(dtype)));
            assert_eq!((super::number(dtype), number), (number, index as i32 + 1));
        }
        assert_eq!((name(DType::Complex64), any_name(DType::Complex64)), (None, "complex64"));
        assert_eq!((named("fp32"), named("")), (None, None));
        assert_eq!(config_name(DType::String), "TYPE_STRING");
        assert_eq!(
            (config_name(DType::Half), config_name(DType::QInt8)),
            ("TYPE_FP16".into(), "TYPE_INVALID".into())
        );
    }
}
