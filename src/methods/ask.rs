//! THE PATH OF A CALL, the same for every protocol: resolve → decode → run → encode, observed from outside.
//!
//! A protocol provides a [`Call`], which knows how to read and write its own form; [`ask`] does the rest.

use super::observer::{Counted, Observer, Subject};
use super::record::Sample;
use super::{Answer, Context, ModelSpec, Request, ServerState};
use crate::compute::guarded;
use crate::error::{Error, Result};
use crate::metrics::Protocol;
use crate::servable::Servable;
use bytes::Bytes;
use std::sync::Arc;

/// A call to a model in the form of its protocol.
pub trait Call: Send + 'static {
    /// The protocol.
    const PROTOCOL: Protocol;
    /// The protocol's form of a reply.
    type Reply: Send + 'static;

    /// Returns the model and version called, or the error if the call names none.
    fn spec(&self) -> Result<&ModelSpec>;

    /// Returns how the call is counted.
    fn counted(&self) -> Counted;

    /// Returns whether decoding takes less time than a hand-over to another thread (tens of µs).
    fn is_small(&self) -> bool;

    /// Decodes the call against the version that it names. An error in the call's own form may take precedence over
    /// that of a missing version.
    fn decode(
        &mut self,
        server: &ServerState,
        servable: Result<&Servable, &Error>,
        context: &Context,
    ) -> Result<Request>;

    /// Returns the decoded `request` as the message that a recording replays.
    fn record(&self, servable: &Servable, request: &Request) -> Option<Bytes>;

    /// Writes the answer of `servable`.
    fn encode(
        self,
        server: &ServerState,
        servable: &Servable,
        answer: Answer<'_>,
        context: &Context,
    ) -> Result<Self::Reply>;
}

/// Answers `call`, unless `ended` completes first with the reason why nobody waits any more. Dropping the future
/// cancels the call.
pub async fn ask<C: Call>(
    server: &Arc<ServerState>,
    call: C,
    context: Context,
    ended: impl Future<Output = Error>,
) -> Result<C::Reply> {
    let model = call.spec().map_or("", |spec| spec.name.as_str());
    let observer = Observer::begin(server, Subject { protocol: C::PROTOCOL, model, counted: call.counted() });
    let reply = tokio::select! {
        biased;
        reply = answer(server, call, context) => reply,
        error = ended => Err(error),
    };
    observer.end(reply.as_ref().map(|_| ()).map_err(|error| error.kind));
    reply
}

/// Finds the version, then decodes, runs and encodes: short work in this thread, the rest on a compute thread.
async fn answer<C: Call>(server: &Arc<ServerState>, mut call: C, mut context: Context) -> Result<C::Reply> {
    let servable = call.spec().and_then(|spec| server.registry.resolve(&spec.name, &spec.choice));
    let own = server.clone();
    if call.is_small() {
        let request = guarded(|| call.decode(server, servable.as_deref(), &context))?;
        let servable = servable?;
        let in_caller = servable.in_caller(request.signature());
        let work = move |cancelled| {
            context.cancelled = cancelled;
            run(&own, call, &servable, request, &context)
        };
        return server.compute.run(in_caller, work).await;
    }
    let work = move |cancelled| {
        context.cancelled = cancelled;
        let request = call.decode(&own, servable.as_deref(), &context)?;
        run(&own, call, servable?.as_ref(), request, &context)
    };
    server.compute.run(false, work).await
}

/// Runs a decoded request and encodes the answer. A sample is kept if recording is on and the call succeeds.
fn run<C: Call>(
    server: &ServerState,
    call: C,
    servable: &Servable,
    request: Request,
    context: &Context,
) -> Result<C::Reply> {
    let sample = sample(server, &call, servable, &request);
    let answer = request.run(server, servable, context)?;
    let reply = call.encode(server, servable, answer, context)?;
    sample.into_iter().for_each(Sample::keep);
    Ok(reply)
}

fn sample<C: Call>(server: &ServerState, call: &C, servable: &Servable, request: &Request) -> Option<Sample> {
    server.recorder.sample(servable.name(), request.into(), || call.record(servable, request))
}

#[cfg(test)]
mod tests;
