//! A loaded model: compiled, with its ports, requests and signature.

#![allow(unsafe_code)]

use super::admission::Admission;
use super::ffi::{Api, OvCompiledModel, OvInferRequest};
use super::handle::{Failure, Handle, check};
use super::port::Port;
use super::requests::{Lease, Requests, too_late};
use super::tensors::{self, Fed};
use crate::engine::forms::{Form, Forms, Turn};
use crate::engine::shapes::{Shapes, shapes_of};
use crate::engine::signature::Signature;
use crate::engine::{Endpoint, Model, RunOptions, Termination, Threads};
use crate::error::{Error, Kind, Result};
use crate::tensor::Tensor;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// A value for each tensor of a run; up to four need no allocation.
type Few<T> = SmallVec<[T; 4]>;

/// What runs need. Runs that go on, and outputs, keep it when the model is dropped.
pub(super) struct Compiled {
    pub(super) api: &'static Api,
    /// Freed before the ports, these before the model.
    pub(super) requests: Requests,
    pub(super) inputs: Vec<Port>,
    pub(super) outputs: Vec<Port>,
    pub(super) handle: Handle<OvCompiledModel>,
}

/// Where a tensor of the graph is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The position among the inputs.
    Input(usize),
    /// The position among the outputs.
    Output(usize),
}

/// What is known of a model's runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Behaviour {
    pub(super) has_state: bool,
    pub(super) termination: Termination,
}

/// A loaded model; it has one signature.
pub(super) struct Loaded {
    pub(super) forms: Arc<Forms<Compiled>>,
    pub(super) signatures: BTreeMap<String, Signature>,
    /// Indexed by [`Endpoint`], sorted by name.
    pub(super) endpoints: Vec<(String, Place)>,
    pub(super) behaviour: Behaviour,
    /// Which runs go on at once, if a form is made anew once one of its runs has failed; `None` if it is not.
    pub(super) admission: Option<Admission>,
}

/// How often a run is tried because others failed while it went on, those of shapes that had only succeeded until then or
/// that were cancelled: the second time it is alone.
const MOST_TRIES: usize = 4;

impl Behaviour {
    /// Returns whether runs may not end.
    pub(super) fn may_loop(self) -> bool {
        self.termination <= Termination::MayLoop
    }

    /// Returns whether the model is to have a single request: what a run leaves for the next is in the request; and
    /// where runs may not end, the next one has to wait where its time is kept, not in OpenVINO, which lets one request
    /// of a model run at a time.
    pub(super) fn one_request(self) -> bool {
        self.has_state || self.may_loop()
    }
}

impl Form for Compiled {
    fn begun(&self) {
        self.requests.begun();
    }

    fn ended(&self) {
        self.requests.ended();
    }

    fn is_busy(&self) -> bool {
        self.requests.are_busy()
    }
}

impl Compiled {
    pub(super) fn new_request(&self) -> Result<Handle<OvInferRequest>, Failure> {
        Handle::made(self.api, self.api.infer_request_free, |made| {
            // SAFETY: the model is live; it may make requests in several threads at once.
            unsafe { (self.api.create_infer_request)(self.handle.as_ptr(), made) }
        })
    }
}

impl Loaded {
    fn place(&self, endpoint: Endpoint) -> Option<&(String, Place)> {
        self.endpoints.get(usize::try_from(endpoint.0).ok()?)
    }

