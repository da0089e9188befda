//! A loaded `.tflite` file: LiteRT's model of it, and the interpreters that run it, made when they are needed.

#![allow(unsafe_code)]

use super::Library;
use super::call::Call;
use super::compiled::{Compiled, checked};
use super::ffi;
use super::file::{File, code};
use super::permits::{Held, Permits};
use super::signatures::{Io, Plan, plan};
use crate::engine::signature::Signature;
use crate::engine::{Endpoint, Model, RunOptions, Termination, Threads};
use crate::error::{Error, Kind, Result};
use crate::host::mapping::Mapping;
use crate::tensor::{DType, Strings, Tensor, element_count};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A version. Its fields are dropped in this order: interpreters use the model, which uses the bytes of the file.
pub(super) struct Loaded {
    plan: Plan,
    /// Interpreters that no run has, for one thread and for as many as there are cores.
    single: Mutex<Vec<Compiled>>,
    whole: Mutex<Vec<Compiled>>,
    /// For a model with state: its runs follow each other, on one interpreter, which has the state.
    turns: Option<Permits>,
    handle: Handle,
    _bytes: Mapping,
}

/// LiteRT's model.
struct Handle {
    library: &'static Library,
    raw: *mut ffi::Model,
    /// Held while interpreters are made of it.
    compiling: Mutex<()>,
}

// SAFETY: LiteRT's model is only read after it is made, and by one thread at a time (`compiling`).
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: made by `create_model`, destroyed once, after the interpreters.
        unsafe { (self.library.api.destroy_model)(self.raw) };
    }
}

impl Loaded {
    /// Loads the file that is `bytes`.
    pub(super) fn new(library: &'static Library, bytes: Mapping) -> Result<Loaded> {
        let file = File::read(&bytes).map_err(damaged)?;
        let plan = plan(&file)?;
        let handle = Handle::new(library, &bytes, &file)?;
        let turns = plan.runners.iter().any(|runner| runner.has_state).then(|| Permits::new(1));
        let loaded =
            Loaded { plan, single: Mutex::default(), whole: Mutex::default(), turns, handle, _bytes: bytes };
        loaded.rehearse(&file)?;
        Ok(loaded)
    }

    /// Makes the first interpreter, and checks that what the file has can be run.
    fn rehearse(&self, file: &File) -> Result<()> {
        let mut compiled = self.handle.compile(1, &self.plan).map_err(|why| refused(file, why))?;
        for (number, runner) in self.plan.runners.iter().enumerate() {
            let inputs: Vec<Tensor> = runner.inputs.iter().map(smallest).collect();
            let inputs: Vec<&Tensor> = inputs.iter().collect();
            if let Err(why) = compiled.rehearse(number, runner, &inputs) {
                // Some models cannot be run on the smallest shapes, and then only a request shows what they can do.
                let any_shape = runner.inputs.iter().any(|io| io.shape.iter().skip(1).any(|dim| *dim < 0));
                if !any_shape || why.kind == Kind::Unimplemented || has_custom(file) {
                    return Err(refused(file, why));
                }
                compiled = self.handle.compile(1, &self.plan)?;
            }
        }
        lock(&self.single).push(compiled);
        Ok(())
    }

    /// Returns how many interpreters for `threads` threads no run has.
    #[cfg(test)]
    pub(super) fn idle(&self, threads: usize) -> usize {
        lock(self.pool(threads)).len()
    }

    /// Takes an interpreter for a run, or makes one.
    fn interpreter(&self, threads: usize) -> Result<Compiled> {
        match lock(self.pool(threads)).pop() {
            Some(compiled) => Ok(compiled),
            None => self.handle.compile(threads, &self.plan),
        }
    }

    fn pool(&self, threads: usize) -> &Mutex<Vec<Compiled>> {
        if threads == 1 { &self.single } else { &self.whole }
    }

    /// Returns whether a run may have all cores.
    fn may_be_whole(&self, options: RunOptions) -> bool {
        options.threads == Threads::Pool && self.turns.is_none()
    }

    /// Waits for what a run needs: for a model with state its turn, and cores.
    fn permits(&self, options: RunOptions, deadline: Option<Instant>) -> Result<Permitted<'_>> {
        let turn = self.turns.as_ref().map(|turns| turns.take(false, deadline)).transpose()?;
        let cores = self.handle.library.cores.take(self.may_be_whole(options), deadline)?;
        Ok(Permitted { _turn: turn, cores })
    }

    /// Takes what a run needs, with an interpreter, if all of that is free.
    fn permits_at_once(&self, options: RunOptions) -> Option<(Permitted<'_>, Compiled)> {
        let turn = match &self.turns {
            Some(turns) => Some(turns.try_take(false)?),
            None => None,
        };
        let cores = self.handle.library.cores.try_take(self.may_be_whole(options))?;
        let compiled = lock(self.pool(cores.count())).pop()?;
        Some((Permitted { _turn: turn, cores }, compiled))
    }

    /// Does a run on `compiled`.
    fn run_on(
        &self,
        mut compiled: Compiled,
        call: &Call<'_>,
        permitted: &Permitted<'_>,
        deadline: Option<Instant>,
    ) -> Result<Vec<Tensor>> {
        let runner = &self.plan.runners[call.runner];
        let ran = compiled.run(call.runner, runner, &call.inputs, deadline);
        // One that has the model's state is kept in any case.
        let is_good = match &ran {
            Ok(_) => true,
            Err(why) => compiled.recovers(call.runner, runner, why.kind),
        };
        if is_good || self.turns.is_some() {
            lock(self.pool(permitted.cores.count())).push(compiled);
        }
        let outputs = ran?;
        Ok(call.outputs.iter().map(|place| outputs[*place].clone()).collect())
    }
}

