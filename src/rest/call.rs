//! A call to a model over REST: decodes a JSON body against the signature, and writes the answer as JSON.

use super::Format;
use super::encode::{self, Style};
use super::route::Post;
use super::verb::{Sent, Verb};
use crate::error::{Error, Result};
use crate::http::body::{self, Unpacked};
use crate::http::reply::Body;
use crate::methods::observer::Counted;
use crate::methods::{Answer, Call, Context, ModelSpec, Request, ServerState, record};
use crate::metrics::Protocol;
use crate::profile::{self, Phase};
use crate::servable::Servable;
use crate::tensor::Tensor;
use bytes::Bytes;
use smallvec::SmallVec;

/// Largest body decoded in the thread that read it, in bytes (some 30 µs of work).
const SMALL_BODY: usize = 16 << 10;

/// A POST to a model whose body has been read.
pub(super) struct RestCall {
    verb: &'static Verb,
    spec: ModelSpec,
    body: Bytes,
    gzip: bool,
    /// The unpacked size of a compressed body, once checked.
    unpacked: Option<Unpacked>,
    accepts_gzip: bool,
    /// True for a reply without white space.
    compact: bool,
    /// The outputs that the query names, as they are there.
    outputs: Box<str>,
    /// The format of the body, which the reply shares.
    format: Format,
}

impl RestCall {
    /// Creates the call that `post` makes with `body`.
    pub(super) fn new(post: Post, body: Bytes) -> RestCall {
        let Post { verb, name, choice, outputs, gzip, accepts_gzip, compact } = post;
        // The body names the signature.
        let spec = ModelSpec { name, choice, signature_name: String::new() };
        let (unpacked, format) = (None, Format::Row);
        RestCall { verb, spec, body, gzip, unpacked, accepts_gzip, compact, outputs, format }
    }
}

impl Call for RestCall {
    const PROTOCOL: Protocol = Protocol::Rest;
    const BODY_FIRST: bool = true;
    type Reply = Body;

    fn spec(&self) -> Result<&ModelSpec> {
        Ok(&self.spec)
    }

    fn counted(&self) -> Counted {
        Counted::Request(self.verb.api)
    }

    fn sent(reply: &Body) -> usize {
        reply.len()
    }

    fn signature(&self) -> Option<&str> {
        None
    }

    /// Reserves the unpacked size of a compressed body at once.
    fn check(&mut self, server: &ServerState, context: &Context) -> Result<()> {
        if self.gzip {
            let limit = server.options.max_body_bytes;
            self.unpacked = Some(Unpacked::expect(&self.body, limit, &context.memory)?);
        }
        Ok(())
    }

    fn is_small(&self) -> bool {
        !self.gzip && self.body.len() <= SMALL_BODY
    }

    fn decode(
        &mut self,
        server: &ServerState,
        servable: Result<&Servable, &Error>,
        context: &Context,
    ) -> Result<Request> {
        let _decode = profile::phase(Phase::Decode);
        let mut body = std::mem::take(&mut self.body);
        if let Some(expected) = &self.unpacked {
            body = body::unpacked(&body, server.options.max_body_bytes, expected, &context.memory)?.into();
        }
        let sent = Sent { body: &body, outputs: &self.outputs };
        let (request, format) = (self.verb.decode)(server, sent, servable, context)?;
        self.format = format;
        Ok(request)
    }

    fn record(&self, servable: &Servable, request: &Request) -> Option<Bytes> {
        match request {
            Request::Predict { signature, inputs, .. } => {
                Some(record::predict_request(servable.name(), servable.signature(signature)?, inputs))
            }
            Request::Classify(input) | Request::Regress(input) => {
                Some(record::examples_request(servable.name(), &input.signature_name, &input.examples))
            }
            Request::MultiInference { .. } => None,
        }
    }

    fn encode(
        self,
        server: &ServerState,
        _: &Servable,
        answer: Answer<'_>,
        context: &Context,
    ) -> Result<Body> {
        let encoding = profile::phase(Phase::Encode);
        let style = Style { non_utf8: server.options.non_utf8, compact: self.compact };
        let text = match &answer {
            Answer::Outputs(outputs) => {
                context.memory.grow(outputs.iter().map(|(_, tensor)| text_size(tensor)).sum())?;
                let outputs: SmallVec<[_; 4]> =
                    outputs.iter().map(|(alias, tensor)| (*alias, tensor)).collect();
                encode::predict(self.format, &outputs, style, server.scheduler.cores())
            }
            Answer::Classes(classes) => encode::classifications(classes, style),
            Answer::Values(values) => encode::regressions(values, style),
            Answer::Tasks(_) => Err(Error::internal("REST has no multi-inference")),
        }?;
        drop((answer, encoding));
        Body::packed(text, self.accepts_gzip, &server.options).counted(&context.memory)
    }
}

/// Estimates the length of `tensor` as text.
fn text_size(tensor: &Tensor) -> usize {
    match tensor.dtype().size() {
        0 => tensor.memory(),
        // A bool and a comma; or a small number, its sign and a comma.
        1 => 8 * tensor.len(),
        2 => 10 * tensor.len(),
        4 => 14 * tensor.len(),
        _ => 24 * tensor.len(),
    }
}
