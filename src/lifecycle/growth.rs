//! What a version takes of the memory beyond its load: that of the engines which its signatures move to.

use super::meter::Meter;
use crate::engine::Preparation;
use crate::engine::acceleration::report::{Progress, Report};
use crate::servable::Servable;
use std::sync::{Arc, Weak};

/// A preparation whose memory counts for its version.
pub(super) struct Measured {
    pub(super) preparation: Arc<dyn Preparation>,
    pub(super) version: Weak<Servable>,
    pub(super) meter: Arc<Meter>,
}

impl Measured {
    /// Returns for how many signatures it is decided where they run.
    fn decided(&self) -> usize {
        let is_decided = |report: &Report| matches!(report.progress, Progress::Moved | Progress::Stays);
        self.preparation.reports().iter().filter(|report| is_decided(report)).count()
    }
}

impl Preparation for Measured {
    fn prepare(&self) -> bool {
        let (decided, beside) = (self.decided(), self.meter.beside());
        let done = self.preparation.prepare();
        // One that has decided nothing has kept nothing. A session that rests meanwhile counts on: any run may need it.
        if self.decided() != decided
            && let (Some(version), Some(bytes)) = (self.version.upgrade(), beside.grown())
        {
            version.grows(bytes);
        }
        done
    }

    fn reports(&self) -> Vec<Report> {
        self.preparation.reports()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::batch::Scheduler;
    use crate::engine::fake;
    use crate::host::held::Block;
    use crate::servable::Resources;
    use crate::servable::placement::Policy;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    const SIZE: usize = 256 << 20;

    /// Keeps a block of memory from each call on; the second one decides.
    #[derive(Default)]
    struct Second(Mutex<Vec<Block>>);

    impl Second {
        fn blocks(&self) -> MutexGuard<'_, Vec<Block>> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    impl Preparation for Second {
        fn prepare(&self) -> bool {
            let mut blocks = self.blocks();
            blocks.push(Block::of(SIZE));
            blocks.len() == 2
        }

        fn reports(&self) -> Vec<Report> {
            vec![Report {
                signature: "s".to_owned(),
                progress: if self.blocks().len() < 2 { Progress::Waiting } else { Progress::Moved },
                engine: "openvino".to_owned(),
                reason: String::new(),
                candidates: Vec::new(),
                refused: 0,
            }]
        }
    }

    /// Other tests allocate meanwhile, though not as much.
    #[test]
    fn what_a_decision_has_taken_counts_for_its_version() {
        let scheduler = Scheduler::with_slots(1);
        let resources = Resources::plain(Policy::Caller, &scheduler);
        let (version, _drain) = Servable::new("m".to_owned(), 3, fake::model(|| {}), resources);
        version.takes(1000);
        let measured = Measured {
            preparation: Arc::new(Second::default()),
            version: Arc::downgrade(&version),
            meter: Arc::default(),
        };
        assert!(!measured.prepare());
        assert_eq!((version.grown(), version.taken()), (0, Some(1000)), "nothing is decided");
        assert!(measured.prepare());
        let grown = version.grown();
        assert!(grown.abs_diff(SIZE as i64) < SIZE as u64 / 2, "{grown}");
        assert_eq!(version.taken(), 1000_u64.checked_add_signed(grown));
    }

    #[test]
    fn a_version_that_is_gone_takes_nothing() {
        let measured = Measured {
            preparation: Arc::new(Second::default()),
            version: Weak::new(),
            meter: Arc::default(),
        };
        assert!(!measured.prepare() && measured.prepare());
    }
}
