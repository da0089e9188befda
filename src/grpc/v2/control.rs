//! Loading and unloading of models, as far as the operator allows it.

use super::super::GrpcService;
use super::super::reply::Reply;
use super::super::rpc::Received;
use crate::auth::Need;
use crate::context::Context;
use crate::error::Result;
use crate::open_inference::refusal;
use crate::open_inference::repository::Change;
use crate::pb::inference::{
    RepositoryModelLoadRequest, RepositoryModelLoadResponse, RepositoryModelUnloadRequest,
    RepositoryModelUnloadResponse,
};

/// Loads a model, and answers when it is ready.
pub(super) async fn load(
    service: &GrpcService,
    received: Received<RepositoryModelLoadRequest>,
) -> Result<Reply> {
    let Received { message: request, context, .. } = received;
    let overrides = |name: &&String| *name == "config" || name.starts_with("file:");
    if let Some(name) = request.parameters.keys().find(overrides) {
        return Err(refusal::no_override(name));
    }
    change(service, &context, Change::Load, request.model_name).await?;
    Reply::of(&RepositoryModelLoadResponse {})?.counted(context.memory)
}

/// Unloads a model. Its parameter `unload_dependents` is for what models here have not.
pub(super) async fn unload(
    service: &GrpcService,
    received: Received<RepositoryModelUnloadRequest>,
) -> Result<Reply> {
    let Received { message: request, context, .. } = received;
    change(service, &context, Change::Unload, request.model_name).await?;
    Reply::of(&RepositoryModelUnloadResponse {})?.counted(context.memory)
}

/// Changes a model.
async fn change(service: &GrpcService, context: &Context, change: Change, model: String) -> Result<()> {
    service.server.check(context.pass.as_ref(), Need::Manage)?;
    if let Some(entry) = &context.entry {
        entry.names(&model);
    }
    service.open_inference()?.change(change, model).await
}
