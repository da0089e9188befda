//! What is counted: requests, latencies, runs, loads and warm-ups, under TensorFlow Serving's names (docs/spec/server.md,
//! section 9), in the text that Prometheus reads.
//!
//! One observer stands around each call: a protocol asks for the model's counts ([`Metrics::asked`]) and tells them the
//! outcome ([`ModelCounts::answered`]); a servable tells how long its runs took ([`ModelCounts::ran`]). Nothing on these paths takes
//! a lock. All of it exists only where the metrics are asked for.

mod batches;
mod histogram;
mod loads;
mod model;
mod text;

pub use batches::Batches;
pub use model::ModelCounts;

use crate::error::Kind;
use crate::memory::Budget;
use arc_swap::ArcSwap;
use loads::Loads;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Through which protocol a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// REST.
    Rest,
    /// gRPC.
    Grpc,
}

impl Protocol {
    const COUNT: usize = 2;
    const ALL: [Protocol; Protocol::COUNT] = [Protocol::Rest, Protocol::Grpc];

    fn name(self) -> &'static str {
        match self {
            Protocol::Rest => "REST",
            Protocol::Grpc => "GRPC",
        }
    }
}

/// What a request wants of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// Tensors in, tensors out.
    Predict,
    /// Examples in, classes out.
    Classify,
    /// Examples in, numbers out.
    Regress,
    /// Anything else; its runs have no latency of their own.
    Other,
}

impl Api {
    const COUNT: usize = 4;
    const ALL: [Api; Api::COUNT] = [Api::Predict, Api::Classify, Api::Regress, Api::Other];

    /// As the label `API` has it: REST's verbs are in lower case.
    fn label(self, protocol: Protocol) -> &'static str {
        match (self, protocol) {
            (Api::Predict, Protocol::Rest) => "predict",
            (Api::Classify, Protocol::Rest) => "classify",
            (Api::Regress, Protocol::Rest) => "regress",
            (Api::Predict, Protocol::Grpc) => "Predict",
            (Api::Classify, Protocol::Grpc) => "Classify",
            (Api::Regress, Protocol::Grpc) => "Regress",
            (Api::Other, _) => "",
        }
    }
}

/// The most names of models that are not there that are counted by themselves: clients choose them.
const MAX_STRANGERS: usize = 1000;
/// The longest such name, in bytes.
const MAX_NAME: usize = 128;

type Models = HashMap<Box<str>, Arc<ModelCounts>>;

/// Everything that is counted in one server.
#[derive(Debug, Default)]
pub struct Metrics {
    models: ArcSwap<Models>,
    /// How many of them were only asked for.
    strangers: Mutex<usize>,
    loads: Mutex<Loads>,
    batches: Arc<Batches>,
    memory: Arc<Budget>,
}

impl Metrics {
    /// Nothing counted yet; `memory` is what requests hold.
    pub fn new(memory: Arc<Budget>) -> Metrics {
        Metrics { memory, ..Metrics::default() }
    }

    /// The counts of model `name`, which is served here.
    pub fn served(&self, name: &str) -> Arc<ModelCounts> {
        let known = self.models.load().get(name).cloned();
        known.unwrap_or_else(|| self.add(name, &mut self.strangers()))
    }

    /// The counts of the model that a request names. Names without a model are counted by themselves as long as they
    /// are few and short, and then under no name: memory must not grow as clients like.
    pub fn asked(&self, name: &str) -> Arc<ModelCounts> {
        if let Some(known) = self.models.load().get(name) {
            return known.clone();
        }
        let mut strangers = self.strangers();
        if name.is_empty() || (*strangers < MAX_STRANGERS && name.len() <= MAX_NAME) {
            *strangers += 1;
            return self.add(name, &mut strangers);
        }
        drop(strangers);
        self.served("")
    }

    /// Where batches are counted.
    pub fn batches(&self) -> Arc<Batches> {
        self.batches.clone()
    }

    /// Counts a load of the version in `path`.
    pub fn loaded(&self, path: &Path, took: Duration, succeeded: bool) {
        self.loads().loaded(&path.to_string_lossy(), model::micros(took), succeeded);
    }

    /// Counts a warm-up of the version in `path` from a file of which `records` were read.
    pub fn warmed(&self, path: &Path, took: Duration, records: u64, outcome: Result<(), Kind>) {
        self.loads().warmed(&path.to_string_lossy(), model::micros(took), records, outcome);
    }

    /// The first series of each metric of `names` (with slashes, as TensorFlow Serving names them); 0 where there is none
    /// that is a whole number.
    pub fn values(&self, names: &[String]) -> Vec<i64> {
        let text = self.text();
        names.iter().map(|name| text::first(&text, name)).collect()
    }

    /// Everything counted so far, as Prometheus reads it. Takes time: some milliseconds for a thousand models.
    pub fn text(&self) -> String {
        let models = self.models.load();
        let counts: BTreeMap<&str, _> =
            models.iter().map(|(name, model)| (&**name, model.counts())).collect();
        text::of(&text::Counted {
            models: &counts,
            loads: &self.loads(),
            batches: &self.batches.counts(),
            memory: &self.memory,
        })
    }

    /// `_writer`: the lock that the one who adds holds.
    fn add(&self, name: &str, _writer: &mut usize) -> Arc<ModelCounts> {
        let models = self.models.load();
        if let Some(known) = models.get(name) {
            return known.clone();
        }
        let added = Arc::new(ModelCounts::new());
        let mut models = Models::clone(&models);
        models.insert(name.into(), added.clone());
        self.models.store(Arc::new(models));
        added
    }

    fn strangers(&self) -> MutexGuard<'_, usize> {
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn loads(&self) -> MutexGuard<'_, Loads> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The label of an outcome.
fn code_name(outcome: Result<(), Kind>) -> &'static str {
    outcome.map_or_else(Kind::name, |()| "OK")
}

#[cfg(test)]
mod tests;
