//! A cursor over JSON text: skips whitespace, names, literals and whole values, and reports syntax errors.
//!
//! Grammar, messages and offsets are those of TensorFlow Serving's parser (docs/spec/rest.md section 5): strict JSON
//! plus `NaN` and `Infinity`; parsing stops after the first complete value; bytes need not be UTF-8. Nothing here
//! recurses along the text, and every step is linear in the bytes it passes.

use super::syntax::{Problem, SyntaxError};
use super::text::{Text, ordinary, unit};
use crate::error::Error;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// The JSON type of a value, named as in TensorFlow Serving's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub(crate) enum Type {
    Null,
    False,
    True,
    Object,
    Array,
    String,
    Number,
}

/// A position in a text. Cheap to copy, so that callers can backtrack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    pub(crate) text: &'a [u8],
    pub(crate) at: usize,
}

impl<'a> Cursor<'a> {
    /// Starts at the beginning of `text`, after a byte order mark if there is one.
    pub(crate) fn new(text: &'a [u8]) -> Cursor<'a> {
        Cursor { text, at: if text.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 } }
    }

    /// Returns the byte here, or NUL at the end of the text; the grammar treats both alike.
    #[inline(always)]
    pub(crate) fn peek(&self) -> u8 {
        match self.text.get(self.at) {
            Some(byte) => *byte,
            None => 0,
        }
    }

    /// Consumes `byte` if it is here, and returns whether it was.
    #[inline(always)]
    pub(crate) fn take(&mut self, byte: u8) -> bool {
        let here = self.text.get(self.at) == Some(&byte);
        self.at += usize::from(here);
        here
    }

    /// Skips spaces, tabs and line ends, and returns the byte that follows.
    #[inline(always)]
    pub(crate) fn skip_space(&mut self) -> u8 {
        loop {
            let byte = self.peek();
            if byte > b' ' || !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return byte;
            }
            self.at += 1;
        }
    }

    /// Returns an error at this position.
    #[cold]
    pub(crate) fn error(&self, problem: Problem) -> SyntaxError {
        SyntaxError { problem, at: self.at }
    }

    /// Returns the type of the value that starts here, judged by its first byte.
    pub(crate) fn value_type(&self) -> Type {
        match self.peek() {
            b'n' => Type::Null,
            b'f' => Type::False,
            b't' => Type::True,
            b'{' => Type::Object,
            b'[' => Type::Array,
            b'"' => Type::String,
            _ => Type::Number,
        }
    }

    /// Consumes `word`; an error points at the first byte that differs.
    pub(crate) fn literal(&mut self, word: &[u8]) -> Result<(), SyntaxError> {
        for byte in word {
            if !self.take(*byte) {
                return Err(self.error(Problem::Value));
            }
        }
        Ok(())
    }

    /// Consumes `"name":` and the whitespace around it.
    #[inline]
    pub(crate) fn name(&mut self) -> Result<Text<'a>, SyntaxError> {
        if self.skip_space() != b'"' {
            return Err(self.error(Problem::Name));
        }
        let name = self.string()?;
        if self.skip_space() != b':' {
            return Err(self.error(Problem::Colon));
        }
        self.at += 1;
        self.skip_space();
        Ok(name)
    }

    /// Called after `{` or a member: returns the next member's name, with the cursor on its value; `None` at the `}`.
    ///
    /// `first` is true as long as no member has been read.
    #[inline]
    pub(crate) fn member(&mut self, first: bool) -> Result<Option<Text<'a>>, SyntaxError> {
        match self.skip_space() {
            b'}' => {
                self.at += 1;
                Ok(None)
            }
            b',' if !first => {
                self.at += 1;
                self.name().map(Some)
            }
            _ if first => self.name().map(Some),
            _ => Err(self.error(Problem::CommaOrBrace)),
        }
    }

    /// Called after `[` or an element: returns whether there is another element, with the cursor on it.
    ///
    /// `first` is true as long as no element has been read.
    #[inline]
    pub(crate) fn element(&mut self, first: bool) -> Result<bool, SyntaxError> {
        match self.skip_space() {
            b']' => {
                self.at += 1;
                Ok(false)
            }
            b',' if !first => {
                self.at += 1;
                self.skip_space();
                Ok(true)
            }
            _ if first => Ok(true),
            _ => Err(self.error(Problem::CommaOrBracket)),
        }
    }

    /// Skips the value here and everything in it, however deep.
    pub(crate) fn skip_value(&mut self) -> Result<(), SyntaxError> {
        let mut open = Nesting::default();
        loop {
            if self.skip_start(&mut open)? && !self.skip_ends(&mut open)? {
                return Ok(());
            }
        }
    }

    /// Skips a scalar, an empty container, or the start of a container (with the first name); true if a value ended.
    fn skip_start(&mut self, open: &mut Nesting) -> Result<bool, SyntaxError> {
        match self.skip_space() {
            b'{' => {
                self.at += 1;
                if self.skip_space() == b'}' {
                    self.at += 1;
                    return Ok(true);
                }
                open.push(true);
                self.name()?;
                return Ok(false);
            }
            b'[' => {
                self.at += 1;
                if self.skip_space() == b']' {
                    self.at += 1;
                    return Ok(true);
                }
                open.push(false);
                return Ok(false);
            }
            b'"' => self.string().map(drop)?,
            b't' => self.literal(b"true")?,
            b'f' => self.literal(b"false")?,
            b'n' => self.literal(b"null")?,
            _ => self.skip_number()?,
        }
        Ok(true)
    }

    /// After a value: closes the containers that end here. Returns true with the cursor on the next value, false at the
    /// very end.
    fn skip_ends(&mut self, open: &mut Nesting) -> Result<bool, SyntaxError> {
        while let Some(object) = open.top() {
            match (self.skip_space(), object) {
                (b',', _) => {
                    self.at += 1;
                    if object {
                        self.name()?;
                    }
                    return Ok(true);
                }
                (b'}', true) | (b']', false) => {
                    self.at += 1;
                    open.pop();
                }
                (_, true) => return Err(self.error(Problem::CommaOrBrace)),
                (_, false) => return Err(self.error(Problem::CommaOrBracket)),
            }
        }
        Ok(false)
    }
}

