//! Bodies of predict that hold arrays: numpy's files and MessagePack.

use bytes::Bytes;
use servable::engine::signature::{Signature, TensorSpec};
use servable::memory::Reservation;
use servable::rest::Format;
use servable::rest::bodies::msgpack::document::{Limits, read};
use servable::rest::bodies::msgpack::writer::{Style, most, write};
use servable::rest::bodies::{npy, npz};
use servable::tensor::{DType, Tensor};
use std::collections::BTreeMap;
use std::sync::LazyLock;

pub const NPY: &[&[u8]] = &[include_bytes!("arrays/matrix.npy"), include_bytes!("arrays/strings.npy")];
pub const NPZ: &[&[u8]] = &[include_bytes!("arrays/stored.npz"), include_bytes!("arrays/compressed.npz")];
pub const MSGPACK: &[&[u8]] = &[
    b"\x82\xaesignature_name\xa0\xa6inputs\x82\xa1x\x92\x92\x01\xca\x3f\x80\0\0\x92\x02\x03\xa1y\xc4\x01\xff",
    b"\x82\xa9instances\x92\x82\xa1x\x01\xa1y\xa1a\x82\xa1y\xa1b\xa1x\xcb\x3f\xf8\0\0\0\0\0\0\xa7outputs\x91\xa1z",
    b"\x81\xa6inputs\x82\xa1x\x83\xa5dtype\xa7float32\xa5shape\x92\x01\x02\xa4data\xc4\x08\0\0\x80\x3f\0\0\0\x40\
        \xa1y\x83\xa5dtype\xa6string\xa5shape\x91\x01\xa4data\x91\xa1a",
    b"\x81\xa9instances\x91\x82\xa1x\x85\xc4\x02nd\xc3\xc4\x04type\xa3<f4\xc4\x04kind\xc4\0\xc4\x05shape\x90\
        \xc4\x04data\xc4\x04\0\0\x80\x3f\xa1y\xa1a",
];

/// Most bytes that an archive may unpack to.
const LIMIT: usize = 1 << 20;

static SIGNATURE: LazyLock<Signature> = LazyLock::new(|| {
    let spec = |(alias, dtype): &(&str, DType)| TensorSpec {
        alias: (*alias).to_owned(),
        tensor: format!("{alias}:0"),
        dtype: *dtype,
        shape: None,
    };
    Signature {
        name: "serving_default".into(),
        method_name: String::new(),
        inputs: [("x", DType::Float), ("y", DType::String)].iter().map(spec).collect(),
        outputs: [("z", DType::Half)].iter().map(spec).collect(),
        defaults: BTreeMap::new(),
    }
});

fn strings(tensor: &Tensor) -> Option<Vec<&[u8]>> {
    tensor.as_strings().map(|strings| strings.iter().collect())
}

fn assert_same(one: &Tensor, other: &Tensor) {
    assert_eq!((one.dtype(), one.shape(), one.bytes()), (other.dtype(), other.shape(), other.bytes()));
    assert_eq!(strings(one), strings(other));
}

/// A file, and what would be written of its array.
pub fn npy_file(file: &[u8]) {
    let memory = Reservation::default();
    if let Ok(tensor) = npy::read(&Bytes::copy_from_slice(file), &memory) {
        assert!(tensor.bytes().len() <= file.len());
        let mut out = Vec::new();
        npy::File::new("y", &tensor).expect("no text ends with a zero").write(&mut out);
        assert_same(&npy::read(&out.into(), &memory).expect("it was written"), &tensor);
    }
}

/// An archive, and what would be written of its arrays.
pub fn npz_archive(archive: &[u8]) {
    let memory = Reservation::default();
    if let Ok(arrays) = npz::read(&Bytes::copy_from_slice(archive), LIMIT, &memory) {
        let file = |(name, tensor)| (name, npy::File::new(name, tensor).expect("no text ends with a zero"));
        let files: Vec<_> = arrays.iter().map(|(name, tensor)| file((name.as_str(), tensor))).collect();
        let mut out = Vec::new();
        npz::write(&files, &mut out);
        assert_eq!(out.len(), npz::length(&files).expect("it is short"));
        let again = npz::read(&out.into(), usize::MAX, &memory).expect("it was written");
        for ((name, tensor), (other, same)) in arrays.iter().zip(&again) {
            assert_eq!(name, other);
            assert_same(tensor, same);
        }
    }
}

/// A document, and the reply that holds its inputs.
pub fn msgpack_document(body: &[u8]) {
    let body = Bytes::copy_from_slice(body);
    let memory = Reservation::default();
    let limits = Limits { depth: 8, memory: &memory };
    let Ok((_, asked)) = read(&body, limits, |_| Ok(&SIGNATURE)) else { return };
    let outputs: Vec<_> = asked.inputs.iter().map(|(alias, tensor)| (alias.as_str(), tensor)).collect();
    for tensor in asked.inputs.values() {
        assert!(tensor.len() <= body.len());
    }
    for style in [Style::Plain, Style::Numpy] {
        let mut reply = Vec::new();
        write(Format::Columnar, style, &outputs, &mut reply);
        assert!(reply.len() <= most(&outputs).expect("these have a form"));
        // What holds the outputs as a map is a request, too, but for its first key.
        if outputs.len() == 2 {
            let request = [&b"\x81\xa6inputs"[..], &reply[9..]].concat().into();
            let (_, again) = read(&request, limits, |_| Ok(&SIGNATURE)).expect("it was written");
            for (alias, tensor) in &asked.inputs {
                assert_same(&again.inputs[alias], tensor);
            }
        }
    }
}
