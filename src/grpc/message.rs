//! Reads the single message of a call from its stream: a compression flag, four bytes of length, then the message.
//!
//! A small message that arrived in one piece is used in place. A larger one is gathered into a buffer of its own,
//! placed so that its first large block of numbers is aligned for the engine: then this is its only copy.

use crate::connections::Connection;
use crate::error::{Error, Kind, Result};
use crate::memory::Reservation;
use crate::metrics::EdgeLimit;
use crate::pace::{Meter, Pace};
use crate::tensor::Aligned;
use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http::header::HeaderName;
use http_body::Body;
use http_body_util::BodyExt;
use std::io::{self, Read};
use std::sync::Arc;

/// Finds the offset of the block worth aligning, given the beginning of a message.
pub(super) type Locate = fn(&[u8]) -> Option<usize>;

static ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// Length of the prefix of a message, in bytes.
const PREFIX: usize = 5;
/// The alignment that the engine takes without a copy, in bytes.
const ALIGNMENT: usize = 64;
/// Bytes reserved for a message on its announced length alone, and per step once that many have arrived.
const RESERVED: [usize; 2] = [64 << 10, 16 << 20];
/// Largest size that a compressed message may unpack to, in bytes: little cost to the client must not exhaust the
/// server.
const UNPACKED: usize = 256 << 20;

/// A whole message.
#[derive(Debug)]
pub(super) enum Message {
    /// Ready for the method.
    Plain(Bytes),
    /// Still compressed: unpacking takes time.
    Packed(Packed),
}

impl Message {
    /// Returns its size as received, in bytes.
    pub(super) fn len(&self) -> usize {
        match self {
            Message::Plain(bytes) | Message::Packed(Packed { bytes, .. }) => bytes.len(),
        }
    }
}

/// A compressed message.
#[derive(Debug)]
pub(super) struct Packed {
    bytes: Bytes,
    zlib: bool,
    limit: usize,
    memory: Arc<Reservation>,
}

/// Limits on the size and pace of a message.
#[derive(Clone, Debug)]
pub(super) struct MessageLimits<'a> {
    /// Largest message, in bytes.
    pub(super) bytes: usize,
    /// Required pace; `None` for any.
    pub(super) pace: Option<Pace>,
    /// Counts the message's memory.
    pub(super) memory: Arc<Reservation>,
    /// Counts the limits that are reached.
    pub(super) client: &'a Connection,
}

/// Reads the message of a call from its `body`; refuses one that is too long by its announced length.
pub(super) async fn read<B>(
    headers: &HeaderMap,
    body: B,
    limits: MessageLimits<'_>,
    locate: Option<Locate>,
) -> Result<Message>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Error>,
{
    let mut body = Paced { body, meter: Meter::new(limits.pace), client: limits.client };
    let limit = limits.bytes;
    let mut first = body.next().await?.unwrap_or_default();
    while first.len() < PREFIX {
        let Some(more) = body.next().await? else { return Err(cut_off(first.len(), PREFIX)) };
        first = BytesMut::from_iter(first.chain(more)).freeze();
    }
    let flag = first.get_u8();
    let length = first.get_u32() as usize;
    if length > limit {
        limits.client.reached(EdgeLimit::BodyBytes);
        return Err(Error::new(
            Kind::ResourceExhausted,
            format!("Received message larger than max ({length} vs. {limit})"),
        ));
    }
    let packed = compression(flag, headers)?;
    let bytes = if first.len() >= length {
        limits.memory.grow(length)?;
        first.split_to(length)
    } else {
        let locate = locate.filter(|_| packed.is_none());
        gather(first, &mut body, length, locate, &limits.memory).await?
    };
    Ok(match packed {
        None => Message::Plain(bytes),
        Some(zlib) => {
            Message::Packed(Packed { bytes, zlib, limit: limit.min(UNPACKED), memory: limits.memory })
        }
    })
}

/// A stream that has to arrive at a pace.
struct Paced<'a, B> {
    body: B,
    meter: Meter,
    client: &'a Connection,
}