/// What a run holds.
struct Permitted<'a> {
    _turn: Option<Held<'a>>,
    cores: Held<'a>,
}

/// Returns when a run that begins now has to end.
fn deadline(options: RunOptions) -> Option<Instant> {
    options.timeout.and_then(|timeout| Instant::now().checked_add(timeout))
}

impl Model for Loaded {
    fn signatures(&self) -> &BTreeMap<String, Signature> {
        &self.plan.signatures
    }

    fn endpoint(&self, tensor: &str) -> Option<Endpoint> {
        self.plan.names.get(tensor).copied()
    }

    fn changes_nothing(&self, signature: &str) -> bool {
        self.plan.runner_of.get(signature).is_some_and(|runner| self.plan.runners[*runner].changes_nothing)
    }

    fn termination(&self, signature: &str) -> Termination {
        let runner = self.plan.runner_of.get(signature);
        runner.map_or(Termination::Unknown, |runner| self.plan.runners[*runner].termination)
    }

    fn run(
        &self,
        feeds: &[(Endpoint, Tensor)],
        fetches: &[Endpoint],
        options: RunOptions,
    ) -> Result<Vec<Tensor>> {
        let call = Call::new(&self.plan, feeds, fetches)?;
        let deadline = deadline(options);
        let permitted = self.permits(options, deadline)?;
        let compiled = self.interpreter(permitted.cores.count())?;
        self.run_on(compiled, &call, &permitted, deadline)
    }

    fn run_at_once(
        &self,
        feeds: &[(Endpoint, Tensor)],
        fetches: &[Endpoint],
        options: RunOptions,
    ) -> Option<Result<Vec<Tensor>>> {
        let call = match Call::new(&self.plan, feeds, fetches) {
            Ok(call) => call,
            Err(why) => return Some(Err(why)),
        };
        let (permitted, compiled) = self.permits_at_once(options)?;
        Some(self.run_on(compiled, &call, &permitted, deadline(options)))
    }
}

impl Handle {
    fn new(library: &'static Library, bytes: &[u8], file: &File) -> Result<Handle> {
        let mut raw = std::ptr::null_mut();
        // SAFETY: the environment is live, and so are the bytes, as `Loaded` keeps them until the model is destroyed.
        let status = unsafe {
            (library.api.create_model)(library.environment, bytes.as_ptr().cast(), bytes.len(), &raw mut raw)
        };
        if status == ffi::UNSUPPORTED {
            return Err(Error::new(
                Kind::Unimplemented,
                "LiteRT does not take models with variable or intermediate tensors, as fused LSTM operators have: \
                 convert the model again without fusing them, or serve it as a SavedModel",
            ));
        }
        checked(status, "read the model").map_err(|why| refused(file, why))?;
        let handle = Handle { library, raw, compiling: Mutex::new(()) };
        let mut count = 0;
        // SAFETY: the model is live.
        checked(unsafe { (library.api.number_of_signatures)(raw, &raw mut count) }, "count signatures")?;
        if count != file.signatures.len().max(1) {
            return Err(damaged("LiteRT finds other signatures in it"));
        }
        Ok(handle)
    }

    fn compile(&self, threads: usize, plan: &Plan) -> Result<Compiled> {
        let _alone = lock(&self.compiling);
        // SAFETY: the model is live, and outlives its interpreters by the order of `Loaded`'s fields.
        unsafe { Compiled::new(self.library, self.raw, threads, plan.runners.len()) }
    }
}

/// Returns a tensor of the smallest shape that `io` can have.
fn smallest(io: &Io) -> Tensor {
    let shape: Vec<i64> = io.shape.iter().map(|dim| (*dim).max(1)).collect();
    let count = element_count(&shape).unwrap_or(0);
    if io.dtype == DType::String {
        return Tensor::strings(shape, std::iter::repeat_n("", count).collect::<Strings>());
    }
    Tensor::numbers(io.dtype, shape, Bytes::from(vec![0; count * io.dtype.size()]))
}

/// Returns the names of custom operators.
fn customs(file: &File) -> Vec<&str> {
    let operators = file.subgraphs.iter().flat_map(|graph| &graph.operators);
    let mut names: Vec<_> =
        operators.filter(|one| one.code == code::CUSTOM).map(|one| &*one.custom).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn has_custom(file: &File) -> bool {
    !customs(file).is_empty()
}

/// Says why LiteRT refuses a file, and what to do: mostly it lacks a custom operator.
fn refused(file: &File, why: Error) -> Error {
    let names = customs(file);
    if names.is_empty() {
        return why;
    }
    let flex = names.iter().any(|name| name.starts_with("Flex"));
    let advice = if flex {
        "operators that begin with Flex are TensorFlow's: convert the model again with TensorFlow Lite's own operators \
         alone, or serve its SavedModel with TensorFlow"
    } else {
        "convert the model again without them, or serve its SavedModel with TensorFlow"
    };
    Error::new(
        Kind::Unimplemented,
        format!("LiteRT cannot run the custom operators {} ({}): {advice}", names.join(", "), why.message),
    )
}

fn damaged(why: &'static str) -> Error {
    Error::new(
        Kind::DataLoss,
        format!(
            "it is not a TensorFlow Lite model that can be read: {why}. It may be damaged or half-copied: copy it again"
        ),
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
