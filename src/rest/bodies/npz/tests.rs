//! Tests of .npz archives: both ways, and archives that lie.

use super::*;
use crate::tensor::DType;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use std::io::Write;

fn floats(values: &[f32]) -> Tensor {
    let bytes = bytemuck::cast_slice(values).to_vec();
    Tensor::numbers(DType::Float, vec![values.len() as i64], bytes.into())
}

fn written(arrays: &[(&str, &Tensor)]) -> Vec<u8> {
    let files: Vec<_> =
        arrays.iter().map(|(name, tensor)| (*name, File::new(name, tensor).unwrap())).collect();
    let mut out = Vec::new();
    write(&files, &mut out);
    assert_eq!(out.len(), length(&files).unwrap());
    out
}

fn read(archive: &[u8]) -> Result<Vec<(String, Tensor)>> {
    super::read(&Bytes::copy_from_slice(archive), 1 << 20, &Reservation::default())
}

fn error(archive: &[u8]) -> String {
    read(archive).unwrap_err().message.into_owned()
}

/// An archive with one compressed file, of which the directory says that it has `size` bytes.
fn packed(name: &str, file: &[u8], size: usize) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(file).unwrap();
    let packed = encoder.finish().unwrap();
    let mut crc = Crc::new();
    crc.update(file);
    let mut record = described(name, crc.sum(), size);
    record[4] = 8;
    record[14..18].copy_from_slice(&small(packed.len()));
    let named = [name.as_bytes(), ENDING.as_bytes()].concat();
    let local = [&b"PK\x03\x04"[..], &record, &named, &packed].concat();
    let entry = [&b"PK\x01\x02\x14\0"[..], &record, &[0; 14], &named].concat();
    let (size, offset) = (small(entry.len()), small(local.len()));
    let end = [&b"PK\x05\x06\0\0\0\0\x01\0\x01\0"[..], &size, &offset, &[0, 0]].concat();
    [local, entry, end].concat()
}

#[test]
fn arrays_come_back_by_name() {
    let (a, b) = (floats(&[1.0, 2.0]), floats(&[3.0]));
    let archive = written(&[("a", &a), ("bé", &b), ("", &b)]);
    let back = read(&archive).unwrap();
    let names: Vec<_> = back.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a", "bé", ""]);
    assert_eq!((back[0].1.bytes(), back[1].1.bytes()), (a.bytes(), b.bytes()));
    assert!(read(&written(&[])).unwrap().is_empty());
}

#[test]
fn what_is_compressed_is_unpacked_within_limits() {
    let tensor = floats(&[0.0; 1000]);
    let mut file = Vec::new();
    File::new("x", &tensor).unwrap().write(&mut file);
    let back = read(&packed("x", &file, file.len())).unwrap();
    assert_eq!((back[0].0.as_str(), back[0].1.bytes()), ("x", tensor.bytes()));
    let large = packed("x", &file, 2 << 20);
    assert_eq!(read(&large).unwrap_err().http_status(), 413);
    for size in [0, file.len() - 1, file.len() + 1, 1 << 20] {
        assert!(error(&packed("x", &file, size)).contains("cannot be unpacked"), "{size}");
    }
}

#[test]
fn archives_that_lie_are_refused() {
    let good = written(&[("a", &floats(&[1.0]))]);
    for end in 0..good.len() {
        assert!(error(&good[..end]).contains("no .npz archive"), "{end}");
    }
    let with = |at: usize, bytes: &[u8]| {
        let mut archive = good.clone();
        archive[at..at + bytes.len()].copy_from_slice(bytes);
        error(&archive)
    };
    let (end, entry) = (good.len() - END, good.len() - END - ENTRY - 5);
    assert!(with(0, b"XX").contains("not where its directory says"));
    assert!(with(26, &[0xff, 0xff]).contains("not where its directory says"));
    assert!(with(entry + 42, &[0xff, 0xff, 0xff, 0x7f]).contains("not where its directory says"));
    assert!(with(entry + 20, &[0xff, 0xff, 0xff, 0xff]).contains("not where its directory says"));
    assert!(with(entry + 24, &[1]).contains("not where its directory says"));
    assert!(with(entry + 8, &[1]).contains("encrypted"));
    assert!(with(entry + 10, &[9]).contains("method 9"));
    assert!(with(entry + 28, &[0xff]).contains("cut off"));
    assert!(with(entry + ENTRY, &[0xff]).contains("not UTF-8"));
    assert!(with(entry + ENTRY + 1, b"-").contains("NAME.npy"));
    assert!(with(end + 8, &[0xff, 0xff, 0xff, 0xff]).contains("1024 at most"));
    assert!(with(end + 8, &[2]).contains("in one part"));
    assert!(with(end + 12, &[0]).contains("not where its end says"));
    assert!(with(end + 16, &[0xff; 4]).contains("less than 4 GiB"));
    let mut inside = good.clone();
    inside[LOCAL + 5] = b'x';
    assert!(error(&inside).contains("\"a\": it is no .npy file"));
}

#[test]
fn one_file_is_not_read_again_and_again() {
    const TIMES: usize = 4;
    let good = written(&[("a", &floats(&[1.0]))]);
    let start = good.len() - END - ENTRY - 5;
    let (local, entry, end) = (&good[..start], &good[start..good.len() - END], &good[good.len() - END..]);
    let mut end = end.to_vec();
    end[8] = TIMES as u8;
    end[10] = TIMES as u8;
    end[12..16].copy_from_slice(&small(TIMES * entry.len()));
    let archive = [local, &entry.repeat(TIMES), &end].concat();
    assert!(error(&archive).contains("its files overlap"));
}

#[test]
fn no_more_files_are_read_than_the_end_says() {
    let mut archive = written(&[("a", &floats(&[1.0])), ("b", &floats(&[2.0]))]);
    let end = archive.len() - END;
    for files in [0, 1, 3] {
        archive[end + 8] = files;
        archive[end + 10] = files;
        let expected = if files > 2 { "cut off" } else { "more than the" };
        assert!(error(&archive).contains(expected), "{files}: {}", error(&archive));
    }
}