impl<B> Paced<'_, B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Error>,
{
    /// Returns the next piece of the stream; `None` at its end.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let frame = tokio::select! {
                biased;
                frame = self.body.frame() => frame,
                () = self.meter.overdue() => {
                    self.client.reached(EdgeLimit::BodyTime);
                    return Err(Error::new(
                        Kind::DeadlineExceeded,
                        "The call's message came too slowly: send it without pauses, or lower --min_transfer_rate",
                    ));
                }
            };
            let Some(frame) = frame else { return Ok(None) };
            if let Ok(data) = frame.map_err(Into::into)?.into_data()
                && !data.is_empty()
            {
                self.meter.moved(data.len());
                return Ok(Some(data));
            }
        }
    }
}

/// Gathers the message in one buffer as it arrives.
async fn gather<B>(
    first: Bytes,
    body: &mut Paced<'_, B>,
    length: usize,
    locate: Option<Locate>,
    memory: &Reservation,
) -> Result<Bytes>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Error>,
{
    let offset = locate.and_then(|locate| locate(&first)).unwrap_or(0);
    let skew = offset.next_multiple_of(ALIGNMENT) - offset;
    memory.grow(skew + length.min(RESERVED[0]).max(first.len()))?;
    let mut buffer: Aligned<u8> =
        Aligned::with_capacity(ALIGNMENT, skew + length.min(RESERVED[0]).max(first.len()));
    buffer.resize(skew, 0);
    buffer.extend_from_slice(&first);
    drop(first);
    while buffer.len() < skew + length {
        let Some(more) = body.next().await? else { return Err(cut_off(buffer.len() - skew, length)) };
        let missing = skew + length - buffer.len();
        if buffer.capacity() - buffer.len() < more.len().min(missing) {
            // Beyond that, the buffer doubles.
            let room = missing.min(RESERVED[1].max(buffer.len()));
            memory.grow(room)?;
            buffer.reserve(room);
        }
        buffer.extend_from_slice(&more[..more.len().min(missing)]);
    }
    Ok(Bytes::from_owner(Gathered(buffer)).slice(skew..))
}

struct Gathered(Aligned<u8>);

impl AsRef<[u8]> for Gathered {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn cut_off(came: usize, expected: usize) -> Error {
    Error::invalid(format!("Expected one message: the stream ended after {came} of {expected} bytes"))
}

/// Returns `None` for an uncompressed message; otherwise whether it is compressed by zlib (`deflate`) rather than gzip.
fn compression(flag: u8, headers: &HeaderMap) -> Result<Option<bool>> {
    let encoding = headers.get(&ENCODING).map_or(&b"identity"[..], |value| value.as_bytes());
    match (flag, encoding) {
        (0, _) => Ok(None),
        (1, b"gzip") => Ok(Some(false)),
        (1, b"deflate") => Ok(Some(true)),
        (1, b"identity") => Err(Error::new(
            Kind::Internal,
            "The message is marked as compressed, but grpc-encoding does not say how",
        )),
        (1, other) => Err(Error::new(
            Kind::Unimplemented,
            format!(
                "Messages compressed by {} cannot be read: send identity, deflate or gzip",
                String::from_utf8_lossy(other)
            ),
        )),
        _ => Err(Error::new(
            Kind::Internal,
            format!("Expected a message to begin with 0 or 1 (compressed), got {flag}"),
        )),
    }
}

impl Packed {
    /// Unpacks the message.
    pub(super) fn unpack(self) -> Result<Bytes> {
        let mut unpacked = Vec::new();
        let failed =
            |why: io::Error| Error::invalid(format!("The compressed message cannot be unpacked: {why}"));
        let mut reader: Box<dyn Read + '_> = if self.zlib {
            Box::new(flate2::bufread::ZlibDecoder::new(&self.bytes[..]))
        } else {
            Box::new(flate2::bufread::MultiGzDecoder::new(&self.bytes[..]))
        };
        while unpacked.len() <= self.limit {
            // One byte beyond the limit, to detect the end.
            let room = unpacked.len().clamp(RESERVED[0], RESERVED[1]).min(self.limit + 1 - unpacked.len());
            self.memory.grow(room)?;
            unpacked.reserve_exact(room);
            if reader.by_ref().take(room as u64).read_to_end(&mut unpacked).map_err(failed)? < room {
                return Ok(unpacked.into());
            }
        }
        Err(Error::new(
            Kind::ResourceExhausted,
            format!("The compressed message unpacks to more than {} bytes", self.limit),
        ))
    }
}

#[cfg(test)]
mod tests;
