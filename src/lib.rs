//! Servable's data plane.
//!
//! A **request** meets the modules in this order: [`server`] accepts it; its protocol, [`rest`] (on [`http`] and
//! [`json`]) or [`grpc`], reads which model and method it is for; [`registry`] resolves that to a [`servable`] without a
//! lock; the protocol decodes the body
//! against the servable's signature; [`methods`] checks and runs it, through [`servable`] and [`engine`], here or on
//! [`compute`]'s threads; the protocol encodes the answer.
//!
//! A **model version** meets them in this order: Python's manager asks [`lifecycle`] to load it; an [`engine`] does;
//! it is warmed; [`registry`] publishes it; later it retires it, the last request's handle drops, and [`lifecycle`]
//! frees it on its own thread.
//!
//! An **administrator** meets [`admin`], on an address of its own, and behind it Python's operations.
//!
//! [`tensor`] and [`error`] are what all of them speak; [`pb`] is what they say on the wire and find in a model's
//! files; [`profile`] is told what requests spend their time on, [`metrics`] how they end and how long they take; `python` is the only place that knows Python.

pub mod admin;
pub mod batch;
pub mod compute;
pub mod config;
pub mod connections;
pub mod engine;
pub mod error;
mod files;
pub mod grpc;
mod http;
pub mod json;
pub mod lifecycle;
mod listen;
#[cfg(any(feature = "python", test))]
mod log_line;
pub mod memory;
pub mod methods;
pub mod metrics;
pub mod pace;
pub mod pb;
pub mod profile;
#[cfg(feature = "python")]
mod python;
pub mod registry;
pub mod rest;
pub mod servable;
pub mod server;
#[cfg(test)]
mod skipped;
pub mod tensor;
mod throttled;
