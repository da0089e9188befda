//! `grpc.health.v1.Health`: for the whole server (""), for each model by `MODEL` or `MODEL/VERSION`, and, named as in
//! TensorFlow Serving, for its two services, which serve until the server drains.

use super::access::Shown;
use crate::auth::{Auth, Need, Pass, Scope};
use crate::connections::Stage;
use crate::error::Error;
use crate::methods::ServerState;
use crate::methods::health::Health as Condition;
use std::future::{pending, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Context, Poll};
use tokio::sync::watch;
use tonic::codegen::tokio_stream::Stream;
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health as Service;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

const SERVICES: [&str; 2] = ["ModelService", "PredictionService"];

/// The service.
pub(super) struct Health {
    server: Arc<ServerState>,
    stages: watch::Receiver<Stage>,
}

impl Health {
    /// Makes the health service of `server`, which is in these `stages`.
    pub(super) fn new(server: Arc<ServerState>, stages: watch::Receiver<Stage>) -> Health {
        Health { server, stages }
    }
}

/// Checks whether a client may know of `service`. All may know of the whole server, except that to watch it takes a token.
fn check(server: &ServerState, shown: Option<&Shown>, service: &str) -> Result<(), Status> {
    if service.is_empty() {
        return Ok(());
    }
    let need = need(server, service, Need::Any);
    let allowed = match shown {
        Some(Shown(Ok(pass))) => server.check(Some(pass), need),
        Some(Shown(Err(refused))) => Err(refused.clone()),
        None => server.check(None, need),
    };
    allowed.map_err(refusal)
}

/// Returns what it takes to know of `service`: of one that is no model, `of_all`.
fn need<'n>(server: &ServerState, service: &'n str, of_all: Need<'n>) -> Need<'n> {
    if service.is_empty() || SERVICES.contains(&service) {
        return of_all;
    }
    Need::Read(server.registry.model_in(service))
}

fn refusal(refused: Error) -> Status {
    Status::new(Code::from_i32(refused.kind as i32), refused.message)
}

fn status(server: &ServerState, service: &str, stage: Stage) -> ServingStatus {
    // Who asks wants to know whether to come to this address, where there is another server once the ports are passed on.
    let serving = matches!(stage, Stage::Serving | Stage::PassedOn);
    let condition = match service {
        "" => Condition::of_server(&server.registry, serving),
        name if SERVICES.contains(&name) => match stage {
            Stage::Serving | Stage::PassedOn => Condition::Ready,
            Stage::Draining | Stage::Closing => Condition::NotReady,
        },
        name => Condition::of_model(&server.registry, serving, name),
    };
    match condition {
        Condition::Ready => ServingStatus::Serving,
        Condition::NotReady => ServingStatus::NotServing,
        Condition::Unknown => ServingStatus::ServiceUnknown,
    }
}

#[tonic::async_trait]
impl Service for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        check(&self.server, request.extensions().get(), &request.get_ref().service)?;
        let status = status(&self.server, &request.into_inner().service, *self.stages.borrow());
        if status == ServingStatus::ServiceUnknown {
            return Err(Status::new(Code::NotFound, "service not registered"));
        }
        Ok(Response::new(HealthCheckResponse { status: status as i32 }))
    }

    type WatchStream = Watch;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Watch>, Status> {
        let shown: Option<&Shown> = request.extensions().get();
        check(&self.server, shown, &request.get_ref().service)?;
        let pass = shown.and_then(|shown| shown.0.clone().ok());
        let mut seen = Seen {
            stages: self.stages.clone(),
            models: self.server.registry.changes(),
            tokens: self.server.options.auth.as_ref().map(Auth::changes),
        };
        // The first status is sent at once.
        seen.stages.mark_changed();
        let (server, service) = (self.server.clone(), request.into_inner().service);
        Ok(Response::new(Watch { server, pass, service, told: None, next: next(seen) }))
    }
}

/// What a status follows from: the server's stage, the states of the models, and the tokens, if it needs one.
struct Seen {
    stages: watch::Receiver<Stage>,
    models: watch::Receiver<()>,
    tokens: Option<watch::Receiver<()>>,
}

type Next = Pin<Box<dyn Future<Output = Option<Seen>> + Send>>;

/// Waits for a change of what was `seen`; `None` if there will be none.
fn next(mut seen: Seen) -> Next {
    Box::pin(async move {
        let Seen { stages, models, tokens } = &mut seen;
        let renewed = async {
            match tokens {
                Some(tokens) => tokens.changed().await,
                None => pending().await,
            }
        };
        let changed = tokio::select! {
            changed = stages.changed() => changed,
            changed = models.changed() => changed,
            changed = renewed => changed,
        };
        changed.is_ok().then_some(seen)
    })
}

/// The status of one service, sent whenever it changes. An unknown service may become known: its stream stays open.
/// Nothing is queued for a client that takes no message: the next one has the status of that time. It ends when its token is
/// taken away.
pub(super) struct Watch {
    server: Arc<ServerState>,
    /// What its token has shown, if it has one.
    pass: Option<Pass>,
    service: String,
    told: Option<ServingStatus>,
    next: Next,
}

impl Watch {
    /// Checks whether the client may still know.
    fn check_again(&self) -> Result<(), Status> {
        let (Some(auth), Some(pass)) = (&self.server.options.auth, &self.pass) else { return Ok(()) };
        auth.check_again(pass, need(&self.server, &self.service, Need::Of(Scope::Read))).map_err(refusal)
    }
}

impl Stream for Watch {
    type Item = Result<HealthCheckResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let Some(mut seen) = task::ready!(self.next.as_mut().poll(cx)) else { return Poll::Ready(None) };
            // Marked as seen before it is read, so that no later change is missed.
            seen.models.mark_unchanged();
            if let Some(tokens) = &mut seen.tokens {
                tokens.mark_unchanged();
            }
            if let Err(refused) = self.check_again() {
                self.next = Box::pin(ready(None));
                return Poll::Ready(Some(Err(refused)));
            }
            let stage = *seen.stages.borrow_and_update();
            let status = status(&self.server, &self.service, stage);
            self.next = next(seen);
            if self.told.replace(status) != Some(status) {
                return Poll::Ready(Some(Ok(HealthCheckResponse { status: status as i32 })));
            }
        }
    }
}
