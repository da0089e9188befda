//! The service as seen by a client that writes its own frames.

use super::*;
use crate::http2::connection::serve_local;
use crate::pace::Pace;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
/// On data and headers; on settings and pings it means acknowledgement.
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Makes a header block of literals that are not indexed.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let literal = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    fields.iter().flat_map(|(name, value)| [vec![0], literal(name), literal(value)].concat()).collect()
}

/// Makes the header block of a Predict call with this `authority`.
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

/// Makes the frames of a call with the header block `head`.
fn call(stream: u32, head: &[u8]) -> Vec<Vec<u8>> {
    let message = framed(&request(&floats(1)).encode_to_vec());
    vec![
        frame(HEADERS, END_HEADERS, stream, head),
        // As gRPC's C core does before it has received any reply.
        frame(WINDOW_UPDATE, 0, stream, &[0, 0, 0, 5]),
        frame(DATA, END_STREAM, stream, &message),
    ]
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

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl Raw {
    async fn open(mut io: DuplexStream) -> Raw {
        let settings = frame(SETTINGS, 0, 0, &[]);
        io.write_all(&[PREFACE, &settings[..]].concat()).await.unwrap();
        Raw { io }
    }

    async fn send(&mut self, frames: &[Vec<u8>]) {
        self.io.write_all(&frames.concat()).await.unwrap();
    }

    /// Reads the next frame; `None` once the server has closed.
    async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.io.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.io.read_exact(&mut payload).await.unwrap();
        Some(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }

    /// Skips to the next frame of this kind.
    async fn until(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.next().await.unwrap();
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// Reads to the end of an answer with a message, and returns its stream.
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
    // This client acknowledges only one ping.
    let limits =
        ConnectionLimits { max_age: Some(10 * SECOND), asked_every: None, ..ConnectionLimits::default() };
    let (service, gate, connections) = service(Policy::Pool, limited(limits));
    let (near, far) = tokio::io::duplex(1 << 16);
    let served = tokio::spawn(serve(far, service, accepted(&connections)));
    let mut client = Raw::open(near).await;
    let held = Held::new(gate);
    client.send(&call(1, &head("server"))).await;
    let good_bye = client.until(GO_AWAY).await;
    assert_eq!(good_bye.payload[4..8], [0; 4]);
    let ping = client.until(PING).await;
    let acknowledged = frame(PING, END_STREAM, 0, &ping.payload);
    client.send(&[vec![acknowledged], call(3, &head("server"))].concat()).await;
    // Once the library acknowledges a later ping, it has seen all of that.
    client.send(&[frame(PING, 0, 0, b"anything")]).await;
    client.until(PING).await;
    drop(held);
    let mut answered = [client.answered().await, client.answered().await];
    answered.sort_unstable();
    assert_eq!(answered, [1, 3]);
    drop(client);
    served.await.unwrap();
}

/// The authority that gRPC's C core sends over a Unix socket.
const PATH: &str = "tmp%2Fgrpc.sock";

#[tokio::test]
async fn a_path_for_a_host_is_taken_from_a_unix_socket_only() {
    let (service, _gate, connections) = service(Policy::Caller, Settings::default());
    let (near, far) = tokio::io::duplex(1 << 16);
    tokio::spawn(serve_local(far, service.clone(), accepted(&connections)));
    let mut local = Raw::open(near).await;
    for stream in [1, 3] {
        local.send(&call(stream, &head(PATH))).await;
        assert_eq!(local.answered().await, stream);
    }
    let (near, far) = tokio::io::duplex(1 << 16);
    tokio::spawn(serve(far, service, accepted(&connections)));
    let mut remote = Raw::open(near).await;
    remote.send(&call(1, &head(PATH))).await;
    assert_eq!(remote.until(RST_STREAM).await.stream, 1);
}

/// Makes a text of a header field from `bits`, padded with ones.
fn coded(bits: &str) -> Vec<u8> {
    let length = bits.len().div_ceil(8);
    let padded = format!("{bits:1<width$}", width = 8 * length);
    let byte = |at: usize| u8::from_str_radix(&padded[at * 8..at * 8 + 8], 2).unwrap();
    [0x80 | length as u8].into_iter().chain((0..length).map(byte)).collect()
}

#[tokio::test]
async fn both_ends_remember_the_same_headers() {
    let (service, _gate, connections) = service(Policy::Caller, Settings::default());
    let (near, far) = tokio::io::duplex(1 << 16);
    tokio::spawn(serve_local(far, service, accepted(&connections)));
    let mut client = Raw::open(near).await;
    let literal = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let path = [vec![0x04], literal("/tensorflow.serving.PredictionService/Predict")].concat();
    // `%` and eight `~`: longer coded than plain.
    let host = coded(&["010101", &"1111111111101".repeat(8)].concat());
    // By the client's count, the host and two more fields fill the table to the byte.
    let size: u8 = (10 + 9 + 32) + (12 + 16 + 32) + (2 + 8 + 32);
    let table = [0x3f, size - 31];
    let remembered = [
        [vec![0x41], host].concat(),
        [vec![0x5f], literal("application/grpc")].concat(),
        [vec![0x40], literal("te"), literal("trailers")].concat(),
    ];
    // The table's size, `POST` and `http`.
    let begun = [&table[..], &[0x83, 0x86], &path].concat();
    client.send(&call(1, &[&begun[..], &remembered.concat()].concat())).await;
    assert_eq!(client.answered().await, 1);
    // The oldest entry, the host, has index 64.
    client.send(&call(3, &[&[0x83, 0x86][..], &path, &[0xc0, 0xbf, 0xbe]].concat())).await;
    assert_eq!(client.answered().await, 3);
}

const PRIORITY: u8 = 2;
const CONTINUATION: u8 = 9;

#[tokio::test]
async fn frames_that_ask_for_nothing_end_the_connection_when_there_are_too_many() {
    let floods = [
        frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 9]),
        frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        frame(PING, END_STREAM, 0, b"no such."),
        frame(0xee, 0, 0, b"no such kind"),
    ];
    for flood in floods {
        let (service, _gate, connections) = service(Policy::Caller, Settings::default());
        let (near, far) = tokio::io::duplex(1 << 16);
        let served = tokio::spawn(serve(far, service, accepted(&connections)));
        let mut client = Raw::open(near).await;
        client.send(&call(1, &head("server"))).await;
        assert_eq!(client.answered().await, 1);
        // The server may close before it has read them all.
        for _ in 0..=100 {
            let _closed = client.io.write_all(&flood.repeat(100)).await;
        }
        let good_bye = client.until(GO_AWAY).await;
        assert_eq!(good_bye.payload, [0, 0, 0, 1, 0, 0, 0, 0xb]);
        assert!(client.next().await.is_none());
        served.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn who_floods_is_cut_off_sooner_the_next_time_and_waits_for_it() {
    let (service, _gate, connections) = service(Policy::Caller, Settings::default());
    let ping = frame(PING, END_STREAM, 0, b"no such.");
    for most in [1100, 200] {
        let (near, far) = tokio::io::duplex(1 << 16);
        let served = tokio::spawn(serve(far, service.clone(), accepted(&connections)));
        let mut client = Raw::open(near).await;
        client.send(&vec![ping.clone(); most]).await;
        let since = time::Instant::now();
        assert_eq!(client.until(GO_AWAY).await.payload[4..], [0, 0, 0, 0xb]);
        while client.next().await.is_some() {}
        served.await.unwrap();
        assert!((200..1000).contains(&since.elapsed().as_millis()), "{:?}", since.elapsed());
    }
    // Other clients, which send a frame or two with each call, are served meanwhile.
    let (near, far) = tokio::io::duplex(1 << 16);
    tokio::spawn(serve(far, service, accepted(&connections)));
    let mut client = Raw::open(near).await;
    for stream in (1..2000).step_by(2) {
        client.send(&[call(stream, &head("server")), vec![ping.clone(); 2]].concat()).await;
        assert_eq!(client.answered().await, stream);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_client_begins_and_does_not_finish_ends_the_connection() {
    let begun = [
        b"PRI * HTTP/2.0\r\n"[..].to_vec(),
        [PREFACE, &frame(SETTINGS, 0, 0, &[]), &[0, 0]].concat(),
        [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frame(HEADERS, 0, 1, &head("server"))].concat(),
        [
            PREFACE,
            &frame(SETTINGS, 0, 0, &[]),
            &frame(HEADERS, 0, 1, &head("server")),
            &frame(CONTINUATION, 0, 1, &[]),
        ]
        .concat(),
    ];
    for begun in begun {
        let limits = ConnectionLimits {
            headers_within: Some(10 * SECOND),
            asked_every: None,
            ..ConnectionLimits::default()
        };
        let (service, _gate, connections) = service(Policy::Caller, limited(limits));
        let (mut near, far) = tokio::io::duplex(1 << 16);
        let served = tokio::spawn(serve(far, service, accepted(&connections)));
        near.write_all(&begun).await.unwrap();
        let since = time::Instant::now();
        served.await.unwrap();
        assert!((10..12).contains(&since.elapsed().as_secs()), "{begun:?}: {:?}", since.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_begun_nothing_may_wait() {
    let limits = ConnectionLimits {
        headers_within: Some(10 * SECOND),
        asked_every: None,
        ..ConnectionLimits::default()
    };
    let (service, _gate, connections) = service(Policy::Caller, limited(limits));
    let (near, far) = tokio::io::duplex(1 << 16);
    tokio::spawn(serve(far, service, accepted(&connections)));
    let mut client = Raw::open(near).await;
    for stream in [1, 3] {
        time::sleep(3600 * SECOND).await;
        client.send(&call(stream, &head("server"))).await;
        assert_eq!(client.answered().await, stream);
    }
}

/// Connects a client with stream windows of `window` bytes to a server that ends stalled transfers after 10 s.
async fn slow_client(window: u32) -> (Raw, JoinHandle<()>) {
    let pace = Some(Pace { grace: 10 * SECOND, bytes_per_second: 1000 });
    let limits = ConnectionLimits { pace, asked_every: None, ..ConnectionLimits::default() };
    let (service, _gate, connections) = service(Policy::Caller, limited(limits));
    let (mut near, far) = tokio::io::duplex(1 << 16);
    let connection = accepted(&connections);
    let served = tokio::spawn(async move {
        serve(far, service, connection).await;
        drop(connections);
    });
    let settings = frame(SETTINGS, 0, 0, &[&[0, 4], &window.to_be_bytes()[..]].concat());
    near.write_all(&[PREFACE, &settings].concat()).await.unwrap();
    (Raw { io: near }, served)
}

/// Makes the frames of a call that echoes `numbers` numbers.
fn echo_call(stream: u32, numbers: usize) -> Vec<u8> {
    let message = framed(&request(&floats(numbers)).encode_to_vec());
    let pieces = message.chunks(1 << 14).map(|piece| frame(DATA, 0, stream, piece));
    let begun = frame(HEADERS, END_HEADERS, stream, &head("server"));
    [begun].into_iter().chain(pieces).chain([frame(DATA, END_STREAM, stream, &[])]).flatten().collect()
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_is_not_taken_resets_its_stream_alone() {
    let (mut client, _served) = slow_client(0).await;
    client.send(&[echo_call(1, 1)]).await;
    assert_eq!(client.until(RST_STREAM).await.stream, 1);
    client.send(&[echo_call(3, 1), frame(WINDOW_UPDATE, 0, 3, &[0, 1, 0, 0])]).await;
    assert_eq!(client.answered().await, 3);
}

#[tokio::test(start_paused = true)]
async fn a_large_reply_of_which_too_little_is_taken_is_reset() {
    let (mut client, _served) = slow_client(9).await;
    client.send(&[echo_call(1, 50_000)]).await;
    assert_eq!(client.until(RST_STREAM).await.stream, 1);
}

#[tokio::test(start_paused = true)]
async fn a_reply_of_which_the_library_holds_the_rest_ends_the_connection() {
    let (mut client, served) = slow_client(9).await;
    client.send(&[echo_call(1, 3000)]).await;
    assert_eq!(client.until(DATA).await.payload.len(), 9);
    served.await.unwrap();
}
