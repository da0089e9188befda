//! The counts of one model: by version and signature while a version is loaded, and the sum of those that are gone, so
//! that counts never go down.

use super::histogram::{BATCH_SIZES, Histogram, Merged};
use super::series::{Methods, Part, Series, Tally, nanos};
use super::{Api, CODES};
use crate::error::Kind;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Finite limits of the times of loads, in milliseconds.
pub(super) const LOAD_TIMES: [f64; 13] =
    [100.0, 250.0, 500.0, 1e3, 2.5e3, 5e3, 1e4, 3e4, 6e4, 1.2e5, 3e5, 6e5, 1.8e6];

/// The counts of one model name. Kept for the life of the process, as Prometheus expects of counters.
#[derive(Debug, Default)]
pub struct ModelCounts {
    /// True once it is a model that is, or was, to be served here, and not only a name in a request.
    served: AtomicBool,
    /// Requests for which no version was found.
    unresolved: Methods,
    versions: Mutex<BTreeMap<i64, Arc<VersionCounts>>>,
    gone: Mutex<Gone>,
    loads: [AtomicU64; CODES],
    load_times: Histogram<13>,
}

/// What versions that are unloaded have counted.
#[derive(Debug, Default)]
struct Gone {
    total: [Tally; Api::COUNT],
    /// Parts that requests may still hold.
    held: Vec<(Api, Arc<Part>)>,
    /// The number of batches, and their rows.
    batches: [u64; 2],
}

/// The counts of one version, by signature.
#[derive(Debug, Default)]
pub struct VersionCounts {
    signatures: Mutex<BTreeMap<Box<str>, Arc<Methods>>>,
    batches: Arc<BatchSizes>,
    facts: Mutex<Facts>,
}

/// What is known of a loaded version.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    /// The engine for its files.
    pub(super) engine: &'static str,
    /// The bytes of its files; 0 if that is not known.
    pub(super) bytes: u64,
}

/// The batches of one version.
#[derive(Debug, Default)]
pub struct BatchSizes {
    rows: Histogram<14>,
    requests: Histogram<14>,
}

impl BatchSizes {
    /// Counts a batch of `rows` rows of so many `requests`.
    pub fn ran(&self, rows: usize, requests: usize) {
        self.rows.add_up_to(&BATCH_SIZES, rows as u64);
        self.requests.add_up_to(&BATCH_SIZES, requests as u64);
    }

    /// Returns the number of batches, and their rows.
    fn totals(&self) -> [u64; 2] {
        let rows = Merged::of(&self.rows);
        [rows.count(), rows.sum]
    }

    /// Returns the histograms of rows and of requests.
    pub(super) fn read(&self) -> [Merged; 2] {
        [Merged::of(&self.rows), Merged::of(&self.requests)]
    }
}

impl ModelCounts {
    /// Returns the counts of requests by `api` for which no version was found.
    pub fn unresolved(&self, api: Api) -> &Series {
        &self.unresolved[api as usize]
    }

    pub(super) fn all_unresolved(&self) -> &Methods {
        &self.unresolved
    }

    /// Notes that the model is to be served here.
    pub(super) fn serve(&self) {
        self.served.store(true, Relaxed);
    }

    /// Returns whether it is a model that is, or was, to be served here, and not only a name in a request.
    pub fn is_served(&self) -> bool {
        self.served.load(Relaxed)
    }

    /// Returns the counts of a version, also of one that is loaded again.
    pub fn version(&self, version: i64) -> Arc<VersionCounts> {
        self.versions().entry(version).or_default().clone()
    }

    /// Counts a load of a version, with its warm-up.
    pub fn loaded(&self, took: Duration, outcome: Result<(), Kind>) {
        self.loads[outcome.map_or_else(|kind| kind as usize, |()| 0)].fetch_add(1, Relaxed);
        if outcome.is_ok() {
            self.load_times.add(&LOAD_TIMES, nanos(took) / 1_000_000);
        }
    }

    /// Ends the counts of a version that is unloaded: from now on they are the model's alone.
    pub fn retire(&self, version: i64) {
        let mut versions = self.versions();
        let Some(counts) = versions.remove(&version) else { return };
        let mut gone = self.gone();
        let [batches, rows] = counts.batches.totals();
        gone.batches[0] += batches;
        gone.batches[1] += rows;
        for methods in counts.signatures().values() {
            for (api, series) in Api::ALL.into_iter().zip(&**methods) {
                gone.held.extend(series.parts().map(|part| (api, part.clone())));
            }
        }
    }

