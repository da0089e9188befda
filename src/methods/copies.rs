//! What is kept of a call beside its answer: for a recording or a payload log, and for a shadow.

use super::record::Sample;
use super::shadow::Shadowed;
use super::{Answer, Call, Context, Request, ServerState};
use crate::servable::Servable;

/// The copies of one call, until it is answered.
pub(super) struct Copies {
    sample: Option<Sample>,
    shadow: Option<Box<Shadowed>>,
}

impl Copies {
    /// Takes what is wanted of `call`, which is to `servable` and has become `request`.
    pub(super) fn take<C: Call>(
        server: &ServerState,
        call: &C,
        servable: &Servable,
        request: &Request,
        context: &Context,
    ) -> Copies {
        let record = || call.record(servable, request);
        let sample = server.recorder.sample(servable.name(), request, record);
        let shadow = context
            .decision
            .as_ref()
            .and_then(|decision| Shadowed::take(&server.shadows, decision.split(), servable, request));
        Copies { sample, shadow }
    }

    /// Takes down the answer of `servable`, which is not sent yet.
    pub(super) fn answered(&mut self, servable: &Servable, answer: &Answer<'_>) {
        if let Some(sample) = &mut self.sample {
            sample.answered(servable, answer);
        }
        if let Some(shadow) = &mut self.shadow {
            shadow.answered(answer);
        }
    }

    /// Keeps the copies: the call succeeded.
    pub(super) fn keep(self, server: &ServerState) {
        self.sample.into_iter().for_each(Sample::keep);
        if let Some(shadow) = self.shadow {
            server.shadows.ask(*shadow);
        }
    }
}
