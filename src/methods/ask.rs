//! THE PATH OF A CALL, the same for every protocol: resolve → decode → run → encode, with an observer around it.
//!
//! A protocol provides a [`Call`], which reads and writes its own format; [`ask`] does the rest.

use super::copies::Copies;
use super::observer::{self, Counted, Observer, Subject};
use super::{Answer, Context, ModelSpec, Plan, Reading, Request, ServerState};
use crate::auth::Need;
use crate::error::{Error, Result, guarded};
use crate::metrics::Protocol;
use crate::profile::Phase;
use crate::servable::{self, Servable};
use crate::tensor::Tensor;
use crate::traffic_split::Decision;
use bytes::Bytes;
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// Most bytes of outputs that are encoded in the thread that read the call (some 100 µs of work).
const SMALL_OUTPUTS: usize = 16 << 10;

/// A call to a model in the form of its protocol.
pub trait Call: Send + 'static {
    /// The protocol.
    const PROTOCOL: Protocol;
    /// True if an error in the body takes precedence over that of a missing version.
    const BODY_FIRST: bool;
    /// True if the server's own process calls: no token is needed.
    const IS_OWN: bool = false;
    /// The protocol's reply type.
    type Reply: Send + 'static;

    /// Returns the model and version called, or the error if the call names none.
    fn spec(&self) -> Result<&ModelSpec>;

    /// Returns how the call is counted.
    fn counted(&self) -> Counted;

    /// Returns the bytes of a reply.
    fn sent(reply: &Self::Reply) -> usize;

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
    let entry = context.entry.clone();
    if let Some(entry) = &entry {
        entry.names(call.spec().map_or("", |spec| spec.name.as_str()));
    }
    let subject = Subject { protocol: C::PROTOCOL, counted: call.counted() };
    let observer = Observer::begin(subject, &context);
    let decided = OnceLock::new();
    let reply = tokio::select! {
        biased;
        reply = answer(server, call, context, &decided) => reply,
        error = ended => Err(error),
    };
    if let Some(decision) = decided.get() {
        // Over REST, the server has set the deadline.
        decision.ended(reply.as_ref().map(|_| ()), C::PROTOCOL == Protocol::Grpc);
    }
    observer.end(reply.as_ref().map(C::sent).map_err(|error| error.kind));
    if let Some(entry) = entry {
        entry.ends(reply.as_ref().map_or_else(|error| error.kind.name(), |_| "OK"));
    }
    reply
}

/// Finds the version, then decodes, runs and encodes: short work in this thread, the rest on the scheduler's.
///
/// What waits for other threads is boxed: that costs little beside such a wait, and keeps the call's future small.
/// `decided`: whose traffic it is, if that was to be decided.
async fn answer<C: Call>(
    server: &Arc<ServerState>,
    mut call: C,
    mut context: Context,
    decided: &OnceLock<Decision>,
) -> Result<C::Reply> {
    let checked = allowed(server, &call, &context).and_then(|()| call.check(server, &context));
    let mut routed = call.spec().and_then(|spec| match &checked {
        Ok(()) => server.registry.route(&spec.name, &spec.choice, context.keys.as_deref()),
        // Refused, whosever it would have been: nothing is decided.
        Err(_) => server.registry.resolve(&spec.name, &spec.choice).map(|servable| (servable, None)),
    });
    if routed.is_err()
        && server.demand.is_some()
        && checked.is_ok()
        && let Ok(spec) = call.spec()
    {
        // Boxed: no other request should have to hold it.
        routed = Box::pin(loaded(server, spec, &context)).await.map(|servable| (servable, None));
    }
    let servable = routed.map(|(servable, decision)| {
        context.decision = decision.inspect(|decision| _ = decided.set(decision.clone()));
        servable
    });
    let here = decodes_here(&call, &servable);
    if !here || checked.is_err() || servable.is_err() {
        observer::assign_call(server, &call, servable.as_deref(), &context);
    }
    checked?;
    if !C::BODY_FIRST {
        servable.as_ref().map_err(Error::clone)?;
    }
    if let (Some(entry), Ok(servable)) = (&context.entry, &servable) {
        entry.is_for(servable.version());
    }
    if !here {
        return Box::pin(answer_large(server, call, servable, context)).await;
    }
    let decoded = guarded(|| call.decode(server, servable.as_deref(), &context));
    if let (Err(_), Ok(servable)) = (&decoded, &servable) {
        observer::assign_call(server, &call, Ok(servable), &context);
    }
    let (request, servable) = (decoded?, servable?);
    let in_caller = servable.in_caller(request.signature());
    let mut planned = guarded(|| Planned::new(server, call, servable, request, context))?;
    if in_caller {
        match guarded(|| planned.run_at_once(server))? {
            ControlFlow::Break(reply) => return Ok(reply),
            ControlFlow::Continue(delayed) => planned = delayed,
        }
    }
    if planned.batches() {
        return Box::pin(guarded(|| planned.submit())?.answer(server)).await;
    }
    Box::pin(planned.queue(server)).await
}

