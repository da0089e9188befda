//! What is told of the server, of models and of the repository, as JSON.

use super::encode::shape;
use super::path::{Named, Target, What};
use super::shared_memory;
use crate::auth::{Need, Pass};
use crate::error::{Error, Kind, Result};
use crate::json::writer::Writer;
use crate::methods::{ModelSpec, ServerState};
use crate::metrics::Total;
use crate::open_inference::metadata::{self, ModelConfig, ModelMetadata, TensorMetadata};
use crate::open_inference::repository;
use crate::open_inference::shared_memory::EXTENSION as SHARED_MEMORY;
use crate::open_inference::statistics::{self, Statistics};
use crate::open_inference::{OpenInference, datatype, refusal, target};
use crate::registry::VersionChoice;

/// The extensions that are offered besides those that gRPC has, too.
const OWN_EXTENSION: &str = "binary_tensor_data";

/// Returns what `target` asks for, if the token `pass` is for that.
pub(super) fn about(
    server: &ServerState,
    view: &OpenInference,
    pass: Option<&Pass>,
    target: &Target,
) -> Result<Vec<u8>> {
    match target {
        Target::Live => Ok(br#"{"live":true}"#.to_vec()),
        Target::Ready if view.is_ready() => Ok(br#"{"ready":true}"#.to_vec()),
        Target::Ready => Err(Error::new(Kind::Unavailable, "The server is not ready")),
        Target::Memory(_, name) => shared_memory::status(view, pass, name),
        Target::CudaMemory => Err(refusal::no_cuda_memory()),
        Target::Server => {
            server.check(pass, Need::Any)?;
            Ok(of_server(view.shared_memory().is_some()))
        }
        Target::AllStatistics => {
            server.check(pass, Need::ReadAll)?;
            statistics::of(server, "", &VersionChoice::Latest).map(|all| of_statistics(&all))
        }
        Target::Index | Target::ReadyIndex => {
            server.check(pass, Need::ReadAll)?;
            Ok(index(server, *target == Target::ReadyIndex))
        }
        Target::Model(named, what) => of_model(server, view, pass, (named, *what)),
        Target::Control(..) => Err(Error::invalid("A model is loaded and unloaded by POST")),
    }
}

fn of_model(
    server: &ServerState,
    view: &OpenInference,
    pass: Option<&Pass>,
    (named, what): (&Named, What),
) -> Result<Vec<u8>> {
    let spec = target::spec(&server.registry, &named.names())?;
    match what {
        What::Ready => {
            server.check(pass, Need::Read(&spec.name))?;
            if !view.is_model_ready(&spec)? {
                return Err(refusal::not_ready(&spec));
            }
            let mut out = begin("name", &named.model);
            out.raw(b",\"ready\":true}");
            Ok(out.finish())
        }
        What::Statistics => {
            server.check(pass, Need::Read(&spec.name))?;
            of_model_statistics(server, &spec)
        }
        What::Metadata => {
            server.check(pass, Need::SignaturesOf(&spec.name))?;
            let servable = server.registry.resolve(&spec.name, &spec.choice);
            let told = metadata::of_model(server, &spec, servable.as_deref())?;
            Ok(of_metadata(&named.model, &told))
        }
        What::Config => {
            server.check(pass, Need::SignaturesOf(&spec.name))?;
            let servable = server.registry.resolve(&spec.name, &spec.choice);
            let told = metadata::config(server, &spec, servable.as_deref())?;
            Ok(of_config(&named.model, &told))
        }
        What::Infer => Err(Error::invalid("A model is asked by POST")),
    }
}

/// Begins an object with a string.
pub(super) fn begin(name: &str, value: &str) -> Writer {
    let mut out = Writer::with_room(512);
    out.compact = true;
    out.raw(b"{\"");
    out.raw(name.as_bytes());
    out.raw(b"\":");
    out.string(value.as_bytes());
    out
}

/// Writes `,"name":`.
pub(super) fn key(out: &mut Writer, name: &str) {
    out.raw(b",\"");
    out.raw(name.as_bytes());
    out.raw(b"\":");
}

pub(super) fn member(out: &mut Writer, name: &str, value: &str) {
    key(out, name);
    out.string(value.as_bytes());
}

fn list<T>(out: &mut Writer, name: &str, items: impl IntoIterator<Item = T>, write: impl Fn(&mut Writer, T)) {
    key(out, name);
    elements(out, items, write);
}

pub(super) fn elements<T>(
    out: &mut Writer,
    items: impl IntoIterator<Item = T>,
    write: impl Fn(&mut Writer, T),
) {
    out.raw(b"[");
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.raw(b",");
        }
        write(out, item);
    }
    out.raw(b"]");
}

