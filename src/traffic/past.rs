//! The intervals that are kept, and the limit of that. No clock, no input or output.

use crate::metrics::TrafficCounts;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// The length of an interval.
pub const INTERVAL: Duration = Duration::from_secs(5);
/// How far back the history goes.
pub const LONGEST: Duration = Duration::from_secs(3600);
/// Most intervals.
const MOST_INTERVALS: usize = (LONGEST.as_secs() / INTERVAL.as_secs()) as usize;
/// Most points of single models, over all intervals: 21 MB. With more than 600 models that are busy at once, their own
/// history is shorter than an hour.
const MOST_POINTS: usize = 600 * MOST_INTERVALS;
/// Most models that are named.
const MOST_NAMED: usize = 1000;

/// What came in an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// Calls that ended.
    pub requests: u32,
    /// Those of them that ended with an error.
    pub errors: u32,
    /// Calls under way at the end.
    pub in_flight: u32,
    /// The times in milliseconds that 50, 90 and 99 % did not exceed, of calls that ended well.
    pub milliseconds: Option<[f32; 3]>,
    /// The mean rows of batches.
    pub batch_rows: Option<f32>,
    /// The mean time in queues, in milliseconds.
    pub queue_ms: Option<f32>,
}

#[allow(clippy::cast_possible_truncation)] // Less exact, and never beyond the range.
impl Point {
    /// Returns what `counts`, those of an interval, say, with so many calls under way.
    pub(super) fn of(counts: &TrafficCounts, in_flight: u64) -> Point {
        let number = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        Point {
            requests: number(counts.ended()),
            errors: number(counts.errors()),
            in_flight: number(in_flight),
            milliseconds: counts.milliseconds().map(|times| times.map(|time| time as f32)),
            batch_rows: counts.rows_of_batches().map(|rows| rows as f32),
            queue_ms: counts.waited_milliseconds().map(|time| time as f32),
        }
    }
}

/// What the process used in an interval, as far as the system tells.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Use {
    /// CPU time of all threads, in seconds for each second.
    pub cpu_cores: Option<f64>,
    /// Memory in RAM at the end.
    pub resident_bytes: Option<u64>,
}

/// An interval that is over.
#[derive(Debug)]
pub(super) struct Interval {
    /// When it ended, in seconds of Unix time.
    pub(super) at: f64,
    pub(super) all: Point,
    pub(super) usage: Use,
    /// Those of models with any, ascending; `None` if they are no longer kept.
    pub(super) models: Option<Box<[(u32, Point)]>>,
}

impl Interval {
    fn points(&self) -> usize {
        self.models.as_ref().map_or(0, |models| models.len())
    }

    /// Returns the point of the model with this number; `None` if it is no longer kept.
    fn of(&self, number: Option<u32>) -> Option<Point> {
        let models = self.models.as_ref()?;
        let at = number.and_then(|number| models.binary_search_by_key(&number, |(one, _)| *one).ok());
        Some(at.map(|at| models[at].1).unwrap_or_default())
    }
}

/// Traffic in columns, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Column {
    /// The ends of the intervals, in seconds of Unix time.
    pub times: Vec<f64>,
    /// What came in each.
    pub points: Vec<Point>,
    /// What the process used in each.
    pub usage: Vec<Use>,
    /// Models with traffic in that time, by name.
    pub models: Vec<String>,
}

/// The intervals of the last hour.
#[derive(Debug, Default)]
pub(super) struct Past {
    intervals: VecDeque<Interval>,
    /// The points of single models in them.
    points: usize,
    /// The names of models by their numbers. There are no more than metrics have.
    names: Vec<Box<str>>,
}

impl Past {
    /// Returns a new number for the model `name`, which has none.
    pub(super) fn number(&mut self, name: &str) -> u32 {
        self.names.push(name.into());
        // As many names would not fit into memory.
        u32::try_from(self.names.len() - 1).unwrap_or(u32::MAX)
    }