impl<'a> Cursor<'a> {
    /// Consumes the string that starts here with `"`.
    // Inlined: otherwise the result for a short string makes a round trip through memory.
    #[inline(always)]
    pub(crate) fn string(&mut self) -> Result<Text<'a>, SyntaxError> {
        let start = self.at + 1;
        self.at = start + ordinary(&self.text[start..]);
        if self.peek() == b'"' {
            self.at += 1;
            return Ok(Text::new(&self.text[start..self.at - 1], false));
        }
        self.rest_of_string(start)
    }

    /// Continues [`Self::string`] from the first byte that is not ordinary.
    #[inline(never)]
    fn rest_of_string(&mut self, start: usize) -> Result<Text<'a>, SyntaxError> {
        loop {
            match self.peek() {
                b'"' => {
                    self.at += 1;
                    return Ok(Text::new(&self.text[start..self.at - 1], true));
                }
                b'\\' => self.escape()?,
                0 => return Err(self.error(Problem::Quote)),
                _ => return Err(self.error(Problem::Escape)),
            }
            self.at += ordinary(&self.text[self.at..]);
        }
    }

    /// Consumes the escape that starts here with `\`.
    fn escape(&mut self) -> Result<(), SyntaxError> {
        let wrong = |problem| Err(SyntaxError { problem, at: self.at });
        match self.text.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => match unit(self.text, self.at) {
                None => return wrong(Problem::Hex),
                Some(0xD800..=0xDBFF) => {
                    if !self.text[self.at + 6..].starts_with(b"\\u") {
                        return wrong(Problem::Surrogate);
                    }
                    match unit(self.text, self.at + 6) {
                        None => return wrong(Problem::Hex),
                        Some(0xDC00..=0xDFFF) => self.at += 12,
                        Some(_) => return wrong(Problem::Surrogate),
                    }
                }
                Some(_) => self.at += 6,
            },
            _ => return wrong(Problem::Escape),
        }
        Ok(())
    }
}

/// Returns a cursor on the first value of `body`; checks only that there is one.
pub(crate) fn root(body: &[u8]) -> Result<Cursor<'_>, Error> {
    if body.is_empty() {
        return Err(Error::invalid("JSON Parse error: The document is empty"));
    }
    let mut cursor = Cursor::new(body);
    match cursor.skip_space() {
        0 | b'}' | b']' | b',' | b':' => Err(cursor.error(Problem::Empty).into()),
        _ => Ok(cursor),
    }
}

