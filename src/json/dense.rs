//! A JSON value → the elements of a dense tensor, in one pass over the text (docs/spec/rest.md section 6.1).
//!
//! TensorFlow Serving takes the shape from the first elements on the way down, then checks each node for level, size
//! and type, in this order and depth first. In a single pass an array's size is known only at its end, so a fault
//! inside arrays is compared with their sizes, and the outermost array of a wrong size is what gets reported.

use crate::error::{Error, Kind};
use crate::json::cursor::Cursor;
use crate::json::excerpt::excerpt;
use crate::json::syntax::{Problem, SyntaxError};
use crate::tensor::DType;
use smallvec::SmallVec;

/// The reasons why a JSON scalar or object is not an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ElementFault {
    /// A value that the dtype does not accept.
    Type,
    /// An object other than a base64 object where a string is expected.
    Object,
    /// A base64 object whose text is not base64.
    Base64,
    /// The dtype has no JSON values.
    Unsupported,
}

/// Receives elements from the text.
pub(crate) trait Elements {
    /// Consumes the scalar or object here and appends it.
    fn push(&mut self, cursor: &mut Cursor<'_>) -> Result<(), ElementFault>;

    /// Consumes and appends elements, with a comma between them, as long as that can be done quickly; returns their
    /// number, which may be 0 whatever is here. The cursor is then after the last one.
    #[inline(always)]
    fn push_quickly(&mut self, _: &mut Cursor<'_>) -> usize {
        0
    }

    /// Does the same with arrays of `width` elements, with a comma between them; returns the number of arrays.
    #[inline]
    fn push_rows(&mut self, _: &mut Cursor<'_>, _width: usize) -> usize {
        0
    }
}

/// The reasons why a value is not a tensor of a dtype. Positions are byte offsets into the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The text is not JSON.
    Syntax(SyntaxError),
    /// The scalar at `at` is nested in `level` arrays instead of `rank`.
    ScalarLevel { at: usize, level: usize, rank: usize },
    /// An array nested in `level` arrays, where elements of rank `rank` allow none.
    ListLevel { level: usize, rank: usize },
    /// An array nested in `level` arrays has `len` elements instead of `dim`.
    Size { len: usize, level: usize, dim: usize },
    /// The scalar at `at` cannot be an element.
    Element { at: usize, fault: ElementFault },
    /// More than `limit` levels of arrays.
    Depth { limit: usize },
}

impl From<SyntaxError> for Fault {
    fn from(error: SyntaxError) -> Fault {
        Fault::Syntax(error)
    }
}

impl Fault {
    /// Returns the error for the client; positions refer to `text`, and `dtype` is the tensor's.
    pub(crate) fn explain(self, text: &[u8], dtype: DType) -> Error {
        let dtype = dtype.name();
        Error::invalid(match self {
            Fault::Syntax(error) => return error.into(),
            Fault::ScalarLevel { at, level, rank } => format!(
                "JSON Value: {} found at incorrect level: {} in the JSON DOM. Expected at level: {rank}",
                excerpt(text, at),
                level + 1
            ),
            Fault::ListLevel { level, rank } => {
                format!("Encountered list at unexpected level: {level} expected < {rank}")
            }
            Fault::Size { len, level, dim } => {
                format!("Encountered list at unexpected size: {len} at level: {level} expected size: {dim}")
            }
            Fault::Depth { limit } => format!(
                "JSON Value has more than {limit} levels of lists; a tensor may have at most {limit}: nest it less deeply"
            ),
            Fault::Element { at, fault } => match fault {
                ElementFault::Type => format!(
                    "JSON Value: {} Type: {:?} is not of expected type: {dtype}",
                    excerpt(text, at),
                    Cursor { text, at }.value_type()
                ),
                ElementFault::Object => {
                    format!("JSON Value: {} not formatted correctly for base64 data", excerpt(text, at))
                }
                ElementFault::Base64 => "Unable to base64 decode".to_string(),
                ElementFault::Unsupported => {
                    let message = format!("Conversion of JSON Value: {} to type: {dtype}", excerpt(text, at));
                    return Error::new(Kind::Unimplemented, message);
                }
            },
        })
    }
}

