//! The history of traffic: what requests, and the process, did in each five seconds of the last hour.
//!
//! It is made of the counts of [`crate::metrics`], whose differences a thread takes at the end of each interval: a request
//! costs nothing more. [`past`] keeps them, and has a limit.

mod past;

pub use past::{Column, INTERVAL, LONGEST, Point, Use};

use crate::host::process;
use crate::methods::ServerState;
use crate::metrics::{Metrics, ModelCounts, TrafficCounts};
use past::{Interval, Past};
use std::collections::HashMap;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The history of a server, which goes on until it is ended or dropped.
#[derive(Debug)]
pub struct History {
    past: Arc<Mutex<Past>>,
    /// Ends the thread when it is dropped.
    end: Mutex<Option<Sender<()>>>,
}

impl History {
    /// Begins the history of `server`, which has to count requests for that.
    pub fn begin(server: Weak<ServerState>) -> io::Result<History> {
        let (end, ended) = channel();
        let past = Arc::new(Mutex::new(Past::default()));
        let kept = past.clone();
        let thread = std::thread::Builder::new().name("servable-traffic".to_owned());
        thread.spawn(move || keep(&server, &kept, &ended))?;
        Ok(History { past, end: Mutex::new(Some(end)) })
    }

    /// Adds no interval from now on.
    pub fn end(&self) {
        drop(self.end.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Returns the last `within` of the traffic of all models, or of `model`, oldest first.
    pub fn column(&self, model: Option<&str>, within: Duration) -> Column {
        lock(&self.past).column(model, within)
    }
}

fn lock(past: &Mutex<Past>) -> MutexGuard<'_, Past> {
    past.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds an interval whenever one is over, until the server is gone or nobody wants to know.
fn keep(server: &Weak<ServerState>, past: &Mutex<Past>, ended: &Receiver<()>) {
    let mut reader = Reader::default();
    let mut next = Instant::now() + INTERVAL;
    let mut since = Instant::now();
    let mut cpu = process::cpu_time();
    while ended.recv_timeout(next.saturating_duration_since(Instant::now())) == Err(RecvTimeoutError::Timeout)
    {
        let Some(server) = server.upgrade() else { return };
        let (now, used) = (Instant::now(), process::cpu_time());
        let usage = Use {
            cpu_cores: used.zip(cpu).map(|(used, before)| {
                used.saturating_sub(before).as_secs_f64() / (now - since).as_secs_f64().max(f64::EPSILON)
            }),
            resident_bytes: process::memory().map(|memory| memory.resident),
        };
        (since, cpu) = (now, used);
        if let Some(metrics) = &server.metrics {
            reader.read(metrics, usage, &mut lock(past));
        }
        next += INTERVAL;
        if next <= now {
            // After a pause of the machine, nothing is made up for the intervals that were missed.
            next = now + INTERVAL;
        }
    }
}

/// Reads the counts, and knows what they were before.
#[derive(Debug, Default)]
struct Reader {
    /// By the address of its counts, which stay where they are for the life of the process.
    known: HashMap<usize, Known>,
}

/// What is known of a model that was called before.
#[derive(Debug, Default)]
struct Known {
    /// The number by which the past has it; `None` for a name that only requests have.
    number: Option<u32>,
    begun: u64,
    is_idle: bool,
    counts: TrafficCounts,
}

impl Reader {
    /// Adds what has come since the last time to `past`.
    fn read(&mut self, metrics: &Metrics, usage: Use, past: &mut Past) {
        let (mut all, mut in_flight, mut models) = (TrafficCounts::default(), 0, Vec::new());
        metrics.each(|name, model| {
            let begun = model.begun();
            if begun == 0 {
                return;
            }
            let known = self.known.entry(Arc::as_ptr(model) as usize).or_default();
            if known.is_idle && known.begun == begun {
                return;
            }
            let (since, under_way) = known.renew(begun, model);
            if known.number.is_none() && model.is_served() {
                known.number = Some(past.number(name));
            }
            if let Some(number) = known.number {
                models.push((number, Point::of(&since, under_way)));
            }
            all.add(&since);
            in_flight += under_way;
        });
        models.sort_unstable_by_key(|(number, _)| *number);
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        past.add(Interval { at, all: Point::of(&all, in_flight), usage, models: Some(models.into()) });
    }
}

impl Known {
    /// Reads the counts of a `model`; returns what has come since they were read before, and how many calls are under way.
    fn renew(&mut self, begun: u64, model: &ModelCounts) -> (TrafficCounts, u64) {
        let now = model.traffic();
        let since = now.since(&self.counts);
        let in_flight = now.in_flight();
        (self.begun, self.is_idle, self.counts) = (begun, in_flight == 0 && now.is_whole(), now);
        (since, in_flight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Options;
    use crate::error::Kind;
    use crate::metrics::{Api, Ending, Part, Protocol};

    const HOUR: Duration = LONGEST;

    fn end(part: &Part, outcome: Result<usize, Kind>) {
        let phases = [0; 4];
        part.end(&Ending {
            protocol: Protocol::Rest,
            outcome,
            received: 1,
            rows: 1,
            took: 20_000,
            phases,
            exemplar: None,
        });
    }

    #[test]
    fn intervals_have_what_has_come_in_them() {
        let (metrics, mut reader, mut past) = (Metrics::default(), Reader::default(), Past::default());
        let mut tick = |past: &mut Past| reader.read(&metrics, Use::default(), past);
        let part =
            |name: &str| metrics.served(name).version(1).signature("s")[Api::Predict as usize].part().clone();
        tick(&mut past);
        let (a, b) = (part("a"), part("b"));
        (0..3).for_each(|_| a.begin());
        end(&a, Ok(1));
        end(&a, Err(Kind::Internal));
        b.begin();
        end(&b, Ok(1));
        metrics.asked("stranger").unresolved(Api::Predict).part().begin();
        end(metrics.asked("stranger").unresolved(Api::Predict).part(), Err(Kind::NotFound));
        tick(&mut past);
        end(&a, Ok(1));
        tick(&mut past);
        tick(&mut past);

        let requests = |model| {
            let column = past.column(model, HOUR);
            column
                .points
                .iter()
                .map(|point| (point.requests, point.errors, point.in_flight))
                .collect::<Vec<_>>()
        };
        assert_eq!(requests(None), [(0, 0, 0), (4, 2, 1), (1, 0, 0), (0, 0, 0)]);
        assert_eq!(requests(Some("a")), [(0, 0, 0), (2, 1, 1), (1, 0, 0), (0, 0, 0)]);
        assert_eq!(requests(Some("b")), [(0, 0, 0), (1, 0, 0), (0, 0, 0), (0, 0, 0)]);
        assert_eq!(requests(Some("stranger")), [(0, 0, 0); 4], "clients cannot make it grow");
        let all = past.column(None, HOUR);
        assert_eq!(all.models, ["a", "b"]);
        assert!(all.points[1].milliseconds.is_some() && all.points[0].milliseconds.is_none());
        assert!(all.times.is_sorted());
    }

    #[test]
    fn a_name_that_is_served_later_has_its_own_traffic_from_then_on() {
        let (metrics, mut reader, mut past) = (Metrics::default(), Reader::default(), Past::default());
        metrics.asked("m").unresolved(Api::Predict).part().begin();
        reader.read(&metrics, Use::default(), &mut past);
        metrics.served("m");
        reader.read(&metrics, Use::default(), &mut past);
        assert_eq!(past.column(None, HOUR).models, ["m"]);
        assert_eq!(past.column(Some("m"), HOUR).points[1].in_flight, 1);
    }

    #[test]
    fn the_thread_ends_with_the_history() {
        let server = Arc::new(ServerState::for_tests(Options::closed()));
        let [ended, dropped] = [0; 2].map(|_| History::begin(Arc::downgrade(&server)).unwrap());
        assert!(ended.column(None, HOUR).times.is_empty());
        let kept = Arc::downgrade(&dropped.past);
        ended.end();
        drop(dropped);
        while Arc::strong_count(&ended.past) > 1 || kept.strong_count() > 0 {
            std::thread::yield_now();
        }
        assert!(ended.column(None, HOUR).times.is_empty());
    }
}
