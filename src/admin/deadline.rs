//! The time limit of a client: to send its next request in full, and to read a reply.

use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// A deadline that runs while the server waits for the client, and is lifted while the client waits for the server.
#[derive(Debug)]
pub(super) struct Deadline {
    within: Duration,
    until: watch::Sender<Option<Instant>>,
}

impl Deadline {
    /// Starts a deadline that passes `within` from now.
    pub(super) fn new(within: Duration) -> Deadline {
        Deadline { within, until: watch::Sender::new(Some(Instant::now() + within)) }
    }

    /// Starts the full time again, from now.
    pub(super) fn restart(&self) {
        self.until.send_replace(Some(Instant::now() + self.within));
    }

    /// Suspends the deadline while the client waits.
    pub(super) fn lift(&self) {
        self.until.send_replace(None);
    }

    #[cfg(test)]
    pub(super) fn is_running(&self) -> bool {
        self.until.borrow().is_some()
    }

    /// Completes once the deadline has passed.
    pub(super) async fn passed(&self) {
        let mut until = self.until.subscribe();
        loop {
            let now = *until.borrow_and_update();
            match now {
                Some(time) if time <= Instant::now() => return,
                Some(time) => tokio::select! {
                    () = sleep_until(time) => {}
                    // Cannot fail: `self` owns the sender.
                    _changed = until.changed() => {}
                },
                None => {
                    let _changed = until.changed().await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn it_passes_in_time_whatever_came_before() {
        let deadline = Deadline::new(30 * SECOND);
        let start = Instant::now();
        let changes = async {
            tokio::time::sleep(29 * SECOND).await;
            deadline.lift();
            tokio::time::sleep(3600 * SECOND).await;
            deadline.restart();
            tokio::time::sleep(29 * SECOND).await;
            deadline.restart();
        };
        tokio::join!(changes, deadline.passed());
        assert_eq!(start.elapsed().as_secs(), 29 + 3600 + 29 + 30);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_at_the_last_moment_is_not_late() {
        let deadline = Deadline::new(SECOND);
        tokio::time::sleep(SECOND).await;
        deadline.lift();
        assert!(tokio::time::timeout(3600 * SECOND, deadline.passed()).await.is_err());
    }
}
