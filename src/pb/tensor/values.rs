//! The typed value fields of a `TensorProto`: read in bulk, and expanded to the shape if there are fewer values.

use super::{
    Aligned, Bytes, DType, Fields, MAX_DRAWN_OUT, Malformed, NoUninit, Shape, Strings, Tensor, Value, field,
    varint,
};

/// Reads `count` numbers of `dtype` from its own field of `proto`; all zeros if that is empty.
pub(super) fn numbers(proto: &Bytes, dtype: DType, shape: Shape, count: usize) -> Result<Tensor, Malformed> {
    let reader = Reader { proto, dtype, shape, count };
    match dtype {
        DType::Float => reader.fixed(field::FLOAT),
        DType::Double => reader.fixed(field::DOUBLE),
        DType::Complex64 => reader.fixed(field::COMPLEX64),
        DType::Complex128 => reader.fixed(field::COMPLEX128),
        DType::Int32 | DType::QInt32 => reader.varints(field::INT, |value| value as i32),
        DType::Int16 | DType::QInt16 => reader.varints(field::INT, |value| value as i16),
        DType::UInt16 | DType::QUInt16 => reader.varints(field::INT, |value| value as u16),
        DType::Int8 | DType::QInt8 | DType::Int4 | DType::Int2 => {
            reader.varints(field::INT, |value| value as i8)
        }
        DType::UInt8 | DType::QUInt8 | DType::UInt4 | DType::UInt2 => {
            reader.varints(field::INT, |value| value as u8)
        }
        DType::Half | DType::BFloat16 => reader.varints(field::HALF, |value| value as u16),
        DType::Int64 => reader.varints(field::INT64, |value| value as i64),
        DType::Bool => reader.varints(field::BOOL, |value| u8::from(value != 0)),
        DType::UInt32 => reader.varints(field::UINT32, |value| value as u32),
        DType::UInt64 => reader.varints(field::UINT64, |value| value),
        DType::Float8E5M2
        | DType::Float8E4M3Fn
        | DType::Float8E4M3Fnuz
        | DType::Float8E4M3B11Fnuz
        | DType::Float8E5M2Fnuz
        | DType::Float4E2M1Fn => reader.fixed(field::FLOAT8),
        DType::Invalid | DType::String | DType::Resource | DType::Variant => Err(Malformed),
    }
}

/// Returns whether numbers of `dtype` have the same layout in their own field as in memory, so that they are borrowed.
pub(super) fn lie_as_in_memory(dtype: DType) -> bool {
    matches!(
        dtype,
        DType::Float
            | DType::Double
            | DType::Complex64
            | DType::Complex128
            | DType::Float8E5M2
            | DType::Float8E4M3Fn
            | DType::Float8E4M3Fnuz
            | DType::Float8E4M3B11Fnuz
            | DType::Float8E5M2Fnuz
            | DType::Float4E2M1Fn
    )
}

struct Reader<'a> {
    proto: &'a Bytes,
    dtype: DType,
    shape: Shape,
    count: usize,
}

