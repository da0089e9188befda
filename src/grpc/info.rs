//! Information about models: GetModelMetadata, GetModelStatus; and HandleReloadConfigRequest.

use super::GrpcService;
use super::model_call::missing_spec;
use super::reply::Reply;
use super::rpc::Received;
use crate::auth::Need;
use crate::error::{Error, Kind, Result};
use crate::methods::messages::model_spec;
use crate::methods::{ServerState, info};
use crate::pb::tensorflow::serving::model_server_config::Config;
use crate::pb::tensorflow::serving::model_spec::VersionChoice as Choice;
use crate::pb::tensorflow::serving::{
    GetModelMetadataRequest, GetModelMetadataResponse, GetModelStatusRequest, GetModelStatusResponse, Metric,
    ModelSpec, ModelVersionStatus, ReloadConfigRequest, ReloadConfigResponse, StatusProto, metric,
};
use crate::registry::VersionStatus;
use prost::Message;
use std::time::Instant;

/// The only metadata field.
const SIGNATURES: &str = "signature_def";

/// Answers with the signatures of a version.
pub(super) async fn metadata(
    service: &GrpcService,
    received: Received<GetModelMetadataRequest>,
) -> Result<Reply> {
    let Received { message: request, context, .. } = received;
    let spec = model_spec(request.model_spec.ok_or_else(missing_spec)?);
    service.server.check(context.pass.as_ref(), Need::SignaturesOf(&spec.name))?;
    if request.metadata_field.is_empty() {
        return Err(Error::invalid("GetModelMetadataRequest must specify at least one metadata_field"));
    }
    if let Some(unknown) = request.metadata_field.iter().find(|field| *field != SIGNATURES) {
        return Err(Error::invalid(format!("Metadata field {unknown} is not supported")));
    }
    if spec.name.is_empty() {
        return Err(Error::invalid("ModelSpec has no name specified."));
    }
    let servable = service.server.loaded(&spec.name, &spec.choice).await?;
    let signatures = prost_types::Any {
        type_url: "type.googleapis.com/tensorflow.serving.SignatureDefMap".to_owned(),
        value: match servable.signature_def_map() {
            Some(map) => map.into(),
            None => info::signature_defs(&servable)?.encode_to_vec(),
        },
    };
    let model_spec = ModelSpec {
        name: spec.name,
        version_choice: Some(Choice::Version(servable.version())),
        signature_name: String::new(),
    };
    let response = GetModelMetadataResponse {
        model_spec: Some(model_spec),
        metadata: [(SIGNATURES.to_owned(), signatures)].into(),
    };
    Reply::of(&response)?.counted(context.memory)
}

/// Answers with the state of every version of a model, or of the one requested.
pub(super) fn status(service: &GrpcService, received: Received<GetModelStatusRequest>) -> Result<Reply> {
    let Received { message: request, context, .. } = received;
    let spec = model_spec(request.model_spec.ok_or_else(missing_spec)?);
    service.server.check(context.pass.as_ref(), Need::Read(&spec.name))?;
    let versions = info::status(&service.server, &spec.name, &spec.choice)?;
    let response =
        GetModelStatusResponse { model_version_status: versions.iter().map(version_status).collect() };
    Reply::of(&response)?.counted(context.memory)
}

/// Applies a configuration, and answers when it is in force.
pub(super) async fn reload(service: &GrpcService, received: Received<ReloadConfigRequest>) -> Result<Reply> {
    let Received { message: request, context, .. } = received;
    let config = request.config.unwrap_or_default();
    if !matches!(config.config, Some(Config::ModelConfigList(_))) {
        return Err(Error::invalid(
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is \
             currently supported",
        ));
    }
    let reload = service.settings.reload.clone().ok_or_else(|| {
        Error::new(Kind::FailedPrecondition, "This server's configuration cannot be replaced while it runs")
    })?;
    let before = values(&service.server, &request.metric_names);
    let config = config.encode_to_vec().into();
    let timeout = context.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    service.server.changes.run(move |_| reload(config, timeout)).await?;
    let after = values(&service.server, &request.metric_names);
    let growth = before.iter().zip(after).map(|(before, after)| after - before);
    let metric = request.metric_names.into_iter().zip(growth).map(grown).collect();
    Reply::of(&ReloadConfigResponse { status: Some(StatusProto::default()), metric })?.counted(context.memory)
}

/// Returns the first series of each of these metrics; 0 for unknown ones.
fn values(server: &ServerState, names: &[String]) -> Vec<i64> {
    match &server.metrics {
        Some(metrics) if !names.is_empty() => metrics.values(names),
        _ => vec![0; names.len()],
    }
}

fn version_status(status: &VersionStatus) -> ModelVersionStatus {
    ModelVersionStatus {
        version: status.version,
        state: status.state as i32,
        status: Some(status.error.as_ref().map_or_else(StatusProto::default, |error| StatusProto {
            error_code: error.kind as i32,
            error_message: error.message.clone().into_owned(),
        })),
    }
}

fn grown((name, growth): (String, i64)) -> Metric {
    Metric { name, value_increase: Some(metric::ValueIncrease::Int64ValueIncrease(growth)) }
}
