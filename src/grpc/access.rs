//! Who may call: the one list of methods with what each needs of a token.
//!
//! A call is admitted by its headers. Which model it is for is checked once its message is read, before anything is done
//! for it: calls to models in [`crate::methods::ask`], the others where they are answered.

use super::GrpcService;
use crate::access::Entry;
use crate::auth::{Auth, Need, Pass, Scope};
use crate::error::{Error, Result};
use http::{HeaderMap, HeaderValue};

/// What a method needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// A token that meets this, known by the headers alone.
    Token(Need<'static>),
    /// Depends on the message: what answers decides.
    ByMessage,
}

/// Returns what the method at `path` needs. What is not in the list is for managers only.
fn of(path: &str) -> Access {
    match path {
        "/tensorflow.serving.PredictionService/Predict"
        | "/tensorflow.serving.PredictionService/Classify"
        | "/tensorflow.serving.PredictionService/Regress"
        | "/tensorflow.serving.PredictionService/MultiInference" => Access::Token(Need::Of(Scope::Predict)),
        "/inference.GRPCInferenceService/ModelInfer"
        | "/inference.GRPCInferenceService/ModelStreamInfer"
        | "/inference.GRPCInferenceService/SystemSharedMemoryStatus"
        | "/inference.GRPCInferenceService/SystemSharedMemoryRegister"
        | "/inference.GRPCInferenceService/SystemSharedMemoryUnregister" => {
            Access::Token(Need::Of(Scope::Predict))
        }
        "/tensorflow.serving.PredictionService/GetModelMetadata"
        | "/inference.GRPCInferenceService/ModelMetadata"
        | "/inference.GRPCInferenceService/ModelConfig" => Access::Token(Need::Signatures),
        "/tensorflow.serving.ModelService/GetModelStatus"
        | "/inference.GRPCInferenceService/ModelReady"
        | "/inference.GRPCInferenceService/ModelStatistics" => Access::Token(Need::Of(Scope::Read)),
        "/inference.GRPCInferenceService/RepositoryIndex" => Access::Token(Need::ReadAll),
        "/inference.GRPCInferenceService/ServerMetadata" => Access::Token(Need::Any),
        "/tensorflow.serving.ModelService/HandleReloadConfigRequest"
        | "/tensorflow.ProfilerService/Profile"
        | "/tensorflow.ProfilerService/Terminate"
        | "/tensorflow.ProfilerService/Monitor"
        | "/tensorflow.ProfilerService/StartContinuousProfiling"
        | "/tensorflow.ProfilerService/StopContinuousProfiling"
        | "/tensorflow.ProfilerService/GetSnapshot"
        | "/inference.GRPCInferenceService/RepositoryModelLoad"
        | "/inference.GRPCInferenceService/RepositoryModelUnload" => Access::Token(Need::Manage),
        // That of the whole server is for probes, which orchestrators send without metadata.
        "/grpc.health.v1.Health/Check"
        | "/inference.GRPCInferenceService/ServerLive"
        | "/inference.GRPCInferenceService/ServerReady" => Access::ByMessage,
        "/grpc.health.v1.Health/Watch" => Access::Token(Need::Of(Scope::Read)),
        // The services and their messages are public: they are TensorFlow Serving's.
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
        | "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo" => Access::Token(Need::Any),
        _ => Access::Token(Need::Manage),
    }
}

/// What the headers of a call have shown; a standard service finds it in the request's extensions.
#[derive(Clone, Debug)]
pub(super) struct Shown(pub(super) Result<Pass, Error>);

/// Admits a call by its headers. `None` if calls need no tokens, or if this one may need none and shows none.
pub(super) fn admit(
    service: &GrpcService,
    path: &str,
    headers: &HeaderMap,
    entry: Option<&Entry>,
) -> Result<Option<Shown>> {
    let Some(auth) = &service.server.options.auth else { return Ok(None) };
    let header = |name| headers.get(name).map(HeaderValue::as_bytes);
    let access = of(path);
    if access == Access::ByMessage && !Auth::is_shown(header) {
        return Ok(None);
    }
    let shown = auth.admit(header);
    if let (Some(entry), Ok(pass)) = (entry, &shown) {
        entry.shows(pass.name());
    }
    if let Access::Token(need) = access {
        let pass = shown.as_ref().map_err(Error::clone)?;
        auth.check(Some(pass), need)?;
    }
    Ok(Some(Shown(shown)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use prost_types::FileDescriptorSet;

    /// Every method that a client can find by reflection is in the list, with its own line.
    #[test]
    fn no_method_is_forgotten() {
        let source = include_str!("access.rs");
        let mut methods = Vec::new();
        for set in [
            crate::pb::DESCRIPTORS,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ] {
            for file in FileDescriptorSet::decode(set).unwrap().file {
                for service in &file.service {
                    let of = |name: &str| format!("/{}.{}/{name}", file.package(), service.name());
                    methods.extend(service.method.iter().map(|method| of(method.name())));
                }
            }
        }
        assert!(methods.len() > 12, "{methods:?}");
        let unlisted: Vec<_> =
            methods.iter().filter(|path| !source.contains(&format!("\"{path}\""))).cloned().collect();
        assert_eq!(unlisted, [""; 0]);
        let open: Vec<_> = methods.iter().filter(|path| of(path) == Access::ByMessage).collect();
        assert_eq!(
            open,
            [
                "/inference.GRPCInferenceService/ServerLive",
                "/inference.GRPCInferenceService/ServerReady",
                "/grpc.health.v1.Health/Check"
            ]
        );
        assert_eq!(of("/some.Service/Method"), Access::Token(Need::Manage));
    }
}
