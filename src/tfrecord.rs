//! TFRecord: per record, its length (u64, little endian), a checksum of the length, the record, a checksum of the
//! record. Checksums are masked CRC-32C: rotated right by 15 bits, plus a constant (docs/spec/server.md, section 7).

use crate::error::{Error, Kind};
use std::io::Read;

const CHECKSUM: u64 = 4;
const HEADER: u64 = 8 + CHECKSUM;

/// The records of an uncompressed file, in order, up to the first error. Error texts are TensorFlow's.
///
/// Memory is allocated by the file's actual content, not by the lengths it claims.
pub struct Records<R> {
    input: R,
    offset: u64,
    ended: bool,
}

impl<R: Read> Records<R> {
    /// Reads the records of `input`.
    pub fn new(input: R) -> Records<R> {
        Records { input, offset: 0, ended: false }
    }

    fn read(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let header = self.bytes(HEADER)?;
        let Some((length, checksum)) = header.split_first_chunk::<8>().filter(|_| is_whole(&header, HEADER))
        else {
            if !header.is_empty() {
                // TensorFlow treats this as the end.
                tracing::warn!("a TFRecord file ends with {} bytes of a further record", header.len());
            }
            return Ok(None);
        };
        if !matches(length, checksum) {
            return Err(self.corrupted(self.offset));
        }
        let length = u64::from_le_bytes(*length);
        let whole = length.saturating_add(CHECKSUM);
        let mut record = self.bytes(whole)?;
        if !is_whole(&record, whole) {
            let text =
                format!("truncated record at {}' failed with Read less bytes than requested", self.offset);
            return Err(Error::new(Kind::DataLoss, text));
        }
        let checksum = record.split_off(record.len() - CHECKSUM as usize);
        if !matches(&record, &checksum) {
            return Err(self.corrupted(self.offset + HEADER));
        }
        self.offset += HEADER + whole;
        Ok(Some(record))
    }

    /// Reads the next `count` bytes, or fewer at the end.
    fn bytes(&mut self, count: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        self.input.by_ref().take(count).read_to_end(&mut bytes).map_err(|why| {
            Error::new(Kind::Unknown, format!("a TFRecord file cannot be read at {}: {why}", self.offset))
        })?;
        Ok(bytes)
    }

    fn corrupted(&self, offset: u64) -> Error {
        let hint = if offset == 0 { " (Is this even a TFRecord file?)" } else { "" };
        Error::new(Kind::DataLoss, format!("corrupted record at {offset}{hint}"))
    }
}

impl<R: Read> Iterator for Records<R> {
    type Item = Result<Vec<u8>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let record = self.read().transpose();
        self.ended = !matches!(record, Some(Ok(_)));
        record
    }
}

fn is_whole(bytes: &[u8], length: u64) -> bool {
    bytes.len() as u64 == length
}

fn matches(bytes: &[u8], checksum: &[u8]) -> bool {
    checksum == masked(bytes).to_le_bytes()
}

fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Returns `record` as stored in a file.
pub fn framed(record: &[u8]) -> Vec<u8> {
    let length = (record.len() as u64).to_le_bytes();
    [&length[..], &masked(&length).to_le_bytes(), record, &masked(record).to_le_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(file: &[u8]) -> (Vec<Vec<u8>>, Option<String>) {
        let mut records = Vec::new();
        for record in Records::new(file) {
            match record {
                Ok(record) => records.push(record),
                Err(why) => return (records, Some(why.to_string())),
            }
        }
        (records, None)
    }

    /// Expected results are those of TensorFlow 2.21 on the same files.
    #[test]
    fn damage_is_named_as_tensorflow_names_it() {
        let file = [framed(b"hello"), framed(b"world!")].concat();
        let cut = |length: usize| read(&file[..length]).1;
        assert_eq!(read(&file), (vec![b"hello".to_vec(), b"world!".to_vec()], None));
        assert_eq!((cut(0), cut(3), cut(21), cut(24)), (None, None, None, None));
        let truncated = "truncated record at 0' failed with Read less bytes than requested";
        assert_eq!(cut(12), Some(format!("DATA_LOSS: {truncated}")));
        assert_eq!(cut(14), Some(format!("DATA_LOSS: {truncated}")));
        assert_eq!(cut(36), Some(format!("DATA_LOSS: {}", truncated.replace(" 0'", " 21'"))));
        let flip = |index: usize| {
            let mut flipped = file.clone();
            flipped[index] ^= 1;
            read(&flipped).1
        };
        assert_eq!(flip(0).unwrap(), "DATA_LOSS: corrupted record at 0 (Is this even a TFRecord file?)");
        assert_eq!(flip(13).unwrap(), "DATA_LOSS: corrupted record at 12");
        assert_eq!(flip(21).unwrap(), "DATA_LOSS: corrupted record at 21");
        assert_eq!(flip(33).unwrap(), "DATA_LOSS: corrupted record at 33");
        let garbage = read(b"garbage that is longer than a header").1;
        assert_eq!(garbage.unwrap(), "DATA_LOSS: corrupted record at 0 (Is this even a TFRecord file?)");
    }

    #[test]
    fn a_length_beyond_the_file_takes_no_memory() {
        let length = u64::MAX.to_le_bytes();
        let file = [&length[..], &masked(&length).to_le_bytes(), b"few"].concat();
        assert!(read(&file).1.unwrap().starts_with("DATA_LOSS: truncated record at 0'"));
    }

    proptest! {
        #[test]
        fn records_are_read_as_written(records: Vec<Vec<u8>>) {
            let file: Vec<u8> = records.iter().flat_map(|record| framed(record)).collect();
            prop_assert_eq!(read(&file), (records, None));
        }

        #[test]
        fn any_bytes_are_records_or_an_error(bytes: Vec<u8>) {
            let (records, _) = read(&bytes);
            prop_assert!(records.iter().map(|record| record.len() + 16).sum::<usize>() <= bytes.len());
        }

        #[test]
        fn one_wrong_bit_is_never_taken_for_data(record: Vec<u8>, bit: prop::sample::Index) {
            let mut file = framed(&record);
            let bit = bit.index(8 * file.len());
            file[bit / 8] ^= 1 << (bit % 8);
            let (records, error) = read(&file);
            prop_assert_eq!((records.len(), error.is_some()), (0, true));
        }
    }
}
