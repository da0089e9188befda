//! Follows the frames that a client sends over HTTP/2, and alters those that the HTTP/2 library would reject.
//!
//! The few altered bytes are altered in place; all others pass unchanged. Anything but HTTP/2 passes untouched, for the
//! library to refuse.

use super::authority::Fields;
use super::flood::{Floods, FrameBudget};
use std::mem;
use std::sync::Arc;
use std::time::Instant;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Length of a frame's head: length (3), kind, flags, stream (4).
const HEAD: usize = 9;
const KIND: usize = 3;
/// The kinds and flags that matter here.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// Length of a priority, in bytes.
const PRIORITY_BYTES: usize = 5;
/// Error code for a connection whose client sends too many frames.
const ENHANCE_YOUR_CALM: u8 = 0xb;
/// An unassigned kind of frame, which is ignored.
const NO_KIND: u8 = 0xff;
/// The frame with which a client acknowledges the ping sent by the library along with its GOAWAY.
pub(super) const FAREWELL: &[u8] =
    &[0, 0, 8, 6, 1, 0, 0, 0, 0, 0x0b, 0x7b, 0xa2, 0xf0, 0x8b, 0x9b, 0xfe, 0x54];

/// The position of a client's stream within its frames.
pub(super) struct Frames {
    at: At,
    head: [u8; HEAD],
    /// Remaining bytes of the frame's payload, and how many of these are padding.
    left: usize,
    padding: usize,
    /// True if the header block continues in the next frame.
    open: bool,
    /// Number of complete frames; a header block counts as one.
    pub(super) whole: u64,
    /// The last stream opened by the client.
    last_stream: [u8; 4],
    budget: FrameBudget,
    /// The position in the header block, if these are inspected: see [`Frames::any_authority`].
    fields: Option<Fields>,
    /// True to hide farewells: see [`Frames::late_farewell`].
    hide: bool,
    /// Set when a farewell was hidden; the reader resets it.
    pub(super) hidden: bool,
}

#[derive(Clone, Copy)]
enum At {
    /// Bytes of the preface received.
    Preface(usize),
    /// Bytes of a frame's head received.
    Head(usize),
    /// Bytes left before a header block, starting with the length of the padding, if any.
    Prologue { left: usize, padded: bool },
    /// Within a header block.
    Block,
    /// Within other payload.
    Payload,
    /// Not HTTP/2.
    Lost,
}

impl Frames {
    /// Starts a connection to a server with these `floods`.
    pub(super) fn new(floods: Arc<Floods>) -> Frames {
        Frames {
            at: At::Preface(0),
            head: [0; HEAD],
            left: 0,
            padding: 0,
            open: false,
            whole: 0,
            last_stream: [0; 4],
            budget: FrameBudget::new(floods, Instant::now()),
            fields: None,
            hide: false,
            hidden: false,
        }
    }

    /// Overwrites the host in calls with one that the library accepts, see [`super::authority`].
    pub(super) fn any_authority(self) -> Frames {
        Frames { fields: Some(Fields::new()), ..self }
    }

    /// Delays the client's acknowledgement of the server's GOAWAY.
    ///
    /// From that acknowledgement on, the library ignores further calls, and treats a window update for an ignored call
    /// as a breach of protocol, which ends the connection together with the calls in flight. gRPC's C core sends both:
    /// it acknowledges a ping first, and then sends the calls waiting to be sent. With the delay, these are answered
    /// like all others.
    ///
    /// A farewell split over two reads (clients write its 17 bytes at once) is not delayed.
    pub(super) fn late_farewell(self) -> Frames {
        Frames { hide: true, ..self }
    }

    /// Returns whether the stream is between two frames.
    pub(super) fn are_whole(&self) -> bool {
        matches!(self.at, At::Head(0))
    }

    /// Returns whether the client owes the rest of something begun: the preface, a frame, or a header block.
    pub(super) fn are_begun(&self) -> bool {
        self.open || !matches!(self.at, At::Head(0) | At::Lost)
    }

    /// Returns the remaining bytes of a piece of a message, if the stream is within one.
    pub(super) fn data_left(&self) -> Option<usize> {
        let is_data = matches!(self.at, At::Payload) && self.head[KIND] == DATA && !self.open;
        is_data.then_some(self.left)
    }

