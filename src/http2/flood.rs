//! Budgets for HTTP/2 frames that cost a client next to nothing but keep a core busy: PRIORITY, WINDOW_UPDATE, PING,
//! SETTINGS, resets, tiny pieces of messages. Pure: reads no clock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Frames that a connection may send beyond those it has earned.
const MOST: u32 = 1000;
/// The same for a connection opened during a flood: a client that was cut off gets no fresh budget by reconnecting.
/// Clients with real calls start with fewer than twenty.
const FEW: u32 = 100;
/// Unearned frames that ended connections may have sent in all, and the number forgiven per second: clients that open a
/// connection for each call leave a few each time.
const MOST_IN_ALL: u32 = 10_000;
/// Time after which a flood is over, counted from the last connection cut off or overdraft of the common budget.
const FLOOD_GOES_ON: Duration = Duration::from_secs(10);
/// Frames earned per second; they take about a tenth of a millisecond of a core.
const IN_A_SECOND: u32 = 500;
/// Frames earned per call, which may be prioritised, reset, come in pieces, and have its window updated and pings with it.
/// They take a small part of the time that the call takes.
const BY_A_CALL: u32 = 8;
/// Bytes of replies that earn one frame: clients send at most two window updates and a ping for each piece they take,
/// and pieces are larger.
const BYTES_FOR_ONE: usize = 1 << 10;
/// Size below which a piece of a message, unless it is the last, counts as such a frame.
const TINY: usize = 32;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 0x1;

/// Detects whether clients flood a server: one connection by overdrawing its budget, or many that end before that.
#[derive(Debug, Default)]
pub(crate) struct Floods {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Time of the last connection cut off, or of the last overdraft of the common budget.
    last: Option<Instant>,
    /// Unearned frames of ended connections, less those forgiven up to `paid`.
    unearned: u32,
    paid: Option<Instant>,
}

impl Floods {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, now: Instant) {
        self.state().last = Some(now);
    }

    /// Records the end of a connection that sent `frames` unearned frames.
    fn ended(&self, frames: u32, now: Instant) {
        let mut state = self.state();
        let before = state.paid.unwrap_or(now);
        let passed = now.saturating_duration_since(before).as_micros();
        let paid = u32::try_from(passed * u128::from(MOST_IN_ALL) / 1_000_000).unwrap_or(u32::MAX);
        state.unearned = state.unearned.saturating_sub(paid).saturating_add(frames);
        // The rest of a frame's time carries over, however often connections end.
        state.paid = Some(before + Duration::from_secs(1) * paid / MOST_IN_ALL);
        if state.unearned > MOST_IN_ALL {
            (state.unearned, state.last) = (MOST_IN_ALL, Some(now));
        }
    }

    /// Returns whether clients flood at `now`.
    pub(crate) fn go_on(&self, now: Instant) -> bool {
        self.state().last.is_some_and(|last| now.saturating_duration_since(last) < FLOOD_GOES_ON)
    }
}

/// The frames that one connection may still send.
#[derive(Debug)]
pub(super) struct FrameBudget {
    floods: Arc<Floods>,
    /// Frames at the start, and frames left.
    given: u32,
    left: u32,
    /// Time up to which frames have been earned.
    refilled: Instant,
    /// Bytes of replies that have not yet earned a frame.
    bytes: usize,
    is_overdrawn: bool,
}

impl FrameBudget {
    /// Makes the budget of a connection opened at `now` to a server with these `floods`.
    pub(super) fn new(floods: Arc<Floods>, now: Instant) -> FrameBudget {
        let left = if floods.go_on(now) { FEW } else { MOST };
        FrameBudget { floods, given: left, left, refilled: now, bytes: 0, is_overdrawn: false }
    }

    /// Counts a frame with `bytes` of payload. `now` is called only when the budget is spent.
    pub(super) fn frame(&mut self, kind: u8, flags: u8, bytes: usize, now: impl FnOnce() -> Instant) {
        match kind {
            HEADERS => self.calls(1),
            DATA if bytes >= TINY || flags & END_STREAM != 0 => {}
            _ => {
                if self.left == 0 && !self.is_overdrawn {
                    self.refill_or_overdraw(now());
                }
                self.left = self.left.saturating_sub(1);
            }
        }
    }

    /// Earns frames for `calls`.
    pub(super) fn calls(&mut self, calls: u32) {
        self.earn(calls.saturating_mul(BY_A_CALL));
    }

