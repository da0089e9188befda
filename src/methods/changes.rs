//! Changes of what is served that clients ask for: loads, unloads, another configuration.
//!
//! They take as long as models take to load, so each has a thread of its own, which nothing waits for but the client: not
//! the thread that serves it, and not the server's end.

use crate::error::{Error, Kind, Result, guarded};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use tokio::sync::oneshot;

/// Most at once, of all clients together.
const MOST: usize = 32;

/// The changes that are under way.
#[derive(Debug, Default)]
pub struct Changes {
    count: Arc<AtomicUsize>,
}

/// The client that waits for a change.
#[derive(Clone, Debug, Default)]
pub struct Asker(Arc<AtomicBool>);

impl Asker {
    /// Returns whether it waits no longer, so that a change need not wait for its outcome either.
    pub fn has_left(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// Held while the client waits.
struct Waiting(Asker);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0.store(true, Relaxed);
    }
}

/// One change that is under way.
struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    fn begin(count: &Arc<AtomicUsize>) -> Option<UnderWay> {
        let one_more = |count| (count < MOST).then_some(count + 1);
        count.fetch_update(Relaxed, Relaxed, one_more).ok().map(|_| UnderWay(count.clone()))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Changes {
    /// Carries out `change`, which may block, on a thread of its own. Whoever drops this has left; the change goes on.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED if too many are under way, or there is no thread to be had; that of the change.
    pub async fn run(&self, change: impl FnOnce(&Asker) -> Result<()> + Send + 'static) -> Result<()> {
        let under_way = UnderWay::begin(&self.count).ok_or_else(|| {
            let message =
                format!("{MOST} loads, unloads and reloads are under way, the most at once: try again");
            Error::new(Kind::ResourceExhausted, message)
        })?;
        let asker = Asker::default();
        let _waiting = Waiting(asker.clone());
        let (tell, told) = oneshot::channel();
        let work = move || {
            let done = guarded(|| change(&asker));
            drop(under_way);
            // The client may have left.
            let _told = tell.send(done);
        };
        thread::Builder::new().name("servable-change".to_owned()).spawn(work).map_err(|why| {
            Error::new(Kind::ResourceExhausted, format!("No thread can be started for the change: {why}"))
        })?;
        told.await.unwrap_or_else(|_| Err(Error::internal("The change ended without an outcome")))
    }

    /// Returns whether any is under way.
    pub fn are_under_way(&self) -> bool {
        self.count.load(Relaxed) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    /// Longest time for what happens at once.
    const SOON: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_change_has_an_outcome() {
        let changes = Changes::default();
        assert_eq!(changes.run(|_| Ok(())).await, Ok(()));
        let refused = Err(Error::not_found("there is none"));
        let told = refused.clone();
        assert_eq!(changes.run(|_| told).await, refused);
        assert_eq!(changes.run(|_| panic!("on purpose")).await.unwrap_err().kind, Kind::Internal);
        assert!(!changes.are_under_way());
    }

    #[tokio::test]
    async fn who_leaves_is_not_waited_for_and_the_change_learns_of_it() {
        let changes = Changes::default();
        let (end, ended) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let change = changes.run(move |asker| {
            let _nobody_sends = ended.recv();
            let _told = tell.send(asker.has_left());
            Ok(())
        });
        assert!(tokio::time::timeout(Duration::from_millis(10), change).await.is_err());
        assert!(changes.are_under_way());
        drop(end);
        assert!(told.recv_timeout(SOON).unwrap());
    }

    #[tokio::test]
    async fn they_are_limited() {
        let changes = Changes::default();
        let (end, ended) = mpsc::channel::<()>();
        let ended = Arc::new(std::sync::Mutex::new(ended));
        let mut waiting = Vec::new();
        for _ in 0..MOST {
            let ended = ended.clone();
            let mut change = Box::pin(changes.run(move |_| {
                let _nobody_sends = ended.lock().unwrap().recv();
                Ok(())
            }));
            assert!(polled_once(&mut change).await.is_none());
            waiting.push(change);
        }
        assert_eq!(changes.run(|_| Ok(())).await.unwrap_err().kind, Kind::ResourceExhausted);
        drop(end);
        for change in waiting {
            assert_eq!(change.await, Ok(()));
        }
        assert_eq!(changes.run(|_| Ok(())).await, Ok(()));
    }

    /// Polls `future` once; returns its outcome if it has one.
    async fn polled_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        std::future::poll_fn(|cx| match std::pin::Pin::new(&mut *future).poll(cx) {
            std::task::Poll::Ready(outcome) => std::task::Poll::Ready(Some(outcome)),
            std::task::Poll::Pending => std::task::Poll::Ready(None),
        })
        .await
    }
}
