//! The one observer around a call: it counts how the call ends.

use super::ServerState;
use crate::error::Kind;
use crate::metrics::{Api, ModelCounts, Protocol};
use std::sync::Arc;
use std::time::Instant;

/// What is observed.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// By which protocol the call came.
    pub protocol: Protocol,
    /// The model that it names.
    pub model: &'a str,
    /// As what it is counted.
    pub counted: Counted,
}

/// As what a call is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// A request of an API.
    Request(Api),
    /// The examples of a multi-inference, once it ended well; TensorFlow Serving does not count the request itself.
    Examples(usize),
}

/// A call under way. One that is dropped before its end was cancelled.
pub struct Observer(Option<Counts>);

/// Where a call will be counted.
struct Counts {
    model: Arc<ModelCounts>,
    protocol: Protocol,
    counted: Counted,
    started: Instant,
    outcome: Result<(), Kind>,
}

impl Observer {
    /// Begins to observe a call, if anything is counted.
    pub fn begin(server: &ServerState, subject: Subject<'_>) -> Observer {
        Observer(server.metrics.as_ref().map(|metrics| Counts {
            model: metrics.asked(subject.model),
            protocol: subject.protocol,
            counted: subject.counted,
            started: Instant::now(),
            outcome: Err(Kind::Cancelled),
        }))
    }

    /// The call ended with `outcome`.
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
