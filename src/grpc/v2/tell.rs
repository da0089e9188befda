//! What is told of the server, of models and of the repository.

use super::super::GrpcService;
use super::super::reply::Reply;
use super::super::rpc::Received;
use crate::auth::Need;
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::methods::ModelSpec;
use crate::metrics::Total;
use crate::open_inference::metadata::{self, TensorMetadata};
use crate::open_inference::repository;
use crate::open_inference::shared_memory::EXTENSION as SHARED_MEMORY;
use crate::open_inference::statistics::{self as counts, Statistics};
use crate::open_inference::target::{self, Names};
use crate::open_inference::{datatype, refusal};
use crate::pb::inference::model_metadata_response::TensorMetadata as WireTensor;
use crate::pb::inference::repository_index_response::ModelIndex;
use crate::pb::inference::{
    InferStatistics, ModelConfig, ModelConfigRequest, ModelConfigResponse, ModelInput, ModelMetadataRequest,
    ModelMetadataResponse, ModelOutput, ModelReadyRequest, ModelReadyResponse, ModelStatistics,
    ModelStatisticsRequest, ModelStatisticsResponse, ModelTransactionPolicy, RepositoryIndexRequest,
    RepositoryIndexResponse, ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest,
    ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse, StatisticDuration,
};
use crate::registry::VersionChoice;

/// Whether the process answers: it does.
pub(super) fn live(_: &GrpcService, _: Received<ServerLiveRequest>) -> Result<Reply> {
    Reply::of(&ServerLiveResponse { live: true })
}

/// Whether the server can be asked.
pub(super) fn ready(service: &GrpcService, _: Received<ServerReadyRequest>) -> Result<Reply> {
    Reply::of(&ServerReadyResponse { ready: service.open_inference()?.is_ready() })
}

/// Whether a model can be asked. One that is not there is not ready, as in Triton.
pub(super) fn model_ready(service: &GrpcService, received: Received<ModelReadyRequest>) -> Result<Reply> {
    let Received { message: request, context, .. } = received;
    let spec = spec(service, &context, &request.name, &request.version)?;
    service.server.check(context.pass.as_ref(), Need::Read(&spec.name))?;
    let ready = match service.open_inference()?.is_model_ready(&spec) {
        Err(why) if matches!(why.kind, Kind::NotFound | Kind::FailedPrecondition) => false,
        told => told?,
    };
    Reply::of(&ModelReadyResponse { ready })
}

/// The server's name, version and extensions.
pub(super) fn server(service: &GrpcService, _: Received<ServerMetadataRequest>) -> Result<Reply> {
    let shared_memory = service.open_inference()?.shared_memory().map(|_| SHARED_MEMORY);
    Reply::of(&ServerMetadataResponse {
        name: metadata::SERVER_NAME.to_owned(),
        version: metadata::SERVER_VERSION.to_owned(),
        extensions: metadata::EXTENSIONS.into_iter().chain(shared_memory).map(str::to_owned).collect(),
    })
}

/// The tensors of a model.
pub(super) async fn model(service: &GrpcService, received: Received<ModelMetadataRequest>) -> Result<Reply> {
    let Received { message: request, context, .. } = received;
    let spec = spec(service, &context, &request.name, &request.version)?;
    service.server.check(context.pass.as_ref(), Need::SignaturesOf(&spec.name))?;
    let servable = service.server.loaded(&spec.name, &spec.choice).await;
    let told = metadata::of_model(&service.server, &spec, servable.as_deref())?;
    let tensors = |all: &[TensorMetadata]| all.iter().map(tensor).collect();
    let response = ModelMetadataResponse {
        name: request.name,
        versions: told.versions.iter().map(i64::to_string).collect(),
        platform: told.platform.to_owned(),
        inputs: tensors(&told.inputs),
        outputs: tensors(&told.outputs),
    };
    Reply::of(&response)?.counted(context.memory)
}

fn tensor(told: &TensorMetadata) -> WireTensor {
    WireTensor { name: told.name.clone(), datatype: told.datatype().to_owned(), shape: told.shape.clone() }
}

