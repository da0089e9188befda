//! `ModelStreamInfer`: requests on one stream, each answered as a `ModelInfer`, in the order in which they came.
//!
//! A request that fails is answered with its error, and the stream goes on. It ends with an error when its bytes are no
//! messages, when its deadline has passed, and when the server closes, after what was read has been answered.
//!
//! Nothing is read or answered while the client takes no answers: the HTTP/2 library asks for the next one only when it
//! has room. Then at most [`IN_FLIGHT`] requests wait, with their answers, and further ones at the client.

use super::super::call_body::CallBody;
use super::super::message::{self, Message, MessageLimits};
use super::super::reply::{Body, Messages, Reply};
use super::super::rpc::{keys, unpacked};
use super::super::{GrpcService, access, deadline};
use super::{infer as inference, malformed};
use crate::access::Entry;
use crate::auth::Pass;
use crate::connections::{Connection, Stage, reached};
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::memory::Reservation;
use crate::methods;
use crate::pb::infer::{self, InferRequest};
use crate::pb::inference::{ModelInferResponse, ModelStreamInferResponse};
use http::Response;
use http::request::Parts;
use std::collections::VecDeque;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Instant;

/// Most requests of a stream that are in flight; the next one is read when one of them has been answered.
pub(in crate::grpc) const IN_FLIGHT: usize = 32;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;
/// The stream of requests, and what was read of it: the next one, or none at its end.
type Read = (message::Stream<CallBody>, Result<Option<Arrived>>);

/// A request that is there, and what counts its memory.
struct Arrived(Message, Arc<Reservation>);

/// Answers the requests in `body`. `pass`: what the stream's token allows, which counts as its first request.
pub(in crate::grpc) fn open(
    service: Arc<GrpcService>,
    mut head: Parts,
    body: CallBody,
    client: Arc<Connection>,
    pass: Option<Pass>,
) -> Response<Body> {
    // Each request has a pass of its own; that of the stream is in there, too, and would be in flight as long.
    head.extensions.clear();
    let deadline = deadline::of(&head.headers);
    let mut stages = service.stages.clone();
    let requests = message::Stream::new(body, service.settings.limits.pace);
    let calls = Arc::new(Calls { service, head, client, deadline });
    Body::messages(InferStream {
        reading: Some(Box::pin(calls.clone().read(requests))),
        calls,
        answers: VecDeque::new(),
        pass,
        late: Box::pin(deadline::passed(deadline)),
        closing: Box::pin(async move { reached(&mut stages, Stage::Closing).await }),
        failure: None,
        has_given: false,
    })
}

/// What the requests of a stream have in common.
struct Calls {
    service: Arc<GrpcService>,
    head: Parts,
    client: Arc<Connection>,
    deadline: Option<Instant>,
}

impl Calls {
    /// Reads the next request of `stream`.
    async fn read(self: Arc<Calls>, mut stream: message::Stream<CallBody>) -> Read {
        let next = self.next(&mut stream).await;
        (stream, next)
    }

    async fn next(&self, stream: &mut message::Stream<CallBody>) -> Result<Option<Arrived>> {
        if !stream.begins().await? {
            return Ok(None);
        }
        let memory = Arc::new(self.client.reserve());
        let limits = MessageLimits {
            bytes: self.service.settings.max_message_bytes,
            pace: self.service.settings.limits.pace,
            memory: memory.clone(),
            client: &self.client,
        };
        let message = stream.message(&self.head.headers, limits, Some(infer::locate)).await?;
        self.client.message_came();
        Ok(message.map(|message| Arrived(message, memory)))
    }

    /// Answers one request, observed as a call of its own.
    async fn answer(self: Arc<Calls>, request: Arrived, pass: Option<Pass>) -> Result<Reply> {
        let Arrived(message, memory) = request;
        let Parts { uri, headers, .. } = &self.head;
        let exchange = self.service.begin(uri.path(), headers, &self.client);
        let timeline = exchange.received(message.len());
        let _answering = self.client.answering();
        let entry = exchange.entry().cloned();
        let mut id = String::new();
        let answered = match self.admit(pass, entry.as_deref()) {
            Ok(pass) => {
                let (deadline, keys) = (self.deadline, keys(&self.service.server, headers));
                let context = Context { deadline, memory, entry, timeline, pass, keys, ..Context::default() };
                self.ask(message, context, &mut id).await
            }
            Err(refused) => Err(refused),
        };
        match answered {
            Ok(reply) => {
                exchange.end(0, Some("OK"), reply.message_len() as u64);
                Ok(reply)
            }
            Err(error) => {
                exchange.end(error.kind as u16, Some(error.kind.name()), 0);
                if error.kind == Kind::DeadlineExceeded && self.deadline.is_some() {
                    // The deadline is that of the stream, which ends with it; engines round it down to milliseconds.
                    return Err(error);
                }
                failed(&error, id)
            }
        }
    }

