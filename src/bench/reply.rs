//! Reads a reply of HTTP/1.1, however it comes in pieces: status, length, nothing else. Pure.
//!
//! As little as possible is done, since this is done for each reply: the body is counted and dropped, but for its first
//! bytes where they are wanted.

use memchr::memmem;

/// Longest head of a reply, and longest line of a body in chunks.
const LONGEST_HEAD: usize = 64 << 10;
/// Most digits of a chunk's size.
const SIZE_DIGITS: u8 = 15;

/// A reply that is being read.
#[derive(Debug)]
pub(super) struct Reply {
    /// The status; 0 before it is known.
    pub(super) status: u16,
    /// Whether the connection may be used again.
    pub(super) is_kept: bool,
    /// The bytes so far.
    pub(super) received: u64,
    /// The first bytes of the body, as many as wanted.
    pub(super) body: Vec<u8>,
    wanted: usize,
    part: Part,
    /// The beginning of a head that has not come as a whole.
    head: Vec<u8>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Head,
    Body(u64),
    ToTheEnd,
    /// A chunk's size, and how many digits it has so far.
    Size(u64, u8),
    /// The rest of the line with the size, as long as it is so far.
    Extension(u64, usize),
    SizeEnd(u64),
    Chunk(u64),
    ChunkEnd,
    /// What follows the last chunk: the length of the line so far, and of all.
    Trailer(usize, usize),
    Done,
}

/// Why bytes are no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

impl Reply {
    /// Begins a reply of whose body up to `wanted` bytes are kept.
    pub(super) fn new(wanted: usize) -> Reply {
        let (head, body) = (Vec::new(), Vec::new());
        Reply { status: 0, is_kept: true, received: 0, body, wanted, part: Part::Head, head }
    }

