//! THE PATH OF A CALL, the same for every protocol: resolve → decode → run → encode, with an observer around it.
//!
//! A protocol provides a [`Call`], which reads and writes its own format; [`ask`] does the rest.

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
    /// True if an error in the body takes precedence over that of a missing version.
    const BODY_FIRST: bool;
    /// The protocol's reply type.
    type Reply: Send + 'static;

    /// Returns the model and version called, or the error if the call names none.
    fn spec(&self) -> Result<&ModelSpec>;

    /// Returns how the call is counted.
    fn counted(&self) -> Counted;

    /// Returns the name of the signature called; `None` if only the body contains it.
    fn signature(&self) -> Option<&str>;

    /// Refuses a call before any work is done for it, in the thread that read it.
    fn check(&mut self, _server: &ServerState, _context: &Context) -> Result<()> {
        Ok(())
    }

    /// Returns whether decoding takes at most about as long as a hand-over to another thread (tens of µs).
    fn is_small(&self) -> bool;

    /// Decodes the call against the version that it names. `servable` is an error only with [`Self::BODY_FIRST`].
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

/// Answers `call`, unless `ended` completes first with the reason why no client is waiting any more. Dropping the
/// future cancels the call.
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
    call.check(server, &context)?;
    let servable = call.spec().and_then(|spec| server.registry.resolve(&spec.name, &spec.choice));
    if !C::BODY_FIRST {
        servable.as_ref().map_err(Error::clone)?;
    }
    let own = server.clone();
    if decodes_here(&call, &servable) {
        let request = guarded(|| call.decode(server, servable.as_deref(), &context))?;
        let servable = servable?;
        let in_caller = servable.in_caller(request.signature());
        let work = move |cancelled| {
            let _busy = (!in_caller).then(|| own.cores.occupy());
            context.cancelled = cancelled;
            run(&own, call, &servable, request, &context)
        };
        return server.compute.run(in_caller, work).await;
    }
    let work = move |cancelled| {
        let _busy = own.cores.occupy();
        context.cancelled = cancelled;
        let request = call.decode(&own, servable.as_deref(), &context)?;
        run(&own, call, servable?.as_ref(), request, &context)
    };
    server.compute.run(false, work).await
}

/// Returns whether to decode a call in the thread that read it: a small one always if only its body contains the
/// signature or the version is missing, otherwise if it also runs there.
fn decodes_here<C: Call>(call: &C, servable: &Result<Arc<Servable>>) -> bool {
    call.is_small()
        && match (call.signature(), servable) {
            (Some(signature), Ok(servable)) => servable.in_caller(signature),
            (None, _) | (_, Err(_)) => true,
        }
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
