//! Element types: those that Servable and OpenVINO both have.

use crate::tensor::DType;

/// `ov_element_type_e` and the dtype, for what can be fed and fetched. Before 2026 the numbers were others.
pub(super) const TABLE: [(u32, DType); 13] = [
    (1, DType::Bool),
    (2, DType::BFloat16),
    (3, DType::Half),
    (4, DType::Float),
    (5, DType::Double),
    (7, DType::Int8),
    (8, DType::Int16),
    (9, DType::Int32),
    (10, DType::Int64),
    (16, DType::UInt8),
    (17, DType::UInt16),
    (18, DType::UInt32),
    (19, DType::UInt64),
];

/// Names of all element types, by `ov_element_type_e`.
const NAMES: [&str; 26] = [
    "dynamic", "boolean", "bf16", "f16", "f32", "f64", "i4", "i8", "i16", "i32", "i64", "u1", "u2", "u3",
    "u4", "u6", "u8", "u16", "u32", "u64", "nf4", "f8e4m3", "f8e5m2", "string", "f4e2m1", "f8e8m0",
];

/// Returns the dtype of OpenVINO's element type `number`.
pub(super) fn dtype(number: u32) -> Option<DType> {
    TABLE.iter().find(|row| row.0 == number).map(|row| row.1)
}

/// Returns the name of OpenVINO's element type `number`.
pub(super) fn name(number: u32) -> &'static str {
    usize::try_from(number).ok().and_then(|place| NAMES.get(place)).unwrap_or(&"unknown")
}

/// Returns a value of `bytes` that the CPU plugin would compute with wrongly, if there is one: it computes with all
/// integers as 32 bits with a sign.
pub(super) fn beyond_32_bits(dtype: DType, bytes: &[u8]) -> Option<i128> {
    if dtype == DType::Int64 {
        let mut values = bytes.as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes));
        values.find(|value| i32::try_from(*value).is_err()).map(i128::from)
    } else if dtype == DType::UInt64 {
        let mut values = bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
        values.find(|value| i32::try_from(*value).is_err()).map(i128::from)
    } else if dtype == DType::UInt32 {
        let mut values = bytes.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes));
        values.find(|value| i32::try_from(*value).is_err()).map(i128::from)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_names_of_its_numbers() {
        for (number, dtype) in TABLE {
            let name = match dtype.name() {
                "float" => "f32".to_owned(),
                "double" => "f64".to_owned(),
                "half" => "f16".to_owned(),
                "bool" => "boolean".to_owned(),
                name => name.replace("bfloat", "bf").replace("uint", "u").replace("int", "i"),
            };
            assert_eq!(super::name(number), name);
            assert_eq!(super::dtype(number), Some(dtype));
        }
        assert_eq!((super::dtype(23), super::name(23), super::name(99)), (None, "string", "unknown"));
    }

    #[test]
    fn integers_beyond_32_bits_are_found() {
        let i64s = |values: &[i64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
        let (least, most) = (i64::from(i32::MIN), i64::from(i32::MAX));
        assert_eq!(beyond_32_bits(DType::Int64, &i64s(&[0, least, most])), None);
        assert_eq!(beyond_32_bits(DType::Int64, &i64s(&[0, most + 1])), Some(i128::from(most) + 1));
        assert_eq!(beyond_32_bits(DType::Int64, &i64s(&[least - 1])), Some(i128::from(least) - 1));
        assert_eq!(beyond_32_bits(DType::UInt64, &u64::MAX.to_le_bytes()), Some(u64::MAX.into()));
        assert_eq!(beyond_32_bits(DType::UInt32, &u32::MAX.to_le_bytes()), Some(u32::MAX.into()));
        assert_eq!(beyond_32_bits(DType::UInt32, &5u32.to_le_bytes()), None);
        assert_eq!(beyond_32_bits(DType::Float, &u32::MAX.to_le_bytes()), None);
    }
}
