//! A loaded SavedModel: a session, its graph, and its endpoints in a fixed order.

#![allow(unsafe_code)]

use super::by_name::ByName;
use super::denormals::Flushed;
use super::ffi::{Api, TfBuffer, TfGraph, TfOutput, TfSession, TfSessionOptions, TfTensor};
use super::frozen::{First, FrozenSession};
use super::pools::{self, Lease};
use super::ranks::Ranks;
use super::saved_model::{self, Meta};
use super::tensors::Owned;
use super::{Options, Status, c_string};
use crate::engine::content::Content;
use crate::engine::signature::Signature;
use crate::engine::{Endpoint, Model, RunOptions, Termination, Threads};
use crate::error::{Error, Kind, Result};
use crate::host::memory::MappedWeights;
use crate::pb::tensorflow::{ConfigProto, config_proto};
use crate::tensor::Tensor;
use bytes::Bytes;
use prost::Message;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::c_int;
use std::path::Path;
use std::sync::{Arc, Once};
use std::time::Instant;

/// A value for each tensor of a run; up to four need no allocation.
pub(super) type Few<T> = SmallVec<[T; 4]>;

/// A session, with everything needed to run it.
pub(in crate::engine) struct Session {
    pub(super) api: &'static Api,
    opened: Opened,
    /// Serialized `RunOptions` without a timeout: for the caller's thread, and for the shared pool.
    in_caller: *mut TfBuffer,
    on_pool: *mut TfBuffer,
    /// True if it has pools of one thread.
    has_single: bool,
    /// The tensors' names, indexed by [`Endpoint`], sorted.
    pub(super) endpoints: Vec<String>,
    pub(super) meta: Arc<Meta>,
    /// What keeps the process from being ended by the shape of an input.
    ranks: Ranks,
}

/// TensorFlow's session, with what stands for each endpoint there.
enum Opened {
    /// On a graph that the C API holds as well.
    OnGraph { session: *mut TfSession, graph: *mut TfGraph, outputs: Vec<TfOutput> },
    /// On a frozen graph, which it owns.
    OnFrozen(FrozenSession),
}

// SAFETY: a TF_Session may be run from many threads at once and closed from any; graph and endpoints are only read
// after loading; the buffers are only read.
unsafe impl Send for Session {}
// SAFETY: as above.
unsafe impl Sync for Session {}

impl Session {
    /// Loads the SavedModel in `path`. `meta`: its information; with `None`, TensorFlow provides the meta graph.
    pub(super) fn load(
        api: &'static Api,
        path: &Path,
        options: &Options,
        meta: Option<Arc<Meta>>,
    ) -> Result<Session> {
        // SAFETY: has no precondition.
        let graph = unsafe { (api.new_graph)() };
        // Serializing the meta graph of a large model takes time, so only if needed.
        let meta_graph = meta.is_none().then(|| Buffer::new(api));
        let opened = open(api, path, options, graph, meta_graph.as_ref());
        let session = match opened {
            Ok(session) => session,
            Err(why) => {
                // SAFETY: no session was made that could use the graph.
                unsafe { (api.delete_graph)(graph) };
                return Err(why);
            }
        };
        let mut loaded = Session {
            api,
            opened: Opened::OnGraph { session, graph, outputs: Vec::new() },
            in_caller: buffer(api, IN_CALLER, None),
            on_pool: buffer(api, pools::SHARED, None),
            has_single: has_single(options),
            endpoints: Vec::new(),
            meta: Arc::default(),
            ranks: Ranks::default(),
        };
        loaded.meta = match (meta, meta_graph) {
            (None, Some(meta_graph)) => Arc::new(saved_model::of(path, meta_graph.message()?)?),
            (meta, _) => meta.unwrap_or_default(),
        };
        loaded.find_endpoints();
        loaded.ranks = Ranks::of(&loaded.meta, &loaded.endpoints, api.uses_onednn);
        Ok(loaded)
    }

