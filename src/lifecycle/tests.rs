//! Loading with a model written in Rust: warm-up counts, and the state after a failure.

use super::*;
use crate::batch::Scheduler;
use crate::config;
use crate::engine::signature::{Signature, TensorSpec};
use crate::engine::{Endpoint, Model, RunOptions, Termination};
use crate::error::Kind;
use crate::methods::record::Recorder;
use crate::metrics::Metrics;
use crate::pb::tensorflow::serving::prediction_log::LogType;
use crate::pb::tensorflow::serving::{
    ModelSpec, PredictLog, PredictRequest, PredictStreamedLog, PredictionLog, SessionRunLog,
    SessionRunRequest,
};
use crate::pb::tensorflow::{
    DataType, NamedTensorProto, TensorProto, TensorShapeProto, tensor_shape_proto::Dim,
};
use crate::registry::{Registry, VersionChoice};
use crate::tensor::{DType, Tensor};
use crate::tfrecord::framed;
use bytes::Bytes;
use prost::Message;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Signatures `serving_default` and `other`, each `x` float → `y` float; counts its runs by the first value fed.
#[derive(Clone)]
struct Echo {
    signatures: BTreeMap<String, Signature>,
    changes_nothing: bool,
    zeros: Arc<AtomicUsize>,
    sevens: Arc<AtomicUsize>,
    loaded_at: Arc<Mutex<Vec<Option<i32>>>>,
}

impl Echo {
    fn new(changes_nothing: bool) -> Echo {
        let spec = |alias: &str| TensorSpec {
            alias: alias.to_owned(),
            tensor: format!("{alias}:0"),
            dtype: DType::Float,
            shape: Some(vec![-1]),
        };
        let signature = |name: &str| Signature {
            name: name.into(),
            method_name: "tensorflow/serving/predict".to_owned(),
            inputs: vec![spec("x")],
            outputs: vec![spec("y")],
            defaults: BTreeMap::new(),
        };
        let signatures = ["serving_default", "other"].map(|name| (name.to_owned(), signature(name))).into();
        Echo {
            signatures,
            changes_nothing,
            zeros: Arc::default(),
            sevens: Arc::default(),
            loaded_at: Arc::default(),
        }
    }

    fn runs(&self) -> (usize, usize) {
        (self.zeros.load(Relaxed), self.sevens.load(Relaxed))
    }
}

impl Engine for Echo {
    fn shares_threads(&self, _: &LoadOptions) -> bool {
        true
    }

    fn load(&self, _: &Path, _: &LoadOptions) -> Result<Box<dyn Model>> {
        self.loaded_at.lock().unwrap().push(priority::niceness());
        Ok(Box::new(self.clone()))
    }
}

impl Model for Echo {
    fn signatures(&self) -> &BTreeMap<String, Signature> {
        &self.signatures
    }

    fn endpoint(&self, tensor: &str) -> Option<Endpoint> {
        ["x:0", "y:0"].iter().position(|name| *name == tensor).map(|index| Endpoint(index as u32))
    }

    fn termination(&self, _: &str) -> Termination {
        Termination::ByShapes
    }

    fn changes_nothing(&self, _: &str) -> bool {
        self.changes_nothing
    }

    fn run(&self, feeds: &[(Endpoint, Tensor)], fetches: &[Endpoint], _: RunOptions) -> Result<Vec<Tensor>> {
        let value = bytemuck::pod_collect_to_vec::<u8, f32>(feeds[0].1.bytes())[0];
        match value {
            0.0 => self.zeros.fetch_add(1, Relaxed),
            7.0 => self.sevens.fetch_add(1, Relaxed),
            _ => return Err(Error::new(Kind::Aborted, "neither 0 nor 7")),
        };
        Ok(fetches.iter().map(|_| feeds[0].1.clone()).collect())
    }
}

fn floats(value: f32) -> Bytes {
    let shape = TensorShapeProto { dim: vec![Dim { size: 1, ..Dim::default() }], ..Default::default() };
    let proto = TensorProto {
        dtype: DataType::DtFloat as i32,
        tensor_shape: Some(shape),
        float_val: vec![value],
        ..TensorProto::default()
    };
    proto.encode_to_vec().into()
}

fn predict(value: f32) -> LogType {
    let model_spec = Some(ModelSpec { name: "whatever".to_owned(), ..ModelSpec::default() });
    let inputs = [("x".to_owned(), floats(value))].into();
    let request = Some(PredictRequest { model_spec, inputs, ..PredictRequest::default() });
    LogType::PredictLog(PredictLog { request, response: None })
}

