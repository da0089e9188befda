//! The services that every gRPC server may have, as tonic implements them: health and reflection.

use super::Settings;
use crate::error::{Error, Result};
use crate::pb;
use http::{Request, Response};
use hyper::body::Incoming;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tonic::codegen::{BoxFuture, Service};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

type Answered = BoxFuture<Response<tonic::body::Body>, Infallible>;

/// One service, found by the beginning of its methods' paths.
pub(super) struct Standard {
    pub(super) prefix: &'static str,
    service: Arc<dyn Fn(Request<Incoming>) -> Answered + Send + Sync>,
}

impl Standard {
    fn new<S>(prefix: &'static str, service: S) -> Standard
    where
        S: Service<
                Request<Incoming>,
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

    pub(super) async fn call(&self, request: Request<Incoming>) -> Response<tonic::body::Body> {
        match (self.service)(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// The services that `settings` ask for.
pub(super) fn services(settings: &Settings) -> Result<Vec<Standard>> {
    let mut services = Vec::new();
    if settings.health {
        services.push(Standard::new("/grpc.health.v1.Health/", health()?));
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
        let v1 = described().build_v1().map_err(failed)?;
        let v1alpha = described().build_v1alpha().map_err(failed)?;
        services.push(Standard::new("/grpc.reflection.v1.ServerReflection/", v1));
        services.push(Standard::new("/grpc.reflection.v1alpha.ServerReflection/", v1alpha));
    }
    Ok(services)
}

/// The services that reflection lists.
fn names(settings: &Settings) -> impl Iterator<Item = &'static str> {
    let all = [
        ("tensorflow.serving.PredictionService", true),
        ("tensorflow.serving.ModelService", true),
        ("tensorflow.ProfilerService", settings.profiler),
        ("grpc.health.v1.Health", settings.health),
        ("grpc.reflection.v1.ServerReflection", true),
        ("grpc.reflection.v1alpha.ServerReflection", true),
    ];
    all.into_iter().filter(|(_, served)| *served).map(|(name, _)| name)
}

/// SERVING for the whole server and, spelled as TensorFlow Serving does, for its two services.
fn health() -> Result<HealthServer<HealthService>> {
    let reporter = HealthReporter::new();
    let mut ready = pin!(async {
        for service in ["ModelService", "PredictionService"] {
            reporter.set_service_status(service, ServingStatus::Serving).await;
        }
    });
    // Nobody else holds the reporter's lock yet, so this is done at once.
    match ready.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(()) => {}
        Poll::Pending => return Err(Error::internal("The health service could not be made")),
    }
    Ok(HealthServer::new(HealthService::from_health_reporter(reporter.clone())))
}