    /// Opens a session on `graph`, a serialized `GraphDef` without variables, whose signatures are in `meta`.
    pub(super) fn open(api: &'static Api, graph: &[u8], options: &Options, meta: Meta) -> Result<Session> {
        let configured = Configured::new(api, &options.session_config, frozen_defaults())?;
        let session = ByName::open(api, configured.1, graph)?;
        let endpoints: Vec<String> = names(&meta).into_iter().map(str::to_owned).collect();
        let outputs: BTreeSet<&str> = meta
            .signatures
            .values()
            .flat_map(|signature| &signature.outputs)
            .map(|spec| spec.tensor.as_str())
            .collect();
        let session = FrozenSession::new(session, &endpoints, &outputs)?;
        let ranks = Ranks::of(&meta, &endpoints, api.uses_onednn);
        Ok(Session {
            api,
            opened: Opened::OnFrozen(session),
            in_caller: buffer(api, IN_CALLER, None),
            on_pool: buffer(api, pools::SHARED, None),
            has_single: has_single(options),
            endpoints,
            meta: Arc::new(meta),
            ranks,
        })
    }

    /// Resolves every tensor that a signature names, sorted by name.
    fn find_endpoints(&mut self) {
        let Opened::OnGraph { graph, outputs, .. } = &mut self.opened else { return };
        for name in names(&self.meta) {
            if let Some(output) = find(self.api, *graph, name) {
                self.endpoints.push(name.to_owned());
                outputs.push(output);
            }
        }
    }

    /// Returns the graph that the C API holds.
    pub(super) fn graph(&self) -> Option<*mut TfGraph> {
        match &self.opened {
            Opened::OnGraph { graph, .. } => Some(*graph),
            Opened::OnFrozen(_) => None,
        }
    }

    /// Returns the values of `tensors` of the graph, which nothing has to be fed for.
    pub(super) fn values(&self, tensors: &[&str]) -> Result<Vec<Tensor>> {
        let Opened::OnGraph { session, graph, .. } = &self.opened else { return Ok(Vec::new()) };
        let unknown = |name: &&str| Error::internal(format!("The graph has no tensor {name}"));
        let outputs = tensors.iter().map(|name| find(self.api, *graph, name).ok_or_else(|| unknown(name)));
        let outputs: Vec<TfOutput> = outputs.collect::<Result<_>>()?;
        let values = run_on_graph(self.api, *session, (&[], &[]), &outputs, self.in_caller)?;
        values.into_iter().map(Owned::into_tensor).collect()
    }

    fn refuse_repeats(&self, feeds: &[(Endpoint, Owned)], fetches: &[Endpoint]) -> Result<()> {
        let name = |endpoint: Endpoint| &self.endpoints[endpoint.0 as usize];
        if let Some(pair) = feeds.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(Error::invalid(format!("Endpoint \"{}\" fed more than once.", name(pair[0].0))));
        }
        if let Some((both, _)) = feeds.iter().find(|(endpoint, _)| fetches.contains(endpoint)) {
            return Err(Error::invalid(format!("{} is both fed and fetched.", name(*both))));
        }
        Ok(())
    }

    /// Returns the turn of the first run of a frozen graph, if it is that, and the options of the run after the wait for
    /// it.
    pub(super) fn first(&self, options: RunOptions) -> Result<(Option<First<'_>>, RunOptions)> {
        let Opened::OnFrozen(session) = &self.opened else { return Ok((None, options)) };
        if session.has_run() {
            return Ok((None, options));
        }
        let begun = Instant::now();
        let first = session.first(options.timeout)?;
        let timeout = options.timeout.map(|timeout| timeout.saturating_sub(begun.elapsed()));
        Ok((first, RunOptions { timeout, ..options }))
    }

    /// Calls TensorFlow; both lists are sorted by endpoint. `first`: what [`Self::first`] returned.
    fn call(
        &self,
        feeds: &[(Endpoint, Owned)],
        fetches: &[Endpoint],
        options: *const TfBuffer,
        first: Option<First<'_>>,
    ) -> Result<Few<Owned>> {
        let values: Few<*mut TfTensor> = feeds.iter().map(|(_, tensor)| tensor.as_ptr()).collect();
        let _flushed = Flushed::set();
        match &self.opened {
            Opened::OnGraph { session, outputs, .. } => {
                let output = |endpoint: Endpoint| outputs[endpoint.0 as usize];
                let inputs: Few<TfOutput> = feeds.iter().map(|(endpoint, _)| output(*endpoint)).collect();
                let outputs: Few<TfOutput> = fetches.iter().map(|endpoint| output(*endpoint)).collect();
                run_on_graph(self.api, *session, (&inputs, &values), &outputs, options)
            }
            Opened::OnFrozen(session) => {
                let inputs: Few<Endpoint> = feeds.iter().map(|(endpoint, _)| *endpoint).collect();
                session.run((&inputs, &values), fetches, options, first)
            }
        }
    }
}