    /// Returns the tensor for each input, if every one is fed once with what fits.
    fn fed<'t>(&self, inputs: &[Port], feeds: &'t [(Endpoint, Tensor)]) -> Result<Few<&'t Tensor>> {
        let mut fed: Few<Option<&Tensor>> = SmallVec::from_elem(None, inputs.len());
        for (endpoint, tensor) in feeds {
            let at = match self.place(*endpoint) {
                Some((_, Place::Input(at))) => *at,
                Some((name, Place::Output(_))) => {
                    return Err(Error::invalid(format!("\"{name}\" is an output, which cannot be fed")));
                }
                None => return Err(unknown(*endpoint)),
            };
            if fed[at].replace(tensor).is_some() {
                return Err(Error::invalid(format!("Input \"{}\" is fed more than once", inputs[at].name)));
            }
            inputs[at].check(tensor)?;
        }
        let all = fed.iter().zip(inputs).map(|(tensor, input)| {
            tensor.ok_or_else(|| {
                Error::invalid(format!(
                    "Input \"{}\" is missing: {} is expected",
                    input.name,
                    input.expected()
                ))
            })
        });
        all.collect()
    }

    /// Returns the positions of the outputs that are fetched.
    fn fetched(&self, fetches: &[Endpoint]) -> Result<Few<usize>> {
        let place = |endpoint: &Endpoint| match self.place(*endpoint) {
            Some((_, Place::Output(at))) => Ok(*at),
            Some((name, Place::Input(_))) => {
                Err(Error::invalid(format!("\"{name}\" is an input, which cannot be fetched")))
            }
            None => Err(unknown(*endpoint)),
        };
        fetches.iter().map(place).collect()
    }

    fn call<'t>(
        &self,
        inputs: &[Port],
        feeds: &'t [(Endpoint, Tensor)],
        fetches: &[Endpoint],
        options: RunOptions,
    ) -> Result<Call<'t>> {
        let (fed, fetched) = (self.fed(inputs, feeds)?, self.fetched(fetches)?);
        let timeout = options.timeout.filter(|_| options.threads != Threads::Caller);
        Ok(Call { fed, fetched, begun: Instant::now(), timeout })
    }

    /// Returns whether a run of a form has failed, so that its results may be wrong.
    fn is_spoiled(&self, turn: &Turn<Compiled>) -> bool {
        self.admission.is_some() && turn.compiled.requests.failed() > 0
    }

    /// Does a run of a model whose forms stay as they are.
    fn run_now(
        &self,
        feeds: &[(Endpoint, Tensor)],
        fetches: &[Endpoint],
        options: RunOptions,
    ) -> Result<Vec<Tensor>> {
        let turn = self.forms.begin();
        let call = self.call(&turn.compiled.inputs, feeds, fetches, options)?;
        let lease = Lease::take(&turn.compiled, call.left())?;
        self.run_on(turn, lease, &call)
    }

    /// Does a run beside others or alone, with a form none of whose runs has failed.
    fn run_admitted(
        &self,
        admission: &Admission,
        feeds: &[(Endpoint, Tensor)],
        fetches: &[Endpoint],
        options: RunOptions,
    ) -> Result<Vec<Tensor>> {
        let call = self.call(&self.forms.either().inputs, feeds, fetches, options)?;
        let (shapes, begun) = (call.shapes(), call.begun);
        for number in 0..MOST_TRIES {
            let left = options.timeout.map(|timeout| timeout.saturating_sub(begun.elapsed()));
            let pass =
                if number == 0 { admission.enter(&shapes, left)? } else { admission.enter_alone(left)? };
            let Some((turn, lease)) = self.unspoiled(&call)? else { continue };
            let compiled = turn.compiled.clone();
            let Some(result) = self.run_once(turn, lease, &call) else { continue };
            admission.learn(&shapes, &result);
            if pass.is_alone() && compiled.requests.failed() > 0 {
                // If that fails, the next run will try it again, and have the error.
                let _renewed = self.forms.renew(&compiled);
            }
            return result;
        }
        Err(Error::new(Kind::Unavailable, "Too many runs of the model fail at once: try again"))
    }

    /// Returns a request of a form none of whose runs has failed, which is made if need be; `None` if others go on to fail.
    /// A run that was cancelled fails later, when its loop ends, which those for the same request wait for.
    fn unspoiled(&self, call: &Call<'_>) -> Result<Option<(Turn<Compiled>, Lease)>> {
        for _ in 0..3 {
            let turn = self.forms.begin();
            if !self.is_spoiled(&turn) {
                let lease = Lease::take(&turn.compiled, call.left())?;
                if !self.is_spoiled(&turn) {
                    return Ok(Some((turn, lease)));
                }
            }
            let spoiled = turn.compiled.clone();
            drop(turn);
            self.forms.renew(&spoiled)?;
        }
        Ok(None)
    }

    /// Does a run; `None` if others failed meanwhile, so that it has to be done again.
    fn run_once(&self, turn: Turn<Compiled>, lease: Lease, call: &Call<'_>) -> Option<Result<Vec<Tensor>>> {
        let compiled = turn.compiled.clone();
        let result = self.run_on(turn, lease, call);
        let own = usize::from(result.is_err());
        let is_late = result.as_ref().is_err_and(|why| why.kind == Kind::DeadlineExceeded);
        let is_spoiled = self.admission.is_some() && compiled.requests.failed() > own;
        (is_late || !is_spoiled).then_some(result)
    }

    /// Does a run with the request of `lease`.
    fn run_on(&self, turn: Turn<Compiled>, lease: Lease, call: &Call<'_>) -> Result<Vec<Tensor>> {
        let running = Running::new(lease, &call.fed)?;
        let running = match call.timeout {
            Some(timeout) if self.behaviour.may_loop() => {
                running.within(timeout.saturating_sub(call.begun.elapsed()))?
            }
            _ => {
                running.infer()?;
                running
            }
        };
        drop(turn);
        running.lease.holds(tensors::held(&running.lease).map_err(Failure::of_run)?);
        if call.timeout.is_some_and(|timeout| call.begun.elapsed() > timeout) {
            return Err(too_late());
        }
        running.results(&call.fetched)
    }
}