    /// Returns the sums of all requests, by method.
    pub(super) fn total(&self) -> [Tally; Api::COUNT] {
        // Locked in this order, as in `retire`: nothing is missed, and nothing counted twice.
        let versions = self.versions();
        let mut gone = self.gone();
        gone.settle();
        let mut total = gone.total.clone();
        gone.held.iter().for_each(|(api, part)| total[*api as usize].read(part));
        for methods in versions.values().flat_map(|version| version.all()) {
            add(&mut total, &methods);
        }
        add(&mut total, &self.unresolved);
        total
    }

    /// Calls `present` with every part that counts calls of the model, and `past` with the sums of those that are gone. Asking
    /// for what is known of a model is no call.
    pub(super) fn visit(&self, mut present: impl FnMut(&Part), past: impl FnMut(&Tally)) {
        // As in `total`.
        let versions = self.versions();
        let mut gone = self.gone();
        gone.settle();
        gone.total[..Api::Other as usize].iter().for_each(past);
        let held = gone.held.iter().filter(|(api, _)| *api != Api::Other);
        held.for_each(|(_, part)| present(part));
        let mut calls = |methods: &Methods| {
            let calls = methods[..Api::Other as usize].iter();
            calls.flat_map(Series::parts).for_each(|part| present(part));
        };
        versions
            .values()
            .for_each(|version| version.signatures().values().for_each(|methods| calls(methods)));
        calls(&self.unresolved);
    }

    /// Returns the number of batches so far, and of their rows.
    pub(super) fn batches(&self) -> [u64; 2] {
        let versions = self.versions();
        let gone = self.gone().batches;
        versions
            .values()
            .map(|version| version.batches.totals())
            .fold(gone, |sum, one| [sum[0] + one[0], sum[1] + one[1]])
    }

    /// Returns its versions.
    pub(super) fn all(&self) -> Vec<(i64, Arc<VersionCounts>)> {
        self.versions().iter().map(|(number, version)| (*number, version.clone())).collect()
    }

    /// Returns the number of loads by status code, and the times of those that succeeded.
    pub(super) fn loads(&self) -> ([u64; CODES], Merged) {
        (self.loads.each_ref().map(|loads| loads.load(Relaxed)), Merged::of(&self.load_times))
    }

    fn versions(&self) -> MutexGuard<'_, BTreeMap<i64, Arc<VersionCounts>>> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gone(&self) -> MutexGuard<'_, Gone> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add(total: &mut [Tally; Api::COUNT], methods: &Methods) {
    for (total, series) in total.iter_mut().zip(methods) {
        series.parts().for_each(|part| total.read(part));
    }
}

impl Gone {
    /// Adds to the total what no request holds any more.
    fn settle(&mut self) {
        let total = &mut self.total;
        self.held.retain(|(api, part)| {
            let is_held = Arc::strong_count(part) > 1;
            if !is_held {
                total[*api as usize].read(part);
            }
            is_held
        });
    }
}

impl VersionCounts {
    /// Returns the counts of requests to `signature`; of those whose signature is not known, for an empty name.
    pub fn signature(&self, signature: &str) -> Arc<Methods> {
        let mut signatures = self.signatures();
        if let Some(known) = signatures.get(signature) {
            return known.clone();
        }
        signatures.entry(signature.into()).or_default().clone()
    }

    /// Returns the counts of its batches.
    pub fn batches(&self) -> Arc<BatchSizes> {
        self.batches.clone()
    }

    /// Notes the engine for its files, and their bytes.
    pub fn is_loaded(&self, engine: &'static str, bytes: u64) {
        *self.facts.lock().unwrap_or_else(PoisonError::into_inner) = Facts { engine, bytes };
    }

    pub(super) fn facts(&self) -> Facts {
        *self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the signatures with their counts.
    pub(super) fn named(&self) -> Vec<(Box<str>, Arc<Methods>)> {
        self.signatures().iter().map(|(name, methods)| (name.clone(), methods.clone())).collect()
    }

    fn all(&self) -> Vec<Arc<Methods>> {
        self.signatures().values().cloned().collect()
    }

    fn signatures(&self) -> MutexGuard<'_, BTreeMap<Box<str>, Arc<Methods>>> {
        self.signatures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
