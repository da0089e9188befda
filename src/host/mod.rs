//! The process and its operating system: allocating and returning memory, thread priorities, loaded libraries.
//! Independent of models and engines; only this folder and `engine` contain `unsafe`.

pub(crate) mod alarm;
#[cfg(feature = "python")]
pub(crate) mod allocator;
pub(crate) mod clock;
#[cfg(feature = "python")]
pub(crate) mod descriptors;
pub(crate) mod file;
pub(crate) mod held;
#[cfg(any(feature = "python", test))]
pub(crate) mod lent;
pub(crate) mod libraries;
pub(crate) mod mapped_files;
pub(crate) mod mapping;
pub(crate) mod memory;
pub(crate) mod priority;
pub(crate) mod process;
pub(crate) mod shared_mapping;
pub(crate) mod socket;
pub(crate) mod stderr;
#[cfg(feature = "python")]
pub(crate) mod stderr_pipe;