/// Waits for a version that is loaded on demand: that is time in a queue.
async fn loaded(server: &ServerState, spec: &ModelSpec, context: &Context) -> Result<Arc<Servable>> {
    context.enter(Phase::Queue, Instant::now());
    let servable = server.loaded(&spec.name, &spec.choice).await;
    context.enter(Phase::Decode, Instant::now());
    servable
}

/// Refuses a call that its token is not for. One that names no model is refused for that.
fn allowed<C: Call>(server: &ServerState, call: &C, context: &Context) -> Result<()> {
    let Some(spec) = call.spec().ok().filter(|_| !C::IS_OWN) else { return Ok(()) };
    server.check(context.pass.as_ref(), Need::Predict(&spec.name))
}

/// Decodes on a thread of the scheduler, and goes on from there.
async fn answer_large<C: Call>(
    server: &Arc<ServerState>,
    mut call: C,
    servable: Result<Arc<Servable>>,
    mut context: Context,
) -> Result<C::Reply> {
    let lane = servable.as_ref().ok().map(|servable| match call.signature() {
        _ if servable.may_batch() => servable.bodies().clone(),
        signature => servable.lane(signature.unwrap_or("")).clone(),
    });
    let (own, queued) = (server.clone(), context.clone());
    let work = move |cancelled| {
        context.cancelled = cancelled;
        context.admitted = true;
        let request = call.decode(&own, servable.as_deref(), &context)?;
        let planned = Planned::new(&own, call, servable?, request, context)?;
        if planned.batches() {
            planned.submit().map(Decoded::Submitted)
        } else if planned.servable.may_batch() {
            Ok(Decoded::Planned(planned))
        } else {
            planned.run(&own).map(Decoded::Answered)
        }
    };
    match server.scheduler.run(lane.as_ref(), &queued, work).await? {
        Decoded::Answered(reply) => Ok(reply),
        Decoded::Submitted(submitted) => submitted.answer(server).await,
        Decoded::Planned(planned) => planned.queue(server).await,
    }
}

/// What a large body has become on a thread of the scheduler.
enum Decoded<C: Call> {
    Answered(C::Reply),
    Submitted(Submitted<C>),
    Planned(Planned<C>),
}

/// Returns whether to decode a call in the thread that read it: a small one, unless the run that follows is not done
/// here either.
fn decodes_here<C: Call>(call: &C, servable: &Result<Arc<Servable>>) -> bool {
    call.is_small()
        && match (call.signature(), servable) {
            (Some(signature), Ok(servable)) => servable.in_caller(signature) || servable.may_batch(),
            // Only the body contains the signature, or the version is missing.
            (None, _) | (_, Err(_)) => true,
        }
}

/// A call whose run has been checked.
struct Planned<C> {
    call: C,
    servable: Arc<Servable>,
    copies: Copies,
    plan: Plan,
    context: Context,
}

impl<C: Call> Planned<C> {
    fn new(
        server: &ServerState,
        call: C,
        servable: Arc<Servable>,
        request: Request,
        context: Context,
    ) -> Result<Planned<C>> {
        if let Some(entry) = &context.entry {
            entry.asks(request.signature());
        }
        let api = call.counted().api();
        observer::assign(server, &servable, Some(request.signature()), api, &context);
        let copies = Copies::take(server, &call, &servable, &request, &context);
        let mut plan = request.plan(server, &servable)?;
        plan.run.api = api;
        if let Some(timeline) = &context.timeline {
            timeline.has_rows(plan.run.rows().unwrap_or(1));
        }
        if let Some(entry) = context.entry.as_ref().filter(|entry| entry.is_traced()) {
            entry.has_rows(plan.run.rows());
        }
        Ok(Planned { call, servable, copies, plan, context })
    }

