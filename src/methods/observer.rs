//! The observer around every call: counts how the call ends.

use super::ServerState;
use crate::error::Kind;
use crate::metrics::{Api, ModelCounts, Protocol};
use std::sync::Arc;
use std::time::Instant;

/// The call to observe.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The protocol of the call.
    pub protocol: Protocol,
    /// The model named by the call.
    pub model: &'a str,
    /// How the call is counted.
    pub counted: Counted,
}

/// How a call is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// A request of an API.
    Request(Api),
    /// The examples of a successful multi-inference; TensorFlow Serving does not count the request itself.
    Examples(usize),
}

/// A call in progress. Dropping it before its end counts as cancellation.
pub struct Observer(Option<Counts>);

/// The counters for a call.
struct Counts {
    model: Arc<ModelCounts>,
    protocol: Protocol,
    counted: Counted,
    started: Instant,
    outcome: Result<(), Kind>,
}

impl Observer {
    /// Begins to observe a call, if metrics are enabled.
    pub fn begin(server: &ServerState, subject: Subject<'_>) -> Observer {
        Observer(server.metrics.as_ref().map(|metrics| Counts {
            model: metrics.asked(subject.model),
            protocol: subject.protocol,
            counted: subject.counted,
            started: Instant::now(),
            outcome: Err(Kind::Cancelled),
        }))
    }

    /// Ends the call with `outcome`.
    pub fn end(mut self, outcome: Result<(), Kind>) {
        if let Some(counts) = &mut self.0 {
            counts.outcome = outcome;
        }
    }
}

impl Drop for Counts {
    fn drop(&mut self) {
        match (self.counted, self.outcome) {
            (Counted::Request(api), outcome) => {
                self.model.answered(self.protocol, Some(api), self.started, outcome);
            }
            (Counted::Examples(examples), Ok(())) => self.model.inferred(examples),
            (Counted::Examples(_), Err(_)) => {}
        }
    }
}
