//! `TensorProto`s: no bytes make the decoder panic, and what it accepts comes back the same in either form.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use servable::pb::tensor::{Encoded, decode};
use servable::pb::wire::Pieces;
use servable::tensor::Tensor;

fuzz_target!(|proto: &[u8]| {
    // What is drawn out to many megabytes takes long, and is no other case than a few kilobytes.
    let Ok(tensor) = decode(&Bytes::copy_from_slice(proto)) else { return };
    if tensor.len() > 1 << 16 {
        return;
    }
    for as_content in [false, true] {
        let again = decode(&written(&tensor, as_content)).expect("what was written can be read");
        assert_eq!((again.dtype(), again.shape()), (tensor.dtype(), tensor.shape()));
        assert_eq!(again.bytes(), tensor.bytes());
        let strings = |tensor: &Tensor| tensor.as_strings().map(|all| all.iter().map(<[u8]>::to_vec).collect::<Vec<_>>());
        assert_eq!(strings(&again), strings(&tensor));
    }
});

fn written(tensor: &Tensor, as_content: bool) -> Bytes {
    let encoded = Encoded::new(tensor, as_content);
    let mut out = Pieces::with_capacity(encoded.len());
    encoded.write(&mut out);
    let bytes = out.finish().into_iter().flatten().collect::<Bytes>();
    assert_eq!(bytes.len(), encoded.len());
    bytes
}