    /// Admits a request by its stream's headers. `first`: what has been found for the first one.
    fn admit(&self, first: Option<Pass>, entry: Option<&Entry>) -> Result<Option<Pass>> {
        if let Some(pass) = first {
            entry.into_iter().for_each(|entry| entry.shows(pass.name()));
            return Ok(Some(pass));
        }
        let shown = access::admit(&self.service, self.head.uri.path(), &self.head.headers, entry)?;
        Ok(shown.and_then(|shown| shown.0.ok()))
    }

    /// Asks the model. `id` becomes that of the request.
    async fn ask(&self, message: Message, context: Context, id: &mut String) -> Result<Reply> {
        let server = &self.service.server;
        let bytes = unpacked(server, message, &context).await?;
        let request = InferRequest::open(bytes).map_err(|_| malformed())?;
        request.id().clone_into(id);
        let call = inference(&server.registry, request, true, self.service.shared_memory());
        // The whole stream ends at its deadline.
        let reply = methods::ask(server, call, context, pending()).await?;
        reply.within(self.service.settings.max_reply_bytes)
    }
}

/// Makes the answer to the request `id` that has failed.
fn failed(error: &Error, id: String) -> Result<Reply> {
    // Without a text it would be no error.
    let text = if error.message.is_empty() { error.kind.name() } else { &error.message };
    Reply::of(&ModelStreamInferResponse {
        error_message: text.to_owned(),
        infer_response: Some(ModelInferResponse { id, ..ModelInferResponse::default() }),
    })
}

/// The answers of a stream.
struct InferStream {
    calls: Arc<Calls>,
    /// Reads the next request; `None` once no more are read.
    reading: Option<Boxed<Read>>,
    /// The answers to the requests that were read, in their order.
    answers: VecDeque<Answer>,
    /// For the first request.
    pass: Option<Pass>,
    /// Completes at the deadline.
    late: Boxed<Error>,
    /// Completes when the server closes.
    closing: Boxed<()>,
    /// Why no more is read, unless the client has ended the stream.
    failure: Option<Error>,
    /// True if an answer was given since the stream last gave way.
    has_given: bool,
}

enum Answer {
    Coming(Boxed<Result<Reply>>),
    There(Result<Reply>),
}

impl Answer {
    fn poll(&mut self, cx: &mut task::Context<'_>) {
        if let Answer::Coming(answer) = self
            && let Poll::Ready(reply) = answer.as_mut().poll(cx)
        {
            *self = Answer::There(reply);
        }
    }
}

impl InferStream {
    /// Reads a request, if one has come, and begins to answer it; returns whether it has.
    fn poll_read(&mut self, cx: &mut task::Context<'_>) -> bool {
        let Some(reading) = &mut self.reading else { return false };
        let Poll::Ready((stream, next)) = reading.as_mut().poll(cx) else { return false };
        self.reading = None;
        match next {
            Ok(Some(request)) => {
                let calls = &self.calls;
                let mut answer = Answer::Coming(Box::pin(calls.clone().answer(request, self.pass.take())));
                answer.poll(cx);
                self.answers.push_back(answer);
                self.reading = Some(Box::pin(calls.clone().read(stream)));
                true
            }
            Ok(None) => false,
            Err(error) => {
                self.failure = Some(error);
                false
            }
        }
    }

    fn has_answer(&self) -> bool {
        matches!(self.answers.front(), Some(Answer::There(_)))
    }
}

impl Messages for InferStream {
    fn poll_message(&mut self, cx: &mut task::Context<'_>) -> Poll<Option<Result<Reply>>> {
        if std::mem::take(&mut self.has_given) {
            // Whatever a client sends at once, others of this thread have their turn between its answers.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Poll::Ready(late) = self.late.as_mut().poll(cx) {
            return Poll::Ready(Some(Err(late)));
        }
        if self.reading.is_some() && self.closing.as_mut().poll(cx).is_ready() {
            self.reading = None;
            self.failure = Some(Error::new(Kind::Unavailable, "The server is stopping"));
        }
        self.answers.iter_mut().for_each(|answer| answer.poll(cx));
        while !self.has_answer() && self.answers.len() < IN_FLIGHT && self.poll_read(cx) {}
        match self.answers.pop_front() {
            Some(Answer::There(reply)) => {
                self.has_given = true;
                Poll::Ready(Some(reply))
            }
            Some(coming) => {
                self.answers.push_front(coming);
                Poll::Pending
            }
            None if self.reading.is_some() => Poll::Pending,
            None => Poll::Ready(self.failure.take().map(Err)),
        }
    }
}