/// Runs `session`; `feeds` are tensors and as many values.
fn run_on_graph(
    api: &'static Api,
    session: *mut TfSession,
    feeds: (&[TfOutput], &[*mut TfTensor]),
    fetches: &[TfOutput],
    options: *const TfBuffer,
) -> Result<Few<Owned>> {
    let mut results: Few<*mut TfTensor> = SmallVec::from_elem(std::ptr::null_mut(), fetches.len());
    let status = Status::new(api);
    // SAFETY: every array has the length passed with it and outlives the call; session, graph operations and
    // tensors are live; on success we own each result.
    unsafe {
        (api.session_run)(
            session,
            options,
            feeds.0.as_ptr(),
            feeds.1.as_ptr(),
            length(feeds.0),
            fetches.as_ptr(),
            results.as_mut_ptr(),
            length(fetches),
            std::ptr::null(),
            0,
            std::ptr::null_mut(),
            status.raw,
        );
    }
    let owned = results.into_iter().filter(|result| !result.is_null());
    // SAFETY: as above; failed runs leave nulls.
    let owned: Few<Owned> = owned.map(|result| unsafe { Owned::from_raw(api, result) }).collect();
    status.check()?;
    Ok(owned)
}

impl Model for Session {
    fn signatures(&self) -> &BTreeMap<String, Signature> {
        &self.meta.signatures
    }

    fn signature_def_map(&self) -> Option<Bytes> {
        Some(self.meta.signature_def_map.clone())
    }

    fn endpoint(&self, tensor: &str) -> Option<Endpoint> {
        let found = self.endpoints.binary_search_by(|name| name.as_str().cmp(tensor)).ok()?;
        u32::try_from(found).ok().map(Endpoint)
    }

    fn changes_nothing(&self, signature: &str) -> bool {
        self.meta.changes_nothing(signature)
    }

    fn termination(&self, signature: &str) -> Termination {
        self.meta.termination(signature)
    }

    fn content(&self, signature: &str, input: &str) -> Option<&Content> {
        self.meta.contents.get(signature)?.get(input)
    }

    fn run(
        &self,
        feeds: &[(Endpoint, Tensor)],
        fetches: &[Endpoint],
        options: RunOptions,
    ) -> Result<Vec<Tensor>> {
        let mut sorted_feeds = Few::new();
        for (endpoint, tensor) in feeds {
            self.ranks.check(*endpoint, tensor)?;
            sorted_feeds.push((*endpoint, Owned::new(self.api, tensor)?));
        }
        sorted_feeds.sort_by_key(|(endpoint, _)| *endpoint);
        let mut sorted_fetches: Few<Endpoint> = SmallVec::from_slice(fetches);
        sorted_fetches.sort_unstable();
        sorted_fetches.dedup();
        self.refuse_repeats(&sorted_feeds, &sorted_fetches)?;
        let (first, options) = self.first(options)?;
        let lease = (options.threads == Threads::One && self.has_single).then(Lease::take).flatten();
        let pool = lease.as_ref().map_or(pools::SHARED, Lease::index);
        let results = match (options.threads, options.timeout) {
            (Threads::Caller, _) => self.call(&sorted_feeds, &sorted_fetches, self.in_caller, first),
            (Threads::Pool, None) => self.call(&sorted_feeds, &sorted_fetches, self.on_pool, first),
            (Threads::One | Threads::Pool, timeout) => {
                let milliseconds =
                    timeout.map(|timeout| i64::try_from(timeout.as_millis().max(1)).unwrap_or(i64::MAX));
                let bounded = Buffer(self.api, buffer(self.api, pool, milliseconds));
                self.call(&sorted_feeds, &sorted_fetches, bounded.1, first)
            }
        }?;
        drop(lease);
        let mut tensors = Vec::with_capacity(results.len());
        for result in results {
            tensors.push(result.into_tensor()?);
        }
        in_order_of(fetches, &sorted_fetches, tensors)
    }