    /// Earns frames for `bytes` of replies taken.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.earn(u32::try_from(self.bytes / BYTES_FOR_ONE).unwrap_or(MOST));
        self.bytes %= BYTES_FOR_ONE;
    }

    /// Returns whether the connection has sent more than it may.
    pub(super) fn is_overdrawn(&self) -> bool {
        self.is_overdrawn
    }

    /// Settles the budget at the end of the connection.
    pub(super) fn end(&self, now: Instant) {
        self.floods.ended(self.given.saturating_sub(self.left), now);
    }

    fn earn(&mut self, frames: u32) {
        self.left = self.left.saturating_add(frames).min(MOST);
    }

    fn refill_or_overdraw(&mut self, now: Instant) {
        self.refill(now);
        if self.left == 0 {
            self.is_overdrawn = true;
            self.floods.note(now);
        }
    }

    fn refill(&mut self, now: Instant) {
        let earned =
            now.saturating_duration_since(self.refilled).as_millis() * u128::from(IN_A_SECOND) / 1000;
        let earned = u32::try_from(earned).unwrap_or(MOST);
        // The rest of a frame's time carries over.
        self.refilled += Duration::from_secs(1) * earned / IN_A_SECOND;
        self.earn(earned);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PING: u8 = 6;

    fn flood(budget: &mut FrameBudget, frames: u32, now: Instant) -> bool {
        (0..frames).for_each(|_| budget.frame(PING, 0, 8, || now));
        budget.is_overdrawn()
    }

    #[test]
    fn a_flood_overdraws_it() {
        let start = Instant::now();
        let mut budget = FrameBudget::new(Arc::default(), start);
        assert!(!flood(&mut budget, MOST, start));
        assert!(flood(&mut budget, 1, start));
        assert!(flood(&mut budget, 1, start + Duration::from_secs(3600)));
    }

    #[test]
    fn time_calls_and_replies_earn_frames() {
        let start = Instant::now();
        let mut budget = FrameBudget::new(Arc::default(), start);
        assert!(!flood(&mut budget, MOST, start));
        assert!(!flood(&mut budget, 2 * IN_A_SECOND, start + Duration::from_secs(2)));
        budget.frame(HEADERS, 0, 100, || start);
        budget.calls(2);
        assert!(!flood(&mut budget, 3 * BY_A_CALL, start));
        (0..10).for_each(|_| budget.wrote(BYTES_FOR_ONE / 2));
        assert!(!flood(&mut budget, 5, start));
        assert!(flood(&mut budget, 1, start));
    }

    #[test]
    fn messages_are_free_but_not_in_tiny_pieces() {
        let start = Instant::now();
        let mut budget = FrameBudget::new(Arc::default(), start);
        for _ in 0..2 * MOST {
            budget.frame(DATA, 0, TINY, || start);
            budget.frame(DATA, END_STREAM, 0, || start);
        }
        assert!(!budget.is_overdrawn());
        (0..=MOST).for_each(|_| budget.frame(DATA, 0, TINY - 1, || start));
        assert!(budget.is_overdrawn());
    }

    #[test]
    fn who_comes_back_while_a_flood_goes_on_begins_with_little() {
        let start = Instant::now();
        let floods = Arc::new(Floods::default());
        let before = FrameBudget::new(floods.clone(), start);
        assert!(flood(&mut FrameBudget::new(floods.clone(), start), MOST + 1, start));
        let at_once = FrameBudget::new(floods.clone(), start);
        let later = FrameBudget::new(floods, start + FLOOD_GOES_ON);
        for (mut budget, may_send) in [(before, MOST), (at_once, FEW), (later, MOST)] {
            assert!(!flood(&mut budget, may_send, start));
            assert!(flood(&mut budget, 1, start));
        }
    }

    #[test]
    fn many_connections_that_spend_what_they_began_with_are_a_flood() {
        let start = Instant::now();
        for (each, times, is_flood) in
            [(500, 21, true), (500, 20, false), (3, 3000, false), (0, 50_000, false)]
        {
            let floods = Arc::new(Floods::default());
            for _ in 0..times {
                let mut budget = FrameBudget::new(floods.clone(), start);
                assert!(!flood(&mut budget, each, start));
                budget.end(start);
            }
            assert_eq!(floods.go_on(start), is_flood, "{times} with {each} frames");
            assert!(!floods.go_on(start + FLOOD_GOES_ON));
        }
        // The same number over a longer time is no flood, however close together they are.
        for (apart, each) in [(100_000, 900), (310, 3), (90, 0), (150, 1)] {
            let floods = Arc::new(Floods::default());
            for index in 0..40_000 {
                let now = start + Duration::from_micros(apart) * index;
                let mut budget = FrameBudget::new(floods.clone(), now);
                flood(&mut budget, each, now);
                budget.end(now);
                assert!(!floods.go_on(now), "{index} connections, {apart} us apart, with {each} frames");
            }
        }
    }

    #[test]
    fn it_earns_beyond_the_little_that_it_began_with() {
        let start = Instant::now();
        let floods = Arc::new(Floods::default());
        floods.note(start);
        let mut budget = FrameBudget::new(floods, start);
        assert!(!flood(&mut budget, FEW, start));
        assert!(!flood(&mut budget, IN_A_SECOND, start + Duration::from_secs(1)));
        (0..MOST).for_each(|_| budget.frame(HEADERS, 0, 100, || start));
        assert!(!flood(&mut budget, MOST, start));
    }

    proptest! {
        /// A client below the rate may continue indefinitely; one far above it is cut off.
        #[test]
        fn the_rate_decides(each_second in 1u32..3000, seconds in 100u32..200) {
            let start = Instant::now();
            let mut budget = FrameBudget::new(Arc::default(), start);
            for second in 0..seconds {
                flood(&mut budget, each_second, start + Duration::from_secs(u64::from(second)));
            }
            let sent = each_second * seconds;
            if each_second <= IN_A_SECOND {
                prop_assert!(!budget.is_overdrawn());
            }
            if sent > MOST + IN_A_SECOND * seconds {
                prop_assert!(budget.is_overdrawn());
            }
        }
    }
}
