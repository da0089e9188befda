//! Request bodies: read within limits on size and pace, and decompressed if necessary.

use super::coding;
use super::own_wakes::withheld;
use super::reply::Refusal;
use crate::arriving::Arriving;
use crate::config::Options;
use crate::error::Error;
use crate::memory::Reservation;
use crate::metrics::EdgeLimit;
use crate::pace::Meter;
use crate::tensor::{Aligned, append};
use bytes::Bytes;
use flate2::bufread::GzDecoder;
use hyper::body::{Body, Frame, SizeHint};
use std::future::poll_fn;
use std::io::Read;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Largest body after decompression, as in TensorFlow Serving (docs/spec/rest.md section 8).
const MAX_UNPACKED: usize = 100 << 20;
/// Three times this may be reserved ahead, however little has arrived.
const MIN_AHEAD: usize = 16 << 10;
/// Once so many bytes of a body have come, room is made for so many.
const SOME: usize = 64 << 10;
const WHOLE: usize = 1 << 20;
/// Smallest and largest step by which room is made while a body of unknown length is decompressed.
const STEP: [usize; 2] = [64 << 10, 16 << 20];

/// The body of a request.
pub(crate) enum RequestBody {
    /// As its connection brings it.
    Arriving(Arriving),
    /// All of it, from the process itself; `None` once it is taken.
    Whole(Option<Bytes>),
}