    /// TensorFlow cancels all runs of a session that is closed.
    fn interrupt(&self) {
        match &self.opened {
            Opened::OnGraph { session, .. } => {
                let status = Status::new(self.api);
                // SAFETY: the session is live: `drop` alone frees it. It may be closed while it runs, and again.
                unsafe { (self.api.close_session)(*session, status.raw) };
            }
            Opened::OnFrozen(session) => session.interrupt(),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Opened::OnGraph { session, graph, .. } = self.opened {
            let status = Status::new(self.api);
            // SAFETY: both are live and not shared, and each is freed once: the session before its graph.
            unsafe {
                (self.api.close_session)(session, status.raw);
                (self.api.delete_session)(session, status.raw);
                (self.api.delete_graph)(graph);
            }
        }
        // SAFETY: made by `buffer`, deleted once.
        unsafe {
            (self.api.delete_buffer)(self.in_caller);
            (self.api.delete_buffer)(self.on_pool);
        }
    }
}

/// Returns the results of a sorted run in the order of `fetches`.
fn in_order_of(fetches: &[Endpoint], sorted: &[Endpoint], results: Vec<Tensor>) -> Result<Vec<Tensor>> {
    if fetches == sorted {
        return Ok(results);
    }
    let place = |endpoint: &Endpoint| {
        sorted.binary_search(endpoint).ok().and_then(|index| results.get(index)).cloned()
    };
    fetches
        .iter()
        .map(place)
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| Error::new(Kind::Unknown, "Predict internal error"))
}

/// Returns whether sessions with `options` have pools of one thread.
fn has_single(options: &Options) -> bool {
    ConfigProto::decode(&options.session_config[..]).is_ok_and(|config| pools::has_ours(&config))
}

/// Returns every tensor that a signature names, sorted.
fn names(meta: &Meta) -> BTreeSet<&str> {
    let specs =
        meta.signatures.values().flat_map(|signature| signature.inputs.iter().chain(&signature.outputs));
    specs.map(|spec| spec.tensor.as_str()).collect()
}

/// Returns what saves memory in a session whose graph holds the weights and never grows: TensorFlow would keep a copy
/// of the graph that it was given, and of every one that it runs.
fn frozen_defaults() -> ConfigProto {
    let experimental = config_proto::Experimental {
        optimize_for_static_graph: true,
        disable_output_partition_graphs: true,
        ..config_proto::Experimental::default()
    };
    ConfigProto { experimental: Some(experimental), ..ConfigProto::default() }
}

pub(super) fn length<T>(items: &[T]) -> c_int {
    // A signature has far fewer than 2^31 tensors.
    c_int::try_from(items.len()).unwrap_or(c_int::MAX)
}

/// Deletes a `TF_Buffer` when dropped.
pub(super) struct Buffer(pub(super) &'static Api, pub(super) *mut TfBuffer);

// SAFETY: it is only read after TensorFlow has filled it, and may be deleted from any thread.
unsafe impl Send for Buffer {}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: made by `buffer`, deleted once.
        unsafe { (self.0.delete_buffer)(self.1) };
    }
}

/// Stands for the caller's thread where a pool's index is expected.
pub(super) const IN_CALLER: i32 = -1;

/// Makes a buffer of serialized `RunOptions`. `inter_op_thread_pool`: [`IN_CALLER`], or the index of a pool.
pub(super) fn buffer(
    api: &'static Api,
    inter_op_thread_pool: i32,
    timeout_in_ms: Option<i64>,
) -> *mut TfBuffer {
    let options = crate::pb::tensorflow::RunOptions {
        inter_op_thread_pool,
        timeout_in_ms: timeout_in_ms.unwrap_or(0),
        ..Default::default()
    };
    serialized(api, &options)
}

/// Makes a buffer of `message`, serialized.
fn serialized(api: &'static Api, message: &impl Message) -> *mut TfBuffer {
    let message = message.encode_to_vec();
    // SAFETY: TensorFlow copies the bytes.
    unsafe { (api.new_buffer_from_string)(message.as_ptr().cast(), message.len()) }
}

/// Looks up `node:index`.
fn find(api: &'static Api, graph: *mut TfGraph, tensor: &str) -> Option<TfOutput> {
    let (node, index) = tensor.rsplit_once(':').unwrap_or((tensor, "0"));
    let (node, index) = (c_string(node).ok()?, index.parse::<c_int>().ok()?);
    // SAFETY: the graph is live, the name a C string.
    let operation = unsafe { (api.operation_by_name)(graph, node.as_ptr()) };
    if operation.is_null() {
        return None;
    }
    // SAFETY: the operation is live as long as its graph.
    let outputs = unsafe { (api.operation_outputs)(operation) };
    (0..outputs).contains(&index).then_some(TfOutput { operation, index })
}

