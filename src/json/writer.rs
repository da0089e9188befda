//! Writes the text of a reply: growing storage, strings, base64, and the layout of nested arrays (docs/spec/rest.md
//! section 7).
//!
//! Storage is allocated ahead and zeroed in steps, so that a number is written in place with stores of a fixed width, at the
//! cost of one capacity check.

use super::float::{self, Float, Slot, put};
use super::layouts::BATCH;
use super::narrow::{self, Narrow};
use super::single::Batch;
use crate::config::NonUtf8;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::ops::Range;

/// A comma, a line end, and the indentation for TensorFlow's deepest tensor (254 dimensions) and its surroundings.
const NEXT_LINE: &[u8] = &{
    let mut line = [b' '; 2 + 4 * 260];
    line[0] = b',';
    line[1] = b'\n';
    line
};

/// The beginning of [`NEXT_LINE`].
const SHORT_LINE: &[u8; 32] = match NEXT_LINE.first_chunk() {
    Some(line) => line,
    None => unreachable!(),
};

/// [`Separator::COMMA`], followed by anything.
const SHORT_COMMA: &[u8; 32] = b",                               ";

/// Room that is zeroed at a time: shortly before it is written, so that it is in the nearest cache.
const STEP: usize = 16 << 10;

/// The text between two values of an array.
#[derive(Clone, Copy, Debug)]
pub struct Separator(&'static [u8]);

impl Separator {
    const COMMA: Separator = Separator(b", ");
    const COMPACT: Separator = Separator(b",");

    /// A comma and a new line inside `depth` open containers. Beyond the depth of any tensor, the indentation grows no
    /// further.
    fn next_line(depth: usize) -> Separator {
        Separator(&NEXT_LINE[..NEXT_LINE.len().min(2 + 4 * depth)])
    }
}

/// A JSON text being written.
pub struct Writer {
    /// The text written so far, and room for more.
    text: Vec<u8>,
    end: usize,
    /// The treatment of strings that are not UTF-8.
    pub(crate) non_utf8: NonUtf8,
    /// Leaves out all white space that is not in strings.
    pub(crate) compact: bool,
}

impl Writer {
    /// Makes an empty text with room for `bytes`.
    pub fn with_room(bytes: usize) -> Writer {
        let mut text = Vec::with_capacity(bytes);
        text.resize(bytes.min(STEP), 0);
        Writer { text, end: 0, non_utf8: NonUtf8::Raw, compact: false }
    }

    /// Returns the room for further text.
    pub fn room(&self) -> usize {
        self.text.capacity() - self.end
    }

    /// Returns the text written so far.
    pub fn written(&self) -> &[u8] {
        &self.text[..self.end]
    }

    /// Returns the text.
    pub fn finish(mut self) -> Vec<u8> {
        self.text.truncate(self.end);
        self.text
    }

    /// Writes `bytes` as they are.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.text[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// Does the same with many `bytes`, without zeroing the room for them first.
    pub fn long(&mut self, bytes: &[u8]) {
        self.text.truncate(self.end);
        self.text.extend_from_slice(bytes);
        self.end = self.text.len();
    }

    /// Writes `text`, at a fixed width if it fits that.
    #[inline]
    fn short(&mut self, text: &Short<'_>) {
        if text.all.len() > 32 {
            return self.raw(text.all);
        }
        put(self.slot(), 0, text.padded);
        self.end += text.all.len();
    }

    /// Writes a separator. Most are short, and those are copied at a fixed width.
    #[inline]
    pub fn separator(&mut self, separator: Separator) {
        let length = separator.0.len();
        if length == 2 {
            put(self.slot(), 0, *b", ");
        } else if length <= 32 {
            put(self.slot(), 0, *SHORT_LINE);
        } else {
            return self.raw(separator.0);
        }
        self.end += length;
    }

    /// Writes a line end and the indentation for `depth` open containers.
    pub fn new_line(&mut self, depth: usize) {
        if !self.compact {
            self.raw(&Separator::next_line(depth).0[1..]);
        }
    }

    /// Writes what is between a key and its value.
    pub fn colon(&mut self) {
        self.raw(if self.compact { b":" } else { b": " });
    }

    /// Writes what is between the values of an array on one line.
    pub fn comma(&mut self) {
        self.raw(if self.compact { b"," } else { b", " });
    }

    /// Writes `bytes` as a JSON string. Bytes that are not UTF-8 are written unchanged.
    pub fn string(&mut self, bytes: &[u8]) {
        self.raw(b"\"");
        let mut rest = bytes;
        while let Some(position) = first_escape(rest) {
            self.raw(&rest[..position]);
            self.escape(rest[position]);
            rest = &rest[position + 1..];
        }
        self.raw(rest);
        self.raw(b"\"");
    }

    /// Writes `text` as a JSON string of ASCII characters alone.
    pub fn ascii_string(&mut self, text: &str) {
        self.raw(b"\"");
        for char in text.chars() {
            match char {
                '"' | '\\' | '\x08' | '\x0C' | '\n' | '\r' | '\t' => self.escape(char as u8),
                ' '..='\x7F' => self.raw(&[char as u8]),
                _ => {
                    for unit in char.encode_utf16(&mut [0; 2]) {
                        self.raw(format!("\\u{unit:04x}").as_bytes());
                    }
                }
            }
        }
        self.raw(b"\"");
    }

    fn escape(&mut self, byte: u8) {
        const HEX: &[u8; 16] = b"0123456789ABCDEF";
        match byte {
            b'"' => self.raw(br#"\""#),
            b'\\' => self.raw(br"\\"),
            0x08 => self.raw(br"\b"),
            0x0C => self.raw(br"\f"),
            b'\n' => self.raw(br"\n"),
            b'\r' => self.raw(br"\r"),
            b'\t' => self.raw(br"\t"),
            _ => {
                let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
                self.raw(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
    }

    /// Writes `bytes` as a JSON string of padded standard base64.
    pub fn base64(&mut self, bytes: &[u8]) {
        self.raw(b"\"");
        let length = bytes.len().div_ceil(3) * 4;
        self.reserve(length);
        // Cannot fail: the room is exactly what base64 takes.
        let written = STANDARD.encode_slice(bytes, &mut self.text[self.end..self.end + length]);
        self.end += written.unwrap_or_default();
        self.raw(b"\"");
    }

    /// Writes `{"b64": "…"}` on three lines, inside `depth` open containers.
    pub fn base64_object(&mut self, bytes: &[u8], depth: usize) {
        self.raw(b"{");
        self.new_line(depth + 1);
        self.raw(b"\"b64\"");
        self.colon();
        self.base64(bytes);
        self.new_line(depth);
        self.raw(b"}");
    }

    /// Writes a float or double.
    #[inline]
    pub fn float<F: Float>(&mut self, value: F) {
        let slot = self.slot();
        let length = float::write(slot, value);
        self.end += length;
    }

    /// Writes a number of 16 bits.
    #[inline]
    pub fn narrow<N: Narrow>(&mut self, bits: u16) {
        let length = narrow::write::<N>(self.slot(), bits);
        self.end += length;
    }

    /// Writes the values in `range` of `floats`, with `separator` between them. Ranges must follow one another.
    #[inline]
    pub fn floats(&mut self, floats: &mut Floats<'_>, range: Range<usize>, separator: Separator) {
        let width = separator.0.len();
        let start = self.end;
        if width > 32 {
            return self.far_apart(floats, range, separator);
        }
        // As in `separator`.
        let padded = if width == 2 { SHORT_COMMA } else { SHORT_LINE };
        let mut next = range.start;
        while next < range.end {
            floats.reach(next);
            let last = floats.end.min(range.end);
            self.reserve((last - next) * size_of::<Slot>());
            let indices = next - floats.start..last - floats.start;
            self.end += floats.batch.write_all(&mut self.text[self.end..], indices, padded, width);
            next = last;
        }
        // There is none after the last value.
        if self.end > start {
            self.end -= width;
        }
    }

    /// Does the same with a separator of any length.
    fn far_apart(&mut self, floats: &mut Floats<'_>, range: Range<usize>, separator: Separator) {
        for index in range.clone() {
            if index > range.start {
                self.raw(separator.0);
            }
            floats.reach(index);
            let slot = self.slot();
            let length = floats.batch.write(slot, index - floats.start);
            self.end += length;
        }
    }

    /// Writes an integer.
    #[inline]
    pub fn integer<I: itoa::Integer>(&mut self, value: I) {
        self.raw(itoa::Buffer::new().format(value).as_bytes());
    }

    /// Writes an element of a bool tensor.
    #[inline]
    pub fn boolean(&mut self, value: u8) {
        let (text, length) = if value == 0 { (b"false   ", 5) } else { (b"true    ", 4) };
        self.slot()[..8].copy_from_slice(text);
        self.end += length;
    }

    #[inline]
    fn slot(&mut self) -> &mut Slot {
        self.reserve(size_of::<Slot>());
        match self.text[self.end..].first_chunk_mut() {
            Some(slot) => slot,
            None => unreachable!("room was just made"),
        }
    }

    #[inline]
    fn reserve(&mut self, bytes: usize) {
        if self.text.len() - self.end < bytes {
            self.grow(bytes);
        }
    }

    #[cold]
    fn grow(&mut self, bytes: usize) {
        let (needed, room) = (self.end + bytes, self.text.capacity());
        let ahead = needed + needed.min(STEP);
        self.text.resize(if needed <= room { ahead.min(room) } else { ahead }, 0);
    }
}

/// The values of a `float` tensor, converted ahead.
pub struct Floats<'a> {
    bytes: &'a [u8],
    batch: Batch,
    /// The index of the first converted value, and of the first one after them.
    start: usize,
    end: usize,
}

impl<'a> Floats<'a> {
    /// Takes the `bytes` of a tensor, whose values are to be written from `first` on.
    pub fn new(bytes: &'a [u8], first: usize) -> Floats<'a> {
        Floats { bytes, batch: Batch::new(), start: first, end: first }
    }

    /// Converts further values if the one at `index` is not converted.
    #[inline]
    fn reach(&mut self, index: usize) {
        if index >= self.end {
            let values = self.bytes[4 * index..].chunks_exact(4).map(bytemuck::pod_read_unaligned);
            self.batch.prepare(values);
            (self.start, self.end) = (index, index + BATCH);
        }
    }
}

/// A text that is written often.
struct Short<'a> {
    all: &'a [u8],
    /// Its beginning, followed by anything.
    padded: [u8; 32],
}

impl Short<'_> {
    fn new(text: &[u8]) -> Short<'_> {
        let mut padded = [0; 32];
        for (to, byte) in padded.iter_mut().zip(text) {
            *to = *byte;
        }
        Short { all: text, padded }
    }
}

/// Returns the index of the first byte to escape. Checks sixteen at a time, which compiles to a few vector
/// instructions.
fn first_escape(bytes: &[u8]) -> Option<usize> {
    let clean = |chunk: &&[u8]| !chunk.iter().fold(false, |found, byte| found | must_escape(*byte));
    let skipped = 16 * bytes.chunks_exact(16).take_while(clean).count();
    bytes[skipped..].iter().position(|byte| must_escape(*byte)).map(|position| skipped + position)
}

/// Returns whether TensorFlow Serving's JSON escapes `byte` in a string.
fn must_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// The layout of a value's arrays (docs/spec/rest.md section 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Every value on a line of its own.
    Lines,
    /// All values on one line.
    OneLine,
    /// All values on one line, and the outermost closing bracket on another: a list of rows.
    Rows,
}

/// A part of a tensor, as a nested array.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// The position of its first element in the tensor.
    pub first: usize,
    /// Its shape.
    pub dims: &'a [i64],
    /// Number of containers open around it.
    pub depth: usize,
    /// Its layout.
    pub layout: Layout,
}

