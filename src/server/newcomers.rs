//! Connections that have just come take turns in a thread, so that those which it serves already do not wait for all of
//! them: a storm of 2,000 connections, each with a request, would keep every other client waiting for 2,000 requests.
//!
//! A thread serves what is ready in one round after the other. In each round the first steps of new connections (their
//! handshake, their first request) may take [`ROUND`], or a third of the thread's time if its rounds are longer.
//! Nothing is lost by it when there is nothing else to do: the next round follows at once.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Mutex, PoisonError};
use std::task::ready;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

/// Steps of a new connection that wait for their turn: one finds no data yet, one reads a request or begins a handshake,
/// one ends a handshake.
const STEPS: u32 = 3;
/// Shortest and longest time for new connections in a round, in µs.
const ROUND: [u32; 2] = [250, 5_000];
/// Most that is owed, in µs: so much longer than these do new connections not wait for a step that took long.
const MOST_OWED: u64 = 20_000;
/// Time that is set aside for a step until it is known how long it took, in µs. A request to a tiny model takes about this.
const STEP: u32 = 50;

/// What new connections may take of a thread's time. One for each thread.
pub(super) struct Newcomers {
    /// Microseconds that are left in this round.
    left: Semaphore,
    /// Microseconds that steps took beyond what was left.
    debt: Mutex<u64>,
    /// A step has taken from `left`.
    taken: Notify,
}

impl Default for Newcomers {
    fn default() -> Newcomers {
        Newcomers { left: Semaphore::new(ROUND[0] as usize), debt: Mutex::default(), taken: Notify::new() }
    }
}

impl Newcomers {
    /// Serves a new connection: the first [`STEPS`] polls of `connection` wait for their turns. It stays where it is, as it is
    /// large.
    pub(super) async fn serve<F: Future>(&self, mut connection: Pin<&mut F>) -> F::Output {
        let mut waiting = STEPS;
        let mut turn = pin!(Some(self.left.acquire_many(STEP)));
        poll_fn(|cx| {
            let Some(granted) = turn.as_mut().as_pin_mut() else { return connection.as_mut().poll(cx) };
            // The semaphore is never closed.
            if let Ok(granted) = ready!(granted.poll(cx)) {
                granted.forget();
            }
            let began = Instant::now();
            let polled = connection.as_mut().poll(cx);
            self.took(began.elapsed());
            waiting -= 1;
            turn.set((waiting > 0).then(|| self.left.acquire_many(STEP)));
            polled
        })
        .await
    }

    /// Corrects what was set aside for a step that took this long.
    fn took(&self, time: Duration) {
        let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        if micros <= STEP {
            self.left.add_permits((STEP - micros) as usize);
        } else {
            let beyond = (micros - STEP) as usize;
            let owed = beyond - self.left.forget_permits(beyond);
            let mut debt = self.debt.lock().unwrap_or_else(PoisonError::into_inner);
            *debt = (*debt + owed as u64).min(MOST_OWED);
        }
        self.taken.notify_one();
    }

    /// Gives out the time of each round, for ever. It has to run in the thread of the connections.
    pub(super) async fn give_turns(&self) {
        loop {
            self.taken.notified().await;
            let began = Instant::now();
            // Returns once all that was ready has had its turn, and the system has been asked what is ready now.
            tokio::task::yield_now().await;
            let mut debt = self.debt.lock().unwrap_or_else(PoisonError::into_inner);
            let (given, owed) = share(began.elapsed(), *debt);
            *debt = owed;
            drop(debt);
            self.left.add_permits((given as usize).saturating_sub(self.left.available_permits()));
            if self.left.available_permits() < STEP as usize {
                // There may be nobody who could take a turn and wake this.
                self.taken.notify_one();
            }
        }
    }
}

/// Returns what new connections may take in the round after one that took `round`, and what they still owe, in µs.
fn share(round: Duration, debt: u64) -> (u64, u64) {
    let third = u64::try_from(round.as_micros()).unwrap_or(u64::MAX) / 3;
    let given = third.clamp(u64::from(ROUND[0]), u64::from(ROUND[1]));
    (given.saturating_sub(debt), debt.saturating_sub(given))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;
    use std::rc::Rc;
    use tokio::task::{LocalSet, spawn_local, yield_now};
    use tokio::time::advance;

    /// Serves two hundred newcomers, each of whose requests takes `long`, beside a client that asks in every round; returns how
    /// many of them were served between two of its requests, at most.
    async fn most_between(long: Duration) -> usize {
        const COUNT: usize = 200;
        let newcomers = Rc::new(Newcomers::default());
        let served = Rc::new(Cell::new(0));
        let turns = newcomers.clone();
        spawn_local(async move { turns.give_turns().await });
        for _ in 0..COUNT {
            let (newcomers, served) = (newcomers.clone(), served.clone());
            spawn_local(async move {
                let connection = async {
                    served.set(served.get() + 1);
                    advance(long).await;
                };
                newcomers.serve(pin!(connection)).await;
            });
        }
        let (mut most, mut rounds) = (0, 0);
        while served.get() < COUNT {
            let before = served.get();
            yield_now().await;
            most = most.max(served.get() - before);
            rounds += 1;
            assert!(rounds < 100_000, "{} wait for ever, with steps of {long:?}", COUNT - before);
        }
        most
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_served_already_waits_for_few_of_many_newcomers() {
        let most = LocalSet::new().run_until(most_between(Duration::from_micros(60))).await;
        assert!((1..=12).contains(&most), "{most} in a round");
    }

    #[tokio::test(start_paused = true)]
    async fn of_those_that_take_long_there_are_fewer() {
        let most = LocalSet::new().run_until(most_between(Duration::from_millis(3))).await;
        assert!((1..=6).contains(&most), "{most} in a round");
    }

    #[tokio::test(start_paused = true)]
    async fn all_are_served_however_long_their_steps_are() {
        for long in (0..2_000).step_by(7) {
            LocalSet::new().run_until(most_between(Duration::from_micros(long))).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_its_turn_can_leave() {
        let newcomers = Newcomers::default();
        newcomers.left.forget_permits(ROUND[0] as usize);
        let connection = pin!(async {});
        let waits = newcomers.serve(connection);
        assert!(tokio::time::timeout(Duration::from_secs(1), waits).await.is_err(), "nothing is left");
        newcomers.left.add_permits(STEP as usize);
        newcomers.serve(pin!(async {})).await;
    }

    proptest! {
        #[test]
        fn a_debt_is_paid_and_a_share_is_bounded(round in 0_u64..1_000_000, debt in 0_u64..1_000_000_000) {
            let (given, owed) = share(Duration::from_micros(round), debt);
            prop_assert!(given <= u64::from(ROUND[1]));
            prop_assert!(owed < debt || debt == 0);
            prop_assert!(given == 0 || owed == 0);
            prop_assert!(debt > 0 || given >= u64::from(ROUND[0]));
        }
    }
}
