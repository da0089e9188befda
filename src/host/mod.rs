//! The process on its machine: memory that goes back to the system, priorities of threads, libraries as the loader has
//! them. Independent of models and engines; with `engine` the only `unsafe`.

pub(crate) mod libraries;
pub(crate) mod memory;
pub(crate) mod priority;
