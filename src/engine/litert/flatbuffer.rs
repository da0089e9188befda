//! Reading of FlatBuffers without trust: every offset is checked, and the work is bounded by the file's size.

use std::cell::Cell;

/// Why a file is damaged, as part of a sentence.
pub(super) type Damage = &'static str;

/// The result of reading a damaged file.
pub(super) type Read<T> = Result<T, Damage>;

const OUTSIDE: Damage = "an offset leads out of it";

/// The bytes of a file, and how many more elements may be read of it.
pub(super) struct Buffer<'a> {
    bytes: &'a [u8],
    /// Many offsets may lead to the same place, so that a small file would be read for ever.
    left: Cell<usize>,
}

impl<'a> Buffer<'a> {
    /// Takes the bytes of a file.
    pub(super) fn new(bytes: &'a [u8]) -> Buffer<'a> {
        Buffer { bytes, left: Cell::new(bytes.len().saturating_mul(4)) }
    }

    /// Returns the root table of a file that begins with its offset and `identifier`.
    pub(super) fn root(&'a self, identifier: &[u8; 4]) -> Read<Table<'a>> {
        if self.bytes.get(4..8) != Some(identifier) {
            return Err("it does not begin as such a file does");
        }
        Table::at(self, self.offset(0)?)
    }

    fn array<const N: usize>(&self, at: usize) -> Read<[u8; N]> {
        let end = at.checked_add(N).ok_or(OUTSIDE)?;
        self.bytes.get(at..end).and_then(|bytes| bytes.try_into().ok()).ok_or(OUTSIDE)
    }

    fn word(&self, at: usize) -> Read<u32> {
        Ok(u32::from_le_bytes(self.array(at)?))
    }

    /// Follows the offset at `at`.
    fn offset(&self, at: usize) -> Read<usize> {
        at.checked_add(self.word(at)? as usize).filter(|to| *to < self.bytes.len()).ok_or(OUTSIDE)
    }

    /// Returns the elements of the vector at `at`, each of `size` bytes: the position of the first and their number.
    fn vector(&self, at: usize, size: usize) -> Read<(usize, usize)> {
        let count = self.word(at)? as usize;
        let start = at + 4;
        let end = count.checked_mul(size).and_then(|bytes| bytes.checked_add(start)).ok_or(OUTSIDE)?;
        if end > self.bytes.len() {
            return Err(OUTSIDE);
        }
        self.left.set(self.left.get().checked_sub(count + 1).ok_or("it refers to the same parts too often")?);
        Ok((start, count))
    }
}

/// A table of a file; fields are named by their slots in the schema.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    buffer: &'a Buffer<'a>,
    at: usize,
    vtable: usize,
    /// The bytes of the vtable.
    size: usize,
}

impl<'a> Table<'a> {
    fn at(buffer: &'a Buffer<'a>, at: usize) -> Read<Table<'a>> {
        let back = i64::from(i32::from_le_bytes(buffer.array(at)?));
        let vtable = i64::try_from(at).ok().and_then(|at| at.checked_sub(back)).ok_or(OUTSIDE)?;
        let vtable = usize::try_from(vtable).map_err(|_| OUTSIDE)?;
        let size = u16::from_le_bytes(buffer.array(vtable)?) as usize;
        if vtable.checked_add(size).is_none_or(|end| end > buffer.bytes.len()) {
            return Err(OUTSIDE);
        }
        Ok(Table { buffer, at, vtable, size })
    }

    /// Returns the position of the field in `slot`; `None` if it has its default.
    fn field(&self, slot: usize) -> Read<Option<usize>> {
        let entry = 4 + 2 * slot;
        if entry + 2 > self.size {
            return Ok(None);
        }
        let place = u16::from_le_bytes(self.buffer.array(self.vtable + entry)?) as usize;
        Ok((place != 0).then_some(self.at + place))
    }

    fn number<const N: usize>(&self, slot: usize) -> Read<[u8; N]> {
        self.field(slot)?.map_or(Ok([0; N]), |at| self.buffer.array(at))
    }

    /// Returns the byte in `slot`, 0 by default.
    pub(super) fn byte(&self, slot: usize) -> Read<u8> {
        Ok(u8::from_le_bytes(self.number(slot)?))
    }

    /// Returns the number in `slot`, 0 by default.
    pub(super) fn u32(&self, slot: usize) -> Read<u32> {
        Ok(u32::from_le_bytes(self.number(slot)?))
    }

