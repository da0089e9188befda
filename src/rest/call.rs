//! A call to a model over REST: decodes a JSON body against the signature, and writes the answer as JSON.

use super::Format;
use super::bodies::{self, Form, Forms};
use super::encode::{self, Style};
use super::route::Post;
use super::verb::{Sent, Verb};
use crate::error::{Error, Result};
use crate::http::body::{self, Unpacked};
use crate::http::coding::{Accepts, Coding, is_zstd};
use crate::http::reply::{Body, Content};
use crate::methods::observer::Counted;
use crate::methods::{Answer, Call, Context, ModelSpec, Request, ServerState, record};
use crate::metrics::Protocol;
use crate::profile::{self, Phase};
use crate::servable::Servable;
use crate::tensor::Tensor;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use smallvec::SmallVec;

/// Largest body decoded in the thread that read it, in bytes (some 30 µs of work); and largest of those that are borrowed
/// rather than decoded (truth values and strings are looked at).
const SMALL_BODY: usize = 16 << 10;
const SMALL_BORROWED: usize = 1 << 20;

/// The header that says which version has answered.
static VERSION: HeaderName = HeaderName::from_static("x-servable-version");

/// A POST to a model whose body has been read.
pub(super) struct RestCall {
    verb: &'static Verb,
    spec: ModelSpec,
    body: Bytes,
    coding: Option<Coding>,
    /// The unpacked size of a body that is compressed as in TensorFlow Serving, once checked.
    unpacked: Option<Unpacked>,
    accepts: Accepts,
    /// True for a reply without white space.
    compact: bool,
    /// The outputs that the query names, as they are there.
    outputs: Box<str>,
    /// The format of the body, which the reply shares.
    format: Format,
    /// What there is beside JSON.
    forms: Option<Box<Forms>>,
}

impl RestCall {
    /// Creates the call that `post` makes with `body`.
    pub(super) fn new(post: Post, body: Bytes) -> RestCall {
        let Post { verb, name, choice, outputs, coding, accepts, compact, forms } = post;
        let coding = coding.filter(|coding| *coding == Coding::Gzip || is_zstd(&body));
        // The body names the signature.
        let spec = ModelSpec { name, choice, signature_name: String::new() };
        let (unpacked, format) = (None, Format::Row);
        RestCall { verb, spec, body, coding, unpacked, accepts, compact, outputs, format, forms }
    }

    /// Returns the body as it is without its coding.
    fn take_body(&mut self, server: &ServerState, context: &Context) -> Result<Bytes> {
        let body = std::mem::take(&mut self.body);
        let limit = server.options.max_body_bytes;
        match (&self.unpacked, self.coding) {
            (Some(expected), _) => body::unpacked(&body, limit, expected, &context.memory).map(Bytes::from),
            (None, Some(coding)) => coding.unpacked(&body, limit, &context.memory).map(Bytes::from),
            (None, None) => Ok(body),
        }
    }

    /// Writes an answer that is not JSON; `None` if it is to be.
    fn encode_form(
        &self,
        server: &ServerState,
        answer: &Answer<'_>,
        context: &Context,
    ) -> Result<Option<Body>> {
        let (Some(forms), Answer::Outputs(outputs)) = (&self.forms, answer) else { return Ok(None) };
        let form = forms.reply(outputs.len())?;
        if form == Form::Json {
            return Ok(None);
        }
        let content = bodies::encode(forms, form, self.format, outputs, context)?;
        let body = Body::coded(content, self.accepts, &server.options);
        Ok(Some(bodies::described(body, form, outputs)))
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
        if self.coding == Some(Coding::Gzip) && self.forms.is_none() {
            let limit = server.options.max_body_bytes;
            self.unpacked = Some(Unpacked::expect(&self.body, limit, &context.memory)?);
        }
        Ok(())
    }

    fn is_small(&self) -> bool {
        let is_borrowed = self.forms.as_ref().is_some_and(|forms| forms.are_borrowed());
        let most = if is_borrowed { SMALL_BORROWED } else { SMALL_BODY };
        self.coding.is_none() && self.body.len() <= most
    }

