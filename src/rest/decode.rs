//! JSON bodies → tensors, guided by the signature.
