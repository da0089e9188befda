//! The speed at which a client must send a body and take a reply. [`Pace`] and [`Transfer`] are pure and read no clock;
//! [`Meter`] does the waiting.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::time::{self, Sleep, sleep_until};

/// The slowest acceptable transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Longest pause of a transfer; its rate is not measured before it has lasted this long.
    pub grace: Duration,
    /// Lowest average rate after that, in bytes per second since the start; 0 for any.
    pub bytes_per_second: u64,
}

/// A body being received, or a reply being sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    started: Instant,
    progress: Instant,
    bytes: u64,
}

impl Transfer {
    /// Starts a transfer at `now`.
    pub fn new(now: Instant) -> Transfer {
        Transfer { started: now, progress: now, bytes: 0 }
    }

    /// Records that `bytes` more have passed at `now`.
    pub fn moved(&mut self, bytes: usize, now: Instant) {
        if bytes > 0 {
            self.bytes = self.bytes.saturating_add(bytes as u64);
            self.progress = now;
        }
    }
}

impl Pace {
    /// Returns when `transfer` is given up, unless more of it has passed by then.
    pub fn deadline(&self, transfer: &Transfer) -> Instant {
        let stands_still = transfer.progress + self.grace;
        match self.bytes_per_second {
            0 => stands_still,
            _ => stands_still.min(transfer.started + self.time_for(transfer.bytes)),
        }
    }

    /// Returns the longest total time for a transfer of `bytes`.
    pub fn time_for(&self, bytes: u64) -> Duration {
        /// A century: practically forever, and still safe to add to a time.
        const LONGEST: u64 = 100 * 365 * 24 * 3600;
        let seconds = bytes.checked_div(self.bytes_per_second).unwrap_or(LONGEST).min(LONGEST);
        self.grace.saturating_add(Duration::from_secs(seconds))
    }
}

/// Watches one transfer. Costs nothing until it has to wait for the client.
#[derive(Debug, Default)]
pub struct Meter {
    pace: Option<Pace>,
    transfer: Option<Transfer>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Meter {
    /// Makes a meter for a transfer that must keep `pace`, if any.
    pub fn new(pace: Option<Pace>) -> Meter {
        Meter { pace, transfer: None, timer: None }
    }

    /// Records that `bytes` more have passed.
    pub fn moved(&mut self, bytes: usize) {
        if let Some(transfer) = &mut self.transfer {
            transfer.moved(bytes, time::Instant::now().into_std());
        }
    }

    /// Ends the transfer: the next one begins with the next wait for the client.
    pub fn restart(&mut self) {
        (self.transfer, self.timer) = (None, None);
    }

    /// Poll this while waiting for the client; ready when the wait has lasted too long.
    pub fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(pace) = self.pace else { return Poll::Pending };
        let transfer = self.transfer.get_or_insert_with(|| Transfer::new(time::Instant::now().into_std()));
        let deadline = pace.deadline(transfer).into();
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx)
    }

    /// Returns when the wait for the client has lasted too long.
    pub async fn overdue(&mut self) {
        poll_fn(|cx| self.poll_overdue(cx)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);
    const PACE: Pace = Pace { grace: Duration::from_secs(30), bytes_per_second: 1000 };

    #[test]
    fn one_byte_a_second_ends_with_the_grace() {
        let start = Instant::now();
        let mut transfer = Transfer::new(start);
        for second in 1..30 {
            transfer.moved(1, start + second * SECOND);
        }
        assert_eq!(PACE.deadline(&transfer), start + 30 * SECOND);
    }

    #[test]
    fn what_stands_still_ends_however_fast_it_was() {
        let start = Instant::now();
        let mut transfer = Transfer::new(start);
        transfer.moved(1 << 30, start + SECOND);
        assert_eq!(PACE.deadline(&transfer), start + 31 * SECOND);
        transfer.moved(0, start + 2 * SECOND);
        assert_eq!(PACE.deadline(&transfer), start + 31 * SECOND);
    }

    #[test]
    fn without_a_rate_only_standing_still_ends_it() {
        let start = Instant::now();
        let mut transfer = Transfer::new(start);
        transfer.moved(1, start + 3600 * SECOND);
        let any = Pace { bytes_per_second: 0, ..PACE };
        assert_eq!(any.deadline(&transfer), start + 3630 * SECOND);
    }

    proptest! {
        /// A client at the rate, with pauses shorter than the grace, is never given up.
        #[test]
        fn who_keeps_the_pace_goes_on(pauses in prop::collection::vec(1u32..30, 1..50)) {
            let start = Instant::now();
            let mut now = start;
            let mut transfer = Transfer::new(start);
            for pause in pauses {
                now += pause * SECOND;
                prop_assert!(PACE.deadline(&transfer) >= now);
                transfer.moved(1000 * pause as usize, now);
            }
        }

        /// The deadline never moves back.
        #[test]
        fn progress_never_costs_time(moves in prop::collection::vec((0usize..5000, 0u32..100), 0..50)) {
            let mut now = Instant::now();
            let mut transfer = Transfer::new(now);
            let mut before = PACE.deadline(&transfer);
            for (bytes, pause) in moves {
                now += pause * SECOND;
                transfer.moved(bytes, now);
                prop_assert!(PACE.deadline(&transfer) >= before);
                before = PACE.deadline(&transfer);
            }
        }

        #[test]
        fn no_size_or_rate_overflows(bytes: usize, rate: u64, grace in 0u64..1 << 32) {
            let mut transfer = Transfer::new(Instant::now());
            transfer.moved(bytes, Instant::now());
            transfer.moved(bytes, Instant::now());
            let pace = Pace { grace: Duration::from_secs(grace), bytes_per_second: rate };
            prop_assert!(pace.deadline(&transfer) >= transfer.started);
        }
    }
}
