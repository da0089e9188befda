//! The observer around every call: counts how the call ends.

use super::{Call, Context, ServerState};
use crate::error::{Error, Kind};
use crate::metrics::{Api, Protocol};
use crate::servable::Servable;
use crate::timeline::Timeline;
use std::sync::Arc;

/// The call to observe.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// The protocol of the call.
    pub protocol: Protocol,
    /// How the call is counted.
    pub counted: Counted,
}

/// How a call is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// A request of an API.
    Request(Api),
    /// The examples of a multi-inference.
    Examples(usize),
}

impl Counted {
    /// Returns the API of the request.
    pub fn api(self) -> Api {
        match self {
            Counted::Request(api) => api,
            Counted::Examples(_) => Api::MultiInference,
        }
    }
}

/// A call in progress. Dropping it before its end counts as cancellation.
pub struct Observer(Option<Counts>);

/// What is counted of a call.
struct Counts {
    timeline: Arc<Timeline>,
    protocol: Protocol,
    counted: Counted,
    /// The bytes of the answer.
    outcome: Result<usize, Kind>,
}

impl Observer {
    /// Begins to observe a call, whose timeline is that of `context`, if anybody asks for it.
    pub fn begin(subject: Subject, context: &Context) -> Observer {
        let Subject { protocol, counted } = subject;
        let counts = |timeline| Counts { timeline, protocol, counted, outcome: Err(Kind::Cancelled) };
        Observer(context.timeline.clone().map(counts))
    }

    /// Begins to observe a call that is answered without a version of `model`.
    pub fn begin_simple(server: &ServerState, protocol: Protocol, model: &str) -> Observer {
        let timeline = server.metrics.as_ref().map(|_| Arc::new(Timeline::begin(None, false)));
        timeline.iter().for_each(|timeline| timeline.received(0));
        let context = Context { timeline, ..Context::default() };
        let subject = Subject { protocol, counted: Counted::Request(Api::Other) };
        let observer = Observer::begin(subject, &context);
        assign_unresolved(server, model, Api::Other, &context);
        observer
    }

    /// Ends the call with `outcome`: the bytes of its answer, or its error.
    pub fn end(mut self, outcome: Result<usize, Kind>) {
        if let Some(counts) = &mut self.0 {
            counts.outcome = outcome;
        }
    }
}

impl Drop for Counts {
    fn drop(&mut self) {
        let examples = match self.counted {
            Counted::Request(_) => None,
            Counted::Examples(examples) => Some(examples),
        };
        self.timeline.end(self.protocol, self.outcome, examples);
    }
}

/// Says that `call`, of which no more is known, is to `servable`; or is to none.
pub(super) fn assign_call<C: Call>(
    server: &ServerState,
    call: &C,
    servable: Result<&Servable, &Error>,
    context: &Context,
) {
    let api = call.counted().api();
    match servable {
        Ok(servable) => assign(server, servable, call.signature(), api, context),
        Err(_) => assign_unresolved(server, call.spec().map_or("", |spec| &spec.name), api, context),
    }
}

/// Says that the call is to `signature` of `servable`, if it is known.
pub(super) fn assign(
    server: &ServerState,
    servable: &Servable,
    signature: Option<&str>,
    api: Api,
    context: &Context,
) {
    let Some(timeline) = &context.timeline else { return };
    match servable.series(signature, api) {
        Some(series) => timeline.assign(series),
        // It was loaded without counts.
        None => assign_unresolved(server, servable.name(), api, context),
    }
}

fn assign_unresolved(server: &ServerState, model: &str, api: Api, context: &Context) {
    if let (Some(metrics), Some(timeline)) = (&server.metrics, &context.timeline) {
        timeline.assign(metrics.asked(model).unresolved(api));
    }
}