/// The surroundings of the innermost values of a [`Block`].
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Number of containers open around them.
    pub depth: usize,
    /// The text between them.
    pub separator: Separator,
}

/// Writes `block`; `values` is called once for every innermost array, in order, to write the elements of a range.
pub fn nested(out: &mut Writer, block: Block<'_>, mut values: impl FnMut(&mut Writer, Range<usize>, Place)) {
    let dims = until_empty(block.dims);
    let (rank, empty, compact) = (dims.len(), dims.last() == Some(&0), out.compact);
    let arrays = Arrays { block: &block, rank, empty, compact };
    let place = Place { depth: block.depth + dims.len(), separator: arrays.separator(dims.len()) };
    let Some((width, outer)) = dims.split_last() else {
        return values(out, block.first..block.first + 1, place);
    };
    let (width, mut next) = (*width as usize, block.first);
    let mut indices = vec![0; outer.len()];
    let mut innermost = Writer { compact, ..Writer::with_room(0) };
    if !outer.is_empty() {
        arrays.step(&mut innermost, outer.len());
    }
    let innermost = Short::new(innermost.written());
    arrays.open(out, 0);
    loop {
        values(out, next..next + width, place);
        next += width;
        match advance(&mut indices, outer) {
            Some(level) if level + 1 == outer.len() => out.short(&innermost),
            Some(level) => arrays.step(out, level + 1),
            None => break,
        }
    }
    arrays.close(out, 0);
}

