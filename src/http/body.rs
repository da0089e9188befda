//! Request bodies: read within a limit and a pace, unpacked if they came compressed.

use super::reply::Refusal;
use crate::config::Options;
use crate::error::Error;
use crate::memory::Reservation;
use crate::pace::Meter;
use bytes::{Bytes, BytesMut};
use flate2::bufread::GzDecoder;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use std::io::Read;
use std::time::Duration;

/// The largest body after unpacking, as TensorFlow Serving has it (docs/spec/rest.md section 8).
const MAX_UNPACKED: usize = 100 << 20;
/// At least a third of what is reserved ahead of the bytes that have come.
const MIN_AHEAD: usize = 16 << 10;
/// The least and the most that room is made for while a body is unpacked that does not say how long it is.
const STEP: [usize; 2] = [64 << 10, 16 << 20];

/// Reads the whole of `body`, which has to come at a pace; `memory` counts it. One frame is passed on as it came, without a copy.
pub(crate) async fn read(body: Incoming, options: &Options, memory: &Reservation) -> Result<Bytes, Unread> {
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
    let mut whole = BytesMut::new();
    make_room(&mut whole, first.len(), announced, memory)?;
    whole.extend_from_slice(&first);
    while let Some(frame) = body.next().await? {
        if whole.len() + frame.len() > limit {
            return Err(too_large(limit).into());
        }
        make_room(&mut whole, frame.len(), announced, memory)?;
        whole.extend_from_slice(&frame);
    }
    if whole.len() > limit { Err(too_large(limit).into()) } else { Ok(whole.freeze()) }
}

/// Makes room for `more` bytes, and for some of what was announced: never for more than four times what has come, so
/// that a client pays for what it makes the server hold.
fn make_room(
    whole: &mut BytesMut,
    more: usize,
    announced: usize,
    memory: &Reservation,
) -> Result<(), Unread> {
    let needed = whole.len() + more;
    if whole.capacity() < needed {
        let ahead = announced.saturating_sub(needed).min(needed.max(MIN_AHEAD) * 3);
        memory.grow(needed + ahead - whole.capacity()).map_err(Unread::NoRoom)?;
        whole.reserve(more + ahead);
    }
    Ok(())
}

/// Why a body is not read to its end: nothing can follow it on the connection.
#[derive(Debug)]
pub(crate) enum Unread {
    /// It is too large, too slow, or breaks off.
    Refused(Refusal),
    /// There is no memory left for it.
    NoRoom(Error),
}

impl From<Refusal> for Unread {
    fn from(refusal: Refusal) -> Unread {
        Unread::Refused(refusal)
    }
}

/// What is read and dropped of a body that nobody wants, so that the client is able to read its answer: closing a
/// connection with unread data makes the system throw the answer away.
const MAX_DRAINED: usize = 64 << 20;
/// How long that may take.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// Reads `body` to its end and drops it, within limits.
pub(crate) async fn drain(mut body: Incoming) {
    let mut drained = 0;
    let to_end = async {
        while let Some(Ok(frame)) = body.frame().await {
            drained += frame.data_ref().map_or(0, Bytes::len);
            if drained > MAX_DRAINED {
                return;
            }
        }
    };
    // What is left unread closes the connection.
    let _in_time = tokio::time::timeout(DRAIN_TIME, to_end).await;
}

/// A body that has to come at a pace.
struct Paced {
    body: Incoming,
    meter: Meter,
}

impl Paced {
    async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        loop {
            // A frame that is already here, as most are, costs no timer.
            let frame = tokio::select! {
                biased;
                frame = self.body.frame() => frame,
                () = self.meter.overdue() => return Err(Refusal::closing(
                    408,
                    "Request Timeout: the request's body came too slowly: send it without pauses, or lower \
                     --min_transfer_rate",
                )),
            };
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|why| {
                Refusal::closing(400, format!("The request's body could not be read to its end: {why}"))
            })?;
            if let Ok(data) = frame.into_data() {
                self.meter.moved(data.len());
                return Ok(Some(data));
            }
        }
    }
}

fn too_large(limit: usize) -> Refusal {
    Refusal::closing(
        413,
        format!(
            "The request's body is larger than {limit} bytes: send less at once, or raise --max_request_bytes"
        ),
    )
}

/// How large a gzip body will be, as it says itself, and how much is counted for that already.
pub(crate) struct Unpacked {
    hint: usize,
    counted: usize,
}

impl Unpacked {
    /// Counts what the body says that it needs, so that what there is no room for is refused before it waits for a thread.
    /// Only a hint: the limits hold whatever its last four bytes say.
    pub(crate) fn expect(packed: &[u8], limit: usize, memory: &Reservation) -> Result<Unpacked, Error> {
        /// The most that deflate shrinks anything.
        const MOST: usize = 1032;
        let hint = packed.last_chunk::<4>().map_or(0, |size| u32::from_le_bytes(*size) as usize);
        if hint > limit.min(MAX_UNPACKED) {
            return Ok(Unpacked { hint, counted: 0 });
        }
        // One more than there should be, to see that it ends.
        let counted = hint.min(packed.len().saturating_mul(MOST)) + 1;
        memory.grow(counted)?;
        Ok(Unpacked { hint, counted })
    }
}

/// Unpacks a gzip body. What is too large, damaged, or not exactly one member counts as an empty body: so
/// TensorFlow Serving has it. What `memory` has no room for is an error.
pub(crate) fn unpacked(
    packed: &[u8],
    limit: usize,
    expected: &Unpacked,
    memory: &Reservation,
) -> Result<Vec<u8>, Error> {
    let limit = limit.min(MAX_UNPACKED);
    if expected.hint > limit {
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
        let memory = Reservation::default();
        let room = Unpacked::expect(packed, limit, &memory).unwrap();
        super::unpacked(packed, limit, &room, &memory).unwrap()
    }

    #[test]
    fn one_whole_member_is_unpacked() {
        assert_eq!(unpacked(&packed(b"{}"), 100), b"{}");
        for size in [STEP[0] - 1, STEP[0], STEP[0] + 1, 10 * STEP[0]] {
            let body = vec![b' '; size];
            assert_eq!(unpacked(&packed(&body), size), body);
            assert!(unpacked(&packed(&body), size - 1).is_empty());
        }
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
        assert!(unpacked(&good, 5).is_empty());
        let mut lying = packed(&vec![b' '; 1 << 20]);
        let end = lying.len() - 4;
        lying[end..].copy_from_slice(&2u32.to_le_bytes());
        assert!(unpacked(&lying, 1 << 10).is_empty());
    }
}
