//! The task of one stream: a call from its headers to the end of its reply. It ends if the client does not take the
//! reply.

use crate::connections::Connection;
use crate::memory::Reservation;
use crate::metrics::EdgeLimit;
use crate::pace::{Meter, Pace};
use bytes::Bytes;
use hyper::rt::Executor;
use std::cell::RefCell;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};

tokio::task_local! {
    /// The reply of the stream that this task serves.
    static REPLY: RefCell<ReplyProgress>;
}

/// Size from which pieces of replies are followed until the client has taken them, in bytes.
const FOLLOWED: usize = 8 << 10;

/// The progress of a stream's reply.
#[derive(Debug, Default)]
struct ReplyProgress {
    has_begun: bool,
    /// True for a reply of many messages: once those that were handed over are taken, the client owes nothing until the
    /// next one.
    pauses: bool,
    /// Bytes handed to the HTTP/2 library that are followed.
    handed_over: u64,
    /// Bytes handed over that are not.
    small: u64,
    /// The followed bytes that the client has taken.
    taken: Option<Arc<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    bytes: AtomicU64,
    /// The task waiting for more to be taken.
    waits: Mutex<Option<Waker>>,
}

impl ReplyProgress {
    /// Counts a piece of `bytes` bytes; returns the counter of taken bytes if the piece is followed.
    fn hand_over(&mut self, bytes: usize) -> Option<Arc<Taken>> {
        self.has_begun = true;
        if bytes < FOLLOWED && !self.pauses {
            self.small += bytes as u64;
            return None;
        }
        self.handed_over += bytes as u64;
        Some(self.taken.get_or_insert_default().clone())
    }

    fn progress(&self) -> u64 {
        self.small + self.taken.as_ref().map_or(0, |taken| taken.bytes.load(Relaxed))
    }

    /// Returns whether the client has taken everything that is followed; otherwise `cx` is woken when it takes more.
    fn is_taken(&self, cx: &Context<'_>) -> bool {
        self.taken.as_ref().is_none_or(|taken| {
            *taken.waits.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
            taken.bytes.load(Relaxed) == self.handed_over
        })
    }
}

/// A followed piece of a reply.
struct Piece {
    bytes: Bytes,
    taken: Arc<Taken>,
    /// The reservation of the whole reply: a piece may keep all of it in memory.
    _memory: Option<Arc<Reservation>>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.taken.bytes.fetch_add(self.bytes.len() as u64, Relaxed);
        let waits = self.taken.waits.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = waits {
            task.wake();
        }
    }
}

/// Prepares the next `piece` of the reply of the current task's stream to be handed to the HTTP/2 library.
pub(crate) fn handed_over(piece: Bytes, memory: &Option<Arc<Reservation>>) -> Bytes {
    // Bodies polled outside a stream's task are not watched.
    let taken = REPLY.try_with(|reply| reply.borrow_mut().hand_over(piece.len())).ok().flatten();
    match taken {
        Some(taken) => Bytes::from_owner(Piece { bytes: piece, taken, _memory: memory.clone() }),
        None => piece,
    }
}

/// The same for a piece of one of many messages, each of which is followed, however small.
pub(crate) fn handed_over_of_many(piece: Bytes, memory: &Option<Arc<Reservation>>) -> Bytes {
    // Outside a stream's task nothing is watched.
    let _watched = REPLY.try_with(|reply| reply.borrow_mut().pauses = true);
    handed_over(piece, memory)
}

/// Runs each stream of a connection in a task of its own.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    /// Required pace of replies.
    pub(super) pace: Option<Pace>,
    pub(super) connection: Arc<Connection>,
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let stream = Some(Box::pin(stream));
        let connection = self.connection.clone();
        let watched = Watched { stream, connection, meter: Meter::new(self.pace), before: 0 };
        tokio::spawn(REPLY.scope(RefCell::default(), watched));
    }
}

