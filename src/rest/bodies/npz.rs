//! Several arrays by name, as `np.savez` and `np.savez_compressed` store them: a ZIP archive of .npy files.
//!
//! Only the archive's directory at its end says what is there and how long it is. What is stored is borrowed from the body;
//! its checksum is not compared, as the connection has one. What is compressed is unpacked within the limits of a body.

use super::npy::{self, File};
use crate::error::{Error, Kind, Result};
use crate::memory::Reservation;
use crate::tensor::Tensor;
use bytes::Bytes;
use flate2::Crc;
use flate2::bufread::DeflateDecoder;
use std::io::Read;

/// Most files in an archive.
const MOST_FILES: usize = 1024;
/// Bytes of the records, without names and the like: of the end, of an entry of the directory, before a file.
const END: usize = 22;
const ENTRY: usize = 46;
const LOCAL: usize = 30;
/// The ending of the files' names, which `np.load` leaves out.
const ENDING: &str = ".npy";
/// The first day that an archive can name.
const FIRST_DAY: u16 = 0x21;
/// Says that a name is UTF-8.
const UTF8: u16 = 1 << 11;
/// Most bytes of an archive without the extension for larger ones.
const LARGEST: usize = u32::MAX as usize;

/// Reads an archive. `limit`: most bytes that the files may unpack to, together; `memory` counts what is not borrowed.
pub fn read(archive: &Bytes, limit: usize, memory: &Reservation) -> Result<Vec<(String, Tensor)>> {
    let (mut directory, files) = directory(archive)?;
    let (mut arrays, mut unpacked, mut packed) = (Vec::with_capacity(files), 0, 0);
    for _ in 0..files {
        let (entry, rest) = Entry::read(directory)?;
        directory = rest;
        let file = entry.content(archive, limit - unpacked, memory)?;
        unpacked += if entry.is_stored() { 0 } else { file.len() };
        packed += entry.packed;
        if packed > archive.len() {
            return Err(damaged("its files overlap".to_owned()));
        }
        let name = entry.name.strip_suffix(ENDING).ok_or_else(|| {
            damaged(format!("expected files NAME{ENDING}, got {:?}", shortened(entry.name)))
        })?;
        let array = npy::read(&file, memory).map_err(|error| of_file(name, error))?;
        arrays.push((name.to_owned(), array));
    }
    if !directory.is_empty() {
        return Err(damaged(format!("its directory has more than the {files} files that its end says")));
    }
    Ok(arrays)
}

/// Returns an error of a file with its name.
fn of_file(name: &str, error: Error) -> Error {
    // Others are of the whole request.
    if error.kind == Kind::InvalidArgument {
        return Error::invalid(format!("{:?}: {}", shortened(name), error.message));
    }
    error
}

/// Returns the entries of the directory, which stands right before the end, and how many there are by what the end says.
fn directory(archive: &[u8]) -> Result<(&[u8], usize)> {
    let no_archive = || damaged("expected what np.savez writes".to_owned());
    let start = archive.len().checked_sub(END).ok_or_else(no_archive)?;
    let end = &archive[start..];
    if !end.starts_with(b"PK\x05\x06") || u16_at(end, 20) != 0 {
        return Err(no_archive());
    }
    let (files, size, offset) = (usize::from(u16_at(end, 10)), u32_at(end, 12), u32_at(end, 16));
    if u16_at(end, 4) != 0 || u16_at(end, 6) != 0 || usize::from(u16_at(end, 8)) != files || offset == LARGEST
    {
        return Err(damaged("expected one archive of less than 4 GiB, in one part".to_owned()));
    }
    if files > MOST_FILES {
        return Err(damaged(format!("it has {files} files, expected {MOST_FILES} at most")));
    }
    let directory = archive.get(offset..start).filter(|directory| directory.len() == size);
    let directory = directory.ok_or_else(|| damaged("its directory is not where its end says".to_owned()))?;
    Ok((directory, files))
}

/// An entry of the directory.
struct Entry<'a> {
    name: &'a str,
    flags: u16,
    method: u16,
    packed: usize,
    size: usize,
    crc: u32,
    offset: usize,
}

impl<'a> Entry<'a> {
    /// Reads the first entry; also returns the others.
    fn read(directory: &'a [u8]) -> Result<(Entry<'a>, &'a [u8])> {
        let cut_off = || damaged("its directory is cut off".to_owned());
        if directory.len() < ENTRY || !directory.starts_with(b"PK\x01\x02") {
            return Err(cut_off());
        }
        let length = |at| usize::from(u16_at(directory, at));
        let end = ENTRY + length(28);
        let name = directory.get(ENTRY..end).ok_or_else(cut_off)?;
        let name = std::str::from_utf8(name).map_err(|_| damaged("a name is not UTF-8".to_owned()))?;
        let rest = directory.get(end + length(30) + length(32)..).ok_or_else(cut_off)?;
        let entry = Entry {
            name,
            flags: u16_at(directory, 8),
            method: u16_at(directory, 10),
            crc: u32_at(directory, 16) as u32,
            packed: u32_at(directory, 20),
            size: u32_at(directory, 24),
            offset: u32_at(directory, 42),
        };
        Ok((entry, rest))
    }

    fn is_stored(&self) -> bool {
        self.method == 0
    }

