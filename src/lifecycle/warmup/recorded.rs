//! Warm-up with the requests of `assets.extra/tf_serving_warmup_requests`: a TFRecord file of `PredictionLog`s, whose
//! answers are ignored (docs/spec/server.md, section 7).

use crate::engine::Endpoint;
use crate::engine::signature::named;
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::methods::messages::{self, model_spec};
use crate::methods::{self, Context, ModelSpec, Plan, ServerState};
use crate::metrics::Api;
use crate::pb::tensor;
use crate::pb::tensorflow::serving::prediction_log::LogType;
use crate::pb::tensorflow::serving::{self as wire, PredictionLog, SessionRunRequest};
use crate::servable::{Run, Servable};
use crate::tfrecord::Records;
use bytes::Bytes;
use prost::Message;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, ErrorKind};
use std::path::Path;
use std::time::Instant;

const FILE: &str = "assets.extra/tf_serving_warmup_requests";
const MAX_RECORDS: u64 = 1000;

/// Runs each request of the file in `folder` `iterations` times, in order. Returns the first request of each signature;
/// none if there is no file, as where a model is a file by itself.
pub(super) fn replay(
    server: &ServerState,
    servable: &Servable,
    folder: &Path,
    iterations: u32,
) -> Result<BTreeMap<String, RecordedRequest>> {
    let path = folder.join(FILE);
    let file = match files::open(&path) {
        Ok(file) => file,
        Err(why) if matches!(why.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            tracing::debug!("No warmup data file found at {}", path.display());
            return Ok(BTreeMap::new());
        }
        Err(why) => return Err(unreadable(&path, &why)),
    };
    let started = Instant::now();
    let mut replay = Replay { server, servable, iterations, records: 0, firsts: BTreeMap::new() };
    let outcome = replay.run(&path, file);
    if let Some(metrics) = &server.metrics {
        let outcome = outcome.as_ref().copied().map_err(|why| why.kind);
        metrics.warmed(folder, started.elapsed(), replay.records, outcome);
    }
    if let Err(why) = outcome {
        tracing::warn!("{}: warm-up record {}: {why}", path.display(), replay.records);
        return Err(why);
    }
    tracing::info!(
        "Finished reading warmup data for model at {}. Number of warmup records read: {}. Elapsed time (microseconds): \
         {}.",
        path.display(),
        replay.records,
        started.elapsed().as_micros()
    );
    Ok(replay.firsts)
}

struct Replay<'a> {
    server: &'a ServerState,
    servable: &'a Servable,
    iterations: u32,
    /// Records read so far.
    records: u64,
    firsts: BTreeMap<String, RecordedRequest>,
}

impl Replay<'_> {
    fn run(&mut self, path: &Path, file: File) -> Result<()> {
        for record in Records::new(BufReader::new(file)) {
            let record = record.map_err(|why| unreadable_record(path, &why))?;
            if self.records == MAX_RECORDS {
                return Err(Error::invalid(format!(
                    "Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {}",
                    path.display()
                )));
            }
            self.records += 1;
            let Some(request) = RecordedRequest::read(&record.into(), path)? else { continue };
            for _ in 0..self.iterations {
                request.run(self.server, self.servable)?;
            }
            for signature in request.signatures() {
                self.firsts.entry(signature).or_insert_with(|| request.clone());
            }
        }
        Ok(())
    }
}

/// One recorded request. Its model and version are ignored.
#[derive(Clone, Debug)]
pub(super) enum RecordedRequest {
    Predict(wire::PredictRequest),
    Classify(wire::ClassificationRequest),
    Regress(wire::RegressionRequest),
    MultiInference(wire::MultiInferenceRequest),
    SessionRun(SessionRunRequest),
}

impl RecordedRequest {
    /// Parses the request of a record; `None` for an empty one.
    fn read(record: &Bytes, path: &Path) -> Result<Option<RecordedRequest>> {
        let log = PredictionLog::decode(record.clone()).map_err(|_| {
            let text = String::from_utf8_lossy(&record[..record.len().min(200)]);
            Error::invalid(format!("Failed to parse warmup record: {text} from {}", path.display()))
        })?;
        Ok(match log.log_type {
            None => None,
            Some(LogType::PredictLog(log)) => Some(RecordedRequest::Predict(log.request.unwrap_or_default())),
            Some(LogType::ClassifyLog(log)) => {
                Some(RecordedRequest::Classify(log.request.unwrap_or_default()))
            }
            Some(LogType::RegressLog(log)) => Some(RecordedRequest::Regress(log.request.unwrap_or_default())),
            Some(LogType::MultiInferenceLog(log)) => {
                Some(RecordedRequest::MultiInference(log.request.unwrap_or_default()))
            }
            Some(LogType::SessionRunLog(log)) => {
                Some(RecordedRequest::SessionRun(log.request.unwrap_or_default()))
            }
            Some(LogType::PredictStreamedLog(_)) => {
                return Err(Error::new(Kind::Unimplemented, "Unsupported log_type for warmup: 7"));
            }
        })
    }

