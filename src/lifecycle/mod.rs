//! Loading and unloading: load → warm → publish, and retire → drain → unload.
//!
//! Both run on Python's loading and unloading threads and block until done; no thread that serves requests waits for
//! them.

mod growth;
mod meter;
mod preparing;
mod warmup;

use crate::batch;
use crate::engine::choice::{EngineKind, engine_of};
use crate::engine::{Engine, LoadOptions, Preparation};
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::host::{memory, priority};
use crate::methods::ServerState;
use crate::metrics::Metrics;
use crate::registry::State;
use crate::servable::placement::Policy;
use crate::servable::{Drain, Resources, Servable};
use meter::Meter;
use preparing::Preparing;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Options for loading a version.
#[derive(Clone, Debug)]
pub struct Options {
    /// Options for the engine.
    pub engine: LoadOptions,
    /// The threads that run its requests.
    pub placement: Policy,
    /// Batching of its requests, if any.
    pub batching: Batching,
    /// True to replay the version's warm-up file before publishing it.
    pub warmup: bool,
    /// Number of times that each of its requests runs.
    pub warmup_iterations: u32,
    /// True to call signatures without such requests with zeros before publishing, if that is safe.
    pub synthetic_warmup: bool,
    /// True if a failure is not final: the caller will retry, and the state stays LOADING.
    pub retrying: bool,
    /// Most memory that it may take, in bytes, as far as that is measured.
    pub most_memory: Option<u64>,
}

/// Batching of a version's requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Batching {
    /// Each runs alone.
    Off,
    /// By TensorFlow Serving's parameters.
    Parameters(batch::Parameters),
    /// Without parameters.
    Automatic,
}

/// Loads and unloads the versions of one server.
pub struct Lifecycle {
    server: Arc<ServerState>,
    /// Frees each loaded version after its last request: handles only. The state of a version belongs to the registry.
    drains: Mutex<HashMap<(String, i64), Drain>>,
    /// The phases of the loads in progress.
    phases: Mutex<HashMap<(String, i64), Phase>>,
    preparing: Preparing,
    /// Measures loads, if versions are loaded on demand.
    meter: Option<Arc<Meter>>,
}

/// The phase of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The engine reads the model's files.
    Reading,
    /// Warm-up requests run.
    Warming,
    /// The version serves, and its predecessor waits for its last requests.
    Replacing,
}

impl Phase {
    /// Describes, in words, what the load is waiting for.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Reading => "its files are being read",
            Phase::Warming => "its warm-up requests are running",
            Phase::Replacing => "requests to the version that it replaces are being answered",
        }
    }
}

impl Lifecycle {
    /// Makes a lifecycle for the servables of `server`.
    pub fn new(server: Arc<ServerState>) -> Lifecycle {
        let meter = server.demand.as_ref().map(|_| Arc::default());
        let preparing = Preparing::new();
        Lifecycle { server, drains: Mutex::default(), phases: Mutex::default(), preparing, meter }
    }

    /// Loads version `version` of `name` from `path` and makes it available. If it is already available, it serves
    /// until the new load replaces it, and keeps serving if the load fails. A load without an engine is one that fails.
    pub fn load(
        &self,
        engine: Result<&dyn Engine>,
        name: &str,
        version: i64,
        path: &Path,
        options: &Options,
    ) -> Result<Arc<Servable>> {
        let (_load, started) = (self.preparing.load(), Instant::now());
        let registry = &self.server.registry;
        let serves = self.drains().contains_key(&(name.to_owned(), version));
        if !serves {
            registry.set_state(name, version, State::Loading, None);
        }
        let prepared = engine.and_then(|engine| {
            // With nothing serving yet, low priority would help nobody.
            let gives_way = engine.shares_threads(&options.engine) && registry.serves();
            priority::at_low_priority(gives_way, || self.prepare(engine, name, version, path, options))
        });
        let key = (name.to_owned(), version);
        self.phases().remove(&key);
        if let Some(metrics) = &self.server.metrics {
            let outcome = prepared.as_ref().map(|_| ()).map_err(|why| why.kind);
            metrics.served(name).loaded(started.elapsed(), outcome);
        }
        match prepared {
            Ok((servable, drain)) => {
                let replaced = self.drains().insert(key.clone(), drain);
                registry.publish(servable.clone());
                if let Some(preparation) = servable.preparation() {
                    self.preparing.add(self.measured(preparation, &servable));
                }
                if let Some(replaced) = replaced {
                    self.phases().insert(key.clone(), Phase::Replacing);
                    let freed = self.free(replaced);
                    self.phases().remove(&key);
                    freed?;
                }
                Ok(servable)
            }
            Err(why) => {
                if !options.retrying && !serves {
                    registry.set_state(name, version, State::End, Some(why.clone()));
                }
                if !serves {
                    self.forget_counts(name, version);
                }
                self.in_background(memory::after_unload)?;
                Err(why)
            }
        }
    }

