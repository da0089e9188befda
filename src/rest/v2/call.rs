//! An infer request: from its body to its answer.

use super::decode::{self, Against, Parts};
use super::encode::{self, Written};
use super::parameters;
use super::path::Named;
use super::with_binary;
use crate::error::{Error, Result};
use crate::http::coding::{Accepts, Coding};
use crate::http::reply::{Body, Content, Followed};
use crate::methods::{Context, ModelSpec, Request, ServerState, bind};
use crate::metrics::Protocol;
use crate::open_inference::call::{Form, Inference};
use crate::open_inference::outputs::Chosen;
use crate::open_inference::parameters::OfRequest;
use crate::open_inference::refusal;
use crate::open_inference::shared_memory::{self, Regions, SharedMemory};
use crate::open_inference::target::{self, Names};
use crate::profile::{self, Phase};
use crate::registry::{Registry, VersionChoice};
use crate::servable::Servable;
use crate::tensor::Tensor;
use bytes::Bytes;
use std::sync::Arc;

/// Longest JSON that is decoded in the thread that read it, in bytes (some 30 µs of work).
const SMALL_JSON: usize = 16 << 10;
/// Largest body that is: of its binary data, numbers are borrowed, and strings take some 100 µs.
const SMALL_BODY: usize = 1 << 20;

/// The head of an infer request.
#[derive(Debug)]
pub(super) struct Post {
    /// The names in its path.
    pub(super) named: Named,
    /// The length of the JSON with which the body begins, if that is said.
    pub(super) json: Option<usize>,
    /// The coding of the body.
    pub(super) coding: Option<Coding>,
    /// The codings that the reply may have.
    pub(super) accepts: Accepts,
}

/// An infer request whose body has been read.
pub(super) struct Infer {
    post: Post,
    body: Bytes,
    /// What the answer repeats, once decoded.
    wanted: Wanted,
}

#[derive(Default)]
struct Wanted {
    id: Option<String>,
    outputs: Chosen,
    binary: bool,
}

/// Makes the call of `post` with `body`. Its tensors may be in regions of `shared`, if there are any.
pub(super) fn infer(
    registry: &Registry,
    post: Post,
    body: Bytes,
    shared: Option<Arc<SharedMemory>>,
) -> Inference<Infer> {
    let spec = spec(registry, &post, &body);
    Inference::of(spec, Infer { post, body, wanted: Wanted::default() }, shared)
}

/// Returns what a request is for, by its path and, as far as they are looked at now, its parameters.
fn spec(registry: &Registry, post: &Post, body: &Bytes) -> Result<ModelSpec> {
    let said = if is_searched_now(post, body) {
        parameters::names(&body[..json_length(post, body)])
    } else {
        OfRequest::default()
    };
    let names = Names { signature: &said.signature_name, ..post.named.names() };
    match (names.label, said.version_label.as_str()) {
        (one, other) if !one.is_empty() && !other.is_empty() && one != other => {
            Err(refusal::two_names("version", one, other))
        }
        ("", label) => target::spec(registry, &Names { label, ..names }),
        _ => target::spec(registry, &names),
    }
}

/// Returns whether the names in a body are looked for before it is decoded: not in one that is long or compressed.
fn is_searched_now(post: &Post, body: &Bytes) -> bool {
    post.coding.is_none() && json_length(post, body) <= parameters::SHORT
}

fn json_length(post: &Post, body: &Bytes) -> usize {
    post.json.map_or(body.len(), |json| json.min(body.len()))
}

impl Form for Infer {
    const PROTOCOL: Protocol = Protocol::Rest;
    type Reply = Body;

    fn sent(reply: &Body) -> usize {
        reply.len()
    }

    fn is_small(&self) -> bool {
        let json = json_length(&self.post, &self.body);
        self.post.coding.is_none() && json <= SMALL_JSON && self.body.len() <= SMALL_BODY
    }

    fn shared_bytes(&self) -> usize {
        shared_memory::mentioned(&self.body[..json_length(&self.post, &self.body)])
    }

    fn read(
        &mut self,
        server: &ServerState,
        (spec, servable): (&ModelSpec, &Servable),
        shared: Option<Regions<'_>>,
        context: &Context,
    ) -> Result<Request> {
        let searched = is_searched_now(&self.post, &self.body);
        let mut body = std::mem::take(&mut self.body);
        if let Some(coding) = self.post.coding {
            body = coding.unpacked(&body, server.options.max_body_bytes, &context.memory)?.into();
        }
        let parts = Parts::of(body, self.post.json)?;
        if !searched {
            check_label(spec, &parts.json)?;
        }
        let against = Against {
            model: &self.post.named.model,
            signatures: servable.signatures(),
            signature: &spec.signature_name,
            max_depth: server.options.max_depth,
            shared,
        };
        let infer = decode::infer(parts, against, &context.memory, server.scheduler.cores())?;
        bind::check_method(server, infer.signature)?;
        let outputs = infer.outputs.positions.clone();
        self.wanted = Wanted { id: infer.id, outputs: infer.outputs, binary: infer.binary_output };
        Ok(Request::Predict { signature: infer.signature.name.clone(), inputs: infer.inputs, outputs })
    }

    fn write(
        self,
        server: &ServerState,
        servable: &Servable,
        outputs: Vec<(&str, Tensor)>,
        context: &Context,
    ) -> Result<Body> {
        let encoding = profile::phase(Phase::Encode);
        let Wanted { id, outputs: chosen, binary } = &self.wanted;
        let form = encode::Form {
            model: &self.post.named.model,
            version: servable.version(),
            id: id.as_deref(),
            outputs: chosen,
            binary: *binary,
            non_utf8: server.options.non_utf8,
        };
        let Written { bytes, json, borrowed } =
            encode::infer(&form, &outputs, &context.memory, server.scheduler.cores())?;
        drop((outputs, encoding));
        let content = if borrowed.is_empty() {
            Content::Written(bytes)
        } else {
            Content::Followed(Box::new(Followed { written: bytes, others: borrowed }))
        };
        let body = Body::coded(content, self.post.accepts, &server.options);
        match json {
            Some(json) => with_binary(body, json).counted(&context.memory),
            None => body.counted(&context.memory),
        }
    }
}

/// Refuses a label in a body that was given to a thread before its version was known.
fn check_label(spec: &ModelSpec, json: &[u8]) -> Result<()> {
    let label = parameters::names(json).version_label;
    if label.is_empty() || spec.choice == VersionChoice::Label(label) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "The parameter version_label is not possible in a body that is compressed, or whose JSON is longer than {} bytes: \
         name the version in the path, as /v2/models/NAME/labels/LABEL/infer",
        parameters::SHORT
    )))
}
