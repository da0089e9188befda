//! Messages that are split, too long, cut off or compressed.

use super::*;
use crate::connections::Connections;
use crate::memory::Budget;
use http_body::Frame;
use std::collections::VecDeque;
use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A stream of given pieces.
struct Pieces(VecDeque<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    [&[flag][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

fn pieces(stream: &[u8], piece: usize) -> Pieces {
    Pieces(stream.chunks(piece).map(Bytes::copy_from_slice).collect())
}

fn headers(encoding: Option<&str>) -> HeaderMap {
    HeaderMap::from_iter(
        encoding.map(|encoding| ("grpc-encoding".parse().unwrap(), encoding.parse().unwrap())),
    )
}

fn client() -> Arc<Connection> {
    Connections::new(1, Budget::new(1 << 30)).accepted().connection.clone()
}

fn limited(bytes: usize, client: &Connection) -> MessageLimits<'_> {
    MessageLimits { bytes, pace: None, memory: Arc::default(), client }
}

async fn plain(stream: &[u8], piece: usize) -> Result<Bytes> {
    match read(&headers(None), pieces(stream, piece), limited(1000, &client()), None).await? {
        Message::Plain(message) => Ok(message),
        Message::Packed(_) => panic!("not compressed"),
    }
}

#[tokio::test]
async fn pieces_of_any_size_make_the_message() {
    let message: Vec<u8> = (0..=255).collect();
    for piece in [1, 4, 5, 6, 100, 1000] {
        assert_eq!(plain(&framed(0, &message), piece).await.unwrap(), message, "{piece}");
    }
    assert_eq!(plain(&framed(0, &[]), 2).await.unwrap(), Bytes::new());
    // Anything after the message is ignored.
    assert_eq!(plain(&[framed(0, &message), framed(0, b"x")].concat(), 7).await.unwrap(), message);
}

#[tokio::test]
async fn a_stream_that_ends_early_is_refused() {
    for stream in [&[][..], &[0, 0, 0], &framed(0, &[1; 9])[..13]] {
        let error = plain(stream, 3).await.unwrap_err();
        assert_eq!(error.kind, Kind::InvalidArgument, "{error}");
    }
}

#[tokio::test]
async fn a_message_above_the_limit_is_refused_by_its_announcement() {
    let error = plain(&[0, 0, 0, 4, 0], 5).await.unwrap_err();
    assert_eq!(
        error,
        Error::new(Kind::ResourceExhausted, "Received message larger than max (1024 vs. 1000)")
    );
}

#[tokio::test]
async fn the_located_block_is_aligned() {
    let message: Vec<u8> = (0..100_000u32).map(|index| index as u8).collect();
    let stream = framed(0, &message);
    let read = read(&headers(None), pieces(&stream, 4096), limited(1 << 20, &client()), Some(|_| Some(1234)))
        .await
        .unwrap();
    let Message::Plain(read) = read else { panic!("not compressed") };
    assert_eq!(read, message);
    assert_eq!(read[1234..].as_ptr() as usize % ALIGNMENT, 0);
}

fn gzip(message: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(message).unwrap();
    encoder.finish().unwrap()
}

async fn unpacked(flag: u8, message: &[u8], encoding: Option<&str>, limit: usize) -> Result<Bytes> {
    match read(&headers(encoding), pieces(&framed(flag, message), 64), limited(limit, &client()), None)
        .await?
    {
        Message::Plain(_) => panic!("compressed"),
        Message::Packed(packed) => packed.unpack(),
    }
}

#[tokio::test]
async fn compressed_messages_are_unpacked_within_the_limit() {
    let message = vec![7; 5000];
    assert_eq!(unpacked(1, &gzip(&message), Some("gzip"), 5000).await.unwrap(), message);
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    zlib.write_all(&message).unwrap();
    let zlib = zlib.finish().unwrap();
    assert_eq!(unpacked(1, &zlib, Some("deflate"), 5000).await.unwrap(), message);

    let kind = |result: Result<Bytes>| result.unwrap_err().kind;
    assert_eq!(kind(unpacked(1, &gzip(&message), Some("gzip"), 4999).await), Kind::ResourceExhausted);
    assert_eq!(kind(unpacked(1, &message, Some("gzip"), 5000).await), Kind::InvalidArgument);
    assert_eq!(kind(unpacked(1, &message, Some("br"), 5000).await), Kind::Unimplemented);
    assert_eq!(kind(unpacked(1, &message, None, 5000).await), Kind::Internal);
    assert_eq!(kind(unpacked(9, &message, None, 5000).await), Kind::Internal);
}

/// A stream that sends one byte a second.
struct Trickle(Pin<Box<tokio::time::Sleep>>);

impl Body for Trickle {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        std::task::ready!(self.0.as_mut().poll(cx));
        let next = tokio::time::Instant::now() + std::time::Duration::from_secs(1);
        self.0.as_mut().reset(next);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0])))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_trickles_is_given_up() {
    let pace = Pace { grace: std::time::Duration::from_secs(3), bytes_per_second: 1000 };
    let trickle = Trickle(Box::pin(tokio::time::sleep(std::time::Duration::from_secs(1))));
    let client = client();
    let limits = MessageLimits { bytes: 1000, pace: Some(pace), memory: Arc::default(), client: &client };
    let refused = read(&headers(None), trickle, limits, None).await.unwrap_err();
    assert_eq!(refused.kind, Kind::DeadlineExceeded);
    assert!(refused.message.starts_with("The call's message came too slowly"), "{}", refused.message);
}