impl Reader<'_> {
    /// Reads numbers that have the same layout in the message as in memory.
    fn fixed(self, number: u32) -> Result<Tensor, Malformed> {
        let size = self.dtype.size();
        let wanted = self.count.checked_mul(size).ok_or(Malformed)?;
        let mut gathered: Aligned<u8> = Aligned::new(64);
        for item in Fields::new(self.proto) {
            let chunk = match item? {
                (found, Value::Bytes(chunk) | Value::Fixed32(chunk) | Value::Fixed64(chunk))
                    if found == number =>
                {
                    chunk
                }
                _ => continue,
            };
            // All in one field, as every library writes them: borrowed.
            if gathered.is_empty() && chunk.len() >= wanted {
                let bytes = self.proto.slice_ref(&chunk[..wanted]);
                return Ok(Tensor::numbers(self.dtype, self.shape, bytes));
            }
            let room = wanted - gathered.len();
            gathered.extend_from_slice(&chunk[..chunk.len().min(room)]);
        }
        // An incomplete number does not count.
        gathered.truncate(gathered.len() / size * size);
        let have = gathered.len();
        if have < wanted {
            grow(&mut gathered, wanted)?;
            let last: Vec<u8> =
                have.checked_sub(size).map_or(vec![0; size], |start| gathered[start..].to_vec());
            while gathered.len() < wanted {
                gathered.extend_from_slice(&last);
            }
        }
        Ok(Tensor::from_values(self.dtype, self.shape, gathered))
    }

    /// Reads numbers that are varints in the message, packed or one by one.
    fn varints<T: NoUninit + Default + Send + 'static>(
        self,
        number: u32,
        convert: impl Fn(u64) -> T,
    ) -> Result<Tensor, Malformed> {
        let mut values: Aligned<T> = Aligned::new(64);
        for item in Fields::new(self.proto) {
            match item? {
                (found, Value::Varint(value)) if found == number && values.len() < self.count => {
                    values.push(convert(value));
                }
                (found, Value::Bytes(mut packed)) if found == number => {
                    // A varint takes at least one byte, so this is bounded by what was sent.
                    values.reserve(packed.len().min(self.count - values.len()));
                    while !packed.is_empty() && values.len() < self.count {
                        values.push(convert(varint(&mut packed)?));
                    }
                }
                _ => {}
            }
        }
        if values.len() < self.count {
            grow(&mut values, self.count)?;
            let last = values.last().copied().unwrap_or_default();
            values.resize(self.count, last);
        }
        Ok(Tensor::from_values(self.dtype, self.shape, values))
    }
}

/// Makes room for `length` values, unless they exceed the limit.
fn grow<T>(values: &mut Aligned<T>, length: usize) -> Result<(), Malformed> {
    let allowed = length.checked_mul(size_of::<T>()).is_some_and(|bytes| bytes <= MAX_DRAWN_OUT);
    if !allowed {
        return Err(Malformed);
    }
    values.reserve(length - values.len());
    Ok(())
}

/// Reads `count` strings from `string_val`; empty ones if there are none.
pub(super) fn strings(proto: &Bytes, count: usize) -> Result<Strings, Malformed> {
    let mut found: Vec<&[u8]> = Vec::new();
    for item in Fields::new(proto) {
        if let (field::STRING, Value::Bytes(string)) = item?
            && found.len() < count
        {
            found.push(string);
        }
    }
    if let [only] = found[..]
        && count == 1
    {
        return Ok(Strings::new(proto.slice_ref(only), vec![only.len()]));
    }
    let last: &[u8] = found.last().copied().unwrap_or_default();
    let missing = count - found.len();
    let drawn_out = missing.checked_mul(last.len() + size_of::<usize>());
    if drawn_out.is_none_or(|bytes| bytes > MAX_DRAWN_OUT) {
        return Err(Malformed);
    }
    Ok(found.into_iter().chain(std::iter::repeat_n(last, missing)).collect())
}

/// Returns the bytes that `count` strings from `string_val` take in memory.
pub(super) fn strings_size(proto: &Bytes, count: usize) -> usize {
    let (mut found, mut bytes, mut last) = (0, 0usize, 0usize);
    for item in Fields::new(proto) {
        if let Ok((field::STRING, Value::Bytes(string))) = item {
            (found, bytes, last) = (found + 1, bytes + string.len(), string.len());
        }
    }
    let missing = count.saturating_sub(found);
    bytes
        .saturating_add(missing.saturating_mul(last))
        .saturating_add(count.saturating_mul(size_of::<usize>()))
}

/// Reads `count` strings from `tensor_content`: their lengths as varint32, then their bytes; the size must match
/// exactly.
pub(super) fn counted_strings(content: &Bytes, count: usize) -> Result<Strings, Malformed> {
    // A length takes at least one byte.
    if count > content.len() {
        return Err(Malformed);
    }
    let mut rest = &content[..];
    let mut ends = Vec::with_capacity(count);
    let mut end = 0usize;
    for _ in 0..count {
        let length = u32::try_from(varint(&mut rest)?).map_err(|_| Malformed)?;
        end = end.checked_add(length as usize).ok_or(Malformed)?;
        ends.push(end);
    }
    if end == rest.len() { Ok(Strings::new(content.slice_ref(rest), ends)) } else { Err(Malformed) }
}