    /// Earns frames for `bytes` of replies taken.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.budget.wrote(bytes);
    }

    /// Earns frames for `calls` that have come within a stream.
    pub(super) fn earn_for_calls(&mut self, calls: u32) {
        if calls > 0 {
            self.budget.calls(calls);
        }
    }

    /// Settles the budget at the end of the connection.
    pub(super) fn end(&self) {
        self.budget.end(Instant::now());
    }

    /// Returns the last frame for a client that has sent too many: GOAWAY, ENHANCE_YOUR_CALM.
    pub(super) fn too_many(&self) -> Option<[u8; HEAD + 8]> {
        let [a, b, c, d] = self.last_stream;
        let goaway = [0, 0, 8, GOAWAY, 0, 0, 0, 0, 0, a, b, c, d, 0, 0, 0, ENHANCE_YOUR_CALM];
        self.budget.is_overdrawn().then_some(goaway)
    }

    /// Processes the next `bytes` of the stream.
    pub(super) fn pass(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let passed = self.step(bytes);
            bytes = mem::take(&mut bytes).get_mut(passed..).unwrap_or_default();
        }
    }

    /// Processes some of `bytes`, which are not empty; returns how many.
    fn step(&mut self, bytes: &mut [u8]) -> usize {
        let (passed, next) = match self.at {
            At::Preface(got) => preface(bytes, got),
            At::Head(got) => self.head(bytes, got),
            At::Prologue { left, padded } => {
                if padded {
                    self.padding = bytes[0].into();
                }
                self.left -= 1;
                (1, At::Prologue { left: left - 1, padded: false })
            }
            At::Block => {
                let passed = bytes.len().min(self.left - self.padding);
                if let Some(fields) = &mut self.fields {
                    fields.pass(&mut bytes[..passed]);
                }
                self.left -= passed;
                (passed, At::Block)
            }
            At::Payload => {
                let passed = bytes.len().min(self.left);
                self.left -= passed;
                (passed, At::Payload)
            }
            At::Lost => (bytes.len(), At::Lost),
        };
        self.at = self.settled(next);
        if self.are_whole() && !self.open {
            self.whole += 1;
        }
        passed
    }

    /// Processes the part of a frame's head in `bytes`, after the `got` bytes of it already received.
    fn head(&mut self, bytes: &mut [u8], got: usize) -> (usize, At) {
        if self.hide && got == 0 && bytes.starts_with(FAREWELL) {
            bytes[KIND] = NO_KIND;
            self.hidden = true;
        }
        let passed = bytes.len().min(HEAD - got);
        self.head[got..got + passed].copy_from_slice(&bytes[..passed]);
        let got = got + passed;
        (passed, if got == HEAD { self.payload() } else { At::Head(got) })
    }

    /// Returns the position after the head just received.
    fn payload(&mut self) -> At {
        let [a, b, c, kind, flags, stream @ ..] = self.head;
        self.left = u32::from_be_bytes([0, a, b, c]) as usize;
        self.padding = 0;
        self.budget.frame(kind, flags, self.left, Instant::now);
        let goes_on = self.open;
        if matches!(kind, HEADERS | CONTINUATION) {
            self.open = flags & END_HEADERS == 0;
        }
        if kind == HEADERS {
            self.last_stream = self.last_stream.max(stream);
        }
        if self.fields.is_none() {
            return At::Payload;
        }
        match kind {
            HEADERS if !goes_on => {
                self.fields = Some(Fields::new());
                let padded = flags & PADDED != 0;
                let left = usize::from(padded) + if flags & PRIORITY != 0 { PRIORITY_BYTES } else { 0 };
                At::Prologue { left, padded }
            }
            CONTINUATION if goes_on => At::Block,
            _ if goes_on => At::Lost,
            _ => At::Payload,
        }
    }

    /// Returns `at`, or the following position if nothing of `at` is left; lost, if it extends beyond the frame.
    fn settled(&self, at: At) -> At {
        match at {
            At::Prologue { left: 0, .. } => self.settled(At::Block),
            At::Prologue { left, .. } if left > self.left => At::Lost,
            At::Block if self.padding > self.left => At::Lost,
            At::Block | At::Payload if self.left == 0 => At::Head(0),
            At::Block if self.padding == self.left => At::Payload,
            At::Preface(_) | At::Head(_) | At::Prologue { .. } | At::Block | At::Payload | At::Lost => at,
        }
    }
}

/// Processes the part of the preface in `bytes`, after the `got` bytes of it already received.
fn preface(bytes: &[u8], got: usize) -> (usize, At) {
    let expected = PREFACE.get(got..).unwrap_or_default();
    let passed = bytes.len().min(expected.len());
    if bytes[..passed] != expected[..passed] {
        return (bytes.len(), At::Lost);
    }
    (passed, if passed == expected.len() { At::Head(0) } else { At::Preface(got + passed) })
}

#[cfg(test)]
mod tests;
