//! The door as a client meets it that writes its frames itself.

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
/// Of data and headers, and the acknowledgement of settings and pings.
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header block: each field a literal that is not remembered.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let literal = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    fields.iter().flat_map(|(name, value)| [vec![0], literal(name), literal(value)].concat()).collect()
}

/// The head of a Predict call, with any `authority`.
fn head(authority: &str) -> Vec<u8> {
    block(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/tensorflow.serving.PredictionService/Predict"),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ])
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

struct Raw {
    io: DuplexStream,
}

impl Raw {
    async fn open(mut io: DuplexStream) -> Raw {
        let settings = frame(SETTINGS, 0, 0, &[]);
        io.write_all(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..]].concat()).await.unwrap();
        Raw { io }
    }

    async fn send(&mut self, frames: &[Vec<u8>]) {
        self.io.write_all(&frames.concat()).await.unwrap();
    }

    /// The next frame; none when the server has closed.
    async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.io.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.io.read_exact(&mut payload).await.unwrap();
        Some(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }

    /// Reads on to a frame of this kind.
    async fn until(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.next().await.unwrap();
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// Reads on to the end of an answer: its call, if it brought a message.
    async fn answered(&mut self) -> u32 {
        let mut messages = Vec::new();
        loop {
            let frame = self.next().await.unwrap();
            match frame.kind {
                DATA => messages.push(frame.stream),
                HEADERS if frame.flags & END_STREAM != 0 => {
                    assert!(messages.contains(&frame.stream), "no message on {}", frame.stream);
                    return frame.stream;
                }
                GO_AWAY => assert_eq!(frame.payload[4..8], [0; 4], "the server broke off"),
                _ => {}
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn calls_on_their_way_when_an_old_connection_ends_are_answered() {
    let limits = Limits { max_age: Some(10 * SECOND), ..Limits::default() };
    let (door, gate, _stop) = door(Policy::Pool, limited(limits));
    let (near, far) = tokio::io::duplex(1 << 16);
    let served = tokio::spawn(serve(far, door));
    let mut client = Raw::open(near).await;
    let held = Held::new(gate);
    let message = framed(&request(&floats(1)).encode_to_vec());
    let call = |stream| {
        [
            frame(HEADERS, END_HEADERS, stream, &head("door")),
            // As gRPC's C core does, for a reply that it has not got yet.
            frame(WINDOW_UPDATE, 0, stream, &[0, 0, 0, 5]),
            frame(DATA, END_STREAM, stream, &message),
        ]
    };
    client.send(&call(1)).await;
    let good_bye = client.until(GO_AWAY).await;
    assert_eq!(good_bye.payload[4..8], [0; 4]);
    let ping = client.until(PING).await;
    let acknowledged = frame(PING, END_STREAM, 0, &ping.payload);
    client.send(&[vec![acknowledged], call(3).to_vec()].concat()).await;
    // The library has seen all that when it acknowledges a ping that comes after it.
    client.send(&[frame(PING, 0, 0, b"anything")]).await;
    client.until(PING).await;
    drop(held);
    let mut answered = [client.answered().await, client.answered().await];
    answered.sort_unstable();
    assert_eq!(answered, [1, 3]);
    drop(client);
    served.await.unwrap();
}
