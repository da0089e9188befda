//! TensorFlow Lite's files: no bytes make the reader panic, or read for long.

#![no_main]

use libfuzzer_sys::fuzz_target;
use servable::engine::litert::file::File;

fuzz_target!(|bytes: &[u8]| {
    let _ = File::read(bytes);
});
