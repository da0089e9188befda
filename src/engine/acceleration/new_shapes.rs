//! Shapes that come up in serving: the other engine is tried with each once, beside the requests, before it gets them.
//!
//! A request of new shapes is TensorFlow's. Its answer is kept until the other engine has answered the same request in a
//! thread of its own. If the answers are alike, it gets the shapes from now on; if not, they stay with TensorFlow, and that
//! counts as a run that was refused.

use super::chain::{Declined, NewShapes};
use super::compare;
use super::model::{Handle, Moved, Route, Shared};
use crate::engine::Endpoint;
use crate::engine::shapes::Shapes;
use crate::error::{Kind, guarded};
use crate::host::priority;
use crate::tensor::Tensor;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Release};

/// A run of new shapes that TensorFlow has answered.
pub(super) struct Answered {
    shapes: Shapes,
    feeds: Vec<(Endpoint, Tensor)>,
    fetches: Vec<Endpoint>,
    outputs: Vec<Tensor>,
}

impl Answered {
    pub(super) fn new(
        shapes: Shapes,
        feeds: &[(Endpoint, Tensor)],
        fetches: &[Endpoint],
        outputs: &[Tensor],
    ) -> Answered {
        Answered { shapes, feeds: feeds.to_vec(), fetches: fetches.to_vec(), outputs: outputs.to_vec() }
    }
}

impl Route {
    /// Tries the other engine with new shapes, beside the requests. One is tried at a time: what comes meanwhile is tried
    /// when it comes again.
    pub(super) fn try_shapes(&self, moved: &Moved, shared: &Arc<Shared>, answered: Answered) {
        if moved.tolerance.is_none() {
            return moved.chain.learn(answered.shapes, true);
        }
        if self.tries_shapes.swap(true, AcqRel) {
            return;
        }
        let (handle, signature) = (Handle::of(shared), self.signature.clone());
        let started = priority::start_low("servable-shapes", move || {
            handle.with(|shared| {
                let route = shared.routes.iter().find(|route| route.signature == signature);
                route.map(|route| route.compare_shapes(shared, answered))
            });
        });
        if let Err(why) = started {
            self.tries_shapes.store(false, Release);
            tracing::warn!("signature {}: new shapes stay with TensorFlow: {why}", self.signature);
        }
    }

    fn compare_shapes(&self, shared: &Shared, answered: Answered) {
        // It may have gone back meanwhile.
        if let Some(moved) = self.moved.load_full() {
            self.compare_with(&moved, shared, answered);
        }
        self.tries_shapes.store(false, Release);
    }

    /// Compares what the other engine answers, and keeps whether that is alike.
    fn compare_with(&self, moved: &Moved, shared: &Shared, answered: Answered) {
        let Answered { shapes, feeds, fetches, outputs } = answered;
        let options = self.trial_options(&*shared.reference);
        let got = guarded(|| Ok(moved.chain.run(&feeds, &fetches, options, NewShapes::Tried)));
        let difference = match got.unwrap_or_else(|why| Err(Declined::Failed(why))) {
            Ok(got) => compare::difference(&outputs, &got, moved.tolerance.unwrap_or(f64::MAX)),
            // Another run of these shapes may have other numbers, or more time.
            Err(Declined::Numbers | Declined::Shapes(_) | Declined::Unlike) => return self.decline(),
            Err(Declined::Failed(why)) if why.kind == Kind::DeadlineExceeded => return self.decline(),
            Err(Declined::Failed(why)) => Err(format!("it refused a run: {}", why.message)),
        };
        moved.chain.learn(shapes, difference.is_ok());
        if let Err(why) = difference {
            // Numbers that cancel each other out make a difference, too: the next start may try again.
            self.refuse(&format!("new shapes: {why}"), false);
        }
    }
}