    /// Returns the file, which may unpack to `limit` bytes.
    fn content(&self, archive: &Bytes, limit: usize, memory: &Reservation) -> Result<Bytes> {
        let shown = shortened(self.name);
        let elsewhere = || damaged(format!("the file {shown:?} is not where its directory says"));
        let local = archive.get(self.offset..).filter(|local| local.starts_with(b"PK\x03\x04"));
        let local = local.filter(|local| local.len() >= LOCAL).ok_or_else(elsewhere)?;
        let start = self.offset + LOCAL + usize::from(u16_at(local, 26)) + usize::from(u16_at(local, 28));
        let end = start.checked_add(self.packed).filter(|end| *end <= archive.len()).ok_or_else(elsewhere)?;
        let packed = archive.slice(start..end);
        match self.method {
            _ if self.flags & 1 != 0 => Err(damaged(format!("the file {shown:?} is encrypted"))),
            0 if self.packed == self.size => Ok(packed),
            0 => Err(elsewhere()),
            8 => self.unpacked(&packed, limit, memory),
            other => Err(damaged(format!(
                "the file {shown:?} is packed by method {other}, expected 0 or 8, as np.savez writes"
            ))),
        }
    }

    fn unpacked(&self, packed: &[u8], limit: usize, memory: &Reservation) -> Result<Bytes> {
        if self.size > limit {
            let message =
                format!("The arrays unpack to too much: {limit} bytes more are allowed. Send less at once");
            return Err(Error::new(Kind::ResourceExhausted, message).with_status(413));
        }
        // One byte more than expected, to detect the end. Deflate makes 1032 times less of bytes, at most.
        let room = self.size.min(packed.len().saturating_mul(1032)) + 1;
        memory.grow(room)?;
        let mut out = Vec::with_capacity(room);
        let read = DeflateDecoder::new(packed).take(room as u64).read_to_end(&mut out);
        let mut crc = Crc::new();
        crc.update(&out);
        if read.is_err() || out.len() != self.size || crc.sum() != self.crc {
            return Err(damaged(format!("the file {:?} cannot be unpacked", shortened(self.name))));
        }
        Ok(out.into())
    }
}

/// Returns the beginning of a name, to be shown.
fn shortened(name: &str) -> &str {
    let end = name.char_indices().nth(64).map_or(name.len(), |(end, _)| end);
    &name[..end]
}

fn damaged(what: String) -> Error {
    Error::invalid(format!("the body is no .npz archive that can be read: {what}"))
}

/// Reads two bytes, which are there.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes[at..].first_chunk().map_or(0, |two| u16::from_le_bytes(*two))
}

/// Reads four bytes, which are there.
fn u32_at(bytes: &[u8], at: usize) -> usize {
    bytes[at..].first_chunk().map_or(0, |four| u32::from_le_bytes(*four)) as usize
}

/// Returns the length of an archive of `files` with their names.
///
/// # Errors
/// RESOURCE_EXHAUSTED if it would have 4 GiB or more.
pub fn length(files: &[(&str, File<'_>)]) -> Result<usize> {
    let each = |(name, file): &(&str, File<'_>)| {
        let records = LOCAL + ENTRY + 2 * (name.len() + ENDING.len());
        file.length().and_then(|length| length.checked_add(records))
    };
    let whole = files.iter().try_fold(END, |sum, file| sum.checked_add(each(file)?));
    whole.filter(|length| *length < LARGEST).ok_or_else(|| {
        Error::new(Kind::ResourceExhausted, "The reply would take more than 4 GiB: ask for less at once")
    })
}

/// Writes an archive of `files` with their names to `out`, which is empty. It has [`length`] bytes.
pub fn write(files: &[(&str, File<'_>)], out: &mut Vec<u8>) {
    let mut directory = Vec::new();
    for (name, file) in files {
        let offset = out.len();
        let start = offset + LOCAL + name.len() + ENDING.len();
        // The checksum stands before what it is of.
        out.resize(start, 0);
        file.write(out);
        let mut crc = Crc::new();
        crc.update(&out[start..]);
        let record = described(name, crc.sum(), out.len() - start);
        let local = [&b"PK\x03\x04"[..], &record, name.as_bytes(), ENDING.as_bytes()].concat();
        out[offset..start].copy_from_slice(&local);
        directory.extend_from_slice(b"PK\x01\x02\x14\0");
        directory.extend_from_slice(&record);
        // Neither comment, part nor attributes.
        directory.extend_from_slice(&[0; 10]);
        directory.extend_from_slice(&small(offset));
        directory.extend_from_slice(name.as_bytes());
        directory.extend_from_slice(ENDING.as_bytes());
    }
    let (offset, count) = (out.len(), (files.len() as u16).to_le_bytes());
    out.extend_from_slice(&directory);
    out.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    out.extend_from_slice(&[count, count].concat());
    out.extend_from_slice(&[small(directory.len()), small(offset)].concat());
    out.extend_from_slice(&[0, 0]);
}

/// Returns what both records of a stored file have: from the version that is needed to the lengths of name and extension.
fn described(name: &str, crc: u32, size: usize) -> Vec<u8> {
    let name_length = (name.len() + ENDING.len()) as u16;
    let mut record = Vec::with_capacity(LOCAL - 4);
    for two in [20, if name.is_ascii() { 0 } else { UTF8 }, 0, 0, FIRST_DAY] {
        record.extend_from_slice(&two.to_le_bytes());
    }
    for four in [crc.to_le_bytes(), small(size), small(size)] {
        record.extend_from_slice(&four);
    }
    record.extend_from_slice(&name_length.to_le_bytes());
    record.extend_from_slice(&[0, 0]);
    record
}

/// Returns a number that [`length`] has found to be below 4 GiB.
fn small(number: usize) -> [u8; 4] {
    (number as u32).to_le_bytes()
}

#[cfg(test)]
mod tests;
