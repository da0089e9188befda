//! The Open Inference Protocol (KServe v2) over gRPC, with Triton's extensions: `inference.GRPCInferenceService`, on the
//! port of TensorFlow Serving's services.
//!
//! [`call`] is an inference: `ModelInfer` asks a model as `Predict` does, by [`crate::methods::ask`]. [`stream`] does the
//! same for each request on a `ModelStreamInfer`. [`tell`] answers what is asked of the server and of models; [`control`]
//! loads and unloads these; [`shared_memory`] registers regions. What this has in common with REST is in [`crate::open_inference`].

mod call;
mod control;
mod refusal;
mod shared_memory;
pub(super) mod stream;
mod tell;

pub(super) use call::{infer, malformed};

use super::reply::Reply;
use super::rpc::Rpc;
use crate::error::{Error, Kind, Result};
use crate::open_inference::refusal::no_cuda_memory;

/// What the paths of the service's methods begin with.
pub(super) const PREFIX: &str = "/inference.GRPCInferenceService/";
/// The service.
pub(super) const SERVICE: &str = "inference.GRPCInferenceService";
/// The only method whose call has many requests.
pub(super) const STREAM: &str = "ModelStreamInfer";

/// Answers a call of `method`, which has one request.
pub(super) async fn answer(rpc: Rpc<'_>, method: &str) -> Result<Reply> {
    match method {
        "ModelInfer" => rpc.infer().await,
        "ServerLive" => rpc.tell(tell::live).await,
        "ServerReady" => rpc.tell(tell::ready).await,
        "ModelReady" => rpc.tell(tell::model_ready).await,
        "ServerMetadata" => rpc.tell(tell::server).await,
        "ModelMetadata" => rpc.wait(tell::model).await,
        "ModelConfig" => rpc.wait(tell::config).await,
        "ModelStatistics" => rpc.tell(tell::statistics).await,
        "RepositoryIndex" => rpc.tell(tell::index).await,
        "RepositoryModelLoad" => rpc.wait(control::load).await,
        "RepositoryModelUnload" => rpc.wait(control::unload).await,
        "SystemSharedMemoryStatus" => rpc.tell(shared_memory::status).await,
        "SystemSharedMemoryRegister" => rpc.tell(shared_memory::register).await,
        "SystemSharedMemoryUnregister" => rpc.tell(shared_memory::unregister).await,
        "CudaSharedMemoryStatus" | "CudaSharedMemoryRegister" | "CudaSharedMemoryUnregister" => {
            Err(no_cuda_memory())
        }
        _ => Err(Error::new(Kind::Unimplemented, format!("There is no method {PREFIX}{method}"))),
    }
}
