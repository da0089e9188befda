//! Warm-up files: no bytes make the reader of records panic or give more than there is.

#![no_main]

use libfuzzer_sys::fuzz_target;
use servable::lifecycle::tfrecord::Records;

fuzz_target!(|file: &[u8]| {
    let mut records = Records::new(file);
    let read: usize = records.by_ref().map_while(Result::ok).map(|record| record.len() + 16).sum();
    assert!(read <= file.len());
    assert!(records.next().is_none());
});
