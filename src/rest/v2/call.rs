//! An infer request: from its body to its answer.

use super::decode::{self, Against, Parts};
use super::encode::{self, Form, Written};
use super::parameters;
use super::path::Named;
use super::with_binary;
use crate::auth::Pass;
use crate::error::{Error, Result};
use crate::http::coding::{Accepts, Coding};
use crate::http::reply::{Body, Content};
use crate::methods::observer::Counted;
use crate::methods::{Answer, Call, Context, ModelSpec, Request, ServerState, bind};
use crate::metrics::{Api, Protocol};
use crate::open_inference::outputs::Chosen;
use crate::open_inference::parameters::OfRequest;
use crate::open_inference::shared_memory::{self, SharedMemory};
use crate::open_inference::target::{self, Names};
use crate::open_inference::{self, refusal};
use crate::profile::{self, Phase};
use crate::registry::{Registry, VersionChoice};
use crate::servable::Servable;
use bytes::Bytes;
use std::sync::Arc;

/// Longest JSON that is decoded in the thread that read it, in bytes (some 30 µs of work).
const SMALL_JSON: usize = 16 << 10;
/// Largest body that is.
const SMALL_BODY: usize = 64 << 10;

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
pub(super) struct InferCall {
    post: Post,
    spec: Result<ModelSpec>,
    body: Bytes,
    /// What the answer repeats, once decoded.
    wanted: Wanted,
    /// The regions of shared memory, if there are any.
    shared: Option<Arc<SharedMemory>>,
}

#[derive(Default)]
struct Wanted {
    id: Option<String>,
    outputs: Chosen,
    binary: bool,
}

impl InferCall {
    /// Makes the call of `post` with `body`.
    pub(super) fn new(
        registry: &Registry,
        post: Post,
        body: Bytes,
        shared: Option<Arc<SharedMemory>>,
    ) -> InferCall {
        let said = if is_searched_now(&post, &body) {
            parameters::names(&body[..json_length(&post, &body)])
        } else {
            OfRequest::default()
        };
        let names = Names { signature: &said.signature_name, ..post.named.names() };
        let spec = match (names.label, said.version_label.as_str()) {
            (one, other) if !one.is_empty() && !other.is_empty() && one != other => {
                Err(refusal::two_names("version", one, other))
            }
            ("", label) => target::spec(registry, &Names { label, ..names }),
            _ => target::spec(registry, &names),
        };
        InferCall { post, spec, body, wanted: Wanted::default(), shared }
    }
}

/// Returns whether the names in a body are looked for before it is decoded: not in one that is long or compressed.
fn is_searched_now(post: &Post, body: &Bytes) -> bool {
    post.coding.is_none() && json_length(post, body) <= parameters::SHORT
}

fn json_length(post: &Post, body: &Bytes) -> usize {
    post.json.map_or(body.len(), |json| json.min(body.len()))
}

impl Call for InferCall {
    const PROTOCOL: Protocol = Protocol::Rest;
    const BODY_FIRST: bool = true;
    type Reply = Body;

    fn spec(&self) -> Result<&ModelSpec> {
        self.spec.as_ref().map_err(Error::clone)
    }

    fn counted(&self) -> Counted {
        Counted::Request(Api::Infer)
    }

    fn sent(reply: &Body) -> usize {
        reply.len()
    }

    fn signature(&self) -> Option<&str> {
        self.spec.as_ref().ok().map(|spec| crate::engine::signature::named(&spec.signature_name))
    }

    fn is_small(&self) -> bool {
        let json = json_length(&self.post, &self.body);
        let is_small = self.post.coding.is_none() && json <= SMALL_JSON && self.body.len() <= SMALL_BODY;
        // Regions are read in the thread that decodes.
        is_small
            && (self.shared.is_none() || shared_memory::mentioned(&self.body[..json]) <= shared_memory::SMALL)
    }

    fn decode(
        &mut self,
        server: &ServerState,
        servable: Result<&Servable, &Error>,
        context: &Context,
    ) -> Result<Request> {
        let _decode = profile::phase(Phase::Decode);
        let spec = self.spec.as_ref().map_err(Error::clone)?;
        let servable = open_inference::served(server, spec, servable)?;
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
            shared: self.shared.as_ref().map(|shared| shared.of(context.pass.as_ref().map(Pass::name))),
        };
        let infer = decode::infer(parts, against, &context.memory, server.scheduler.cores())?;
        bind::check_method(server, infer.signature)?;
        let outputs = infer.outputs.positions.clone();
        self.wanted = Wanted { id: infer.id, outputs: infer.outputs, binary: infer.binary_output };
        Ok(Request::Predict { signature: infer.signature.name.clone(), inputs: infer.inputs, outputs })
    }

    fn record(&self, servable: &Servable, request: &Request) -> Option<Bytes> {
        open_inference::recorded(servable, request)
    }

    fn encode(
        self,
        server: &ServerState,
        servable: &Servable,
        answer: Answer<'_>,
        context: &Context,
    ) -> Result<Body> {
        let encoding = profile::phase(Phase::Encode);
        let Answer::Outputs(outputs) = answer else {
            return Err(Error::internal("The model's answer is of another kind than the request"));
        };
        let Wanted { id, outputs: chosen, binary } = &self.wanted;
        let form = Form {
            model: &self.post.named.model,
            version: servable.version(),
            id: id.as_deref(),
            outputs: chosen,
            binary: *binary,
            non_utf8: server.options.non_utf8,
        };
        let Written { bytes, json } =
            encode::infer(&form, &outputs, &context.memory, server.scheduler.cores())?;
        drop((outputs, encoding));
        let body = Body::coded(Content::Written(bytes), self.post.accepts, &server.options);
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
