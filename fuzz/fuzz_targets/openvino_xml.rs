//! OpenVINO's XML: no bytes make the scan of its layers panic, or take long.

#![no_main]

use libfuzzer_sys::fuzz_target;
use servable::engine::openvino::layers::scan;

fuzz_target!(|xml: &[u8]| {
    assert!(scan(xml).count <= xml.len());
});