    fn batches(&self) -> bool {
        self.servable.batches(&self.plan.run)
    }

    /// Runs and encodes on a thread of the scheduler.
    async fn queue(mut self, server: &Arc<ServerState>) -> Result<C::Reply> {
        let lane = self.servable.lane(&self.plan.run.signature).clone();
        let (own, queued) = (server.clone(), self.context.clone());
        let work = move |cancelled| {
            self.context.cancelled = cancelled;
            self.run(&own)
        };
        server.scheduler.run(Some(&lane), &queued, work).await
    }

    /// Runs in this thread and encodes the answer.
    fn run(self, server: &ServerState) -> Result<C::Reply> {
        let Planned { call, servable, copies, plan: Plan { run, reading }, context } = self;
        context.runs();
        let outputs = servable.run(run, &context)?;
        Unanswered { call, servable, copies, reading, context }.answer(server, outputs)
    }

    /// Runs in this thread and encodes the answer, unless the run would have to wait.
    fn run_at_once(self, server: &ServerState) -> Result<ControlFlow<C::Reply, Planned<C>>> {
        let Planned { call, servable, copies, plan: Plan { run, reading }, context } = self;
        let outcome = servable.run_at_once(run, &context);
        if !matches!(outcome, Ok(ControlFlow::Continue(_))) {
            context.runs();
        }
        match outcome? {
            ControlFlow::Break(outputs) => {
                let unanswered = Unanswered { call, servable, copies, reading, context };
                unanswered.answer(server, outputs).map(ControlFlow::Break)
            }
            ControlFlow::Continue(run) => {
                let plan = Plan { run, reading };
                Ok(ControlFlow::Continue(Planned { call, servable, copies, plan, context }))
            }
        }
    }

    /// Submits the run to be done together with others, which may be at once and in this thread.
    fn submit(self) -> Result<Submitted<C>> {
        let Planned { call, servable, copies, plan: Plan { run, reading }, context } = self;
        let outputs = servable.submit(run, &context)?;
        context.runs();
        Ok(Submitted { outputs, unanswered: Unanswered { call, servable, copies, reading, context } })
    }
}

/// A call that waits for its batch, without a thread.
struct Submitted<C> {
    outputs: servable::Outputs,
    unanswered: Unanswered<C>,
}

impl<C: Call> Submitted<C> {
    /// Waits for the outputs and encodes the answer: small outputs in this thread.
    async fn answer(self, server: &Arc<ServerState>) -> Result<C::Reply> {
        let Submitted { outputs, mut unanswered } = self;
        let outputs = outputs.wait().await?;
        if outputs.iter().map(Tensor::memory).sum::<usize>() <= SMALL_OUTPUTS {
            return guarded(|| unanswered.answer(server, outputs));
        }
        let lane = unanswered.servable.bodies().clone();
        let (own, queued) = (server.clone(), unanswered.context.clone());
        let work = move |cancelled| {
            unanswered.context.cancelled = cancelled;
            unanswered.answer(&own, outputs)
        };
        server.scheduler.finish(&lane, &queued, work).await
    }
}

/// A call of which only the answer is missing.
struct Unanswered<C> {
    call: C,
    servable: Arc<Servable>,
    copies: Copies,
    reading: Reading,
    context: Context,
}

impl<C: Call> Unanswered<C> {
    /// Encodes the answer made of `outputs`, and keeps the copies of a call that succeeds.
    fn answer(self, server: &ServerState, outputs: Vec<Tensor>) -> Result<C::Reply> {
        let Unanswered { call, servable, mut copies, reading, context } = self;
        let answer = reading.finish(&servable, outputs, &context)?;
        copies.answered(&servable, &answer);
        let reply = call.encode(server, &servable, answer, &context)?;
        copies.keep(server);
        Ok(reply)
    }
}

#[cfg(test)]
mod tests;
