//! Reads the messages of a call from its stream, one for most calls: a compression flag, four bytes of length, then the
//! message.
//!
//! A small message that arrived in one piece is used in place. A larger one is gathered into a buffer of its own,
//! placed so that its first large block of numbers is aligned for the engine: then this is its only copy.

use crate::connections::Connection;
use crate::error::{Error, Kind, Result};
use crate::memory::Reservation;
use crate::metrics::EdgeLimit;
use crate::pace::{Meter, Pace};
use crate::tensor::{Aligned, append};
use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http::header::HeaderName;
use http_body::{Body, Frame};
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
    let mut stream = Stream::new(body, limits.pace);
    stream.message(headers, limits, locate).await?.ok_or_else(|| cut_off(0, PREFIX))
}

/// A stream of messages, each of which has to arrive at a pace.
pub(super) struct Stream<B> {
    body: B,
    meter: Meter,
    /// What has come after the last message, with the end of it.
    rest: Bytes,
}

impl<B> Stream<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Error>,
{
    pub(super) fn new(body: B, pace: Option<Pace>) -> Stream<B> {
        Stream { body, meter: Meter::new(pace), rest: Bytes::new() }
    }

    /// Waits, for as long as it takes, until a message begins; returns false at the end of the stream.
    pub(super) async fn begins(&mut self) -> Result<bool> {
        while self.rest.is_empty() {
            let Some(data) = piece(self.body.frame().await)? else { return Ok(false) };
            self.rest = data;
        }
        self.meter.restart();
        Ok(true)
    }

    /// Reads the next message; `None` at the end of the stream. Refuses one that is too long by its announced length.
    pub(super) async fn message(
        &mut self,
        headers: &HeaderMap,
        limits: MessageLimits<'_>,
        locate: Option<Locate>,
    ) -> Result<Option<Message>> {
        let (limit, client) = (limits.bytes, limits.client);
        let Some(mut first) = self.next(client).await? else { return Ok(None) };
        while first.len() < PREFIX {
            let Some(more) = self.next(client).await? else { return Err(cut_off(first.len(), PREFIX)) };
            first = BytesMut::from_iter(first.chain(more)).freeze();
        }
        let flag = first.get_u8();
        let length = first.get_u32() as usize;
        if length > limit {
            client.reached(EdgeLimit::BodyBytes);
            return Err(Error::new(
                Kind::ResourceExhausted,
                format!("Received message larger than max ({length} vs. {limit})"),
            ));
        }
        let packed = compression(flag, headers)?;
        let bytes = if first.len() >= length {
            limits.memory.grow(length)?;
            let bytes = first.split_to(length);
            self.rest = first;
            bytes
        } else {
            let locate = locate.filter(|_| packed.is_none());
            gather(first, self, length, locate, &limits).await?
        };
        Ok(Some(match packed {
            None => Message::Plain(bytes),
            Some(zlib) => {
                Message::Packed(Packed { bytes, zlib, limit: limit.min(UNPACKED), memory: limits.memory })
            }
        }))
    }

    /// Returns the next piece of the stream; `None` at its end.
    async fn next(&mut self, client: &Connection) -> Result<Option<Bytes>> {
        if !self.rest.is_empty() {
            return Ok(Some(std::mem::take(&mut self.rest)));
        }
        loop {
            let frame = tokio::select! {
                biased;
                frame = self.body.frame() => frame,
                () = self.meter.overdue() => {
                    client.reached(EdgeLimit::BodyTime);
                    return Err(Error::new(
                        Kind::DeadlineExceeded,
                        "The call's message came too slowly: send it without pauses, or lower --min_transfer_rate",
                    ));
                }
            };
            let Some(data) = piece(frame)? else { return Ok(None) };
            if !data.is_empty() {
                self.meter.moved(data.len());
                return Ok(Some(data));
            }
        }
    }
}

/// Returns the data in a frame, which may be empty; `None` at the end of the stream.
fn piece<E: Into<Error>>(frame: Option<Result<Frame<Bytes>, E>>) -> Result<Option<Bytes>> {
    let Some(frame) = frame else { return Ok(None) };
    Ok(Some(frame.map_err(Into::into)?.into_data().unwrap_or_default()))
}

/// Gathers the message in one buffer as it arrives.
async fn gather<B>(
    first: Bytes,
    stream: &mut Stream<B>,
    length: usize,
    locate: Option<Locate>,
    limits: &MessageLimits<'_>,
) -> Result<Bytes>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Error>,
{
    let memory = &limits.memory;
    let offset = locate.and_then(|locate| locate(&first)).unwrap_or(0);
    let skew = offset.next_multiple_of(ALIGNMENT) - offset;
    memory.grow(skew + length.min(RESERVED[0]).max(first.len()))?;
    let mut buffer: Aligned<u8> =
        Aligned::with_capacity(ALIGNMENT, skew + length.min(RESERVED[0]).max(first.len()));
    buffer.resize(skew, 0);
    append(&mut buffer, &first);
    drop(first);
    while buffer.len() < skew + length {
        let next = stream.next(limits.client).await?;
        let Some(mut more) = next else { return Err(cut_off(buffer.len() - skew, length)) };
        let missing = skew + length - buffer.len();
        if more.len() > missing {
            stream.rest = more.split_off(missing);
        }
        if buffer.capacity() - buffer.len() < more.len() {
            // Beyond that, the buffer doubles.
            let room = missing.min(RESERVED[1].max(buffer.len()));
            memory.grow(room)?;
            buffer.reserve_exact(room);
        }
        append(&mut buffer, &more);
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
