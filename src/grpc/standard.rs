//! The services that every gRPC server may have, on tonic: health and reflection.

use super::Settings;
use super::call_body::CallBody;
use super::health::Health;
use crate::connections::Stage;
use crate::error::{Error, Result};
use crate::methods::ServerState;
use crate::pb;
use http::{Request, Response};
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::watch;
use tonic::codegen::{BoxFuture, Service};
use tonic_health::pb::health_server::HealthServer;

type Answered = BoxFuture<Response<tonic::body::Body>, Infallible>;

/// One service, found by the prefix of its methods' paths.
pub(super) struct Standard {
    pub(super) prefix: &'static str,
    service: Arc<dyn Fn(Request<CallBody>) -> Answered + Send + Sync>,
}

impl Standard {
    fn new<S>(prefix: &'static str, service: S) -> Standard
    where
        S: Service<
                Request<CallBody>,
                Response = Response<tonic::body::Body>,
                Error = Infallible,
                Future = Answered,
            > + Clone
            + Send
            + Sync
            + 'static,
    {
        Standard { prefix, service: Arc::new(move |request| service.clone().call(request)) }
    }

    pub(super) async fn call(&self, request: Request<CallBody>) -> Response<tonic::body::Body> {
        match (self.service)(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// Returns whether the method at `path` streams: it may answer more than once, or for as long as its client stays.
pub(super) fn streams(path: &str) -> bool {
    matches!(path, "/grpc.health.v1.Health/Watch" | "/inference.GRPCInferenceService/ModelStreamInfer")
        || path.starts_with("/grpc.reflection.")
}

/// Largest message of their clients, in bytes: names. They are held outside of the budget of memory, those of `Watch` as
/// long as its client stays.
const LARGEST: usize = 4 << 10;

/// Makes the services that `settings` enable.
pub(super) fn services(
    server: &Arc<ServerState>,
    settings: &Settings,
    stages: &watch::Receiver<Stage>,
) -> Result<Vec<Standard>> {
    let mut services = Vec::new();
    if settings.health {
        let health = HealthServer::new(Health::new(server.clone(), stages.clone()));
        let health = health.max_decoding_message_size(LARGEST);
        services.push(Standard::new("/grpc.health.v1.Health/", health));
    }
    if settings.reflection {
        let failed = |why: tonic_reflection::server::Error| {
            Error::internal(format!("The services' descriptors cannot be served: {why}"))
        };
        let described = || {
            let builder = tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET);
            names(settings).fold(builder, |builder, name| builder.with_service_name(name))
        };
        let v1 = described().build_v1().map_err(failed)?.max_decoding_message_size(LARGEST);
        let v1alpha = described().build_v1alpha().map_err(failed)?.max_decoding_message_size(LARGEST);
        services.push(Standard::new("/grpc.reflection.v1.ServerReflection/", v1));
        services.push(Standard::new("/grpc.reflection.v1alpha.ServerReflection/", v1alpha));
    }
    Ok(services)
}

/// Returns the services that reflection lists.
fn names(settings: &Settings) -> impl Iterator<Item = &'static str> {
    let all = [
        ("tensorflow.serving.PredictionService", true),
        ("tensorflow.serving.ModelService", true),
        ("tensorflow.ProfilerService", settings.profiler),
        (super::v2::SERVICE, settings.open_inference.is_some()),
        ("grpc.health.v1.Health", settings.health),
        ("grpc.reflection.v1.ServerReflection", true),
        ("grpc.reflection.v1alpha.ServerReflection", true),
    ];
    all.into_iter().filter(|(_, served)| *served).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use prost_types::FileDescriptorSet;

    #[test]
    fn what_streams_is_known() {
        for set in [
            pb::DESCRIPTORS,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ] {
            for file in FileDescriptorSet::decode(set).unwrap().file {
                for service in &file.service {
                    for method in &service.method {
                        let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                        let streaming = method.client_streaming() || method.server_streaming();
                        assert_eq!(streams(&path), streaming, "{path}");
                    }
                }
            }
        }
    }
}