    /// Returns the number in `slot`, 0 by default.
    pub(super) fn i32(&self, slot: usize) -> Read<i32> {
        Ok(i32::from_le_bytes(self.number(slot)?))
    }

    /// Returns the number in `slot`, 0 by default.
    pub(super) fn u64(&self, slot: usize) -> Read<u64> {
        Ok(u64::from_le_bytes(self.number(slot)?))
    }

    /// Returns the position that the offset in `slot` leads to.
    fn target(&self, slot: usize) -> Read<Option<usize>> {
        self.field(slot)?.map(|at| self.buffer.offset(at)).transpose()
    }

    /// Returns the table in `slot`.
    pub(super) fn table(&self, slot: usize) -> Read<Option<Table<'a>>> {
        self.target(slot)?.map(|at| Table::at(self.buffer, at)).transpose()
    }

    /// Returns the tables of the vector in `slot`; none by default.
    pub(super) fn tables(&self, slot: usize) -> Read<Vec<Table<'a>>> {
        let Some(at) = self.target(slot)? else { return Ok(Vec::new()) };
        let (start, count) = self.buffer.vector(at, 4)?;
        (0..count).map(|index| Table::at(self.buffer, self.buffer.offset(start + 4 * index)?)).collect()
    }

    /// Returns the numbers of the vector in `slot`; `None` by default.
    pub(super) fn numbers(&self, slot: usize) -> Read<Option<Vec<i32>>> {
        let Some(at) = self.target(slot)? else { return Ok(None) };
        let (start, count) = self.buffer.vector(at, 4)?;
        let number = |index| Ok(i32::from_le_bytes(self.buffer.array(start + 4 * index)?));
        (0..count).map(number).collect::<Read<_>>().map(Some)
    }

    /// Returns the bytes of the vector in `slot`; `None` by default.
    pub(super) fn bytes(&self, slot: usize) -> Read<Option<&'a [u8]>> {
        let Some(at) = self.target(slot)? else { return Ok(None) };
        let count = self.buffer.word(at)? as usize;
        let start = at + 4;
        let end = start.checked_add(count).ok_or(OUTSIDE)?;
        self.buffer.bytes.get(start..end).map(Some).ok_or(OUTSIDE)
    }

    /// Returns the text in `slot`, empty by default.
    pub(super) fn text(&self, slot: usize) -> Read<String> {
        let bytes = self.bytes(slot)?.unwrap_or_default();
        self.buffer
            .left
            .set(self.buffer.left.get().checked_sub(bytes.len()).ok_or("its texts are too long")?);
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with one table: an i32 in slot 0, and in slot 1 a vector of the numbers 7 and 8.
    const FILE: [u8; 44] = [
        20, 0, 0, 0, b'T', b'E', b'S', b'T', // root, identifier
        8, 0, 12, 0, 4, 0, 8, 0, 0, 0, 0, 0, // vtable
        12, 0, 0, 0, 5, 0, 0, 0, 4, 0, 0, 0, // table at 20
        2, 0, 0, 0, 7, 0, 0, 0, 8, 0, 0, 0, // vector at 32
    ];

    #[test]
    fn fields_are_read_and_others_have_their_defaults() {
        let buffer = Buffer::new(&FILE);
        let root = buffer.root(b"TEST").unwrap();
        assert_eq!((root.i32(0), root.u32(2), root.byte(9)), (Ok(5), Ok(0), Ok(0)));
        assert_eq!(root.numbers(1), Ok(Some(vec![7, 8])));
        assert_eq!((root.numbers(2), root.text(2)), (Ok(None), Ok(String::new())));
        assert!(root.tables(2).unwrap().is_empty() && root.table(2).unwrap().is_none());
    }

    #[test]
    fn what_is_cut_or_changed_is_an_error() {
        for end in 0..FILE.len() {
            let buffer = Buffer::new(&FILE[..end]);
            assert!(buffer.root(b"TEST").and_then(|root| root.numbers(1)).is_err(), "cut at {end}");
        }
        assert!(Buffer::new(&FILE).root(b"TFL3").is_err());
    }

    #[test]
    fn the_work_is_bounded() {
        let buffer = Buffer::new(&FILE);
        let root = buffer.root(b"TEST").unwrap();
        assert!((0..100).any(|_| root.numbers(1).is_err()));
    }
}
