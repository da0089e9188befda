//! What the tasks of one thread share: the requests, the connections, the time, and what they have seen.

use super::mix::{Draw, Drawn, Mix};
use super::outcome::{Answer, Failed};
use super::pool::Pool;
use super::tally::Tally;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// When requests are sent, and which of them are counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// When the load begins.
    pub(super) begun: Instant,
    /// Requests from here on are counted.
    pub(super) from: Instant,
    /// None is sent from here on.
    pub(super) until: Instant,
}

/// One thread's.
pub(super) struct Context {
    pub(super) mix: Arc<Mix>,
    pub(super) pool: Pool,
    pub(super) window: Window,
    pub(super) timeout: Duration,
    pub(super) tally: RefCell<Tally>,
    draw: RefCell<Draw>,
    /// How many more are counted; `None`: as many as the time allows.
    left: Cell<Option<u64>>,
}

/// A request that may be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub(super) drawn: Drawn,
    /// Whether it is counted.
    counts: bool,
}

impl Context {
    pub(super) fn new(mix: &Arc<Mix>, pool: Pool, window: Window, timeout: Duration, draw: Draw) -> Context {
        let tally = RefCell::new(Tally::of(mix.len()));
        let (mix, draw) = (Arc::clone(mix), RefCell::new(draw));
        Context { mix, pool, window, timeout, tally, draw, left: Cell::new(None) }
    }

    /// Counts no more than `count` requests.
    pub(super) fn limited(self, count: Option<u64>) -> Context {
        self.left.set(count);
        self
    }

    /// Returns the request to send at `at`; `None` if the load is over by then.
    pub(super) fn turn(&self, at: Instant) -> Option<Turn> {
        if at >= self.window.until {
            return None;
        }
        let counts = at >= self.window.from;
        if counts && let Some(left) = self.left.get() {
            self.left.set(Some(left.checked_sub(1)?));
        }
        Some(Turn { drawn: self.mix.next(&mut self.draw.borrow_mut()), counts })
    }

    /// Returns whether as many requests are counted as may be.
    pub(super) fn is_spent(&self) -> bool {
        self.left.get() == Some(0)
    }

    /// Counts `number` requests at once that were due and are never sent.
    pub(super) fn never_sent(&self, number: u64, failed: &Failed) {
        let number = self.left.get().map_or(number, |left| left.min(number));
        let mut tally = self.tally.borrow_mut();
        for (seen, share) in tally.groups.iter_mut().zip(self.mix.shares(number)) {
            seen.fail(failed.clone(), share);
        }
    }

    /// Counts how a request has ended.
    pub(super) fn ended(&self, turn: Turn, outcome: Result<Answer, Failed>, took: Duration) {
        if !turn.counts {
            return;
        }
        let sent = self.mix.get(turn.drawn).map_or(0, super::target::Prepared::length);
        if let Some(seen) = self.tally.borrow_mut().groups.get_mut(turn.drawn.group) {
            seen.count(outcome, took, sent);
        }
    }

    /// Counts how much later than intended a request is sent.
    pub(super) fn late(&self, turn: Turn, by: Duration) {
        if turn.counts {
            self.tally.borrow_mut().lag.add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX));
        }
    }
}