impl Buffer {
    /// Makes an empty one.
    pub(super) fn new(api: &'static Api) -> Buffer {
        // SAFETY: has no precondition.
        Buffer(api, unsafe { (api.new_buffer)() })
    }

    /// Makes one that holds `message`, serialized.
    pub(super) fn of(api: &'static Api, message: &impl Message) -> Buffer {
        Buffer(api, serialized(api, message))
    }

    /// Decodes the message that TensorFlow has written here.
    pub(super) fn message<M: Message + Default>(&self) -> Result<M> {
        // A copy: the decoded message may share parts of its bytes.
        M::decode(Bytes::copy_from_slice(self.bytes()))
            .map_err(|why| Error::internal(format!("TensorFlow's own message cannot be read: {why}")))
    }

    /// Returns what TensorFlow has written here.
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: the buffer is live; TensorFlow has filled it with `length` bytes, or left it null and empty.
        unsafe {
            let TfBuffer { data, length, .. } = *self.1;
            if data.is_null() { &[] } else { std::slice::from_raw_parts(data.cast::<u8>(), length) }
        }
    }
}

/// Opens a session on the SavedModel in `path`, and fills `graph` and, if given, `meta_graph`.
fn open(
    api: &'static Api,
    path: &Path,
    options: &Options,
    graph: *mut TfGraph,
    meta_graph: Option<&Buffer>,
) -> Result<*mut TfSession> {
    let folder = c_string(&path.to_string_lossy())?;
    let tags = options.tags.iter().map(|tag| c_string(tag)).collect::<Result<Vec<_>>>()?;
    let tags: Vec<_> = tags.iter().map(|tag| tag.as_ptr()).collect();
    let status = Status::new(api);
    let configured = Configured::new(api, &options.session_config, ConfigProto::default())?;
    // Restores variables in this thread: on the session's pool that would delay the runs of other models.
    let in_caller = Buffer(api, buffer(api, IN_CALLER, None));
    let _mapped = MappedWeights::begin();
    // SAFETY: every pointer outlives the call, and every length is that of its array.
    let session = unsafe {
        (api.load_session)(
            configured.1,
            in_caller.1,
            folder.as_ptr(),
            tags.as_ptr(),
            length(&tags),
            graph,
            meta_graph.map_or(std::ptr::null_mut(), |buffer| buffer.1),
            status.raw,
        )
    };
    status.check()?;
    Ok(session)
}

/// `TF_SessionOptions`, deleted when dropped.
pub(super) struct Configured(&'static Api, pub(super) *mut TfSessionOptions);

impl Configured {
    /// Creates options with a serialized `ConfigProto`, which may be empty. What it does not set has our defaults, and
    /// these `further` ones.
    pub(super) fn new(api: &'static Api, config: &[u8], further: ConfigProto) -> Result<Configured> {
        // One that cannot be decoded fails the load in TensorFlow.
        let defaults = pools::defaults(&ConfigProto::decode(config).unwrap_or_default()).encode_to_vec();
        // Of several messages in a row, the later field holds.
        let config = &[&defaults, &further.encode_to_vec()[..], config].concat();
        // SAFETY: has no precondition.
        let options = Configured(api, unsafe { (api.new_session_options)() });
        let status = Status::new(api);
        // SAFETY: pointers are live, the length is the array's; TensorFlow copies the bytes.
        unsafe { (api.set_config)(options.1, config.as_ptr().cast(), config.len(), status.raw) };
        status.check()?;
        Ok(options)
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        // SAFETY: made by `new_session_options`, deleted once.
        unsafe { (self.0.delete_session_options)(self.1) };
    }
}

/// Starts the pools that all sessions share, once: TensorFlow creates them with the first session, and their threads
/// inherit the priority of the thread that creates it.
pub(super) fn start_shared_threads(api: &'static Api, options: &Options) {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        // Invalid options fail the load that follows.
        let Ok(configured) = Configured::new(api, &options.session_config, ConfigProto::default()) else {
            return;
        };
        let status = Status::new(api);
        // SAFETY: graph and options are live; a session, if created, is closed and freed once, before its graph.
        unsafe {
            let graph = (api.new_graph)();
            let session = (api.new_session)(graph, configured.1, status.raw);
            if !session.is_null() {
                (api.close_session)(session, status.raw);
                (api.delete_session)(session, status.raw);
            }
            (api.delete_graph)(graph);
        }
    });
}