/// A run that has been checked: a tensor for each input, the positions of its outputs, and its time.
struct Call<'t> {
    fed: Few<&'t Tensor>,
    fetched: Few<usize>,
    begun: Instant,
    timeout: Option<Duration>,
}

impl Call<'_> {
    /// Returns what is left of its time.
    fn left(&self) -> Option<Duration> {
        self.timeout.map(|timeout| timeout.saturating_sub(self.begun.elapsed()))
    }

    fn shapes(&self) -> Shapes {
        shapes_of(self.fed.iter().copied())
    }
}

fn unknown(endpoint: Endpoint) -> Error {
    Error::invalid(format!("The model has no endpoint {}", endpoint.0))
}

impl Model for Loaded {
    fn signatures(&self) -> &BTreeMap<String, Signature> {
        &self.signatures
    }

    fn endpoint(&self, tensor: &str) -> Option<Endpoint> {
        let found = self.endpoints.binary_search_by(|(name, _)| name.as_str().cmp(tensor)).ok()?;
        u32::try_from(found).ok().map(Endpoint)
    }

    fn changes_nothing(&self, signature: &str) -> bool {
        self.signatures.contains_key(signature) && !self.behaviour.has_state
    }

    fn termination(&self, signature: &str) -> Termination {
        if self.signatures.contains_key(signature) {
            self.behaviour.termination
        } else {
            Termination::Unknown
        }
    }

    fn run(
        &self,
        feeds: &[(Endpoint, Tensor)],
        fetches: &[Endpoint],
        options: RunOptions,
    ) -> Result<Vec<Tensor>> {
        match &self.admission {
            None => self.run_now(feeds, fetches, options),
            Some(admission) => self.run_admitted(admission, feeds, fetches, options),
        }
    }

    fn run_at_once(
        &self,
        feeds: &[(Endpoint, Tensor)],
        fetches: &[Endpoint],
        options: RunOptions,
    ) -> Option<Result<Vec<Tensor>>> {
        let turn = self.forms.begin_at_once()?;
        if self.is_spoiled(&turn) {
            return None;
        }
        let call = match self.call(&turn.compiled.inputs, feeds, fetches, options) {
            Ok(call) => call,
            Err(why) => return Some(Err(why)),
        };
        let admitted = self.admission.as_ref().map(|admission| (admission, call.shapes()));
        let pass = admitted.as_ref().map(|(admission, shapes)| admission.enter_at_once(shapes));
        if pass.as_ref().is_some_and(Option::is_none) {
            return None;
        }
        let lease = Lease::take_at_once(&turn.compiled)?;
        let result = self.run_once(turn, lease, &call)?;
        admitted.into_iter().for_each(|(admission, shapes)| admission.learn(&shapes, &result));
        Some(result)
    }

