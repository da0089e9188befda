//! Shared memory over gRPC: which regions there are, registering and forgetting.

use super::super::GrpcService;
use super::super::reply::Reply;
use super::super::rpc::Received;
use crate::auth::{Need, Pass, Scope};
use crate::context::Context;
use crate::error::Result;
use crate::open_inference::refusal;
use crate::open_inference::shared_memory::{NewRegion, RegionStatus as Told, Regions};
use crate::pb::inference::system_shared_memory_status_response::RegionStatus;
use crate::pb::inference::{
    SystemSharedMemoryRegisterRequest, SystemSharedMemoryRegisterResponse, SystemSharedMemoryStatusRequest,
    SystemSharedMemoryStatusResponse, SystemSharedMemoryUnregisterRequest,
    SystemSharedMemoryUnregisterResponse,
};

/// Returns the regions of a client, who has to be allowed to call models.
fn regions<'a>(service: &'a GrpcService, context: &'a Context) -> Result<Regions<'a>> {
    service.server.check(context.pass.as_ref(), Need::Of(Scope::Predict))?;
    let shared = service.shared_memory().ok_or_else(refusal::no_regions)?;
    Ok(shared.of(context.pass.as_ref().map(Pass::name)))
}

/// Tells of one region, or of all.
pub(super) fn status(
    service: &GrpcService,
    received: Received<SystemSharedMemoryStatusRequest>,
) -> Result<Reply> {
    let Received { message: request, context, .. } = received;
    let all = regions(service, &context)?.status(&request.name)?;
    let told = |Told { name, key, offset, bytes }: Told| {
        (name.clone(), RegionStatus { name, key, offset, byte_size: bytes })
    };
    let response = SystemSharedMemoryStatusResponse { regions: all.into_iter().map(told).collect() };
    Reply::of(&response)?.counted(context.memory)
}

/// Registers a region.
pub(super) fn register(
    service: &GrpcService,
    received: Received<SystemSharedMemoryRegisterRequest>,
) -> Result<Reply> {
    let Received { message: request, context, .. } = received;
    let SystemSharedMemoryRegisterRequest { name, key, offset, byte_size: bytes } = request;
    regions(service, &context)?.register(&NewRegion { name: &name, key: &key, offset, bytes })?;
    Reply::of(&SystemSharedMemoryRegisterResponse {})
}

/// Forgets one region, or all.
pub(super) fn unregister(
    service: &GrpcService,
    received: Received<SystemSharedMemoryUnregisterRequest>,
) -> Result<Reply> {
    let Received { message: request, context, .. } = received;
    regions(service, &context)?.unregister(&request.name);
    Reply::of(&SystemSharedMemoryUnregisterResponse {})
}