    /// Reads more; returns whether the reply is complete. Bytes beyond its end are an error, as nothing was asked that they
    /// could answer.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<bool, Malformed> {
        self.received += bytes.len() as u64;
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = match self.part {
                Part::Head => self.read_head(rest)?,
                Part::Body(left) => {
                    let (left, rest) = self.skip(left, rest);
                    self.part = if left == 0 { Part::Done } else { Part::Body(left) };
                    rest
                }
                Part::ToTheEnd => self.skip(u64::MAX, rest).1,
                Part::Done => return Err(Malformed("there are bytes behind the reply")),
                Part::Size(..)
                | Part::Extension(..)
                | Part::SizeEnd(_)
                | Part::Chunk(_)
                | Part::ChunkEnd
                | Part::Trailer(..) => self.read_chunked(rest)?,
            };
        }
        Ok(self.part == Part::Done)
    }

    /// The connection has been closed; returns whether that completes the reply.
    pub(super) fn ends(&self) -> bool {
        self.part == Part::ToTheEnd
    }

    /// Takes up to `left` bytes of the body; returns how many are left, and the bytes behind.
    fn skip<'a>(&mut self, left: u64, bytes: &'a [u8]) -> (u64, &'a [u8]) {
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let (body, rest) = bytes.split_at(count);
        let room = self.wanted.saturating_sub(self.body.len());
        self.body.extend_from_slice(body.get(..room).unwrap_or(body));
        (left - count as u64, rest)
    }

    fn read_head<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Malformed> {
        // The end may have come in two pieces.
        let before = self.head.len();
        if before == 0
            && let Some(end) = memmem::find(bytes, b"\r\n\r\n")
        {
            let (head, rest) = bytes.split_at(end + 4);
            self.understand(head)?;
            return Ok(rest);
        }
        self.head.extend_from_slice(bytes);
        let from = before.saturating_sub(3);
        let found = self.head.get(from..).and_then(|text| memmem::find(text, b"\r\n\r\n"));
        let Some(end) = found.map(|end| from + end + 4) else {
            let fits = self.head.len() <= LONGEST_HEAD;
            return if fits { Ok(&[]) } else { Err(Malformed("its head does not end")) };
        };
        let mut head = std::mem::take(&mut self.head);
        head.truncate(end);
        self.understand(&head)?;
        Ok(bytes.get(end - before..).unwrap_or_default())
    }

    fn understand(&mut self, head: &[u8]) -> Result<(), Malformed> {
        let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
        let first = lines.next().unwrap_or_default();
        let (version, status) = first.split_at_checked(9).ok_or(Malformed("it is no HTTP"))?;
        self.is_kept = match version {
            b"HTTP/1.1 " => true,
            b"HTTP/1.0 " => false,
            _ => return Err(Malformed("it is no HTTP")),
        };
        self.status = number(status.get(..3).unwrap_or_default())
            .and_then(|status| u16::try_from(status).ok())
            .filter(|status| (100..1000).contains(status))
            .ok_or(Malformed("it has no status"))?;
        let (mut length, mut is_chunked) = (None, false);
        for line in lines {
            let Some(colon) = memchr::memchr(b':', line) else { continue };
            let (name, value) = line.split_at(colon);
            let value = value.get(1..).unwrap_or_default().trim_ascii();
            if name.eq_ignore_ascii_case(b"content-length") {
                let said = number(value).ok_or(Malformed("its length is no number"))?;
                if length.is_some_and(|length| length != said) {
                    return Err(Malformed("it has two lengths"));
                }
                length = Some(said);
            } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
                is_chunked = value.to_ascii_lowercase().ends_with(b"chunked");
            } else if name.eq_ignore_ascii_case(b"connection") {
                self.is_kept = !value.eq_ignore_ascii_case(b"close")
                    && (self.is_kept || value.eq_ignore_ascii_case(b"keep-alive"));
            }
        }
        self.part = match (self.status, length) {
            (101, _) => return Err(Malformed("it changes the protocol")),
            // The real one follows.
            (100..200, _) => Part::Head,
            (204 | 304, _) => Part::Done,
            _ if is_chunked => Part::Size(0, 0),
            (_, Some(0)) => Part::Done,
            (_, Some(length)) => Part::Body(length),
            (_, None) => {
                self.is_kept = false;
                Part::ToTheEnd
            }
        };
        Ok(())
    }

    fn read_chunked<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Malformed> {
        let (Some(byte), rest) = (bytes.first().copied(), bytes.get(1..).unwrap_or_default()) else {
            return Ok(bytes);
        };
        self.part = match (self.part, byte) {
            (Part::Chunk(left), _) => {
                let (left, rest) = self.skip(left, bytes);
                self.part = if left == 0 { Part::ChunkEnd } else { Part::Chunk(left) };
                return Ok(rest);
            }
            (Part::Size(size, digits), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < SIZE_DIGITS => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                Part::Size((size << 4) | u64::from(digit), digits + 1)
            }
            (Part::Size(size, 1..), b'\r') => Part::SizeEnd(size),
            (Part::Size(size, 1..), b';' | b' ' | b'\t') => Part::Extension(size, 0),
            (Part::Extension(size, _), b'\r') => Part::SizeEnd(size),
            (Part::Extension(size, length), _) if byte != b'\n' && length < LONGEST_HEAD => {
                Part::Extension(size, length + 1)
            }
            (Part::SizeEnd(0), b'\n') => Part::Trailer(0, 0),
            (Part::SizeEnd(size), b'\n') => Part::Chunk(size),
            (Part::ChunkEnd, b'\r') => Part::ChunkEnd,
            (Part::ChunkEnd, b'\n') => Part::Size(0, 0),
            (Part::Trailer(length, all), b'\r') => Part::Trailer(length, all),
            (Part::Trailer(0, _), b'\n') => Part::Done,
            (Part::Trailer(_, all), b'\n') => Part::Trailer(0, all),
            (Part::Trailer(length, all), _) if all < LONGEST_HEAD => Part::Trailer(length + 1, all + 1),
            _ => return Err(Malformed("its chunks are wrong")),
        };
        Ok(rest)
    }
}

