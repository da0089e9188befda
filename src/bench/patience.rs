//! The longest time of a request, watched by one timer for one request after the other.

use super::outcome::{Failed, Failure};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::time::{Sleep, sleep};

/// A timer that is set once for many requests: it rings too early for most of them, and is then set again.
pub(super) struct Patience {
    limit: Duration,
    timer: Pin<Box<Sleep>>,
}

impl Patience {
    pub(super) fn new(limit: Duration) -> Patience {
        Patience { limit, timer: Box::pin(sleep(limit)) }
    }

    /// Returns what `work` returns, or a failure once it has lasted too long, counted from `begun`. Times have to ascend from
    /// call to call.
    pub(super) async fn within<T>(
        &mut self,
        begun: Instant,
        work: impl Future<Output = Result<T, Failed>>,
    ) -> Result<T, Failed> {
        let deadline = begun + self.limit;
        let mut work = pin!(work);
        poll_fn(|context| {
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(done);
            }
            while self.timer.as_mut().poll(context).is_ready() {
                if Instant::now() >= deadline {
                    let text = format!("no answer within {:?}", self.limit);
                    return Poll::Ready(Err(Failed::new(Failure::Timeout, text)));
                }
                self.timer.as_mut().reset(deadline.into());
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    #[tokio::test]
    async fn it_ends_what_lasts_too_long_and_nothing_else() {
        let limit = Duration::from_millis(20);
        let mut patience = Patience::new(limit);
        for _ in 0..3 {
            assert_eq!(patience.within(Instant::now(), ready(Ok(1))).await, Ok(1));
            let begun = Instant::now();
            let late = patience.within(begun, pending::<Result<(), _>>()).await.unwrap_err();
            assert_eq!(late.kind, Failure::Timeout);
            assert!(begun.elapsed() >= limit);
        }
    }
}
