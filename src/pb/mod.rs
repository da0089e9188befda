//! Protobuf messages: generated from `proto/` by `make proto`, except [`tensor`], [`infer`] and [`wire`], which read and
//! write tensors without an intermediate struct.
//!
//! The generated modules mirror the protobuf packages, with these settings on top of `prost`'s defaults:
//!
//! - bytes fields are [`bytes::Bytes`], so that a message decoded from `Bytes` borrows them instead of copying;
//! - maps are sorted (`BTreeMap`), so that output does not change from run to run;
//! - a few message fields stay in encoded form: every `TensorProto`, the object graph of a SavedModel, the Examples of
//!   an [`tensorflow::serving::Input`]. `proto/gen` lists them.

pub mod infer;
pub mod tensor;
pub mod wire;

/// Package `inference`: the Open Inference Protocol.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, clippy::restriction)]
pub mod inference {
    include!("inference.rs");
}

/// Package `tensorflow`: tensors, graphs, models, examples, sessions, the profiler's service.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, clippy::restriction)]
pub mod tensorflow {
    include!("tensorflow.rs");

    /// Package `tensorflow.error`: the canonical status codes.
    pub mod error {
        include!("tensorflow.error.rs");
    }

    /// Package `tensorflow.profiler`: a profile.
    pub mod profiler {
        include!("tensorflow.profiler.rs");
    }

    /// Package `tensorflow.serving`: the serving API, its configuration, the prediction log.
    pub mod serving {
        include!("tensorflow.serving.rs");
    }
}

/// Every message and service in `proto/` and its imports, as a serialized `FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!("descriptors.bin");

#[cfg(test)]
mod tests;
