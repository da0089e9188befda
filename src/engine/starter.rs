//! Starts the threads in which models are read and compiled.
//!
//! OpenVINO starts threads when it likes: those that all models share while anything is computed, and some for each
//! model; ONNX Runtime starts some with each session. They get the priority of the thread that starts them. Measured with
//! a MobileNetV2 compiled by OpenVINO at low priority, next to a busy core: a helping thread that it had started then did
//! a tenth of the work of each run.
//! So that part of a load runs in a thread with the priority that the process began with.

use crate::error::{Error, Kind, Result};
use std::sync::mpsc::{self, Sender};
use std::thread::Builder;

type Work = Box<dyn FnOnce() + Send>;

/// Stack size of the threads, in bytes: as of those that load other models.
const STACK_BYTES: usize = 8 << 20;

/// A thread that starts others.
pub(super) struct Starter {
    works: Sender<Work>,
}

impl Starter {
    /// Starts the thread, with the priority of the calling one; it lives as long as the starter.
    pub(super) fn new() -> Result<Starter> {
        let (works, received) = mpsc::channel::<Work>();
        let start = move || {
            for work in received {
                // One that cannot be started drops the work, which `run` sees.
                let _ = Builder::new().name("servable-load".to_owned()).stack_size(STACK_BYTES).spawn(work);
            }
        };
        let started = Builder::new().name("servable-starter".to_owned()).spawn(start);
        started.map_err(|why| {
            Error::new(Kind::ResourceExhausted, format!("No thread could be started: {why}"))
        })?;
        Ok(Starter { works })
    }

    /// Does `work` in a thread of its own and waits for it.
    pub(super) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let (sender, done) = mpsc::sync_channel(1);
        let work = move || {
            // The receiver waits.
            let _ = sender.send(work());
        };
        let failed = || {
            Error::new(
                Kind::ResourceExhausted,
                "No thread could be started to load a model in, or the load failed by a fault of the server",
            )
        };
        self.works.send(Box::new(work)).map_err(|_| failed())?;
        done.recv().map_err(|_| failed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::priority;

    #[test]
    #[cfg(target_os = "linux")]
    fn work_has_the_priority_of_the_beginning() {
        let starter = Starter::new().unwrap();
        let before = priority::niceness();
        let inside = priority::at_low_priority(true, || {
            assert_ne!(priority::niceness(), before);
            starter.run(priority::niceness)
        });
        assert_eq!(inside.unwrap(), before);
    }

    #[test]
    fn a_panic_is_an_error() {
        let starter = Starter::new().unwrap();
        assert_eq!(starter.run::<()>(|| panic!("on purpose")).unwrap_err().kind, Kind::ResourceExhausted);
        assert_eq!(starter.run(|| 3).unwrap(), 3);
    }
}