impl RequestBody {
    /// Makes a body that is there.
    pub(crate) fn whole(bytes: Bytes) -> RequestBody {
        RequestBody::Whole(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

impl From<Arriving> for RequestBody {
    fn from(body: Arriving) -> RequestBody {
        RequestBody::Arriving(body)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            RequestBody::Arriving(body) => Pin::new(body).poll_frame(cx),
            RequestBody::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Arriving(body) => body.is_end_stream(),
            RequestBody::Whole(bytes) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Arriving(body) => body.size_hint(),
            RequestBody::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
        }
    }
}

/// Reads the whole of `body`, which must keep the pace in `options`, and counts it in `memory`. A body that arrives in
/// one frame is returned without a copy. If it comes in several, they are put together so that what begins at `offset` is
/// aligned as engines want it: then it need not be copied again.
pub(crate) async fn read(
    body: RequestBody,
    options: &Options,
    memory: &Reservation,
    offset: usize,
) -> Result<Bytes, Unread> {
    let limit = options.max_body_bytes;
    let mut body = Paced { body, meter: Meter::new(options.pace) };
    let announced = body.body.size_hint().lower();
    if announced > limit as u64 {
        return Err(too_large(limit).into());
    }
    let Some(first) = body.next().await? else {
        return Ok(Bytes::new());
    };
    if first.len() as u64 == announced {
        memory.grow(first.len()).map_err(Unread::NoRoom)?;
        return Ok(first);
    }
    let announced = usize::try_from(announced).unwrap_or(limit);
    let skew = (ALIGNMENT - offset % ALIGNMENT) % ALIGNMENT;
    let mut whole: Aligned<u8> = Aligned::new(ALIGNMENT);
    let (mut next, mut came) = (Some(first), 0);
    while let Some(frame) = next {
        came += frame.len();
        if came > limit {
            return Err(too_large(limit).into());
        }
        let needed = skew + came;
        if whole.capacity() < needed {
            let ahead = announced.saturating_sub(came).min(most_ahead(needed));
            memory.grow(needed + ahead - whole.capacity()).map_err(Unread::NoRoom)?;
            whole.reserve_exact(needed + ahead - whole.len());
        }
        if whole.is_empty() {
            whole.resize(skew, 0);
        }
        append(&mut whole, &frame);
        next = body.next().await?;
    }
    Ok(Bytes::from_owner(Gathered(whole)).slice(skew..))
}

/// Returns for how many bytes that are announced room is made when `came` bytes have come: a client pays for the memory that
/// it makes the server hold. Once some have come, it is enough for a picture's floats, so that these are moved once at most.
fn most_ahead(came: usize) -> usize {
    let most = came.max(MIN_AHEAD) * 3;
    if came < SOME { most } else { most.max(WHOLE.saturating_sub(came)) }
}

/// The alignment that engines take without a copy, in bytes.
const ALIGNMENT: usize = 64;

/// Lets `Bytes` own what was gathered.
struct Gathered(Aligned<u8>);

impl AsRef<[u8]> for Gathered {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The reasons why a body is not read to its end. Nothing can follow it on the connection.
#[derive(Debug)]
pub(crate) enum Unread {
    /// The body is too large, too slow, or breaks off.
    Refused(Refusal),
    /// There is no memory left for the body.
    NoRoom(Error),
}

impl Unread {
    /// Returns the limit that the body has reached, if that is why.
    pub(crate) fn limit(&self) -> Option<EdgeLimit> {
        match self {
            Unread::Refused(refusal) if refusal.status == 408 => Some(EdgeLimit::BodyTime),
            Unread::Refused(refusal) if refusal.status == 413 => Some(EdgeLimit::BodyBytes),
            Unread::Refused(_) | Unread::NoRoom(_) => None,
        }
    }
}

impl From<Refusal> for Unread {
    fn from(refusal: Refusal) -> Unread {
        Unread::Refused(refusal)
    }
}

/// A body that must keep a pace.
struct Paced {
    body: RequestBody,
    meter: Meter,
}

impl Paced {
    async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        loop {
            let Some(frame) = poll_fn(|cx| self.poll_in_time(cx)).await else {
                return Err(Refusal::closing(
                    408,
                    "Request Timeout: the request's body came too slowly: send it without pauses, or lower \
                     --min_transfer_rate",
                ));
            };
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|why| {
                Refusal::closing(400, format!("The request's body could not be read to its end: {why}"))
            })?;
            // HTTP/2 has empty frames, too. They are no end.
            if let Some(data) = frame.into_data().ok().filter(|data| !data.is_empty()) {
                self.meter.moved(data.len());
                return Ok(Some(data));
            }
        }
    }

    /// Polls for the next frame; `None` if it is overdue. One that has already arrived, as most have, costs no timer.
    fn poll_in_time(&mut self, cx: &mut Context<'_>) -> Poll<Option<NextFrame>> {
        match poll_frame(&mut self.body, cx) {
            Poll::Ready(frame) => Poll::Ready(Some(frame)),
            Poll::Pending => self.meter.poll_overdue(cx).map(|()| None),
        }
    }
}

/// The next frame of a body; `None` at its end.
type NextFrame = Option<Result<Frame<Bytes>, hyper::Error>>;

/// Polls for the next frame of `body`, without the wake that asks the connection for more once all has been taken.
fn poll_frame(body: &mut RequestBody, cx: &mut Context<'_>) -> Poll<NextFrame> {
    let (frame, wake) = withheld(|| Pin::new(&mut *body).poll_frame(cx));
    let is_last = matches!(frame, Poll::Ready(Some(Ok(_)))) && body.is_end_stream();
    if !is_last {
        wake.wake();
    }
    frame
}

fn too_large(limit: usize) -> Refusal {
    Refusal::closing(
        413,
        format!(
            "The request's body is larger than {limit} bytes: send less at once, or raise --max_request_bytes"
        ),
    )
}

/// The announced size of a gzip body, and the amount already counted for it.
pub(crate) struct Unpacked {
    hint: usize,
    counted: usize,
}

impl Unpacked {
    /// Counts the announced size, so that a body without room is refused before it waits for a thread. Only a hint: the
    /// limits hold whatever the last four bytes say.
    pub(crate) fn expect(packed: &[u8], limit: usize, memory: &Reservation) -> Result<Unpacked, Error> {
        /// Maximum compression ratio of deflate.
        const MOST: usize = 1032;
        let hint = packed.last_chunk::<4>().map_or(0, |size| u32::from_le_bytes(*size) as usize);
        if hint > limit.min(MAX_UNPACKED) {
            return Ok(Unpacked { hint, counted: 0 });
        }
        // One byte more than expected, to detect the end.
        let counted = hint.min(packed.len().saturating_mul(MOST)) + 1;
        memory.grow(counted)?;
        Ok(Unpacked { hint, counted })
    }
}

/// Decompresses a gzip body. One that is damaged, not exactly one member, or larger than TensorFlow Serving takes counts as
/// an empty body, as there. Fails if it is larger than a `limit` below that, and if `memory` has no room.
pub(crate) fn unpacked(
    packed: &[u8],
    limit: usize,
    expected: &Unpacked,
    memory: &Reservation,
) -> Result<Vec<u8>, Error> {
    let (own, limit) = (limit < MAX_UNPACKED, limit.min(MAX_UNPACKED));
    if expected.hint > limit && !own {
        return Ok(Vec::new());
    }
    let mut out = Vec::with_capacity(expected.counted);
    let mut decoder = GzDecoder::new(packed);
    let mut step = expected.counted;
    while let Some(room) = Some(step.max(STEP[0]).min(limit + 1 - out.len())).filter(|room| *room > 0) {
        let more = room.saturating_sub(out.capacity() - out.len());
        memory.grow(more)?;
        out.reserve_exact(room);
        let Ok(read) = decoder.by_ref().take(room as u64).read_to_end(&mut out) else {
            return Ok(Vec::new());
        };
        if read < room {
            break;
        }
        step = out.len().min(STEP[1]);
    }
    if own && out.len() > limit {
        return Err(coding::too_large(limit));
    }
    let is_whole = out.len() <= limit && decoder.into_inner().is_empty();
    Ok(if is_whole { out } else { Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Account, Budget};
    use std::io::Write;

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn unpacked(packed: &[u8], limit: usize) -> Vec<u8> {
        tried(packed, limit).unwrap()
    }

    fn tried(packed: &[u8], limit: usize) -> Result<Vec<u8>, Error> {
        let memory = Reservation::default();
        let room = Unpacked::expect(packed, limit, &memory).unwrap();
        super::unpacked(packed, limit, &room, &memory)
    }

    #[tokio::test]
    async fn a_body_that_is_there_is_read_without_a_copy_and_within_the_limit() {
        let bytes = Bytes::from(vec![b' '; 100]);
        let options = |limit| Options { max_body_bytes: limit, ..Options::closed() };
        let memory = Reservation::default();
        let body = || RequestBody::whole(bytes.clone());
        let whole = read(body(), &options(100), &memory, 0).await.unwrap();
        let aligned = read(body(), &options(100), &memory, 7).await.unwrap();
        assert_eq!((whole.as_ptr(), aligned.as_ptr()), (bytes.as_ptr(), bytes.as_ptr()));
        assert_eq!(
            read(body(), &options(99), &memory, 0).await.unwrap_err().limit(),
            Some(EdgeLimit::BodyBytes)
        );
        let nothing = RequestBody::whole(Bytes::new());
        assert!(nothing.is_end_stream() && read(nothing, &options(0), &memory, 0).await.unwrap().is_empty());
    }

    #[test]
    fn one_whole_member_is_unpacked() {
        assert_eq!(unpacked(&packed(b"{}"), 100), b"{}");
        for size in [STEP[0] - 1, STEP[0], STEP[0] + 1, 10 * STEP[0]] {
            let body = vec![b' '; size];
            assert_eq!(unpacked(&packed(&body), size), body);
            assert_eq!(tried(&packed(&body), size - 1).unwrap_err().http_status(), 413);
        }
    }

    #[test]
    fn beyond_what_tensorflow_serving_takes_it_is_an_empty_body() {
        let body = packed(&vec![b' '; MAX_UNPACKED + 1]);
        assert!(unpacked(&body, usize::MAX).is_empty() && unpacked(&body, MAX_UNPACKED).is_empty());
        assert_eq!(tried(&body, MAX_UNPACKED - 1).unwrap_err().http_status(), 413);
    }

    #[test]
    fn it_takes_no_more_memory_than_there_is() {
        let budget = Budget::new(4 << 20);
        let memory = Reservation::new(Account::new(budget.clone()));
        let honest = packed(&vec![b' '; 3 << 20]);
        let error = Unpacked::expect(&honest, 100 << 20, &memory).err().unwrap();
        assert_eq!((error.http_status(), budget.used()), (413, 0));
        let mut lying = packed(&vec![b' '; 3 << 20]);
        let end = lying.len() - 4;
        lying[end..].copy_from_slice(&[0; 4]);
        let room = Unpacked::expect(&lying, 100 << 20, &memory).unwrap();
        assert!(super::unpacked(&lying, 100 << 20, &room, &memory).is_err());
        assert!(memory.bytes() <= 2 << 20);
    }

    #[test]
    fn anything_else_is_an_empty_body() {
        let good = packed(b"{\"instances\": [1.0]}");
        assert!(unpacked(&good[..good.len() - 1], 100).is_empty());
        assert!(unpacked(b"{}", 100).is_empty());
        assert!(unpacked(&[good.clone(), good.clone()].concat(), 100).is_empty());
        // What it says of its size is not what it is.
        let mut lying = packed(&vec![b' '; 1 << 20]);
        let end = lying.len() - 4;
        lying[end..].copy_from_slice(&2u32.to_le_bytes());
        assert!(unpacked(&lying, 2 << 20).is_empty());
        assert_eq!(tried(&lying, 1 << 10).unwrap_err().http_status(), 413);
        assert!(unpacked(b"none, of a size of 0x20202020    ", 100).is_empty());
    }
}
