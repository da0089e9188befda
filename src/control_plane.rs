//! The seam to the control plane: what Python answers and does for the data plane, on threads that may block.
//!
//! Whoever asks has a [`Desk`] with places of its own, so that nobody takes those of others: the administration, and the
//! console. The threads begin when they are needed, and end when they are not.

use crate::error::{Error, Kind, Result};
use bytes::Bytes;
use std::io;
use std::sync::Arc;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

/// Most threads: at least as many as all desks together have places.
const MOST_THREADS: usize = 128;

/// A question to the control plane, from somebody who may ask it.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// The method: `GET`, `PUT`, …
    pub method: String,
    /// The path, still percent-encoded.
    pub path: String,
    /// The query after the `?`; empty if there is none.
    pub query: String,
    /// The whole body.
    pub body: Bytes,
    /// The media types that are accepted; empty if nothing is said of them.
    pub accept: String,
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The media type.
    pub content_type: String,
    /// The content.
    pub bytes: Vec<u8>,
}

/// The reason why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The kind of the error.
    pub kind: Kind,
    /// What is wrong.
    pub message: String,
    /// What to do about it; empty if there is no advice.
    pub hint: String,
}

impl Refused {
    /// Makes a reason without advice.
    pub fn new(kind: Kind, message: impl Into<String>) -> Refused {
        Refused { kind, message: message.into(), hint: String::new() }
    }

    /// Adds advice on what to do about it.
    pub fn hint(self, hint: impl Into<String>) -> Refused {
        Refused { hint: hint.into(), ..self }
    }
}

/// Answers questions; may block.
pub type Handler = Arc<dyn Fn(&Question) -> Result<Answer, Refused> + Send + Sync>;

/// The threads of the control plane.
#[derive(Debug)]
pub struct ControlPlane {
    threads: Handle,
    /// Owns the threads; nothing else runs on it. Taken when this is dropped.
    runtime: Option<Runtime>,
}

impl ControlPlane {
    /// Makes it without a thread.
    pub fn new() -> io::Result<Arc<ControlPlane>> {
        let runtime = Builder::new_current_thread()
            .thread_name("servable-manage")
            .max_blocking_threads(MOST_THREADS)
            .build()?;
        Ok(Arc::new(ControlPlane { threads: runtime.handle().clone(), runtime: Some(runtime) }))
    }

    /// Returns a desk with so many `places`.
    pub fn desk(self: &Arc<ControlPlane>, places: usize) -> Desk {
        Desk { plane: self.clone(), places: Arc::new(Semaphore::new(places)), most: places }
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Work that is under way goes on, and nobody waits for it.
            runtime.shutdown_background();
        }
    }
}

/// Where one kind of questions is asked. Clones share the places.
#[derive(Clone, Debug)]
pub struct Desk {
    plane: Arc<ControlPlane>,
    places: Arc<Semaphore>,
    most: usize,
}

/// A place at a desk, which nobody else has until it is dropped.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

/// The reasons why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPlace {
    /// Others have them all.
    Taken,
    /// The desk is closed.
    Closed,
}

impl Desk {
    /// Returns the number of places.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Takes a place that is free now.
    pub fn take(&self) -> Result<Place, NoPlace> {
        match self.places.clone().try_acquire_owned() {
            Ok(permit) => Ok(Place { _permit: permit }),
            Err(TryAcquireError::NoPermits) => Err(NoPlace::Taken),
            Err(TryAcquireError::Closed) => Err(NoPlace::Closed),
        }
    }

    /// Gives nobody a place from now on. Returns whether all are free.
    pub fn close(&self) -> bool {
        self.places.close();
        self.places.available_permits() == self.most
    }

    /// Does `work`, which may block, on a thread. It goes on if nobody waits for it any more, so it should own the place
    /// that it needs.
    ///
    /// # Errors
    /// INTERNAL if `work` panicked.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        self.plane
            .threads
            .spawn_blocking(work)
            .await
            .map_err(|_panicked| Error::internal("The server failed on this request; its log has the reason"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[tokio::test]
    async fn work_is_done_on_threads_of_the_control_plane() {
        let desk = ControlPlane::new().unwrap().desk(1);
        let name = || std::thread::current().name().map(str::to_owned);
        assert_eq!(desk.run(name).await.unwrap().as_deref(), Some("servable-manage"));
        let failed = desk.run(|| -> () { panic!("as it was told") }).await.unwrap_err();
        assert_eq!(failed.kind, Kind::Internal);
        assert_eq!(desk.run(|| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn a_desk_has_so_many_places_and_others_have_theirs() {
        let plane = ControlPlane::new().unwrap();
        let (desk, other) = (plane.desk(1), plane.desk(1));
        assert_eq!(desk.most(), 1);
        let place = desk.take().unwrap();
        assert_eq!(desk.clone().take().err(), Some(NoPlace::Taken));
        assert!(other.take().is_ok());
        drop(place);
        assert!(desk.take().is_ok());
    }

    #[tokio::test]
    async fn a_closed_desk_says_whether_work_goes_on() {
        let plane = ControlPlane::new().unwrap();
        let idle = plane.desk(2);
        assert!(idle.close());
        assert_eq!(idle.take().err(), Some(NoPlace::Closed));

        let busy = plane.desk(2);
        let (may_go_on, waits) = channel::<()>();
        let place = busy.take().unwrap();
        let work = busy.run(move || {
            let _place = place;
            waits.recv().is_ok()
        });
        assert!(!busy.close());
        may_go_on.send(()).unwrap();
        assert_eq!(work.await, Ok(true));
        assert!(busy.close());
    }
}