fn of_server(shared_memory: bool) -> Vec<u8> {
    let mut out = begin("name", metadata::SERVER_NAME);
    member(&mut out, "version", metadata::SERVER_VERSION);
    let extensions =
        metadata::EXTENSIONS.into_iter().chain([OWN_EXTENSION]).chain(shared_memory.then_some(SHARED_MEMORY));
    list(&mut out, "extensions", extensions, |out, name| out.string(name.as_bytes()));
    out.raw(b"}");
    out.finish()
}

fn of_metadata(name: &str, told: &ModelMetadata) -> Vec<u8> {
    let mut out = begin("name", name);
    list(&mut out, "versions", &told.versions, |out, version| quoted(out, *version));
    member(&mut out, "platform", told.platform);
    list(&mut out, "inputs", &told.inputs, tensor);
    list(&mut out, "outputs", &told.outputs, tensor);
    out.raw(b"}");
    out.finish()
}

fn tensor(out: &mut Writer, tensor: &TensorMetadata) {
    out.raw(b"{\"name\":");
    out.string(tensor.name.as_bytes());
    member(out, "datatype", tensor.datatype());
    key(out, "shape");
    shape(out, &tensor.shape);
    out.raw(b"}");
}

fn of_config(name: &str, config: &ModelConfig) -> Vec<u8> {
    let mut out = begin("name", name);
    member(&mut out, "platform", config.metadata.platform);
    member(&mut out, "backend", config.metadata.backend);
    key(&mut out, "max_batch_size");
    out.integer(config.max_batch_size);
    for (key, tensors) in [("input", &config.metadata.inputs), ("output", &config.metadata.outputs)] {
        list(&mut out, key, tensors, |out, one| config_tensor(out, config, one));
    }
    out.raw(b"}");
    out.finish()
}

fn config_tensor(out: &mut Writer, config: &ModelConfig, tensor: &TensorMetadata) {
    out.raw(b"{\"name\":");
    out.string(tensor.name.as_bytes());
    member(out, "data_type", &datatype::config_name(tensor.dtype));
    key(out, "dims");
    shape(out, config.dims(tensor));
    out.raw(b"}");
}

fn of_model_statistics(server: &ServerState, spec: &ModelSpec) -> Result<Vec<u8>> {
    let told = statistics::of(server, &spec.name, &spec.choice);
    match told {
        // In the protocol's words.
        Err(why) if why.kind == Kind::NotFound => Err(refusal::unknown_model(spec)),
        told => told.map(|all| of_statistics(&all)),
    }
}

fn of_statistics(all: &[Statistics]) -> Vec<u8> {
    let mut out = Writer::with_room(128 + 512 * all.len());
    out.compact = true;
    out.raw(b"{\"model_stats\":");
    elements(&mut out, all, one_statistics);
    out.raw(b"}");
    out.finish()
}

fn one_statistics(out: &mut Writer, one: &Statistics) {
    out.raw(b"{\"name\":");
    out.string(one.model.as_bytes());
    key(out, "version");
    quoted(out, one.version);
    // When the last one was is not kept.
    out.raw(b",\"last_inference\":0,\"inference_count\":");
    out.integer(one.counts.rows);
    key(out, "execution_count");
    out.integer(one.counts.executions);
    out.raw(b",\"inference_stats\":{\"success\":");
    total(out, one.counts.success);
    for (name, times) in [
        ("fail", one.counts.fail),
        ("queue", one.counts.queue),
        ("compute_input", one.counts.decode),
        ("compute_infer", one.counts.run),
        ("compute_output", one.counts.encode),
        ("cache_hit", Total::default()),
        ("cache_miss", Total::default()),
    ] {
        key(out, name);
        total(out, times);
    }
    out.raw(b"},\"batch_stats\":[]}");
}

fn total(out: &mut Writer, total: Total) {
    out.raw(b"{\"count\":");
    out.integer(total.count);
    key(out, "ns");
    out.integer(total.nanos);
    out.raw(b"}");
}

fn index(server: &ServerState, ready_only: bool) -> Vec<u8> {
    let all = repository::index(&server.registry, ready_only);
    let mut out = Writer::with_room(16 + 128 * all.len());
    out.compact = true;
    elements(&mut out, &all, |out, one| {
        out.raw(b"{\"name\":");
        out.string(one.name.as_bytes());
        key(out, "version");
        quoted(out, one.version);
        member(out, "state", one.state);
        member(out, "reason", &one.reason);
        out.raw(b"}");
    });
    out.finish()
}

/// Writes a number as a string, as the protocol has versions.
fn quoted(out: &mut Writer, number: i64) {
    out.raw(b"\"");
    out.integer(number);
    out.raw(b"\"");
}
