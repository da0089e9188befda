//! Predict: resolve → decode → method → encode.

use super::reply::Reply;
use super::{Call, used};
use crate::error::Result;
use crate::methods::{Context, ModelSpec, ServerState, messages};
use crate::pb::tensor::Encoded;
use crate::pb::tensorflow::serving::PredictRequest;
use crate::pb::wire::bytes_field_len;
use crate::profile::{self, Phase};
use crate::servable::Servable;
use crate::tensor::Tensor;
use prost::Message;

impl Call {
    pub(super) async fn predict(&self) -> Result<Reply> {
        let mut request: PredictRequest = self.decode()?;
        let (spec, servable) = self.resolve(request.model_spec.take())?;
        let context = self.context.clone();
        let signature = spec.signature_name.clone();
        let work = move |server: &ServerState, servable: &Servable| {
            answer(server, servable, spec, request, &context)
        };
        self.run(servable, &signature, work).await
    }
}

fn answer(
    server: &ServerState,
    servable: &Servable,
    spec: ModelSpec,
    request: PredictRequest,
    context: &Context,
) -> Result<Reply> {
    let outputs = messages::predict(server, servable, &spec.signature_name, request, context)?;
    let outputs = outputs.iter().map(|(alias, tensor)| (*alias, tensor));
    encode(outputs, &used(spec, servable).encode_to_vec(), server.options.tensor_content)
}

/// A `PredictResponse`: each output from where it lies, then `model_spec`, which is serialized already.
fn encode<'a>(
    outputs: impl Iterator<Item = (&'a str, &'a Tensor)>,
    model_spec: &[u8],
    as_content: bool,
) -> Result<Reply> {
    let _encode = profile::phase(Phase::Encode);
    // Map entries: key 1 is the alias, key 2 the tensor.
    let entries: Vec<_> = outputs
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