/// Returns the number of a text of digits.
fn number(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.len() <= 18 && text.iter().all(u8::is_ascii_digit);
    digits.then(|| text.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Reads `pieces` of a reply; returns its status, its body and whether the connection is kept, once it is complete.
    fn read<'a>(
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Option<(u16, Vec<u8>, bool)>, Malformed> {
        let mut reply = Reply::new(usize::MAX);
        let mut is_complete = false;
        for piece in pieces {
            is_complete = reply.feed(piece)?;
        }
        Ok((is_complete || reply.ends()).then_some((reply.status, reply.body, reply.is_kept)))
    }

    fn whole(text: &str) -> Result<Option<(u16, Vec<u8>, bool)>, Malformed> {
        read([text.as_bytes()])
    }

    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

    #[test]
    fn each_way_of_ending_is_known() {
        let is = |status, body: &str, kept| Ok(Some((status, body.as_bytes().to_vec(), kept)));
        assert_eq!(whole("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"), is(200, "abc", true));
        assert_eq!(whole("HTTP/1.1 404\r\nContent-Length:0\r\n\r\n"), is(404, "", true));
        assert_eq!(whole("HTTP/1.1 204 None\r\n\r\n"), is(204, "", true));
        assert_eq!(whole("HTTP/1.1 200 OK\r\n\r\nto the end"), is(200, "to the end", false));
        let closing = "HTTP/1.1 503 No\r\nConnection: Close\r\nContent-Length: 1\r\n\r\n!";
        assert_eq!(whole(closing), is(503, "!", false));
        let old = "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n!";
        assert_eq!(whole(old), is(200, "!", true));
        let in_chunks = format!("{CHUNKED}3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nx: y\r\n\r\n");
        assert_eq!(whole(&in_chunks), is(200, "abc0123456789", true));
        let after = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n!";
        assert_eq!(whole(after), is(200, "!", true));
    }

    #[test]
    fn what_is_cut_is_not_complete() {
        for text in ["HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", "HTTP/1.1 200 OK\r\n", CHUNKED] {
            assert_eq!(whole(text), Ok(None), "{text:?}");
        }
        assert_eq!(whole(&format!("{CHUNKED}2\r\nab\r\n0\r\n")), Ok(None));
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for text in [
            "SSH-2.0-OpenSSH_9.6\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 20x OK\r\n\r\n",
            "HTTP/1.1 99 OK\r\n\r\n",
            "HTTP/1.1 101 Switching\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        ] {
            assert!(whole(text).is_err(), "{text:?}");
        }
        for chunks in ["x\r\n", "\r\n", "1\nab", "1\r\nabc", "1\r\naX", "fffffffffffffffff\r\n", "0\r\n\r\n?"]
        {
            assert!(whole(&format!("{CHUNKED}{chunks}")).is_err(), "{chunks:?}");
        }
        let endless = "HTTP/1.1 200 OK\r\nx: ".to_owned() + &"y".repeat(LONGEST_HEAD);
        assert!(whole(&endless).is_err());
    }

    #[test]
    fn as_much_of_the_body_is_kept_as_is_wanted() {
        let mut reply = Reply::new(2);
        assert_eq!(reply.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd"), Ok(true));
        assert_eq!((reply.body.as_slice(), reply.received), (b"ab".as_slice(), 42));
    }

    fn bodies() -> impl Strategy<Value = Vec<Vec<u8>>> {
        vec(vec(any::<u8>(), 1..40), 0..6)
    }

    fn split<'a>(text: &'a [u8], at: &[usize]) -> Vec<&'a [u8]> {
        let mut ends: Vec<usize> = at.iter().map(|end| end % (text.len() + 1)).collect();
        ends.extend([0, text.len()]);
        ends.sort_unstable();
        ends.windows(2).map(|pair| &text[pair[0]..pair[1]]).filter(|piece| !piece.is_empty()).collect()
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(chunks in bodies(), at in vec(any::<usize>(), 0..20), is_chunked: bool) {
            let body = chunks.concat();
            let mut text = b"HTTP/1.1 200 OK\r\nServer: x\r\n".to_vec();
            if is_chunked {
                text.extend(b"Transfer-Encoding: chunked\r\n\r\n");
                for chunk in &chunks {
                    text.extend(format!("{:x}\r\n", chunk.len()).bytes());
                    text.extend(chunk.iter().chain(b"\r\n"));
                }
                text.extend(b"0\r\n\r\n");
            } else {
                text.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
                text.extend(&body);
            }
            prop_assert_eq!(read(split(&text, &at)), Ok(Some((200, body.clone(), true))));
            let each: Vec<&[u8]> = text.chunks(1).collect();
            prop_assert_eq!(read(each), Ok(Some((200, body, true))));
        }

        #[test]
        fn nothing_panics(pieces in vec(vec(any::<u8>(), 0..60), 0..8)) {
            let _read = read(pieces.iter().map(Vec::as_slice));
        }

        #[test]
        fn garbage_in_a_body_of_chunks_does_not_panic(text in "[0-9a-f\r\n;x ]{0,60}", at in vec(any::<usize>(), 0..4)) {
            let all = format!("{CHUNKED}{text}");
            let _read = read(split(all.as_bytes(), &at));
        }
    }
}