    /// Adds an interval, and forgets what is too old or too much.
    pub(super) fn add(&mut self, interval: Interval) {
        self.points += interval.points();
        self.intervals.push_back(interval);
        if self.intervals.len() > MOST_INTERVALS
            && let Some(oldest) = self.intervals.pop_front()
        {
            self.points -= oldest.points();
        }
        let mut oldest = self.intervals.iter_mut();
        while self.points > MOST_POINTS
            && let Some(interval) = oldest.next()
        {
            self.points -= interval.points();
            interval.models = None;
        }
    }

    /// Returns the last `within`, of all models or of one. A model that is not known has no traffic.
    pub(super) fn column(&self, model: Option<&str>, within: Duration) -> Column {
        let number = |name: &str| self.names.iter().position(|one| **one == *name);
        let number = model.and_then(number).and_then(|number| u32::try_from(number).ok());
        let most = usize::try_from(within.as_secs().div_ceil(INTERVAL.as_secs())).unwrap_or(usize::MAX);
        let (mut column, mut busy) = (Column::default(), BTreeSet::new());
        for interval in self.intervals.iter().skip(self.intervals.len().saturating_sub(most)) {
            busy.extend(interval.models.iter().flatten().map(|(number, _)| *number));
            let point = if model.is_some() { interval.of(number) } else { Some(interval.all) };
            let Some(point) = point else { continue };
            column.times.push(interval.at);
            column.points.push(point);
            column.usage.push(interval.usage);
        }
        let names = busy.into_iter().filter_map(|number| self.names.get(number as usize));
        column.models = names.map(|name| name.clone().into_string()).collect();
        column.models.sort_unstable();
        column.models.truncate(MOST_NAMED);
        column
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn interval(at: f64, models: impl IntoIterator<Item = u32>) -> Interval {
        let point = Point { requests: 1, ..Point::default() };
        let models = models.into_iter().map(|number| (number, point)).collect();
        Interval { at, all: point, usage: Use::default(), models: Some(models) }
    }

    #[test]
    fn an_hour_is_kept() {
        let mut past = Past::default();
        for at in 0..MOST_INTERVALS + 3 {
            past.add(interval(at as f64, []));
        }
        let all = past.column(None, LONGEST);
        assert_eq!((all.times.len(), all.times[0], all.points.len(), all.usage.len()), (720, 3.0, 720, 720));
        assert_eq!(past.column(None, Duration::from_secs(11)).times, [720.0, 721.0, 722.0]);
        assert!(past.column(None, Duration::ZERO).times.is_empty());
        assert_eq!(past.column(Some("unknown"), LONGEST).points, [Point::default(); 720]);
    }

    #[test]
    fn of_very_many_models_less_is_kept_and_of_all_together_as_much() {
        let mut past = Past::default();
        let busy = 200_000;
        for number in 0..busy {
            assert_eq!(past.number(&format!("m{number}")), number);
        }
        for at in 0..4 {
            past.add(interval(f64::from(at), 0..busy));
        }
        assert!(past.points <= MOST_POINTS && past.points > 0);
        assert_eq!(past.column(None, LONGEST).times, [0.0, 1.0, 2.0, 3.0]);
        let one = past.column(Some("m7"), LONGEST);
        assert_eq!((one.times, one.models.len()), (vec![2.0, 3.0], MOST_NAMED));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]
        #[test]
        fn what_is_kept_is_counted(busy in proptest::collection::vec(0u32..3000, 0..900)) {
            let mut past = Past::default();
            for (at, busy) in busy.iter().enumerate() {
                past.add(interval(at as f64, 0..*busy));
                prop_assert_eq!(past.points, past.intervals.iter().map(Interval::points).sum::<usize>());
                prop_assert!(past.points <= MOST_POINTS && past.intervals.len() <= MOST_INTERVALS);
            }
        }
    }
}