/// Writes a part of `block`, which has no empty arrays: what [`nested`] writes from the value at `range.start` (counted in
/// the block) on, with what separates it from the one before, up to the value before `range.end`.
pub fn nested_part(
    out: &mut Writer,
    block: Block<'_>,
    range: Range<usize>,
    mut values: impl FnMut(&mut Writer, Range<usize>, Place),
) {
    let Some((width, outer)) = block.dims.split_last() else { return nested(out, block, values) };
    let arrays = Arrays { block: &block, rank: block.dims.len(), empty: false, compact: out.compact };
    let place =
        Place { depth: block.depth + block.dims.len(), separator: arrays.separator(block.dims.len()) };
    let (width, mut next) = (*width as usize, range.start);
    if next == 0 {
        arrays.open(out, 0);
    }
    while next < range.end {
        if next > 0 && next.is_multiple_of(width) {
            arrays.step(out, ended_level(next / width, outer) + 1);
        } else if next > 0 {
            out.separator(place.separator);
        }
        let end = ((next / width + 1) * width).min(range.end);
        values(out, block.first + next..block.first + end, place);
        next = end;
    }
    if next == block.dims.iter().product::<i64>() as usize {
        arrays.close(out, 0);
    }
}

/// Returns the level of the array that contains both the innermost array number `row` and the one before it.
fn ended_level(mut row: usize, outer: &[i64]) -> usize {
    for level in (0..outer.len()).rev() {
        let dim = outer[level] as usize;
        if !row.is_multiple_of(dim) {
            return level;
        }
        row /= dim;
    }
    0
}

