//! ONNX files: no bytes make the walk over a model's graph panic, recurse without limit, or read beyond the file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use servable::engine::onnx::graph::describe;
use std::io::Cursor;

fuzz_target!(|file: &[u8]| {
    if let Ok(found) = describe(Cursor::new(file), file.len() as u64) {
        let named: usize = found.external.iter().chain(&found.unranked).map(String::len).sum();
        assert!(named <= file.len());
    }
});
