//! The process and its operating system: returning memory, thread priorities, loaded libraries. Independent of models
//! and engines; only this folder and `engine` contain `unsafe`.

pub(crate) mod clock;
pub(crate) mod libraries;
pub(crate) mod memory;
pub(crate) mod priority;
