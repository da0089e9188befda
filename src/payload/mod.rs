//! The payload log: a share of the requests that a model answers, with their answers, in files (docs/spec/server.md,
//! section 10).
//!
//! A model's rule ([`PayloadRule`]) says how many requests are logged, and where. Rules with the same place share its
//! files, as in TensorFlow Serving. The rules of all models are replaced at once ([`Payloads::configure`]), whatever
//! versions are loaded. Records are written by a thread for each place; one that cannot be written is counted, and no
//! request waits for it or fails. What waits counts as memory in flight, in an account of its own.

mod files;

pub use files::FileLimits;

use crate::chance::chosen;
use crate::error::{Error, Result};
use crate::log_queue::{Limits, LogQueue};
use crate::memory::{Account, Reservation};
use crate::pb::tensorflow::serving::SamplingConfig;
use arc_swap::ArcSwap;
use bytes::Bytes;
use files::Files;
use prost::Message;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What may wait to be written to one place.
const LIMITS: Limits = Limits { items: 16 << 10, bytes: 64 << 20, ..Limits::NONE };
/// Most places: each has a thread and an open file.
pub const MOST_PLACES: usize = 64;
/// How long a place that no rule names any more may take for its last records.
const LAST: Duration = Duration::from_secs(5);

/// The form of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// TFRecord files of `PredictionLog`s.
    TfRecord,
    /// A line of JSON for each.
    Json,
}

impl Form {
    /// Returns the form of this name.
    pub fn named(name: &str) -> Option<Form> {
        match name {
            "tfrecord" => Some(Form::TfRecord),
            "json" => Some(Form::Json),
            _ => None,
        }
    }

    fn ending(self) -> &'static str {
        match self {
            Form::TfRecord => "tfrecord",
            Form::Json => "jsonl",
        }
    }
}

/// Where records go: files whose names begin so.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The form of the files.
    pub form: Form,
    /// The beginning of their paths.
    pub prefix: PathBuf,
}

/// What is logged of a model.
#[derive(Clone, Debug)]
pub struct PayloadRule {
    /// The model.
    pub model: String,
    /// Where to.
    pub place: Place,
    /// The share of requests, from 0 to 1, chosen by chance.
    pub share: f64,
    /// A serialized `SamplingConfig`, for the records.
    pub sampling_config: Vec<u8>,
    /// The tags of the model's graph, for the records.
    pub tags: Vec<String>,
}

/// Returns a serialized `PredictionLog` as a line of JSON, without its end.
pub type AsJson = fn(&Bytes) -> Vec<u8>;

/// The payload logs of a server.
pub struct Payloads {
    limits: FileLimits,
    as_json: AsJson,
    /// What records take, from the copy of a request until they are written; `None`: nothing is counted.
    memory: Option<Arc<Account>>,
    /// Counts the calls of [`Payloads::reopen`].
    reopened: Arc<AtomicU64>,
    active: AtomicBool,
    models: ArcSwap<HashMap<String, Arc<Chosen>>>,
    collectors: Mutex<HashMap<Place, Arc<Collector>>>,
    counts: Arc<Counts>,
}

/// The records of all places.
#[derive(Debug, Default)]
struct Counts {
    written: AtomicU64,
    /// They could not be written, or there was no room or memory for them.
    lost: AtomicU64,
}

/// A model whose requests are logged.
pub struct Chosen {
    share: f64,
    /// For the records.
    pub sampling_config: SamplingConfig,
    /// For the records.
    pub tags: Vec<String>,
    collector: Arc<Collector>,
}

struct Collector {
    queue: LogQueue<Record>,
    counts: Arc<Counts>,
}

/// A serialized `PredictionLog` that waits to be written.
struct Record {
    bytes: Bytes,
    /// Held as long as it.
    _memory: Reservation,
}

impl Chosen {
    /// Has a serialized `PredictionLog` written; `memory` counts it until then.
    pub fn log(&self, record: Bytes, memory: Reservation) {
        let size = record.len();
        if !self.collector.queue.offer(Record { bytes: record, _memory: memory }, size) {
            self.lose();
        }
    }

    /// Counts a record for which there is no room or memory.
    pub fn lose(&self) {
        self.collector.counts.lost.fetch_add(1, Relaxed);
    }
}