/// A stream whose reply must be taken at a pace. Dropping it before its end resets it; what the library still holds
/// after its end goes only with the connection.
struct Watched<F> {
    /// `None` after its end.
    stream: Option<Pin<Box<F>>>,
    connection: Arc<Connection>,
    meter: Meter,
    /// The progress of the reply at the last check.
    before: u64,
}

impl<F: Future<Output = ()>> Watched<F> {
    /// Ready once the client has failed to take the reply in time.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let progress = REPLY.try_with(|reply| reply.borrow().progress()).unwrap_or(0);
        self.meter.moved(usize::try_from(progress - self.before).unwrap_or(usize::MAX));
        self.before = progress;
        self.meter.poll_overdue(cx)
    }
}

impl<F: Future<Output = ()>> Future for Watched<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(stream) = &mut self.stream
            && stream.as_mut().poll(cx).is_ready()
        {
            self.stream = None;
        }
        let has_ended = self.stream.is_none();
        let of = |reply: &RefCell<ReplyProgress>| {
            let reply = reply.borrow();
            let is_taken = (has_ended || reply.pauses) && reply.is_taken(cx);
            let pauses = reply.pauses && is_taken && !has_ended;
            (reply.has_begun && !pauses, has_ended && is_taken)
        };
        match REPLY.try_with(of) {
            Ok((true, false)) => {}
            Ok((false, _)) if !has_ended => {
                self.meter.restart();
                return Poll::Pending;
            }
            Ok(_) | Err(_) => return Poll::Ready(()),
        }
        ready!(self.poll_overdue(cx));
        self.connection.reached(EdgeLimit::ReplyTime);
        if has_ended {
            self.connection.close();
        }
        tracing::debug!("a reply was not taken in time: its stream is reset");
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connections::Connections;
    use crate::memory::Budget;
    use std::future::{pending, poll_fn};
    use std::time::Duration;
    use tokio::sync::oneshot;
    use tokio::time::sleep;

    const PACE: Pace = Pace { grace: Duration::from_secs(30), bytes_per_second: 100 };

    /// Runs `stream`; returns whether it still exists after `seconds`.
    async fn lasts(seconds: u64, stream: impl Future<Output = ()> + Send + 'static) -> bool {
        let (alive, mut gone) = oneshot::channel::<()>();
        let stream = async move {
            let _alive = alive;
            stream.await;
        };
        let connection = Connections::new(1, Budget::new(1 << 30)).accepted().connection.clone();
        Streams { pace: Some(PACE), connection }.execute(stream);
        sleep(Duration::from_secs(seconds)).await;
        matches!(gone.try_recv(), Err(oneshot::error::TryRecvError::Empty))
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_whose_reply_stands_still_is_ended() {
        let stuck = || async {
            let _held = handed_over(vec![0; FOLLOWED].into(), &None);
            pending().await
        };
        assert!(lasts(29, stuck()).await);
        assert!(!lasts(31, stuck()).await);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_has_no_reply_yet_is_not() {
        assert!(lasts(3600, pending()).await);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_waits_between_messages_goes_on_until_one_is_not_taken() {
        let many = |taken: usize| async move {
            for _ in 0..taken {
                handed_over_of_many(vec![0; 10].into(), &None);
                sleep(Duration::from_secs(50)).await;
            }
            let _held = handed_over_of_many(vec![0; 10].into(), &None);
            pending().await
        };
        assert!(lasts(529, many(10)).await);
        assert!(!lasts(531, many(10)).await);
        assert!(!lasts(31, many(0)).await);
        assert!(lasts(29, many(0)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn one_whose_reply_is_taken_slowly_but_steadily_goes_on() {
        let slow = |each: usize| async move {
            loop {
                handed_over(vec![0; each].into(), &None);
                sleep(Duration::from_secs(20)).await;
                // The library is woken when the client takes something.
                poll_fn(|_| Poll::Ready(())).await;
            }
        };
        assert!(lasts(600, slow(2000)).await);
        assert!(!lasts(600, slow(100)).await);
    }
}