    fn decode(
        &mut self,
        server: &ServerState,
        servable: Result<&Servable, &Error>,
        context: &Context,
    ) -> Result<Request> {
        let _decode = profile::phase(Phase::Decode);
        let body = self.take_body(server, context)?;
        let (request, format) = match &mut self.forms {
            Some(forms) if !forms.are_json() => {
                let sent = bodies::Sent { body, outputs: &self.outputs };
                bodies::decode(forms, sent, server, servable.map_err(Error::clone)?, context)?
            }
            _ => {
                let sent = Sent { body: &body, outputs: &self.outputs };
                (self.verb.decode)(server, sent, servable, context)?
            }
        };
        if let (Some(forms), Request::Predict { outputs, .. }) = (&self.forms, &request) {
            // A reply that cannot be is refused before the run.
            forms.reply(outputs.len())?;
        }
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
        servable: &Servable,
        answer: Answer<'_>,
        context: &Context,
    ) -> Result<Body> {
        let encoding = profile::phase(Phase::Encode);
        if let Some(body) = self.encode_form(server, &answer, context)? {
            drop((answer, encoding));
            return versioned(body, servable, context).counted(&context.memory);
        }
        let style = Style { non_utf8: server.options.non_utf8, compact: self.compact };
        let text = match &answer {
            Answer::Outputs(outputs) => {
                context.memory.grow(text_sizes(outputs))?;
                let outputs: SmallVec<[_; 4]> =
                    outputs.iter().map(|(alias, tensor)| (*alias, tensor)).collect();
                encode::predict(self.format, &outputs, style, server.scheduler.cores())
            }
            Answer::Classes(classes) => encode::classifications(classes, style),
            Answer::Values(values) => encode::regressions(values, style),
            Answer::Tasks(_) => Err(Error::internal("REST has no multi-inference")),
        }?;
        drop((answer, encoding));
        let body = Body::coded(Content::Written(text), self.accepts, &server.options);
        versioned(body, servable, context).counted(&context.memory)
    }
}

/// Says which version has answered where that was to be decided: the body does not.
fn versioned(body: Body, servable: &Servable, context: &Context) -> Body {
    match &context.decision {
        None => body,
        Some(_) => body.also([(VERSION.clone(), HeaderValue::from(servable.version()))]),
    }
}

/// Estimates the length of `outputs` as text.
fn text_sizes(outputs: &[(&str, Tensor)]) -> usize {
    /// Brackets, a comma and what is around a name.
    const AROUND: usize = 12;
    let empty = |(alias, tensor): &(&str, Tensor)| lists(tensor).saturating_mul(alias.len() + AROUND);
    let of_values: usize = outputs.iter().map(|(_, tensor)| text_size(tensor)).sum();
    outputs.iter().map(empty).fold(of_values, usize::saturating_add)
}

/// Returns the number of lists that are printed of a tensor without elements, which may be any.
fn lists(tensor: &Tensor) -> usize {
    if !tensor.is_empty() {
        return 0;
    }
    let dims = tensor.shape().iter().take_while(|dim| **dim != 0);
    dims.fold(1, |lists: usize, dim| lists.saturating_mul(usize::try_from(*dim).unwrap_or(0)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;

    #[test]
    fn lists_without_elements_are_counted() {
        let of = |shape: &[i64], bytes: usize| {
            text_sizes(&[("y", Tensor::numbers(DType::Float, shape.to_vec(), vec![0; bytes].into()))])
        };
        assert_eq!(of(&[2, 3], 24), 6 * 14);
        assert!(of(&[1 << 26, 0], 0) >= 5 << 26);
        assert!(of(&[1 << 13, 1 << 13, 0, 7], 0) >= 5 << 26);
        assert!(of(&[0, 1 << 40], 0) < 100);
        assert_eq!(of(&[1 << 40, 1 << 22, 1, 0], 0), (1usize << 62).saturating_mul(13));
    }
}
