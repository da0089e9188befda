//! Shapes that come up in serving: the other engine is tried with each once, beside the requests, before it gets them.
//!
//! A request of new shapes is TensorFlow's. Its answer is kept until the other engine has answered the same request in a
//! thread of its own. If the answers are alike, it gets the shapes from now on; if not, they stay with TensorFlow, and that
//! counts as a run that was refused.

use super::chain::{Declined, NewShapes};
use super::compare;
use super::model::{Handle, Moved, Route, Shared};
use super::probe;
use crate::engine::shapes::Shapes;
use crate::engine::{Endpoint, Termination};
use crate::error::{Kind, guarded};
use crate::tensor::Tensor;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Release};
use std::thread::Builder;

/// Larger requests and answers stay with TensorFlow, as copies of them would be kept: bytes.
const MOST_BYTES: usize = 128 << 20;

/// A run of new shapes that TensorFlow has answered.
pub(super) struct Answered<'r> {
    pub(super) shapes: Shapes,
    pub(super) feeds: &'r [(Endpoint, Tensor)],
    pub(super) fetches: &'r [Endpoint],
    pub(super) outputs: &'r [Tensor],
}

/// The same in memory of its own: whoever asked may write to his own, and is not kept waiting for it.
struct Kept {
    shapes: Shapes,
    feeds: Vec<(Endpoint, Tensor)>,
    fetches: Vec<Endpoint>,
    outputs: Vec<Tensor>,
}

impl Answered<'_> {
    /// Returns whether it may be kept.
    pub(super) fn is_small(&self) -> bool {
        let tensors = self.feeds.iter().map(|(_, tensor)| tensor).chain(self.outputs);
        tensors.map(Tensor::memory).sum::<usize>() <= MOST_BYTES
    }

    fn kept(self) -> Kept {
        let Answered { shapes, feeds, fetches, outputs } = self;
        let feeds = feeds.iter().map(|(endpoint, tensor)| (*endpoint, tensor.copied())).collect();
        Kept {
            shapes,
            feeds,
            fetches: fetches.to_vec(),
            outputs: outputs.iter().map(Tensor::copied).collect(),
        }
    }
}

impl Route {
    /// Tries the other engine with new shapes, beside the requests. One is tried at a time: what comes meanwhile is tried
    /// when it comes again.
    pub(super) fn try_shapes(&self, moved: &Moved, shared: &Arc<Shared>, answered: Answered<'_>) {
        if moved.tolerance.is_none() {
            return moved.chain.learn(answered.shapes, true);
        }
        if self.tries_shapes.swap(true, AcqRel) {
            return;
        }
        let (handle, signature, kept) = (Handle::of(shared), self.signature.clone(), answered.kept());
        // Not at low priority: requests may wait for its run in the other engine.
        let started = Builder::new().name("servable-shapes".to_owned()).spawn(move || {
            handle.with(|shared| {
                let route = shared.routes.iter().find(|route| route.signature == signature);
                route.map(|route| route.compare_shapes(shared, kept))
            });
        });
        if let Err(why) = started {
            self.tries_shapes.store(false, Release);
            tracing::warn!("signature {}: new shapes stay with TensorFlow: {why}", self.signature);
        }
    }

    fn compare_shapes(&self, shared: &Shared, kept: Kept) {
        let compared = guarded(|| {
            // It may have gone back meanwhile.
            let moved = self.moved.load_full();
            moved.into_iter().for_each(|moved| self.compare_with(&moved, shared, &kept));
            Ok(())
        });
        if let Err(why) = compared {
            self.refuse(&format!("new shapes: {}", why.message), false);
        }
        self.tries_shapes.store(false, Release);
    }

    /// Compares answers to the same shapes with random numbers: what is blank, as a picture of zeros, has the same answer in
    /// many ways.
    fn compare_made_up(
        &self,
        moved: &Moved,
        shared: &Shared,
        feeds: &[(Endpoint, Tensor)],
        fetches: &[Endpoint],
    ) -> Result<f64, String> {
        if shared.reference.termination(&self.signature) != Termination::ByShapes {
            return Ok(0.0);
        }
        let (options, feeds) = (self.trial_options(&*shared.reference), probe::made_up(feeds));
        let expected = shared.reference.run(&feeds, fetches, options);
        match (expected, moved.chain.run(&feeds, fetches, options, NewShapes::Tried)) {
            (Ok(expected), Ok(got)) => {
                compare::difference(&expected, &got, moved.tolerance.unwrap_or(f64::MAX))
            }
            // Such numbers may be refused by either.
            (Err(_), _) | (_, Err(_)) => Ok(0.0),
        }
    }

    /// Compares what the other engine answers, and keeps whether that is alike.
    fn compare_with(&self, moved: &Moved, shared: &Shared, kept: &Kept) {
        let Kept { shapes, feeds, fetches, outputs } = kept;
        let options = self.trial_options(&*shared.reference);
        let got = guarded(|| Ok(moved.chain.run(feeds, fetches, options, NewShapes::Tried)));
        let difference = match got.unwrap_or_else(|why| Err(Declined::Failed(why))) {
            Ok(got) => compare::difference(outputs, &got, moved.tolerance.unwrap_or(f64::MAX)),
            // Another run of these shapes may have other numbers, or more time.
            Err(Declined::Numbers | Declined::Shapes(_) | Declined::Unlike) => return self.decline(),
            Err(Declined::Failed(why)) if why.kind == Kind::DeadlineExceeded => return self.decline(),
            Err(Declined::Failed(why)) => Err(format!("it refused a run: {}", why.message)),
        };
        let difference = difference.and_then(|_| self.compare_made_up(moved, shared, feeds, fetches));
        moved.chain.learn(shapes.clone(), difference.is_ok());
        if let Err(why) = difference {
            // Numbers that cancel each other out make a difference, too: the next start may try again.
            self.refuse(&format!("new shapes: {why}"), false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;

    #[test]
    fn large_requests_and_answers_are_not_kept() {
        let of = |bytes: usize| {
            let length = i64::try_from(bytes).unwrap();
            Tensor::numbers(DType::Int8, vec![length], vec![0; bytes].into())
        };
        let half = MOST_BYTES / 2;
        for (fed, answered, is_small) in
            [(half, half, true), (half, half + 1, false), (half + 1, half, false)]
        {
            let (feeds, outputs) = ([(Endpoint(0), of(fed))], [of(answered)]);
            let answered =
                Answered { shapes: Shapes::new(), feeds: &feeds, fetches: &[Endpoint(1)], outputs: &outputs };
            assert_eq!(answered.is_small(), is_small);
        }
    }
}