fn session_run(feed: &str) -> LogType {
    let request = SessionRunRequest {
        feed: vec![NamedTensorProto { name: feed.to_owned(), tensor: floats(7.0) }],
        fetch: vec!["y:0".to_owned()],
        ..SessionRunRequest::default()
    };
    LogType::SessionRunLog(SessionRunLog { request: Some(request), response: None })
}

fn file(logs: &[LogType]) -> Vec<u8> {
    let record = |log: &LogType| PredictionLog { log_metadata: None, log_type: Some(log.clone()) };
    logs.iter().flat_map(|log| framed(&record(log).encode_to_vec())).collect()
}

struct Loaded {
    lifecycle: Lifecycle,
    server: Arc<ServerState>,
    outcome: Result<()>,
    folder: tempfile::TempDir,
}

fn options(iterations: u32) -> Options {
    Options {
        engine: LoadOptions::default(),
        placement: Policy::Auto,
        batching: Batching::Off,
        warmup: true,
        warmup_iterations: iterations,
        synthetic_warmup: true,
        retrying: false,
        most_memory: None,
    }
}

/// Loads `model` with `file` as its warm-up file, running each record `iterations` times.
fn load(model: &Echo, file: Option<&[u8]>, iterations: u32) -> Loaded {
    let folder = tempfile::tempdir().unwrap();
    if let Some(file) = file {
        std::fs::create_dir(folder.path().join("assets.extra")).unwrap();
        std::fs::write(folder.path().join("assets.extra/tf_serving_warmup_requests"), file).unwrap();
    }
    let server = Arc::new(ServerState {
        registry: Registry::default(),
        scheduler: Scheduler::with_slots(1),
        batches: None,
        options: config::Options::closed(),
        metrics: Some(Metrics::default()),
        recorder: Recorder::none(),
        access: None,
        traces: None,
        changes: crate::methods::changes::Changes::default(),
        shadows: crate::methods::shadow::Shadows::default(),
        demand: None,
    });
    let lifecycle = Lifecycle::new(server.clone());
    let outcome = lifecycle.load(Ok(model), "m", 1, folder.path(), &options(iterations)).map(drop);
    Loaded { lifecycle, server, outcome, folder }
}

/// Returns whether `runs` is a valid result of repeating `signatures` signatures; a slow machine ends that early.
fn repeated(signatures: usize, runs: usize) -> bool {
    (2 * signatures..=(1 + warmup::MAX_CALLS) * signatures).contains(&runs)
}

#[test]
fn without_a_file_every_signature_is_called_with_zeros() {
    let model = Echo::new(true);
    let loaded = load(&model, None, 1);
    assert_eq!(loaded.outcome, Ok(()));
    let (zeros, sevens) = model.runs();
    assert!(repeated(2, zeros) && sevens == 0, "{zeros} {sevens}");
    assert!(loaded.server.registry.resolve("m", &VersionChoice::Latest).is_ok());
}

#[test]
fn a_file_takes_the_place_of_the_zeros_for_the_signatures_it_covers() {
    let model = Echo::new(true);
    let loaded = load(&model, Some(&file(&[predict(7.0), predict(7.0)])), 3);
    assert_eq!(loaded.outcome, Ok(()));
    let (zeros, sevens) = model.runs();
    assert!(repeated(1, zeros) && repeated(1, sevens - 2 * 3), "{zeros} {sevens}");
}

#[test]
fn what_changes_something_is_run_as_often_as_asked_and_no_more() {
    let model = Echo::new(false);
    assert_eq!(load(&model, Some(&file(&[predict(7.0)])), 2).outcome, Ok(()));
    assert_eq!(model.runs(), (0, 2));
}

#[test]
fn a_session_run_goes_by_names_and_is_skipped_where_they_are_unknown() {
    let model = Echo::new(false);
    let logs = file(&[session_run("x"), session_run("x:0"), session_run("hidden:0")]);
    assert_eq!(load(&model, Some(&logs), 1).outcome, Ok(()));
    assert_eq!(model.runs(), (0, 2));
}

#[test]
fn a_record_that_fails_fails_the_load() {
    let model = Echo::new(true);
    let loaded = load(&model, Some(&file(&[predict(7.0), predict(1.0), predict(7.0)])), 1);
    assert_eq!(loaded.outcome, Err(Error::new(Kind::Aborted, "neither 0 nor 7")));
    assert_eq!(model.runs(), (0, 1));
    let status = &loaded.server.registry.status("m", Some(1)).unwrap()[0];
    assert_eq!((status.state, status.error.clone()), (State::End, loaded.outcome.err()));
    let text = loaded.server.metrics.as_ref().unwrap().tensorflow_page();
    let path = loaded.folder.path().display();
    let read = format!("model_warmup_records_read{{model_path=\"{path}\",status=\"ABORTED\"}} 2\n");
    assert!(text.contains(&read), "{text}");
}

