//! The codings of bodies: gzip and zstd, both ways, within limits.
//!
//! A gzip body of TensorFlow Serving's API has rules of its own ([`super::body::unpacked`]).

use crate::error::{Error, Kind};
use crate::memory::Reservation;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use std::io::{Read, Write};
use zstd::stream::read::Decoder;
use zstd::zstd_safe::{find_frame_compressed_size, get_frame_content_size};

/// A coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// The codings that a client accepts, by their qualities in thousandths; 0 for those that it does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accepts {
    pub(crate) gzip: u16,
    pub(crate) zstd: u16,
}

impl Accepts {
    /// Returns the coding that the client likes best; of equal ones, the one that costs least.
    pub(super) fn best(self) -> Option<Coding> {
        match self {
            Accepts { gzip: 0, zstd: 0 } => None,
            Accepts { gzip, zstd } if zstd >= gzip => Some(Coding::Zstd),
            Accepts { .. } => Some(Coding::Gzip),
        }
    }

    /// Returns those of both together.
    pub(super) fn or(self, other: Accepts) -> Accepts {
        Accepts { gzip: self.gzip.max(other.gzip), zstd: self.zstd.max(other.zstd) }
    }
}

/// What a body in zstd begins with.
const ZSTD_MAGIC: &[u8] = &[0x28, 0xB5, 0x2F, 0xFD];
/// Largest window of zstd, as a power of two, which RFC 8878 (section 3.1.1.1.2) recommends; and the memory of a decoder
/// that has one.
const WINDOW: u32 = 23;
const WINDOW_BYTES: usize = (1 << WINDOW) + (256 << 10);
/// Most bytes that zstd makes of one: a block of 128 KiB takes four.
const MOST_OF_ONE: usize = 32 << 10;
/// Smallest and largest step by which room is made.
const STEP: [usize; 2] = [64 << 10, 16 << 20];
/// zstd's level: numbers as text shrink to less than half, at some hundred megabytes a second.
const LEVEL: i32 = 1;

impl Coding {
    /// Returns its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Zstd => "zstd",
        }
    }

    /// Compresses `bytes`; `None` if that fails.
    pub(super) fn packed(self, bytes: &[u8]) -> Option<Vec<u8>> {
        match self {
            Coding::Gzip => {
                let mut encoder =
                    GzEncoder::new(Vec::with_capacity(bytes.len() / 2 + 64), flate2::Compression::fast());
                encoder.write_all(bytes).and_then(|()| encoder.finish()).ok()
            }
            Coding::Zstd => zstd::bulk::compress(bytes, LEVEL).ok(),
        }
    }

    /// Decompresses a body, to `limit` bytes at most.
    ///
    /// # Errors
    /// INVALID_ARGUMENT if it is damaged, RESOURCE_EXHAUSTED if it is too large or `memory` has no room.
    pub(crate) fn unpacked(
        self,
        packed: &[u8],
        limit: usize,
        memory: &Reservation,
    ) -> Result<Vec<u8>, Error> {
        let damaged = |why: &dyn std::fmt::Display| {
            Error::invalid(format!(
                "The request's body is not whole in its Content-Encoding, {}: {why}",
                self.name()
            ))
        };
        if self == Coding::Gzip {
            let mut decoder = GzDecoder::new(packed);
            let out = inflated(&mut decoder, limit, memory)?.map_err(|why| damaged(&why))?;
            let is_whole = decoder.into_inner().is_empty();
            return if is_whole { Ok(out) } else { Err(damaged(&"something follows it")) };
        }
        let before = memory.bytes();
        if let Some(size) = announced(packed) {
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            if size > limit {
                return Err(too_large(limit));
            }
            if size / MOST_OF_ONE > packed.len() {
                return Err(damaged(&"its size is not what it says"));
            }
            memory.grow(size)?;
            return zstd::bulk::decompress(packed, size).map_err(|why| damaged(&why));
        }
        memory.grow(WINDOW_BYTES)?;
        let mut decoder = Decoder::with_buffer(packed).map_err(|why| damaged(&why))?;
        decoder.window_log_max(WINDOW).map_err(|why| damaged(&why))?;
        let out = inflated(&mut decoder, limit, memory)?.map_err(|why| damaged(&why))?;
        drop(decoder);
        memory.resize(before + out.capacity())?;
        Ok(out)
    }
}

/// Returns whether a body is in zstd. One that only says so is taken as it is, as in TensorFlow Serving.
pub(crate) fn is_zstd(body: &[u8]) -> bool {
    body.starts_with(ZSTD_MAGIC)
}

/// Returns the size that the only frame of a zstd body says it has.
fn announced(packed: &[u8]) -> Option<u64> {
    let is_only = find_frame_compressed_size(packed).is_ok_and(|size| size == packed.len());
    get_frame_content_size(packed).ok().flatten().filter(|_| is_only)
}

