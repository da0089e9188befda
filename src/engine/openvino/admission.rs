//! Which runs of a model with open dimensions go on at once.
//!
//! A run that fails leaves new shapes in a part of OpenVINO's graph, which spoils the runs beside it and after it
//! ([`super::requests`]). So a run of shapes that have not succeeded yet, or have failed once, goes on by itself, and the
//! form is made anew before the next one if it fails. Runs of shapes that have only succeeded go on beside each other.

use super::requests::too_late;
use crate::engine::shapes::{KnownShapes, Shapes};
use crate::error::{Kind, Result};
use crate::tensor::Tensor;
use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

#[derive(Default)]
pub(super) struct Admission {
    known: KnownShapes,
    /// Held by a run that is alone, or is the next to be. The others wait here, not at `runs`, whose lock is fair: so runs
    /// that go on beside each other have their turn between any two that are alone.
    next_alone: Mutex<()>,
    runs: RwLock<()>,
}

/// Lets a run go on until it is dropped.
pub(super) enum Pass<'a> {
    Beside { _runs: RwLockReadGuard<'a, ()> },
    Alone { _runs: RwLockWriteGuard<'a, ()>, _next: MutexGuard<'a, ()> },
}

impl Pass<'_> {
    pub(super) fn is_alone(&self) -> bool {
        matches!(self, Pass::Alone { .. })
    }
}

impl Admission {
    /// Waits for the turn of a run of `shapes`, no longer than `timeout`.
    pub(super) fn enter(&self, shapes: &Shapes, timeout: Option<Duration>) -> Result<Pass<'_>> {
        let pass = match timeout {
            None => Some(self.wait(shapes)),
            Some(timeout) => self.wait_until(shapes, Instant::now() + timeout.min(LONGEST)),
        };
        pass.ok_or_else(too_late)
    }

    /// Waits for the turn of a run that is to be alone, whatever its shapes, no longer than `timeout`.
    pub(super) fn enter_alone(&self, timeout: Option<Duration>) -> Result<Pass<'_>> {
        let pass = match timeout {
            None => Some(self.wait_alone()),
            Some(timeout) => self.wait_alone_until(Instant::now() + timeout.min(LONGEST)),
        };
        pass.ok_or_else(too_late)
    }

    /// Returns a pass if nothing has to end first and no other run has to wait for this one.
    pub(super) fn enter_at_once(&self, shapes: &Shapes) -> Option<Pass<'_>> {
        let _runs = self.is_well(shapes).then(|| self.runs.try_read())??;
        Some(Pass::Beside { _runs })
    }

    /// Keeps how a run of `shapes` ended.
    pub(super) fn learn(&self, shapes: &Shapes, result: &Result<Vec<Tensor>>) {
        match (result, self.known.get(shapes)) {
            (Ok(_), None) => self.known.learn(shapes.clone(), true),
            // Other failures are not of the run; and what is not known is as good as what failed.
            (Err(why), Some(_)) if why.kind == Kind::InvalidArgument => {
                self.known.learn(shapes.clone(), false)
            }
            (Ok(_), Some(_)) | (Err(_), _) => {}
        }
    }

    fn is_well(&self, shapes: &Shapes) -> bool {
        self.known.get(shapes).unwrap_or(false)
    }

    fn wait(&self, shapes: &Shapes) -> Pass<'_> {
        if self.is_well(shapes) {
            return Pass::Beside { _runs: self.runs.read() };
        }
        self.wait_alone()
    }

    fn wait_alone(&self) -> Pass<'_> {
        let _next = self.next_alone.lock();
        Pass::Alone { _runs: self.runs.write(), _next }
    }

    fn wait_alone_until(&self, deadline: Instant) -> Option<Pass<'_>> {
        let _next = self.next_alone.try_lock_until(deadline)?;
        Some(Pass::Alone { _runs: self.runs.try_write_until(deadline)?, _next })
    }

    fn wait_until(&self, shapes: &Shapes, deadline: Instant) -> Option<Pass<'_>> {
        if self.is_well(shapes) {
            return Some(Pass::Beside { _runs: self.runs.try_read_until(deadline)? });
        }
        self.wait_alone_until(deadline)
    }
}

/// Longer timeouts are as good as this one, and could not be added to a time.
const LONGEST: Duration = Duration::from_secs(1 << 30);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use std::sync::mpsc;

    const SOON: Option<Duration> = Some(Duration::from_millis(1));

    fn shapes(length: i64) -> Shapes {
        Shapes::from_slice(&[1, length])
    }

    /// One that has seen runs of these lengths succeed.
    fn knowing(lengths: &[i64]) -> Admission {
        let admission = Admission::default();
        lengths.iter().for_each(|length| admission.learn(&shapes(*length), &Ok(Vec::new())));
        admission
    }

    fn is_late(pass: Result<Pass<'_>>) -> bool {
        pass.is_err_and(|why| why.kind == Kind::DeadlineExceeded)
    }

    #[test]
    fn known_shapes_go_on_beside_each_other_and_new_ones_alone() {
        let admission = knowing(&[1, 2]);
        let beside = [admission.enter(&shapes(1), SOON).unwrap(), admission.enter(&shapes(2), None).unwrap()];
        assert!(beside.iter().all(|pass| !pass.is_alone()));
        assert!(is_late(admission.enter(&shapes(3), SOON)));
        assert!(
            admission.enter_at_once(&shapes(3)).is_none() && admission.enter_at_once(&shapes(1)).is_some()
        );
        drop(beside);
        let alone = admission.enter(&shapes(3), Some(Duration::MAX)).unwrap();
        assert!(alone.is_alone() && admission.enter_at_once(&shapes(1)).is_none());
        assert!(is_late(admission.enter(&shapes(1), SOON)) && is_late(admission.enter(&shapes(3), SOON)));
        drop(alone);
        assert!(admission.enter(&shapes(3), None).unwrap().is_alone());
    }

    #[test]
    fn what_failed_once_is_alone_for_good_and_what_was_late_is_not() {
        let admission = knowing(&[1, 2]);
        admission.learn(&shapes(1), &Err(Error::invalid("shapes that do not fit")));
        admission.learn(&shapes(1), &Ok(Vec::new()));
        admission.learn(&shapes(2), &Err(too_late()));
        let alone = [1, 2].map(|length| admission.enter(&shapes(length), None).unwrap().is_alone());
        assert_eq!(alone, [true, false]);
    }

    #[test]
    fn nobody_waits_for_ever() {
        let admission = &knowing(&[1]);
        let alone = admission.enter(&shapes(3), None).unwrap();
        let (done, is_done) = mpsc::channel();
        std::thread::scope(|scope| {
            for length in [1, 4, 5, 6] {
                let done = done.clone();
                scope.spawn(move || {
                    drop(admission.enter(&shapes(length), None).unwrap());
                    done.send(length).unwrap();
                });
            }
            drop(alone);
            let mut order: Vec<i64> = (0..4).map(|_| is_done.recv().unwrap()).collect();
            order.sort_unstable();
            assert_eq!(order, [1, 4, 5, 6]);
        });
    }
}