#[test]
fn what_is_wrong_with_a_file_is_said_as_tensorflow_serving_says_it() {
    let failure = |file: &[u8]| {
        let loaded = load(&Echo::new(true), Some(file), 1);
        let why = loaded.outcome.unwrap_err();
        let path = loaded.folder.path().join("assets.extra/tf_serving_warmup_requests");
        (why.kind, why.message.replace(&path.display().to_string(), "PATH"))
    };
    let streamed = LogType::PredictStreamedLog(PredictStreamedLog::default());
    let cases = [
        (file(&[streamed]), (Kind::Unimplemented, "Unsupported log_type for warmup: 7")),
        (
            file(&vec![predict(7.0); 1001]),
            (Kind::InvalidArgument, "Number of warmup records exceeds the maximum (1000) at PATH"),
        ),
        (framed(b"\xffno"), (Kind::InvalidArgument, "Failed to parse warmup record: \u{fffd}no from PATH")),
        (
            b"not a file of records at all".to_vec(),
            (
                Kind::DataLoss,
                "corrupted record at 0 (Is this even a TFRecord file?). Please verify your warmup data is in TFRecord \
                 format.",
            ),
        ),
    ];
    for (file, (kind, message)) in cases {
        assert_eq!(failure(&file), (kind, message.to_owned()));
    }
}

#[test]
fn an_empty_record_is_skipped() {
    let model = Echo::new(true);
    let logs = [framed(b""), file(&[predict(7.0)])].concat();
    assert_eq!(load(&model, Some(&logs), 1).outcome, Ok(()));
    assert!(repeated(1, model.runs().1 - 1), "{:?}", model.runs());
}

#[cfg(target_os = "linux")]
#[test]
fn a_load_gives_way_once_something_serves() {
    let model = Echo::new(true);
    let loaded = load(&model, None, 1);
    let options = Options { warmup: false, synthetic_warmup: false, ..options(1) };
    loaded.lifecycle.load(Ok(&model), "m", 2, loaded.folder.path(), &options).unwrap();
    let loaded_at = model.loaded_at.lock().unwrap();
    assert_eq!(loaded_at[0], priority::niceness());
    assert!(loaded_at[1] > loaded_at[0] || loaded_at[0] == Some(19), "{loaded_at:?}");
}

#[test]
fn an_unloaded_version_is_gone_and_its_end_is_seen() {
    let loaded = load(&Echo::new(true), None, 1);
    loaded.lifecycle.unload("m", 1).unwrap();
    assert!(loaded.server.registry.resolve("m", &VersionChoice::Latest).is_err());
    let status = &loaded.server.registry.status("m", Some(1)).unwrap()[0];
    assert_eq!((status.state, status.error.clone()), (State::End, None));
    assert_eq!(loaded.lifecycle.unload("m", 1).unwrap_err().kind, Kind::FailedPrecondition);
}

#[test]
fn a_load_that_waits_for_requests_to_what_it_replaces_says_so() {
    let model = Echo::new(true);
    let loaded = load(&model, None, 1);
    assert_eq!(loaded.lifecycle.phase("m", 1), None);
    let in_use = loaded.server.registry.resolve("m", &VersionChoice::Latest).unwrap();
    std::thread::scope(|threads| {
        let again = threads
            .spawn(|| loaded.lifecycle.load(Ok(&model), "m", 1, loaded.folder.path(), &options(1)).map(drop));
        while loaded.lifecycle.phase("m", 1) != Some(Phase::Replacing) {
            assert!(!again.is_finished());
            std::thread::yield_now();
        }
        drop(in_use);
        again.join().unwrap().unwrap();
    });
    assert_eq!(loaded.lifecycle.phase("m", 1), None);
}

#[test]
fn a_version_whose_engine_cannot_be_opened_ends_with_that_error() {
    let loaded = load(&Echo::new(true), None, 1);
    let missing = Err(Error::new(Kind::FailedPrecondition, "no library"));
    let failed = loaded.lifecycle.load(missing, "m", 2, loaded.folder.path(), &options(1)).err().unwrap();
    assert_eq!(failed.message, "no library");
    let status = &loaded.server.registry.status("m", Some(2)).unwrap()[0];
    assert_eq!((status.state, status.error.as_ref()), (State::End, Some(&failed)));
}
