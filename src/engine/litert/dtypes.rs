//! The dtypes that TensorFlow, `.tflite` files and LiteRT's functions have in common, and their numbers.

use crate::tensor::DType;

/// Number in a file, dtype, number in LiteRT's functions.
const TABLE: [(u8, DType, i32); 16] = [
    (0, DType::Float, 1),
    (1, DType::Half, 10),
    (2, DType::Int32, 2),
    (3, DType::UInt8, 3),
    (4, DType::Int64, 4),
    (5, DType::String, 5),
    (6, DType::Bool, 6),
    (7, DType::Int16, 7),
    (8, DType::Complex64, 8),
    (9, DType::Int8, 9),
    (10, DType::Double, 11),
    (11, DType::Complex128, 12),
    (12, DType::UInt64, 13),
    (15, DType::UInt32, 16),
    (16, DType::UInt16, 17),
    (18, DType::BFloat16, 19),
];

/// Returns the dtype with number `number` in a file, and its number in LiteRT's functions.
pub(super) fn of(number: u8) -> Option<(DType, i32)> {
    TABLE.iter().find(|row| row.0 == number).map(|row| (row.1, row.2))
}