impl Payloads {
    /// Starts without rules. `as_json` writes the lines of JSON files; `memory` counts what waits to be written.
    pub fn new(limits: FileLimits, as_json: AsJson, memory: Option<Arc<Account>>) -> Payloads {
        let (reopened, active, models, collectors, counts) = Default::default();
        Payloads { limits, as_json, memory, reopened, active, models, collectors, counts }
    }

    /// Returns an empty reservation for what is kept of a request.
    pub fn reserve(&self) -> Reservation {
        self.memory.clone().map(Reservation::new).unwrap_or_default()
    }

    /// Has every place begin a new file.
    pub fn reopen(&self) {
        self.reopened.fetch_add(1, Relaxed);
    }

    /// Logs by these rules from now on, and by no others. What is waiting by former ones is still written.
    pub fn configure(&self, rules: Vec<PayloadRule>) -> Result<()> {
        let mut collectors = self.collectors();
        let mut kept = HashMap::new();
        let mut models = HashMap::new();
        let places: HashSet<_> =
            rules.iter().filter(|rule| rule.share > 0.0).map(|rule| &rule.place).collect();
        if places.len() > MOST_PLACES {
            let why = format!("at most {MOST_PLACES} payload logs can be written, got {}", places.len());
            return Err(Error::invalid(why));
        }
        for rule in rules.into_iter().filter(|rule| rule.share > 0.0) {
            let sampling_config = SamplingConfig::decode(&rule.sampling_config[..])
                .map_err(|why| Error::invalid(format!("sampling_config cannot be read: {why}")))?;
            let collector = match kept.get(&rule.place).or_else(|| collectors.get(&rule.place)) {
                Some(collector) => Arc::clone(collector),
                None => Arc::new(self.collector(&rule.place)?),
            };
            kept.insert(rule.place, collector.clone());
            let chosen = Chosen { share: rule.share, sampling_config, tags: rule.tags, collector };
            models.insert(rule.model, Arc::new(chosen));
        }
        self.active.store(!models.is_empty(), Relaxed);
        self.models.store(Arc::new(models));
        let before = std::mem::replace(&mut *collectors, kept);
        let ended = before.into_iter().filter(|(place, _)| !collectors.contains_key(place));
        let ended: Vec<_> = ended.map(|(_, collector)| collector).collect();
        drop(collectors);
        Self::finish_all(&ended, LAST);
        Ok(())
    }

    /// Returns whether anything is logged: if not, nothing need be prepared.
    pub fn is_active(&self) -> bool {
        self.active.load(Relaxed)
    }

    /// Returns the log for a request to `model`, if the request is chosen.
    pub fn choose(&self, model: &str) -> Option<Arc<Chosen>> {
        let models = self.models.load();
        models.get(model).filter(|of| chosen(of.share)).cloned()
    }

    /// Writes what waits, `within` at most, and ends. Returns whether all is written.
    pub fn finish(&self, within: Duration) -> bool {
        self.active.store(false, Relaxed);
        self.models.store(Arc::default());
        let ended: Vec<_> = std::mem::take(&mut *self.collectors()).into_values().collect();
        Self::finish_all(&ended, within)
    }

    /// Returns the number of records that were written, and of those that were lost. Neither ever falls.
    pub fn counts(&self) -> (u64, u64) {
        (self.counts.written.load(Relaxed), self.counts.lost.load(Relaxed))
    }

    fn finish_all(ended: &[Arc<Collector>], within: Duration) -> bool {
        let give_up = Instant::now() + within;
        let mut finished = true;
        for collector in ended {
            finished &= collector.queue.finish(give_up.saturating_duration_since(Instant::now()));
        }
        finished
    }

    fn collector(&self, place: &Place) -> Result<Collector> {
        let counts = self.counts.clone();
        let files =
            Files::new(place.clone(), self.limits, self.as_json, (counts.clone(), self.reopened.clone()));
        let queue = LogQueue::start("servable-payload", LIMITS, files)
            .map_err(|why| Error::internal(format!("The payload log has no thread: {why}")))?;
        Ok(Collector { queue, counts })
    }

    fn collectors(&self) -> MutexGuard<'_, HashMap<Place, Arc<Collector>>> {
        self.collectors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