    /// Has what a preparation takes of the memory counted for its version, if that is measured.
    fn measured(&self, preparation: Arc<dyn Preparation>, servable: &Arc<Servable>) -> Arc<dyn Preparation> {
        match &self.meter {
            Some(meter) => {
                let (version, meter) = (Arc::downgrade(servable), meter.clone());
                Arc::new(growth::Measured { preparation, version, meter })
            }
            None => preparation,
        }
    }

    /// Returns the phase of a version's load, if one is in progress.
    pub fn phase(&self, name: &str, version: i64) -> Option<Phase> {
        self.phases().get(&(name.to_owned(), version)).copied()
    }

    fn phases(&self) -> std::sync::MutexGuard<'_, HashMap<(String, i64), Phase>> {
        self.phases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hides a version that no request holds, to be unloaded; the next request for it has it loaded again. Returns whether
    /// it is hidden.
    pub fn rest(&self, name: &str, version: i64) -> bool {
        let rests = self.server.registry.rest(name, version);
        if let Some(demand) = self.server.demand.as_ref().filter(|_| rests) {
            demand.rested();
        }
        rests
    }

    /// Hides a version from new requests and waits for those that hold it.
    pub fn retire(&self, name: &str, version: i64) -> Result<()> {
        drop(self.server.registry.retire(name, version)?);
        let in_use = self.drains().get(&(name.to_owned(), version)).map(Drain::in_use);
        in_use.ok_or_else(never_loaded)?.wait();
        Ok(())
    }

    /// Frees a version, retiring it first if necessary.
    pub fn unload(&self, name: &str, version: i64) -> Result<()> {
        let handle = self.server.registry.retire(name, version);
        let drain = self.drains().remove(&(name.to_owned(), version));
        let Some(drain) = drain else { return Err(handle.err().unwrap_or_else(never_loaded)) };
        drop(handle);
        let freed = self.free(drain);
        self.forget_counts(name, version);
        self.server.registry.set_state(name, version, State::End, None);
        freed
    }

    /// Ends the metrics of a version that no longer serves.
    fn forget_counts(&self, name: &str, version: i64) {
        if let Some(metrics) = &self.server.metrics {
            metrics.served(name).retire(version);
        }
    }

    fn prepare(
        &self,
        engine: &dyn Engine,
        name: &str,
        version: i64,
        path: &Path,
        options: &Options,
    ) -> Result<(Arc<Servable>, Drain)> {
        let counts = self.server.metrics.as_ref().map(|metrics| metrics.served(name).version(version));
        let key = (name.to_owned(), version);
        self.phases().insert(key.clone(), Phase::Reading);
        let measured = self.meter.as_ref().map(|meter| meter.begin());
        let started = Instant::now();
        let loaded = engine.load(path, &options.engine);
        if let Some(metrics) = &self.server.metrics {
            metrics.loaded(path, started.elapsed(), loaded.is_ok());
        }
        let model = loaded?;
        let engine = engine_of(path, options.engine.prefer_tflite).map_or("", EngineKind::name);
        if let Some(counts) = &counts {
            counts.is_loaded(engine, files::size(path));
        }
        let batching = self.batching(&options.batching);
        let resources = Resources {
            engine,
            policy: options.placement,
            scheduler: &self.server.scheduler,
            batching,
            counts,
            tells_use: self.server.demand.is_some(),
        };
        let (servable, drain) = Servable::new(name.to_owned(), version, model, resources);
        self.phases().insert(key, Phase::Warming);
        warmup::warm(&self.server, &servable, path, options)?;
        if let Some(taken) = measured.and_then(|measured| measured.taken()) {
            servable.takes(taken);
            fits(taken, options.most_memory)?;
        }
        Ok((servable, drain))
    }

    fn batching(&self, options: &Batching) -> Option<batch::Batching> {
        match options {
            Batching::Off => None,
            Batching::Parameters(parameters) => {
                let pool = self.server.batches.clone()?;
                Some(batch::Batching::Parameters(pool, parameters.clone()))
            }
            Batching::Automatic => {
                Some(batch::Batching::Automatic(self.server.metrics.as_ref().map(Metrics::batches)))
            }
        }
    }

    /// Waits for the last request, then frees.
    fn free(&self, drain: Drain) -> Result<()> {
        self.in_background(|| {
            drain.wait();
            let freeing = self.meter.as_ref().map(|meter| meter.frees());
            drain.wait_and_free();
            drop(freeing);
            memory::after_unload();
        })
    }

    /// Does lengthy work that no request waits for.
    fn in_background(&self, work: impl FnOnce() + Send) -> Result<()> {
        priority::at_low_priority(self.server.registry.serves(), || {
            work();
            Ok(())
        })
    }

    fn drains(&self) -> std::sync::MutexGuard<'_, HashMap<(String, i64), Drain>> {
        self.drains.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses a version that takes more memory than all may.
fn fits(taken: u64, most: Option<u64>) -> Result<()> {
    match most {
        Some(most) if taken > most => Err(Error::new(
            Kind::ResourceExhausted,
            format!("It takes {taken} bytes of memory, and --memory_budget allows {most} for all models"),
        )),
        _ => Ok(()),
    }
}

fn never_loaded() -> Error {
    Error::internal("A version was available that was never loaded")
}

#[cfg(test)]
mod tests;
