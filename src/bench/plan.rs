//! What a load is made of.

use super::arrivals::Spacing;
use super::mix::Group;
use super::target::{Target, Wire};
use std::time::Duration;

/// A load on one server.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server.
    pub target: Target,
    /// What is asked.
    pub groups: Vec<Group>,
    /// When it is asked.
    pub load: Load,
    /// Threads that send.
    pub threads: usize,
    /// Connections that calls of gRPC share.
    pub connections: usize,
    /// Time before requests are counted.
    pub warm_up: Duration,
    /// Time in which requests are counted.
    pub duration: Duration,
    /// Requests that are counted at most.
    pub count: Option<u64>,
    /// Longest time of a request.
    pub timeout: Duration,
    /// What chance begins with.
    pub seed: u64,
}

/// When requests are sent.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    /// By callers that wait for their answers.
    Closed {
        /// Their number.
        concurrency: usize,
    },
    /// At their times.
    Open {
        /// Requests a second.
        rate: f64,
        /// The gaps between them.
        spacing: Spacing,
        /// Most requests under way.
        most: usize,
    },
}

/// The longest time that anything may be said to last: to add it to a time is safe.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);
/// The lowest and the highest rate: far more than a thread can send, and gaps that a time can hold.
const RATES: (f64, f64) = (1e-6, 1e7);
/// Most threads, callers and connections.
const MOST: usize = 1 << 16;

impl Plan {
    /// Says what is wrong with the numbers.
    pub(super) fn check(&self) -> Result<(), String> {
        let times = [self.warm_up, self.duration, self.timeout];
        if times.iter().any(|time| *time > LONGEST) || self.timeout.is_zero() || self.duration.is_zero() {
            return Err("times have to be above 0 s, and at most a year".to_owned());
        }
        let (callers, is_rate) = match self.load {
            Load::Closed { concurrency } => (concurrency, true),
            Load::Open { rate, most, .. } => (most, (RATES.0..=RATES.1).contains(&rate)),
        };
        if !is_rate {
            return Err(format!("a rate has to be above 0, and at most {} requests a second", RATES.1));
        }
        if [self.threads, self.connections, callers].iter().any(|count| !(1..=MOST).contains(count)) {
            return Err(format!("threads, connections and callers have to be 1 to {MOST}"));
        }
        Ok(())
    }

    /// Returns how many threads are used: each has a caller at least, or a request under way, and of gRPC a connection.
    pub(super) fn used_threads(&self) -> usize {
        let callers = match self.load {
            Load::Closed { concurrency } => concurrency,
            Load::Open { most, .. } => most,
        };
        let connections = match self.target.wire {
            Wire::Http1 => callers,
            Wire::Grpc => self.connections,
        };
        self.threads.min(callers).min(connections)
    }
}
