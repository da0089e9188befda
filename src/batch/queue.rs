//! Forming batches: which requests go together, and when they may run. Pure: reads no clock, starts no thread.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// An item that waits for a batch.
pub(super) trait Item: Sized {
    /// Returns the number of rows; at least one.
    fn rows(&self) -> usize;

    /// Returns whether the item may share a batch with `other`.
    fn joins(&self, other: &Self) -> bool;

    /// Keeps the first `rows` rows and returns the others; `rows` is between 1 and all but one.
    fn split_off(&mut self, rows: usize) -> Self;
}

/// The limits of one queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct QueueLimits {
    /// Most rows of a batch.
    pub(super) max_rows: usize,
    /// Most waiting batches, including the open one.
    pub(super) max_batches: usize,
    /// Longest time a batch stays open for more.
    pub(super) timeout: Duration,
    /// True if an item may be spread over several batches.
    pub(super) split: bool,
}

/// Items in order of arrival, cut into batches; only the last batch is open.
#[derive(Debug)]
pub(super) struct Queue<I> {
    batches: VecDeque<Forming<I>>,
}

#[derive(Debug)]
struct Forming<I> {
    items: Vec<I>,
    rows: usize,
    since: Instant,
}

/// The state of the oldest batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A batch may run.
    Ready,
    /// The oldest batch stays open until then.
    At(Instant),
    /// Nothing waits.
    Nothing,
}

/// The queue is full; the fields say how full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full {
    pub(super) batches: usize,
    pub(super) open_rows: usize,
    /// Rows for which there would still have been room.
    pub(super) capacity: usize,
}

