//! What the console needs at the administration's address beside the operations: its files, which everybody may have, and
//! calls of models, which who administers them may make.

use super::answer::{self, Refusal, Reply};
use super::{AdminConnection, is_look};
use crate::auth::{Need, Pass};
use crate::http::client_stream::ClientStream;
use crate::http::pieces::Pieces;
use crate::{console, rest};
use http::{Request, Response};
use hyper::body::{Body as _, Incoming};
use std::ops::ControlFlow;
use std::sync::Arc;

impl AdminConnection {
    /// Answers a request for a file of the console or to a model, and gives back any other.
    pub(super) async fn beside(
        &self,
        stream: &Arc<ClientStream>,
        request: Request<Incoming>,
    ) -> ControlFlow<Response<Pieces>, Request<Incoming>> {
        let Some(service) = &self.shared.behind.console else { return ControlFlow::Continue(request) };
        let path = request.uri().path();
        let is_file = console::is_file(path) && is_look(request.method());
        if !is_file && !rest::is_call(path) {
            return ControlFlow::Continue(request);
        }
        let (mut pass, mut permit) = (None, None);
        if !is_file {
            let admitted = self.shared.guard.check(request.headers(), Need::Manage).and_then(|shown| {
                permit = Some(self.permit(&stream.connection, None)?);
                Ok(shown)
            });
            match admitted {
                Ok(shown) => pass = Some(shown.map_or_else(Pass::of_administrator, Pass::raised)),
                Err(refusal) => return ControlFlow::Break(self.refuse(refusal, &request)),
            }
        }
        let line = format!("{} {}", request.method(), request.uri());
        // The pace of REST's requests holds instead.
        self.deadline.lift();
        // Boxed: a call takes some kilobytes, which no other request should have to hold.
        let response = Box::pin(service.answer_admitted(stream, request, pass)).await;
        self.deadline.restart();
        tracing::debug!("{} \"{line}\" {}", self.client, response.status().as_u16());
        let (mut head, body) = response.into_parts();
        console::protect(&mut head.headers);
        ControlFlow::Break(Response::from_parts(head, answer::unsent(body, &self.deadline, permit)))
    }

    /// Refuses a request whose body is not read.
    fn refuse(&self, refusal: Refusal, request: &Request<Incoming>) -> Response<Pieces> {
        let whole = request.body().is_end_stream();
        let mut reply = Reply::from(refusal);
        reply.close |= !whole;
        let mut response = reply.into_response(&self.deadline);
        console::protect(response.headers_mut());
        response
    }
}