/// Returns the dimensions up to the first zero: the inside of an empty array is never printed.
pub fn until_empty(dims: &[i64]) -> &[i64] {
    dims.iter().position(|dim| *dim == 0).map_or(dims, |position| &dims[..=position])
}

/// Moves to the next innermost array; returns the level of the array that contains both, or `None` at the end.
fn advance(indices: &mut [i64], dims: &[i64]) -> Option<usize> {
    for level in (0..dims.len()).rev() {
        indices[level] += 1;
        if indices[level] < dims[level] {
            return Some(level);
        }
        indices[level] = 0;
    }
    None
}

/// The brackets of a block. Level 0 is the outermost array.
struct Arrays<'a> {
    block: &'a Block<'a>,
    rank: usize,
    /// True if the innermost arrays are `[]`.
    empty: bool,
    compact: bool,
}

impl Arrays<'_> {
    /// Returns the text between values inside `level` arrays of this block.
    fn separator(&self, level: usize) -> Separator {
        if self.compact {
            return Separator::COMPACT;
        }
        match self.block.layout {
            Layout::Lines => Separator::next_line(self.block.depth + level),
            Layout::OneLine | Layout::Rows => Separator::COMMA,
        }
    }

    /// Moves from one array at `level` to the next: closes it and everything inside, and opens its sibling to the same
    /// depth.
    fn step(&self, out: &mut Writer, level: usize) {
        self.close(out, level);
        out.separator(self.separator(level));
        self.open(out, level);
    }

    /// Opens the arrays from `level` inwards.
    fn open(&self, out: &mut Writer, level: usize) {
        for level in level..self.rank {
            out.raw(b"[");
            if self.block.layout == Layout::Lines && !self.is_empty(level) {
                out.new_line(self.block.depth + level + 1);
            }
        }
    }

    /// Closes the arrays from the innermost out to `level`.
    fn close(&self, out: &mut Writer, level: usize) {
        for level in (level..self.rank).rev() {
            let own_line = match self.block.layout {
                Layout::Lines => true,
                Layout::OneLine => false,
                Layout::Rows => level == 0,
            };
            if own_line && !self.is_empty(level) {
                out.new_line(self.block.depth + level);
            }
            out.raw(b"]");
        }
    }

    fn is_empty(&self, level: usize) -> bool {
        self.empty && level + 1 == self.rank
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl Fn(&mut Writer)) -> String {
        // No room ahead, so that every write has to make its own.
        let mut out = Writer::with_room(0);
        write(&mut out);
        String::from_utf8(out.finish()).unwrap()
    }

    #[test]
    fn strings_are_escaped() {
        assert_eq!(written(|out| out.string(b"")), r#""""#);
        let all = "a\"b\\/\n\t\r\u{8}\u{c}\u{0}\u{1f}\u{7f}é</script>";
        let expected = "\"a\\\"b\\\\/\\n\\t\\r\\b\\f\\u0000\\u001F\u{7f}é</script>\"";
        assert_eq!(written(|out| out.string(all.as_bytes())), expected);
        let mut out = Writer::with_room(8);
        out.string(b"\xff\n\x80");
        assert_eq!(out.finish(), b"\"\xff\\n\x80\"");
    }

    #[test]
    fn long_texts_are_between_others() {
        let long: String = (0..3 * STEP).map(|index| char::from(b'a' + (index % 26) as u8)).collect();
        let text = written(|out| {
            out.raw(b"<");
            out.long(long.as_bytes());
            out.float(0.5f32);
            out.long(&long.as_bytes()[..=STEP]);
            out.raw(b">");
        });
        assert_eq!(text, format!("<{long}0.5{}>", &long[..=STEP]));
    }

    #[test]
    fn an_escape_is_found_anywhere() {
        for length in 0..50 {
            let mut text = vec![b'a'; length];
            assert_eq!(first_escape(&text), None);
            for position in (0..length).rev() {
                text[position] = b'"';
                assert_eq!(first_escape(&text), Some(position));
            }
        }
    }

    #[test]
    fn every_byte_reads_back() {
        let all: String = (0..=0x2FFu32).filter_map(char::from_u32).collect();
        let text = written(|out| out.string(all.as_bytes()));
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), all);
    }

    #[test]
    fn every_character_reads_back_from_ascii() {
        let all: String =
            (0..=0x2FFu32).chain([0xFFFD, 0x1F600, 0x10FFFF]).filter_map(char::from_u32).collect();
        let text = written(|out| out.ascii_string(&all));
        assert!(text.is_ascii());
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), all);
        assert_eq!(
            written(|out| out.ascii_string("a\"\\\n\u{1f}/\u{7f}é")),
            "\"a\\\"\\\\\\n\\u001f/\u{7f}\\u00e9\""
        );
    }

    #[test]
    fn base64_is_padded() {
        for (bytes, expected) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(written(|out| out.base64(bytes.as_bytes())), format!("\"{expected}\""));
        }
        assert_eq!(written(|out| out.base64_object(b"\xff", 1)), "{\n        \"b64\": \"/w==\"\n    }");
    }

    #[test]
    fn numbers_at_their_limits() {
        assert_eq!(written(|out| out.integer(i64::MIN)), "-9223372036854775808");
        assert_eq!(written(|out| out.integer(u64::MAX)), "18446744073709551615");
        assert_eq!(written(|out| out.integer(i8::MIN)), "-128");
        assert_eq!(written(|out| out.float(-f64::MIN_POSITIVE)), "-2.2250738585072014e-308");
        assert_eq!(written(|out| out.boolean(1)), "true");
    }

    /// A block of numbers that count up, without the whitespace of lines.
    fn block(dims: &[i64], layout: Layout) -> String {
        written(|out| {
            nested(out, Block { first: 0, dims, depth: 0, layout }, |out, range, place| {
                for index in range.clone() {
                    if index > range.start {
                        out.separator(place.separator);
                    }
                    out.integer(index);
                }
            });
        })
    }

    #[test]
    fn arrays_nest() {
        assert_eq!(block(&[], Layout::OneLine), "0");
        assert_eq!(block(&[3], Layout::OneLine), "[0, 1, 2]");
        assert_eq!(block(&[2, 2], Layout::OneLine), "[[0, 1], [2, 3]]");
        assert_eq!(block(&[2, 1, 2], Layout::Rows), "[[[0, 1]], [[2, 3]]\n]");
        assert_eq!(
            block(&[2, 2], Layout::Lines),
            "[\n    [\n        0,\n        1\n    ],\n    [\n        2,\n        3\n    ]\n]"
        );
    }

    #[test]
    fn parts_make_the_whole() {
        let number = |out: &mut Writer, range: Range<usize>, place: Place| {
            for index in range.clone() {
                if index > range.start {
                    out.separator(place.separator);
                }
                out.integer(index);
            }
        };
        for dims in [&[12][..], &[1, 12], &[3, 4], &[2, 1, 6], &[1, 2, 3, 2], &[1, 1], &[]] {
            for layout in [Layout::Lines, Layout::OneLine, Layout::Rows] {
                let block = Block { first: 0, dims, depth: 1, layout };
                let whole = written(|out| nested(out, block, number));
                let count = dims.iter().product::<i64>() as usize;
                for size in 1..=count {
                    let parts = written(|out| {
                        for start in (0..count).step_by(size) {
                            nested_part(out, block, start..(start + size).min(count), number);
                        }
                    });
                    assert_eq!(parts, whole, "{dims:?} {size}");
                }
            }
        }
    }

    #[test]
    fn empty_arrays_end_the_nesting() {
        assert_eq!(block(&[0], Layout::Rows), "[]");
        assert_eq!(block(&[0, 3], Layout::Lines), "[]");
        assert_eq!(block(&[2, 0, 3], Layout::Lines), "[\n    [],\n    []\n]");
        assert_eq!(block(&[1, 2, 0], Layout::Rows), "[[[], []]\n]");
    }

    #[test]
    fn a_tensor_may_be_deep() {
        let dims = [1; 1000];
        assert_eq!(block(&dims, Layout::OneLine), format!("{}0{}", "[".repeat(1000), "]".repeat(1000)));
        let lines = block(&dims, Layout::Lines);
        let close: String = lines.split_whitespace().collect();
        assert_eq!(close, format!("{}0{}", "[".repeat(1000), "]".repeat(1000)));
    }
}