    /// Answers the request as if it had come from a client.
    pub(super) fn run(&self, server: &ServerState, servable: &Servable) -> Result<()> {
        // The file itself bounds these requests, so they need no limits.
        let context = &Context::default();
        let request = match self.clone() {
            RecordedRequest::Predict(mut request) => {
                let name = spec(request.model_spec.take()).signature_name;
                messages::predict(server, servable, &name, request, context)?
            }
            RecordedRequest::Classify(request) => {
                let name = spec(request.model_spec).signature_name;
                methods::Request::Classify(messages::examples(name, request.input, context)?)
            }
            RecordedRequest::Regress(request) => {
                let name = spec(request.model_spec).signature_name;
                methods::Request::Regress(messages::examples(name, request.input, context)?)
            }
            RecordedRequest::MultiInference(request) => {
                messages::multi_inference(server, servable, request.tasks, request.input, context)?
            }
            RecordedRequest::SessionRun(request) => return session_run(servable, &request, context),
        };
        let Plan { run, reading } = request.plan(server, servable)?;
        let outputs = servable.run(run, context)?;
        reading.finish(servable, outputs, context).map(drop)
    }

    /// Returns the signatures that the request warms.
    fn signatures(&self) -> Vec<String> {
        let name = |spec: &Option<wire::ModelSpec>| {
            named(spec.as_ref().map_or("", |spec| &spec.signature_name)).to_owned()
        };
        match self {
            RecordedRequest::Predict(request) => vec![name(&request.model_spec)],
            RecordedRequest::Classify(request) => vec![name(&request.model_spec)],
            RecordedRequest::Regress(request) => vec![name(&request.model_spec)],
            RecordedRequest::MultiInference(request) => {
                request.tasks.iter().map(|task| name(&task.model_spec)).collect()
            }
            RecordedRequest::SessionRun(_) => Vec::new(),
        }
    }
}

fn spec(spec: Option<wire::ModelSpec>) -> ModelSpec {
    model_spec(spec.unwrap_or_default())
}

/// Runs the graph by tensor names. TensorFlow Serving refuses these records; here one is skipped only if it names
/// tensors that no signature uses.
fn session_run(servable: &Servable, request: &SessionRunRequest, context: &Context) -> Result<()> {
    let fetches: Option<Vec<Endpoint>> = request.fetch.iter().map(|name| servable.tensor(name)).collect();
    let feeds: Option<Vec<Endpoint>> = request.feed.iter().map(|feed| servable.tensor(&feed.name)).collect();
    let (Some(fetches), Some(feeds), true) = (fetches, feeds, request.target.is_empty()) else {
        tracing::warn!(
            "{}: a session_run_log is skipped in warm-up: it names tensors or targets that no signature uses",
            servable.name()
        );
        return Ok(());
    };
    let tensors = request.feed.iter().map(|feed| {
        tensor::decode(&feed.tensor)
            .map_err(|_| Error::invalid(format!("tensor parsing error: {}", feed.name)))
    });
    let feeds = feeds.into_iter().zip(tensors.collect::<Result<Vec<_>>>()?).collect();
    let run = Run { api: Api::Other, signature: "".into(), feeds, fetches };
    servable.run(run, context).map(drop)
}

fn unreadable(path: &Path, why: &std::io::Error) -> Error {
    let kind = if why.kind() == ErrorKind::PermissionDenied { Kind::PermissionDenied } else { Kind::Unknown };
    Error::new(kind, format!("{} cannot be read: {why}", path.display()))
}

fn unreadable_record(path: &Path, why: &Error) -> Error {
    if why.kind == Kind::DataLoss {
        let message = format!("{}. Please verify your warmup data is in TFRecord format.", why.message);
        return Error::new(Kind::DataLoss, message);
    }
    Error::new(why.kind, format!("{} (of {})", why.message, path.display()))
}
