//! `grpc.health.v1.Health`: SERVING until the server drains, for the whole server and, named as in TensorFlow Serving,
//! for its two services.

use crate::connections::Stage;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::sync::watch;
use tonic::codegen::tokio_stream::Stream;
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health as Service;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

const SERVICES: [&str; 3] = ["", "ModelService", "PredictionService"];

/// The service.
pub(super) struct Health {
    stages: watch::Receiver<Stage>,
}

impl Health {
    /// Makes the health service of a server with these `stages`.
    pub(super) fn new(stages: watch::Receiver<Stage>) -> Health {
        Health { stages }
    }
}

fn status(service: &str, stage: Stage) -> ServingStatus {
    match stage {
        _ if !SERVICES.contains(&service) => ServingStatus::ServiceUnknown,
        Stage::Serving => ServingStatus::Serving,
        Stage::Draining | Stage::Closing => ServingStatus::NotServing,
    }
}

#[tonic::async_trait]
impl Service for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let status = status(&request.into_inner().service, *self.stages.borrow());
        if status == ServingStatus::ServiceUnknown {
            return Err(Status::new(Code::NotFound, "service not registered"));
        }
        Ok(Response::new(HealthCheckResponse { status: status as i32 }))
    }

    type WatchStream = Watch;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Watch>, Status> {
        let service = request.into_inner().service;
        Ok(Response::new(Watch { service, told: None, stage: next(self.stages.clone(), true) }))
    }
}

type Next = Pin<Box<dyn Future<Output = Option<watch::Receiver<Stage>>> + Send>>;

/// Returns the stage `now`, or the next one; `None` if there will be none.
fn next(mut stages: watch::Receiver<Stage>, now: bool) -> Next {
    Box::pin(async move {
        if !now && stages.changed().await.is_err() {
            return None;
        }
        Some(stages)
    })
}

/// The status of one service, sent whenever it changes. An unknown service may become known: its stream stays open.
pub(super) struct Watch {
    service: String,
    told: Option<ServingStatus>,
    stage: Next,
}

impl Stream for Watch {
    type Item = Result<HealthCheckResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let Some(mut stages) = ready!(self.stage.as_mut().poll(cx)) else { return Poll::Ready(None) };
            let status = status(&self.service, *stages.borrow_and_update());
            self.stage = next(stages, false);
            if self.told.replace(status) != Some(status) {
                return Poll::Ready(Some(Ok(HealthCheckResponse { status: status as i32 })));
            }
        }
    }
}