/// Reads everything from `decoder`, and makes room for it step by step. The inner error is the decoder's.
fn inflated(
    decoder: &mut impl Read,
    limit: usize,
    memory: &Reservation,
) -> Result<std::io::Result<Vec<u8>>, Error> {
    let (mut out, mut step) = (Vec::new(), STEP[0]);
    loop {
        // One byte more than allowed, to detect it.
        let room = step.min((limit - out.len()).saturating_add(1));
        memory.grow(room.saturating_sub(out.capacity() - out.len()))?;
        out.reserve_exact(room);
        match decoder.by_ref().take(room as u64).read_to_end(&mut out) {
            Err(why) => return Ok(Err(why)),
            Ok(_) if out.len() > limit => return Err(too_large(limit)),
            Ok(read) if read < room => return Ok(Ok(out)),
            Ok(_) => step = out.len().min(STEP[1]),
        }
    }
}

/// Returns the error of a body that has more than `limit` bytes.
pub(super) fn too_large(limit: usize) -> Error {
    let message = format!(
        "The request's body is larger than {limit} bytes once it is unpacked: send less at once, or raise \
         --max_request_bytes"
    );
    Error::new(Kind::ResourceExhausted, message).with_status(413)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Account, Budget};

    const BOTH: [Coding; 2] = [Coding::Gzip, Coding::Zstd];

    fn unpacked(coding: Coding, packed: &[u8], limit: usize) -> Result<Vec<u8>, Error> {
        coding.unpacked(packed, limit, &Reservation::default())
    }

    /// Returns a zstd frame that does not say its size.
    fn streamed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn the_client_chooses_and_of_equal_ones_the_cheaper_is_taken() {
        for (gzip, zstd, best) in [
            (0, 0, None),
            (1, 0, Some(Coding::Gzip)),
            (0, 1, Some(Coding::Zstd)),
            (1000, 1000, Some(Coding::Zstd)),
            (1000, 999, Some(Coding::Gzip)),
            (500, 501, Some(Coding::Zstd)),
        ] {
            assert_eq!(Accepts { gzip, zstd }.best(), best, "{gzip} {zstd}");
        }
    }

    #[test]
    fn what_is_packed_is_unpacked_up_to_the_limit() {
        for size in [0, 1, STEP[0] - 1, STEP[0], STEP[0] + 1, 3 * STEP[0]] {
            let body: Vec<u8> = (0..size).map(|index| (index % 7) as u8).collect();
            for coding in BOTH {
                let packed = coding.packed(&body).unwrap();
                assert_eq!(unpacked(coding, &packed, size).unwrap(), body);
                if size > 0 {
                    assert_eq!(unpacked(coding, &packed, size - 1).unwrap_err().http_status(), 413);
                }
            }
            let packed = streamed(&body);
            assert_eq!(announced(&packed).is_some(), size == 0);
            assert_eq!(unpacked(Coding::Zstd, &packed, size).unwrap(), body);
            let twice = [&packed[..], &packed].concat();
            assert_eq!(unpacked(Coding::Zstd, &twice, 2 * size).unwrap(), [&body[..], &body].concat());
        }
    }

    #[test]
    fn what_is_damaged_is_told() {
        for (coding, packed) in [
            (Coding::Gzip, Coding::Gzip.packed(b"{\"instances\": [1.0]}").unwrap()),
            (Coding::Zstd, Coding::Zstd.packed(b"{\"instances\": [1.0]}").unwrap()),
            (Coding::Zstd, streamed(b"{\"instances\": [1.0]}")),
        ] {
            for wrong in [&packed[..packed.len() - 1], &packed[..6], &[&packed[..], b"x"].concat()] {
                let error = unpacked(coding, wrong, 100).unwrap_err();
                assert!(error.http_status() == 400 && error.message.contains(coding.name()), "{error}");
            }
        }
        // It says that it has a gigabyte.
        let lying = [ZSTD_MAGIC, &[0xa0, 0, 0, 0, 0x40, 1, 0, 0]].concat();
        assert_eq!(announced(&lying), Some(1 << 30));
        let budget = Budget::new(4 << 30);
        let memory = Reservation::new(Account::new(budget.clone()));
        let error = Coding::Zstd.unpacked(&lying, 1 << 31, &memory).unwrap_err();
        assert!(error.message.contains("not what it says"), "{error}");
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn it_takes_no_more_memory_than_there_is() {
        let much = vec![b' '; 64 << 20];
        for packed in [Coding::Zstd.packed(&much).unwrap(), streamed(&much)] {
            let budget = Budget::new(40 << 20);
            let memory = Reservation::new(Account::new(budget.clone()));
            let error = Coding::Zstd.unpacked(&packed, 1 << 30, &memory).unwrap_err();
            assert_eq!(error.http_status(), 413);
            drop(memory);
            assert_eq!(budget.used(), 0);
        }
    }

    #[test]
    fn windows_are_limited() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(WINDOW + 1).unwrap();
        encoder.write_all(&vec![b' '; 1 << 20]).unwrap();
        let packed = encoder.finish().unwrap();
        assert_eq!(unpacked(Coding::Zstd, &packed, 1 << 30).unwrap_err().http_status(), 400);
    }
}
