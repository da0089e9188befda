//! The other path: load → warm → publish, and retire → drain → unload.
//!
//! Both are called from Python's loading and unloading threads, and block for as long as they take; no thread that
//! serves requests waits for them.

pub mod tfrecord;
mod warmup;

use crate::batch;
use crate::engine::{Engine, LoadOptions};
use crate::error::{Error, Result};
use crate::host::{memory, priority};
use crate::methods::ServerState;
use crate::registry::State;
use crate::servable::placement::Policy;
use crate::servable::{Drain, Servable};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// How a version is loaded.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the engine needs to know.
    pub engine: LoadOptions,
    /// Where its requests run.
    pub placement: Policy,
    /// How its requests are batched, if they are.
    pub batching: Option<batch::Parameters>,
    /// Whether the version's warm-up file is replayed before it is published.
    pub warmup: bool,
    /// How often each of its requests is run.
    pub warmup_iterations: u32,
    /// Whether signatures without such requests are called with zeros before the version is published, where that is safe.
    pub synthetic_warmup: bool,
    /// Whether a failure is not the end: the caller will try again, and the state stays LOADING.
    pub retrying: bool,
}

/// Loads and unloads the versions of one server.
pub struct Lifecycle {
    server: Arc<ServerState>,
    /// What frees each version that is loaded, once its last request is answered: handles alone. The state of a
    /// version is the registry's.
    drains: Mutex<HashMap<(String, i64), Drain>>,
    /// What the loads that are under way are at.
    phases: Mutex<HashMap<(String, i64), Phase>>,
}

/// What a load is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The engine reads the model's files.
    Reading,
    /// Warm-up requests run.
    Warming,
    /// The version serves, and what served before it waits for the last of its requests.
    Replacing,
}

impl Phase {
    /// What is waited for, in words.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Reading => "its files are being read",
            Phase::Warming => "its warm-up requests are running",
            Phase::Replacing => "requests to the version that it replaces are being answered",
        }
    }
}

impl Lifecycle {
    /// A lifecycle for the servables of `server`.
    pub fn new(server: Arc<ServerState>) -> Lifecycle {
        Lifecycle { server, drains: Mutex::default(), phases: Mutex::default() }
    }

    /// Loads version `version` of `name` from `path` and makes it available. One that is available already serves
    /// until the new load takes its place, and goes on serving if that fails.
    pub fn load(
        &self,
        engine: &dyn Engine,
        name: &str,
        version: i64,
        path: &Path,
        options: &Options,
    ) -> Result<Arc<Servable>> {
        let registry = &self.server.registry;
        let serves = self.drains().contains_key(&(name.to_owned(), version));
        if !serves {
            registry.set_state(name, version, State::Loading, None);
        }
        // Where nothing serves yet there is nobody to give way to.
        let gives_way = engine.shares_threads(&options.engine) && registry.serves();
        let prepared =
            priority::at_low_priority(gives_way, || self.prepare(engine, name, version, path, options));
        let key = (name.to_owned(), version);
        self.phases().remove(&key);
        match prepared {
            Ok((servable, drain)) => {
                let replaced = self.drains().insert(key.clone(), drain);
                registry.publish(servable.clone());
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
                self.in_background(memory::after_unload)?;
                Err(why)
            }
        }
    }

    /// What the load of a version is at, if one is under way.
    pub fn phase(&self, name: &str, version: i64) -> Option<Phase> {
        self.phases().get(&(name.to_owned(), version)).copied()
    }

    fn phases(&self) -> std::sync::MutexGuard<'_, HashMap<(String, i64), Phase>> {
        self.phases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a version away from new requests and waits for those that hold it.
    pub fn retire(&self, name: &str, version: i64) -> Result<()> {
        drop(self.server.registry.retire(name, version)?);
        let in_use = self.drains().get(&(name.to_owned(), version)).map(Drain::in_use);
        in_use.ok_or_else(never_loaded)?.wait();
        Ok(())
    }

    /// Frees a version; retires it first, where that was not done.
    pub fn unload(&self, name: &str, version: i64) -> Result<()> {
        let handle = self.server.registry.retire(name, version);
        let drain = self.drains().remove(&(name.to_owned(), version));
        let Some(drain) = drain else { return Err(handle.err().unwrap_or_else(never_loaded)) };
        drop(handle);
        let freed = self.free(drain);
        self.server.registry.set_state(name, version, State::End, None);
        freed
    }

    fn prepare(
        &self,
        engine: &dyn Engine,
        name: &str,
        version: i64,
        path: &Path,
        options: &Options,
    ) -> Result<(Arc<Servable>, Drain)> {
        let counts = self.server.metrics.as_ref().map(|metrics| metrics.served(name));
        let key = (name.to_owned(), version);
        self.phases().insert(key.clone(), Phase::Reading);
        let started = Instant::now();
        let loaded = engine.load(path, &options.engine);
        if let Some(metrics) = &self.server.metrics {
            metrics.loaded(path, started.elapsed(), loaded.is_ok());
        }
        let model = loaded?;
        let batching = self.server.batches.clone().zip(options.batching.clone());
        let (servable, drain) =
            Servable::new(name.to_owned(), version, model, options.placement, batching, counts);
        self.phases().insert(key, Phase::Warming);
        warmup::warm(&self.server, &servable, path, options)?;
        Ok((servable, drain))
    }

    /// Waits for the last request, and frees.
    fn free(&self, drain: Drain) -> Result<()> {
        self.in_background(|| {
            drain.wait_and_free();
            memory::after_unload();
        })
    }

    /// Does what takes long and is nobody's request.
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

fn never_loaded() -> Error {
    Error::internal("A version was available that was never loaded")
}

#[cfg(test)]
mod tests;