/// A dimension or rank that no array has determined yet.
const UNKNOWN: usize = usize::MAX;

/// Reads values one after the other. Storage is reused, so that a small value costs no allocation.
#[derive(Debug)]
pub(crate) struct DenseReader {
    /// The shape so far, outermost first.
    dims: SmallVec<[usize; 8]>,
    /// The number of elements seen in each open array, outermost first.
    counts: SmallVec<[usize; 8]>,
    rank: usize,
    limit: usize,
}

impl DenseReader {
    /// Makes a reader that refuses more than `limit` levels of arrays.
    pub(crate) fn new(limit: usize) -> DenseReader {
        DenseReader { dims: SmallVec::new(), counts: SmallVec::new(), rank: UNKNOWN, limit }
    }

    /// Returns the shape of the value read last, outermost dimension first.
    pub(crate) fn shape(&self) -> &[usize] {
        &self.dims
    }

    /// Consumes the value here, appending its elements to `out`.
    ///
    /// After a fault, `out` and `cursor` are left in an intermediate state.
    pub(crate) fn fill<E: Elements>(&mut self, cursor: &mut Cursor<'_>, out: &mut E) -> Result<(), Fault> {
        self.dims.clear();
        self.counts.clear();
        self.rank = UNKNOWN;
        self.values(cursor, out).map_err(|fault| self.outermost(fault, *cursor))
    }

    /// Consumes the elements of an array from one of them on: up to the end of the text, before which no comma may be, or
    /// to the end of the array, which is consumed. Returns whether the array ended; `None` if there is a fault. The shape
    /// then begins with the number of elements.
    pub(crate) fn fill_inside<E: Elements>(&mut self, cursor: &mut Cursor<'_>, out: &mut E) -> Option<bool> {
        self.dims.clear();
        self.dims.push(UNKNOWN);
        self.counts.clear();
        self.counts.push(0);
        self.rank = UNKNOWN;
        match self.values(cursor, out) {
            Ok(()) => Some(true),
            Err(Fault::Syntax(SyntaxError { problem: Problem::CommaOrBracket, at }))
                if at == cursor.text.len() && self.counts.len() == 1 =>
            {
                self.dims[0] = self.counts[0];
                Some(false)
            }
            Err(_) => None,
        }
    }

    /// Returns a reader for what is inside of `levels` arrays.
    pub(crate) fn inside(&self, levels: usize) -> DenseReader {
        DenseReader::new(self.limit.saturating_sub(levels))
    }

    /// Makes `dims` the shape of the value read last.
    pub(crate) fn set_shape(&mut self, dims: Vec<usize>) {
        self.dims = dims.into();
    }

    fn values<E: Elements>(&mut self, cursor: &mut Cursor<'_>, out: &mut E) -> Result<(), Fault> {
        loop {
            if cursor.skip_space() == b'[' {
                if !self.rows(cursor, out) && self.open(cursor)? {
                    continue;
                }
            } else {
                self.scalars(cursor, out)?;
            }
            if !self.after_value(cursor)? {
                return Ok(());
            }
        }
    }

    /// Consumes the innermost array here and those that directly follow it, if that can be done quickly.
    #[inline]
    fn rows<E: Elements>(&mut self, cursor: &mut Cursor<'_>, out: &mut E) -> bool {
        let level = self.counts.len();
        if level + 1 != self.rank || self.dims[level] == UNKNOWN {
            return false;
        }
        let rows = out.push_rows(cursor, self.dims[level]);
        if let Some(top) = self.counts.last_mut() {
            // The last one is counted by `after_value`, as every value is.
            *top += rows.saturating_sub(1);
        }
        rows > 0
    }