/// A model's configuration in Triton's form.
pub(super) async fn config(service: &GrpcService, received: Received<ModelConfigRequest>) -> Result<Reply> {
    let Received { message: request, context, .. } = received;
    let spec = spec(service, &context, &request.name, &request.version)?;
    service.server.check(context.pass.as_ref(), Need::SignaturesOf(&spec.name))?;
    let servable = service.server.loaded(&spec.name, &spec.choice).await;
    let told = metadata::config(&service.server, &spec, servable.as_deref())?;
    let input = |one: &TensorMetadata| ModelInput {
        name: one.name.clone(),
        data_type: datatype::number(one.dtype),
        dims: told.dims(one).to_vec(),
        optional: false,
    };
    let output = |one: &TensorMetadata| ModelOutput {
        name: one.name.clone(),
        data_type: datatype::number(one.dtype),
        dims: told.dims(one).to_vec(),
    };
    let config = ModelConfig {
        name: request.name,
        platform: told.metadata.platform.to_owned(),
        backend: told.metadata.backend.to_owned(),
        max_batch_size: told.max_batch_size,
        input: told.metadata.inputs.iter().map(input).collect(),
        output: told.metadata.outputs.iter().map(output).collect(),
        model_transaction_policy: Some(ModelTransactionPolicy { decoupled: false }),
        ..ModelConfig::default()
    };
    Reply::of(&ModelConfigResponse { config: Some(config) })?.counted(context.memory)
}

/// What was counted of a model, or of all.
pub(super) fn statistics(service: &GrpcService, received: Received<ModelStatisticsRequest>) -> Result<Reply> {
    let Received { message: request, context, .. } = received;
    let (server, pass) = (&service.server, context.pass.as_ref());
    let told = if request.name.is_empty() {
        server.check(pass, Need::ReadAll)?;
        counts::of(server, "", &VersionChoice::Latest)?
    } else {
        let spec = spec(service, &context, &request.name, &request.version)?;
        server.check(pass, Need::Read(&spec.name))?;
        let told = counts::of(server, &spec.name, &spec.choice);
        let is_missing = |why: &Error| why.kind == Kind::NotFound;
        told.map_err(|why| if is_missing(&why) { refusal::unknown_model(&spec) } else { why })?
    };
    let model_stats = told.iter().map(one_statistics).collect();
    Reply::of(&ModelStatisticsResponse { model_stats })?.counted(context.memory)
}

fn one_statistics(one: &Statistics) -> ModelStatistics {
    let counts = &one.counts;
    let total = |total: Total| Some(StatisticDuration { count: total.count, ns: total.nanos });
    ModelStatistics {
        name: one.model.clone(),
        version: one.version.to_string(),
        // When the last one was is not kept.
        last_inference: 0,
        inference_count: counts.rows,
        execution_count: counts.executions,
        inference_stats: Some(InferStatistics {
            success: total(counts.success),
            fail: total(counts.fail),
            queue: total(counts.queue),
            compute_input: total(counts.decode),
            compute_infer: total(counts.run),
            compute_output: total(counts.encode),
            cache_hit: total(Total::default()),
            cache_miss: total(Total::default()),
        }),
        batch_stats: Vec::new(),
    }
}

/// What is known of all models.
pub(super) fn index(service: &GrpcService, received: Received<RepositoryIndexRequest>) -> Result<Reply> {
    let Received { message: request, context, .. } = received;
    service.server.check(context.pass.as_ref(), Need::ReadAll)?;
    let all = repository::index(&service.server.registry, request.ready);
    let models = all.into_iter().map(|one| ModelIndex {
        name: one.name,
        version: one.version.to_string(),
        state: one.state.to_owned(),
        reason: one.reason,
    });
    Reply::of(&RepositoryIndexResponse { models: models.collect() })?.counted(context.memory)
}

/// Returns what a model's `name` and the text of a `version` are for, and tells it to the access log.
fn spec(service: &GrpcService, context: &Context, model: &str, version: &str) -> Result<ModelSpec> {
    let spec = target::spec(&service.server.registry, &Names { model, version, ..Names::default() })?;
    if let Some(entry) = &context.entry {
        entry.names(&spec.name);
    }
    Ok(spec)
}
