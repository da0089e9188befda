//! Base64 as gRPC-Web has it: frames are encoded one by one or several at once, so that padding may stand anywhere between
//! quanta of four characters.

use crate::arriving::Arriving;
use crate::error::{Error, Result};
use crate::grpc::broken;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use base64::write::EncoderWriter;
use bytes::Bytes;
use http_body::{Body, Frame};
use std::collections::VecDeque;
use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Characters that make up to three bytes.
const QUANTUM: usize = 4;

/// A body in base64, decoded as it comes.
pub(super) struct Decoded {
    body: Arriving,
    quanta: Quanta,
    is_done: bool,
}

impl Decoded {
    pub(super) fn new(body: Arriving) -> Decoded {
        Decoded { body, quanta: Quanta::default(), is_done: false }
    }

    /// Polls for the next bytes.
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        loop {
            let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else {
                return Poll::Ready(self.quanta.end().err().map(Err));
            };
            let Ok(text) = frame.map_err(|why| broken(&why))?.into_data() else { continue };
            let mut bytes = Vec::with_capacity(text.len() / QUANTUM * 3 + 3);
            self.quanta.decode(&text, &mut bytes)?;
            if !bytes.is_empty() {
                return Poll::Ready(Some(Ok(bytes.into())));
            }
        }
    }
}

impl Body for Decoded {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.is_done {
            return Poll::Ready(None);
        }
        let bytes = ready!(self.poll_bytes(cx));
        self.is_done = !matches!(bytes, Some(Ok(_)));
        Poll::Ready(bytes.map(|bytes| bytes.map(Frame::data)))
    }
}

/// Decodes base64 that comes in pieces.
#[derive(Debug, Default)]
pub struct Quanta {
    /// The beginning of a quantum of which the rest is still to come.
    begun: [u8; QUANTUM],
    length: usize,
}

impl Quanta {
    /// Decodes the next piece of `text`, and appends what it holds to `bytes`.
    pub fn decode(&mut self, mut text: &[u8], bytes: &mut Vec<u8>) -> Result<()> {
        if self.length > 0 {
            let more = text.len().min(QUANTUM - self.length);
            self.begun[self.length..self.length + more].copy_from_slice(&text[..more]);
            self.length += more;
            text = &text[more..];
            if self.length < QUANTUM {
                return Ok(());
            }
            decode(&self.begun, bytes)?;
            self.length = 0;
        }
        let (mut whole, rest) = text.split_at(text.len() - text.len() % QUANTUM);
        // A run of quanta ends with the first that is padded.
        while let Some(at) = memchr::memchr(b'=', whole) {
            let (run, others) = whole.split_at(at - at % QUANTUM + QUANTUM);
            decode(run, bytes)?;
            whole = others;
        }
        decode(whole, bytes)?;
        self.begun[..rest.len()].copy_from_slice(rest);
        self.length = rest.len();
        Ok(())
    }

    /// Fails if a quantum has begun that does not end.
    pub fn end(&self) -> Result<()> {
        if self.length == 0 { Ok(()) } else { Err(malformed("it ends within four characters")) }
    }
}

fn decode(quanta: &[u8], bytes: &mut Vec<u8>) -> Result<()> {
    BASE64_STANDARD.decode_vec(quanta, bytes).map_err(|why| malformed(&why.to_string()))
}

fn malformed(why: &str) -> Error {
    Error::invalid(format!("The body is not base64, which application/grpc-web-text needs: {why}"))
}

/// Appends `pieces`, as one text, to `text`.
pub(super) fn encode(pieces: VecDeque<Bytes>, text: &mut Vec<u8>) -> Result<()> {
    let mut encoder = EncoderWriter::new(text, &BASE64_STANDARD);
    let written = pieces.into_iter().try_for_each(|piece| encoder.write_all(&piece));
    written
        .and_then(|()| encoder.finish().map(|_| ()))
        .map_err(|why| Error::internal(format!("The reply could not be written: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(text: &[u8], piece: usize) -> Result<Vec<u8>> {
        let (mut quanta, mut bytes) = (Quanta::default(), Vec::new());
        for piece in text.chunks(piece) {
            quanta.decode(piece, &mut bytes)?;
        }
        quanta.end().map(|()| bytes)
    }

    #[test]
    fn padding_may_stand_between_quanta_and_nowhere_else() {
        for (text, bytes) in [("", ""), ("YQ==", "a"), ("YQ==YWI=YWJj", "aababc"), ("YWJjYQ==YQ==", "abcaa")]
        {
            for piece in [1, 2, 3, 4, 5, 100] {
                assert_eq!(decoded(text.as_bytes(), piece).unwrap(), bytes.as_bytes(), "{text} by {piece}");
            }
        }
        for text in
            ["Y", "YQ=", "YQ", "Y===", "====", "=YQ=", "YQ=a", "YR==", "YW J", "YQ==\n", "YWJj-_-_", "YWJj\0"]
        {
            for piece in [1, 3, 4, 100] {
                let error = decoded(text.as_bytes(), piece).unwrap_err();
                assert!(error.message.starts_with("The body is not base64"), "{text}: {error}");
            }
        }
    }

    proptest! {
        /// However frames are encoded and however they arrive, they are what was sent.
        #[test]
        fn what_was_encoded_is_decoded(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..70), 0..6),
            piece in 1usize..90,
            at_once: bool,
        ) {
            let pieces: VecDeque<Bytes> = frames.iter().cloned().map(Bytes::from).collect();
            let mut text = Vec::new();
            if at_once {
                encode(pieces, &mut text).unwrap();
            } else {
                for frame in pieces {
                    encode([frame].into(), &mut text).unwrap();
                }
            }
            prop_assert_eq!(decoded(&text, piece).unwrap(), frames.concat());
        }

        /// The same is accepted, and the same made of it, in whatever pieces it arrives.
        #[test]
        fn pieces_make_no_difference(text in "[YQa=+/\n]{0,24}", piece in 1usize..24) {
            let whole = decoded(text.as_bytes(), text.len().max(1));
            let pieces = decoded(text.as_bytes(), piece);
            prop_assert_eq!(whole.ok(), pieces.ok());
        }
    }
}