impl<I: Item> Queue<I> {
    pub(super) fn new() -> Queue<I> {
        Queue { batches: VecDeque::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Returns whether all that waits is in one batch.
    pub(super) fn is_one_batch(&self) -> bool {
        self.batches.len() == 1
    }

    /// Returns the number of waiting items.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.batches.iter().map(|batch| batch.items.len()).sum()
    }

    /// Adds `item` to the open batch if it fits, otherwise to a new one. With splitting, fills one batch after the
    /// other.
    pub(super) fn push(&mut self, limits: &QueueLimits, mut item: I, now: Instant) -> Result<(), Full> {
        let room = self.room(limits, &item);
        let fits = item.rows() <= room;
        let new = limits.max_batches.saturating_sub(self.batches.len());
        let capacity = room + new * limits.max_rows;
        if !fits && (new == 0 || (limits.split && item.rows() > capacity)) {
            let open_rows = self.batches.back().map_or(0, |open| open.rows);
            return Err(Full { batches: self.batches.len(), open_rows, capacity });
        }
        if limits.split {
            let mut room = if room == 0 { limits.max_rows } else { room };
            while item.rows() > room {
                let rest = item.split_off(room);
                self.add(limits, item, now);
                (item, room) = (rest, limits.max_rows);
            }
        }
        self.add(limits, item, now);
        Ok(())
    }

    /// Returns the rows that the open batch has left for `item`.
    fn room(&self, limits: &QueueLimits, item: &I) -> usize {
        match self.batches.back() {
            Some(open) if open.items.first().is_some_and(|first| item.joins(first)) => {
                limits.max_rows.saturating_sub(open.rows)
            }
            _ => 0,
        }
    }

    fn add(&mut self, limits: &QueueLimits, item: I, now: Instant) {
        let fits = item.rows() <= self.room(limits, &item);
        match self.batches.back_mut() {
            Some(open) if fits => {
                open.rows += item.rows();
                open.items.push(item);
            }
            _ => self.batches.push_back(Forming { rows: item.rows(), items: vec![item], since: now }),
        }
    }

    /// Returns whether the oldest batch may run: it is full, another batch follows it, or it has been open long enough.
    pub(super) fn next(&self, limits: &QueueLimits, now: Instant) -> Next {
        let Some(oldest) = self.batches.front() else { return Next::Nothing };
        let until = oldest.since + limits.timeout;
        if self.batches.len() > 1 || oldest.rows >= limits.max_rows || now >= until {
            Next::Ready
        } else {
            Next::At(until)
        }
    }

    /// Takes the oldest batch, in order of arrival.
    pub(super) fn take(&mut self) -> Option<Vec<I>> {
        self.batches.pop_front().map(|batch| batch.items)
    }

    /// Removes the items for which `gone` returns true. Returns whether there were any.
    pub(super) fn withdraw(&mut self, gone: impl Fn(&I) -> bool) -> bool {
        let mut any = false;
        for batch in &mut self.batches {
            let before = batch.items.len();
            batch.items.retain(|item| !gone(item));
            any |= batch.items.len() < before;
            batch.rows = batch.items.iter().map(Item::rows).sum();
        }
        self.batches.retain(|batch| !batch.items.is_empty());
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The kind of an item, and the range of a request's rows it holds.
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Rows(char, std::ops::Range<usize>);

    impl Item for Rows {
        fn rows(&self) -> usize {
            self.1.len()
        }

        fn joins(&self, other: &Rows) -> bool {
            self.0 == other.0
        }

        fn split_off(&mut self, rows: usize) -> Rows {
            let rest = self.1.start + rows..self.1.end;
            self.1.end = self.1.start + rows;
            Rows(self.0, rest)
        }
    }

    fn limits(max_rows: usize, max_batches: usize, split: bool) -> QueueLimits {
        QueueLimits { max_rows, max_batches, timeout: Duration::from_micros(100), split }
    }

    fn all(queue: &mut Queue<Rows>) -> Vec<Vec<Rows>> {
        std::iter::from_fn(|| queue.take()).collect()
    }

    #[test]
    fn a_batch_is_closed_by_what_does_not_fit() {
        let (limits, now) = (limits(4, 4, false), Instant::now());
        let mut queue = Queue::new();
        for rows in [2, 1, 3, 1, 1] {
            queue.push(&limits, Rows('a', 0..rows), now).unwrap();
        }
        let full = queue.push(&limits, Rows('a', 0..4), now);
        assert_eq!(full, Ok(()), "one batch is left");
        let full = queue.push(&limits, Rows('a', 0..1), now).unwrap_err();
        assert_eq!(full, Full { batches: 4, open_rows: 4, capacity: 0 });
        let sizes: Vec<Vec<usize>> =
            all(&mut queue).iter().map(|batch| batch.iter().map(Item::rows).collect()).collect();
        assert_eq!(sizes, [vec![2, 1], vec![3, 1], vec![1], vec![4]]);
    }

    #[test]
    fn other_kinds_never_meet() {
        let (limits, now) = (limits(4, 9, false), Instant::now());
        let mut queue = Queue::new();
        for kind in ['a', 'a', 'b', 'a'] {
            queue.push(&limits, Rows(kind, 0..1), now).unwrap();
        }
        let kinds: Vec<String> =
            all(&mut queue).iter().map(|batch| batch.iter().map(|rows| rows.0).collect()).collect();
        assert_eq!(kinds, ["aa", "b", "a"]);
    }

    #[test]
    fn a_large_item_is_spread_over_batches() {
        let (limits, now) = (limits(4, 3, true), Instant::now());
        let mut queue = Queue::new();
        queue.push(&limits, Rows('a', 0..3), now).unwrap();
        queue.push(&limits, Rows('a', 0..7), now).unwrap();
        let full = queue.push(&limits, Rows('a', 0..9), now).unwrap_err();
        assert_eq!(full, Full { batches: 3, open_rows: 2, capacity: 2 });
        assert_eq!(
            all(&mut queue),
            [vec![Rows('a', 0..3), Rows('a', 0..1)], vec![Rows('a', 1..5)], vec![Rows('a', 5..7)]]
        );
    }

    #[test]
    fn an_open_batch_waits_for_its_time() {
        let (limits, now) = (limits(4, 9, false), Instant::now());
        let mut queue = Queue::new();
        assert_eq!(queue.next(&limits, now), Next::Nothing);
        queue.push(&limits, Rows('a', 0..1), now).unwrap();
        let until = now + limits.timeout;
        queue.push(&limits, Rows('a', 0..1), now + limits.timeout / 2).unwrap();
        assert_eq!(queue.next(&limits, now), Next::At(until), "the first one's time counts");
        assert_eq!(queue.next(&limits, until), Next::Ready);
        queue.push(&limits, Rows('a', 0..2), now).unwrap();
        assert_eq!(queue.next(&limits, now), Next::Ready, "it is full");
        queue.take();
        queue.push(&limits, Rows('a', 0..2), now).unwrap();
        queue.push(&limits, Rows('b', 0..2), now).unwrap();
        assert_eq!(queue.next(&limits, now), Next::Ready, "it has one behind it");
    }

    #[test]
    fn who_leaves_makes_room() {
        let (limits, now) = (limits(4, 1, false), Instant::now());
        let mut queue = Queue::new();
        queue.push(&limits, Rows('a', 0..2), now).unwrap();
        queue.push(&limits, Rows('a', 2..4), now).unwrap();
        queue.withdraw(|rows| rows.1.start == 0);
        queue.push(&limits, Rows('a', 4..6), now).unwrap();
        assert_eq!(all(&mut queue), [vec![Rows('a', 2..4), Rows('a', 4..6)]]);
        queue.push(&limits, Rows('a', 0..2), now).unwrap();
        queue.withdraw(|_| true);
        assert!(queue.is_empty());
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_reordered_and_no_batch_is_too_large(
            items in prop::collection::vec((prop::char::range('a', 'b'), 1usize..12), 0..30),
            max_rows in 1usize..12,
            split in any::<bool>(),
        ) {
            let (limits, now) = (limits(max_rows, 5, split), Instant::now());
            let (mut queue, mut expected, mut next) = (Queue::new(), Vec::new(), 0);
            for (kind, rows) in items.into_iter().filter(|(_, rows)| split || *rows <= max_rows) {
                if queue.push(&limits, Rows(kind, next..next + rows), now).is_ok() {
                    expected.extend((next..next + rows).map(|row| (kind, row)));
                }
                next += rows;
            }
            let batches = all(&mut queue);
            prop_assert!(batches.len() <= 5);
            for batch in &batches {
                prop_assert!(batch.iter().map(Item::rows).sum::<usize>() <= max_rows);
                prop_assert!(batch.iter().all(|item| item.0 == batch[0].0));
            }
            let found: Vec<_> =
                batches.into_iter().flatten().flat_map(|Rows(kind, rows)| rows.map(move |row| (kind, row))).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
