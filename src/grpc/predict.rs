//! `PredictionService.Predict`.

use super::message::Locate;
use super::model_call::{Method, unexpected, used};
use super::reply::Reply;
use crate::error::Result;
use crate::methods::observer::Counted;
use crate::methods::{Answer, Context, ModelSpec, Request, ServerState, messages};
use crate::metrics::Api;
use crate::pb::tensor::{Encoded, locate_numbers};
use crate::pb::tensorflow::serving as wire;
use crate::pb::tensorflow::serving::PredictRequest;
use crate::pb::wire::bytes_field_len;
use crate::servable::Servable;
use crate::tensor::Tensor;
use prost::Message;

impl Method for PredictRequest {
    const LOCATE: Option<Locate> = Some(locate_numbers);

    fn take_spec(&mut self) -> Option<wire::ModelSpec> {
        self.model_spec.take()
    }

    fn counted(&self) -> Counted {
        Counted::Request(Api::Predict)
    }

    fn request(
        self,
        server: &ServerState,
        servable: &Servable,
        signature: &str,
        context: &Context,
    ) -> Result<Request> {
        messages::predict(server, servable, signature, self, context)
    }

    fn reply(
        server: &ServerState,
        servable: &Servable,
        spec: ModelSpec,
        answer: Answer<'_>,
    ) -> Result<Reply> {
        let Answer::Outputs(outputs) = answer else { return Err(unexpected(&answer)) };
        encode(&outputs, &used(spec, servable).encode_to_vec(), server.options.tensor_content)
    }
}

/// Writes a `PredictResponse`: each output straight from its tensor, then `model_spec`, which is already serialized.
fn encode(outputs: &[(&str, Tensor)], model_spec: &[u8], as_content: bool) -> Result<Reply> {
    // Map entries: key 1 is the alias, key 2 the tensor.
    let entries: Vec<_> = outputs
        .iter()
        .map(|(alias, tensor)| {
            let proto = Encoded::new(tensor, as_content);
            (alias, bytes_field_len(1, alias.len()) + bytes_field_len(2, proto.len()), proto)
        })
        .collect();
    let outputs_len: usize = entries.iter().map(|(_, entry, _)| bytes_field_len(1, *entry)).sum();
    Reply::written(outputs_len + bytes_field_len(2, model_spec.len()), |out| {
        for (alias, entry, proto) in &entries {
            out.bytes_key(1, *entry);
            out.bytes_key(1, alias.len());
            out.copy(alias.as_bytes());
            out.bytes_key(2, proto.len());
            proto.write(out);
        }
        out.bytes_key(2, model_spec.len());
        out.copy(model_spec);
    })
}