/// Finds the values of the members `names` of the object at `root`; of a repeated name, the first.
///
/// Checks the value at `root` to its end. Returns `None` if it is not an object.
pub(crate) fn members<'a, const N: usize>(
    root: Cursor<'a>,
    names: [&str; N],
) -> Result<Option<[Option<Cursor<'a>>; N]>, SyntaxError> {
    let (mut cursor, mut values) = (root, [None; N]);
    if !cursor.take(b'{') {
        cursor.skip_value()?;
        return Ok(None);
    }
    let mut first = true;
    while let Some(name) = cursor.member(first)? {
        first = false;
        if let Some(index) = names.iter().position(|wanted| name.is(wanted.as_bytes())) {
            values[index].get_or_insert(cursor);
        }
        cursor.skip_value()?;
    }
    Ok(Some(values))
}

/// The kinds of the open containers, one bit each: 500,000 levels take 62 KB.
#[derive(Default)]
struct Nesting {
    depth: usize,
    words: Vec<u64>,
}

impl Nesting {
    fn push(&mut self, object: bool) {
        let (word, bit) = (self.depth / 64, self.depth % 64);
        if word == self.words.len() {
            self.words.push(0);
        }
        self.words[word] = self.words[word] & !(1 << bit) | u64::from(object) << bit;
        self.depth += 1;
    }

    fn pop(&mut self) {
        self.depth -= 1;
    }

    /// Returns whether the innermost open container is an object; `None` if none is open.
    fn top(&self) -> Option<bool> {
        let index = self.depth.checked_sub(1)?;
        Some(self.words[index / 64] >> (index % 64) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<usize, String> {
        let mut cursor = root(text.as_bytes()).map_err(|error| error.message.into_owned())?;
        cursor.skip_value().map_err(|error| Error::from(error).message.into_owned())?;
        Ok(cursor.at)
    }

    #[test]
    fn values_are_stepped_over() {
        for text in [
            "{}",
            "[]",
            "[[],{}]",
            "{\"a\":[1,2.5,\"x\",null,true,false]}",
            " [ 1 , { \"b\" : { } } ] ",
            "NaN",
        ] {
            assert_eq!(check(text), Ok(text.trim_end().len()), "{text}");
        }
        assert_eq!(check("[1] trailing"), Ok(3));
        assert_eq!(check("\u{feff}[1]"), Ok(6));
    }

    #[test]
    fn half_a_million_levels() {
        let text = "[".repeat(500_000) + &"]".repeat(500_000);
        assert_eq!(check(&text), Ok(1_000_000));
        let text = "{\"a\":[".repeat(250_000) + "1" + &"]}".repeat(250_000);
        assert_eq!(check(&text), Ok(text.len()));
        let text = "[".repeat(500_000);
        assert_eq!(check(&text), Err("JSON Parse error: Invalid value. at offset: 500000".into()));
    }

    #[test]
    fn errors_name_the_byte() {
        let cases = [
            ("", "The document is empty"),
            ("  ", "The document is empty. at offset: 2"),
            (" }", "The document is empty. at offset: 1"),
            ("tru", "Invalid value. at offset: 3"),
            ("[nul]", "Invalid value. at offset: 4"),
            ("[+1]", "Invalid value. at offset: 1"),
            ("[.5]", "Invalid value. at offset: 1"),
            ("[1,", "Invalid value. at offset: 3"),
            ("[,1]", "Invalid value. at offset: 1"),
            ("[1", "Missing a comma or ']' after an array element. at offset: 2"),
            ("[1}", "Missing a comma or ']' after an array element. at offset: 2"),
            ("[01]", "Missing a comma or ']' after an array element. at offset: 2"),
            ("{", "Missing a name for object member. at offset: 1"),
            ("{\"a\":1,}", "Missing a name for object member. at offset: 7"),
            ("{1:1}", "Missing a name for object member. at offset: 1"),
            ("{\"a\" 1}", "Missing a colon after a name of object member. at offset: 5"),
            ("{\"a\":1]", "Missing a comma or '}' after an object member. at offset: 6"),
        ];
        for (text, message) in cases {
            assert_eq!(check(text), Err(format!("JSON Parse error: {message}")), "{text}");
        }
    }
}
