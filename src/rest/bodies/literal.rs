//! The header of an .npy file: a literal of a Python dict with three entries, and nothing else of Python.

use super::elements::Elements;
use crate::error::{Error, Result};
use crate::tensor::Shape;

/// Most dimensions, as in numpy.
const MOST_DIMENSIONS: usize = 64;

/// What a header says of its array.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Described {
    pub(super) elements: Elements,
    pub(super) shape: Shape,
}

/// Reads `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`, with its entries in any order, and spaces around it.
pub(super) fn describe(text: &[u8]) -> Result<Described> {
    let mut reader = Reader { text, at: 0 };
    let (mut descr, mut fortran, mut shape) = (None, None, None);
    reader.expect(b'{')?;
    while !reader.take(b'}') {
        let key = reader.string()?;
        reader.expect(b':')?;
        let is_first = match key {
            "descr" => descr.replace(reader.descr()?).is_none(),
            "fortran_order" => fortran.replace(reader.truth()?).is_none(),
            "shape" => shape.replace(reader.shape()?).is_none(),
            _ => return Err(reader.fault("expected the keys descr, fortran_order and shape")),
        };
        if !is_first {
            return Err(reader.fault("a key is there twice"));
        }
        if !reader.take(b',') {
            reader.expect(b'}')?;
            break;
        }
    }
    reader.skip_space();
    if reader.at < text.len() {
        return Err(reader.fault("something follows the dict"));
    }
    let (Some(descr), Some(fortran), Some(shape)) = (descr, fortran, shape) else {
        return Err(reader.fault("one of the keys descr, fortran_order and shape is missing"));
    };
    let elements = Elements::described(descr)?;
    if fortran {
        return Err(Error::invalid(
            "the array is in Fortran order, expected C order: send np.ascontiguousarray(array)",
        ));
    }
    Ok(Described { elements, shape })
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn skip_space(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    /// Consumes `byte` if it comes next, after spaces.
    fn take(&mut self, byte: u8) -> bool {
        self.skip_space();
        let is_next = self.text.get(self.at) == Some(&byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, byte: u8) -> Result<()> {
        if self.take(byte) { Ok(()) } else { Err(self.fault(&format!("expected {:?}", char::from(byte)))) }
    }

    /// Reads a string without escapes.
    fn string(&mut self) -> Result<&'a str> {
        self.skip_space();
        let rest = &self.text[self.at..];
        let quoted = rest.split_first().filter(|(quote, _)| matches!(quote, b'\'' | b'"'));
        let inside = quoted.and_then(|(quote, rest)| Some(&rest[..memchr::memchr(*quote, rest)?]));
        let inside = inside.and_then(|inside| std::str::from_utf8(inside).ok());
        let Some(inside) = inside.filter(|inside| !inside.contains(['\\', '\n'])) else {
            return Err(self.fault("expected a string in quotes"));
        };
        self.at += inside.len() + 2;
        Ok(inside)
    }

    fn descr(&mut self) -> Result<&'a str> {
        if self.take(b'[') || self.take(b'(') {
            return Err(Error::invalid(
                "the array has records or subarrays for elements: send an array of numbers for each field",
            ));
        }
        self.string()
    }

    fn truth(&mut self) -> Result<bool> {
        self.skip_space();
        for (word, value) in [(&b"True"[..], true), (b"False", false)] {
            if self.text[self.at..].starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(self.fault("expected True or False"))
    }

    /// Reads a tuple of whole numbers; `(3)` is none.
    fn shape(&mut self) -> Result<Shape> {
        let mut shape = Shape::new();
        self.expect(b'(')?;
        while !self.take(b')') {
            if shape.len() == MOST_DIMENSIONS {
                return Err(self.fault("more than 64 dimensions"));
            }
            shape.push(self.dimension()?);
            if !self.take(b',') {
                if shape.len() == 1 {
                    return Err(self.fault("expected ','"));
                }
                self.expect(b')')?;
                break;
            }
        }
        Ok(shape)
    }

    fn dimension(&mut self) -> Result<i64> {
        self.skip_space();
        let digits = self.text[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let number = &self.text[self.at..self.at + digits];
        let number = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok());
        let Some(number) = number else {
            return Err(self.fault("expected a whole number of 64 bits, not negative"));
        };
        self.at += digits;
        Ok(number)
    }

    fn fault(&self, what: &str) -> Error {
        Error::invalid(format!(
            "the .npy header is not what numpy writes: {what} at offset {} of {:?}",
            self.at,
            String::from_utf8_lossy(&self.text[..self.text.len().min(100)])
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;

    fn error(text: &str) -> String {
        describe(text.as_bytes()).unwrap_err().message.into_owned()
    }

    #[test]
    fn entries_come_in_any_order() {
        let expected =
            |shape: &[i64]| Described { elements: Elements::Numbers(DType::Float), shape: shape.into() };
        for (text, shape) in [
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }     \n", &[2, 3][..]),
            ("{\"shape\":(),\"descr\":\"<f4\",\"fortran_order\":False}", &[]),
            (" { 'fortran_order' : False , 'shape' : ( 7 , ) , 'descr' : '<f4' } ", &[7]),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 9223372036854775807)}", &[0, i64::MAX]),
        ] {
            assert_eq!(describe(text.as_bytes()), Ok(expected(shape)), "{text}");
        }
    }

    #[test]
    fn nothing_else_of_python_is_read() {
        for (text, words) in [
            ("", "expected '{'"),
            ("{", "in quotes"),
            ("{}", "missing"),
            ("{'descr': '<f4', 'fortran_order': False, }", "missing"),
            ("{'descr': '<f4', 'descr': '<f4'}", "twice"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'x': 1}", "keys descr"),
            ("{'descr': '<f4', 'fortran_order': 0, 'shape': (1,)}", "True or False"),
            ("{'descr': '<f4', 'fortran_order': True, 'shape': (1,)}", "np.ascontiguousarray"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (3)}", "expected ','"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': [3]}", "expected '('"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (-3,)}", "not negative"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (3L,)}", "expected ','"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (1_0,)}", "expected ','"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", "64 bits"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} or x", "follows"),
            ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", "each field"),
            ("{'descr': ('<f4', (2,)), 'fortran_order': False, 'shape': (1,)}", "each field"),
            ("{'descr': '\\x3cf4', 'fortran_order': False, 'shape': (1,)}", "in quotes"),
            ("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", "never read"),
            ("{'descr': '>f4', 'fortran_order': False, 'shape': (1,)}", "big-endian"),
        ] {
            assert!(error(text).contains(words), "{text}: {}", error(text));
        }
        let many = format!("{{'shape': ({})}}", "1,".repeat(65));
        assert!(error(&many).contains("64 dimensions"));
    }
}