    /// Opens the array here; true if it has a first element, which the cursor then is on or before.
    #[inline]
    fn open(&mut self, cursor: &mut Cursor<'_>) -> Result<bool, Fault> {
        let level = self.counts.len();
        if level >= self.rank {
            return Err(Fault::ListLevel { level, rank: self.rank });
        }
        if level == self.dims.len() {
            if level == self.limit {
                return Err(Fault::Depth { limit: self.limit });
            }
            self.dims.push(UNKNOWN);
        }
        cursor.at += 1;
        self.counts.push(0);
        if cursor.skip_space() != b']' {
            return Ok(true);
        }
        if self.rank == UNKNOWN {
            self.rank = level + 1;
        }
        cursor.at += 1;
        self.close()?;
        Ok(false)
    }

    /// Consumes the scalar here and those that directly follow it in the same array.
    #[inline]
    fn scalars<E: Elements>(&mut self, cursor: &mut Cursor<'_>, out: &mut E) -> Result<(), Fault> {
        let level = self.counts.len();
        if self.rank == UNKNOWN {
            self.rank = level;
        }
        if level != self.rank {
            return Err(Fault::ScalarLevel { at: cursor.at, level, rank: self.rank });
        }
        // A copy that never leaves this function can live in registers.
        let mut here = *cursor;
        let mut count = 0;
        let result = loop {
            let at = here.at;
            let read = if level == 0 { 0 } else { out.push_quickly(&mut here) };
            if read == 0
                && let Err(fault) = out.push(&mut here)
            {
                here.at = at;
                break Err(Fault::Element { at, fault });
            }
            count += read.max(1);
            if level == 0 || here.skip_space() != b',' {
                break Ok(());
            }
            let comma = here.at;
            here.at += 1;
            if here.skip_space() == b'[' {
                here.at = comma;
                break Ok(());
            }
        };
        *cursor = here;
        if let Some(top) = self.counts.last_mut() {
            // The last one is counted by `after_value`, as every value is.
            *top += count - usize::from(result.is_ok());
        }
        result
    }

    /// Counts the value that ended here and closes the arrays that end; true if another value follows.
    #[inline]
    fn after_value(&mut self, cursor: &mut Cursor<'_>) -> Result<bool, Fault> {
        while let Some(count) = self.counts.last_mut() {
            *count += 1;
            match cursor.skip_space() {
                b',' => {
                    cursor.at += 1;
                    return Ok(true);
                }
                b']' => {
                    cursor.at += 1;
                    self.close()?;
                }
                _ => return Err(cursor.error(Problem::CommaOrBracket).into()),
            }
        }
        Ok(false)
    }

    /// Pops the innermost array and compares its size.
    #[inline]
    fn close(&mut self) -> Result<(), Fault> {
        let Some(len) = self.counts.pop() else { return Ok(()) };
        let level = self.counts.len();
        match self.dims[level] {
            UNKNOWN => self.dims[level] = len,
            dim if dim != len => return Err(Fault::Size { len, level, dim }),
            _ => {}
        }
        Ok(())
    }

    /// Returns the fault to report: the outermost open array of a wrong size, if any, takes precedence over `fault`.
    ///
    /// Continues to the ends of the open arrays, once along the text. The cursor is at the faulty value or, for a size,
    /// after it.
    #[cold]
    fn outermost(&mut self, fault: Fault, mut cursor: Cursor<'_>) -> Fault {
        let mut worst = fault;
        let mut ended = match fault {
            Fault::Syntax(_) | Fault::Depth { .. } => return fault,
            Fault::Size { .. } => true,
            Fault::ScalarLevel { .. } | Fault::ListLevel { .. } | Fault::Element { .. } => false,
        };
        while !self.counts.is_empty() {
            if !ended && cursor.skip_value().is_err() {
                return fault;
            }
            match self.after_value(&mut cursor) {
                Ok(_) => ended = false,
                Err(Fault::Syntax(_)) => return fault,
                Err(outer) => {
                    worst = outer;
                    ended = true;
                }
            }
        }
        worst
    }
}
