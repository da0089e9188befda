//! Servable's data plane.
//!
//! A **request** passes the modules in this order: [`server`] accepts it; its protocol, [`rest`] (on [`http`] and
//! [`json`]) or [`grpc`], each with [`open_inference`] beside TensorFlow Serving's API, determines the model and the method; [`registry`] resolves the model to a [`servable`]
//! without a lock; the protocol decodes the body against the servable's signature; [`methods`] checks and runs it,
//! through [`servable`] and [`engine`], in the same thread or on those of the [`scheduler`]; the protocol encodes the
//! answer.
//!
//! A **model version** passes them in this order: Python's manager asks [`lifecycle`] to load it; an [`engine`] does;
//! it is warmed; [`registry`] publishes it; later it is retired there, the last request's handle drops, and
//! [`lifecycle`] frees it on its own thread.
//!
//! A request that names no version of a model whose traffic is spread goes where [`traffic_split`] sends it; copies for a shadow
//! are asked in [`methods`].
//!
//! What an operator wants to know of requests goes with each one's [`context`]: its [`exchange`] begins and ends it, its
//! [`timeline`] has its phases, [`access`] logs it, [`telemetry`] makes its trace. Who may ask at all is decided in
//! [`auth`], if requests need tokens.
//!
//! Pages in browsers ask over gRPC-Web, which [`browsers`] takes to [`grpc`] from REST's port.
//!
//! An **administrator** is served by [`admin`], on an address of its own, and behind it by Python's operations. Whatever asks
//! Python does so at a desk of [`control_plane`]. Who looks with a browser sees the [`console`], with the [`traffic`] of the
//! last hour.
//!
//! The process itself, if it is somebody's program, asks by [`direct`], without a socket.
//!
//! [`tensor`] and [`error`] are used by all of them; [`pb`] holds the messages on the wire and in a model's files;
//! [`profile`] records what requests spend their time on, [`metrics`] how they end and how long they take; `python` is
//! the only module that knows Python.

pub mod access;
pub mod admin;
mod arriving;
pub mod auth;
pub mod batch;
pub mod bench;
pub mod browsers;
mod chance;
pub mod config;
pub mod connections;
pub mod console;
pub mod context;
pub mod control_plane;
pub mod direct;
pub mod engine;
pub mod error;
pub mod exchange;
mod files;
mod follow;
pub mod grpc;
mod host;
mod http;
pub mod http2;
pub mod json;
pub mod lifecycle;
mod listen;
mod log_file;
pub mod log_format;
#[cfg(any(feature = "python", test))]
mod log_kept;
#[cfg(any(feature = "python", test))]
mod log_line;
pub mod log_queue;
pub mod memory;
pub mod methods;
pub mod metrics;
#[cfg(any(feature = "python", test))]
mod native_line;
mod on_wake;
pub mod open_inference;
pub mod pace;
pub mod parallel;
pub mod payload;
pub mod pb;
pub mod peer;
pub mod profile;
pub mod proxies;
#[cfg(feature = "python")]
mod python;
pub mod registry;
pub mod rest;
pub mod scheduler;
pub mod servable;
pub mod server;
#[cfg(test)]
mod skipped;
pub mod telemetry;
pub mod tensor;
pub mod tfrecord;
mod throttled;
pub mod timeline;
pub mod tls;
pub mod trace_context;
pub mod traffic;
pub mod traffic_split;