    fn share_cores(&self, shared: bool) -> Result<()> {
        self.forms.take_core_each(shared)
    }
}

/// A run: its request, and what it is fed.
pub(super) struct Running {
    lease: Arc<Lease>,
    fed: Few<Fed>,
}

impl Running {
    pub(super) fn new(lease: Lease, tensors: &[&Tensor]) -> Result<Running> {
        let api = lease.api();
        let mut fed = Few::new();
        for (port, tensor) in lease.compiled().inputs.iter().zip(tensors) {
            let tensor = Fed::new(api, port, tensor).map_err(Failure::of_run)?;
            // SAFETY: request, port and tensor are live, and of one model; no run of the request is going on.
            let set =
                unsafe { (api.set_tensor)(lease.as_ptr(), port.handle.as_ptr(), tensor.tensor.as_ptr()) };
            check(api, set).inspect_err(|_| lease.failed()).map_err(Failure::of_run)?;
            fed.push(tensor);
        }
        Ok(Running { lease: Arc::new(lease), fed })
    }

    /// Runs in the calling thread and OpenVINO's.
    fn infer(&self) -> Result<()> {
        let api = self.lease.api();
        // SAFETY: the request is live and leased; every input was set to memory that outlives the run.
        let code = unsafe { (api.infer)(self.lease.as_ptr()) };
        check(api, code).inspect_err(|_| self.lease.failed()).map_err(Failure::of_run)
    }

    /// Sets the inputs and runs once more: the bare calls, to be measured.
    #[cfg(test)]
    pub(super) fn again(&self) {
        let (lease, api) = (&self.lease, self.lease.api());
        for (port, fed) in lease.compiled().inputs.iter().zip(&self.fed) {
            // SAFETY: as in `new`.
            let set = unsafe { (api.set_tensor)(lease.as_ptr(), port.handle.as_ptr(), fed.tensor.as_ptr()) };
            assert_eq!(set, 0);
        }
        // SAFETY: as in `infer`.
        assert_eq!(unsafe { (api.infer)(lease.as_ptr()) }, 0);
    }

    /// Runs in a thread of its own, for no longer than `timeout`. OpenVINO ends a run that is cancelled after the
    /// operation that is going on, which for a loop is all of it: until then the thread goes on, and the next runs wait.
    fn within(self, timeout: Duration) -> Result<Running> {
        let lease = self.lease.clone();
        let (sender, receiver) = mpsc::sync_channel(1);
        let run = move || {
            let result = self.infer();
            // Nobody receives it any more if it took too long.
            let _ = sender.send(result.map(|()| self));
        };
        let started = Builder::new().name("servable-looped".to_owned()).spawn(run);
        started.map_err(|why| {
            Error::new(Kind::ResourceExhausted, format!("No thread could be started for a run: {why}"))
        })?;
        match receiver.recv_timeout(timeout) {
            Ok(result) => result,
            Err(RecvTimeoutError::Disconnected) => {
                Err(Error::internal("A run failed by a fault of the server"))
            }
            Err(RecvTimeoutError::Timeout) => {
                // SAFETY: the request is live, and may be cancelled from any thread.
                unsafe { (lease.api().cancel)(lease.as_ptr()) };
                Err(too_late())
            }
        }
    }

    /// Returns the outputs at these positions.
    fn results(self, fetched: &[usize]) -> Result<Vec<Tensor>> {
        let mut results: Vec<Tensor> = Vec::with_capacity(fetched.len());
        for (index, at) in fetched.iter().enumerate() {
            let again = fetched[..index].iter().position(|earlier| earlier == at);
            results.push(match again {
                Some(earlier) => results[earlier].clone(),
                None => {
                    let port = &self.lease.compiled().outputs[*at];
                    tensors::result(&self.lease, port, &self.fed)?
                }
            });
        }
        Ok(results)
    }
}
