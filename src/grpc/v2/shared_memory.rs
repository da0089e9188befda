//! Shared memory over gRPC: which regions there are, registering and forgetting.

use super::super::GrpcService;
use super::super::reply::Reply;
use super::super::rpc::Received;
use crate::error::Result;
use crate::open_inference::shared_memory::{NewRegion, RegionStatus as Told};
use crate::pb::inference::system_shared_memory_status_response::RegionStatus;
use crate::pb::inference::{
    SystemSharedMemoryRegisterRequest, SystemSharedMemoryRegisterResponse, SystemSharedMemoryStatusRequest,
    SystemSharedMemoryStatusResponse, SystemSharedMemoryUnregisterRequest,
    SystemSharedMemoryUnregisterResponse,
};

/// Tells of one region, or of all.
pub(super) fn status(
    service: &GrpcService,
    received: Received<SystemSharedMemoryStatusRequest>,
) -> Result<Reply> {
    let Received { message: request, context, .. } = received;
    let all = service.open_inference()?.regions_of(context.pass.as_ref())?.status(&request.name)?;
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
    service.open_inference()?.regions_of(context.pass.as_ref())?.register(&NewRegion {
        name: &name,
        key: &key,
        offset,
        bytes,
    })?;
    Reply::of(&SystemSharedMemoryRegisterResponse {})
}

/// Forgets one region, or all.
pub(super) fn unregister(
    service: &GrpcService,
    received: Received<SystemSharedMemoryUnregisterRequest>,
) -> Result<Reply> {
    let Received { message: request, context, .. } = received;
    service.open_inference()?.regions_of(context.pass.as_ref())?.unregister(&request.name);
    Reply::of(&SystemSharedMemoryUnregisterResponse {})
}
