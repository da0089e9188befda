//! The one list of metrics: names, types, labels and explanations, from which the pages and `docs/metrics.md` are made.
//! Those whose names have slashes are TensorFlow Serving's (docs/spec/server.md, section 9), or were named like them.

use super::content::{Content, Labelled, ModelContent, SignatureEngine, VersionContent};
use super::denials::Denials;
use super::exemplars::Kept;
use super::family::{Family, Type};
use super::histogram::{BATCH_SIZES, EXAMPLES, LATENCY, Merged, QUEUING};
use super::latencies::{TIMES, Times};
use super::model::LOAD_TIMES;
use super::native;
use super::samples::{Buckets, Samples};
use super::series::Answers;
use super::{Api, CODES, Protocol, code_name};
use crate::error::Kind;
use crate::profile::Phase;
use std::collections::HashMap;

/// A metric, and the function that writes its samples.
pub(super) type Listed = (Family, fn(&mut Samples<'_>, &Content<'_>));

macro_rules! families {
    ($($name:literal $kind:ident [$($label:literal),*] $help:literal $rows:expr;)*) => {
        &[$((Family { name: $name, kind: Type::$kind, labels: &[$($label),*], help: $help }, $rows)),*]
    };
}

/// Every metric. Those with slashes are sorted by name, as on TensorFlow Serving's page.
#[rustfmt::skip]
pub(super) const LIST: &[Listed] = families! {
    "/servable/memory_in_flight_bytes" Gauge [] "As servable_memory_in_flight_bytes." memory_in_flight;
    "/servable/memory_in_flight_limit_bytes" Gauge [] "As servable_memory_in_flight_limit_bytes." memory_limit;
    "/servable/memory_in_flight_refusals" Counter [] "As servable_memory_in_flight_refusals_total." memory_refusals;
    "/servable/scheduler_refusals" Counter ["reason"] "As servable_requests_refused_total, of all models." scheduler_refusals;
    "/servable/tls_handshake_failures" Counter ["reason"] "As servable_tls_handshake_failures_total." handshake_failures;
    "/tensorflow/cc/saved_model/load_attempt_count" Counter ["model_path", "status"] "Loads of a version's folder." load_attempts;
    "/tensorflow/cc/saved_model/load_latency" Counter ["model_path"] "Time of all loads of a version's folder that succeeded, in microseconds." load_latency;
    "/tensorflow/core/graph_run_time_usecs" Counter [] "Time of all runs, in microseconds." graph_run_time;
    "/tensorflow/core/graph_runs" Counter [] "Runs of all models." graph_runs;
    "/tensorflow/serving/batching_session/input_batch_size" Histogram [] "Rows of the requests in batches." input_sizes;
    "/tensorflow/serving/batching_session/padding_size" Histogram ["execution_batch_size"] "Rows that filled batches up." padding;
    "/tensorflow/serving/batching_session/processed_batch_size" Histogram [] "Rows of batches, filled up." processed_sizes;
    "/tensorflow/serving/batching_session/queuing_latency" Histogram ["thread_pool_name"] "Time that requests waited for their batches, in microseconds." queuing;
    "/tensorflow/serving/batching_session/wrapped_run_count" Counter [] "Batches." batch_runs;
    "/tensorflow/serving/mlmd_map" Gauge ["model_name", "version"] "Never has a sample." none;
    "/tensorflow/serving/model_warmup_latency" Histogram ["model_path", "status"] "Time of warm-ups, in microseconds." warmup_latency;
    "/tensorflow/serving/model_warmup_records_read" Counter ["model_path", "status"] "Warm-up records that were read." warmup_records;
    "/tensorflow/serving/request_count" Counter ["model_name", "status"] "Requests by the code of their outcome." request_count;
    "/tensorflow/serving/request_example_count_total" Counter ["model"] "Examples of multi-inference requests." example_total;
    "/tensorflow/serving/request_example_counts" Histogram ["model"] "Examples in each multi-inference request." example_counts;
    "/tensorflow/serving/request_latency" Histogram ["model_name", "API", "entrypoint"] "Time of requests that ended OK, in microseconds." request_latency;
    "/tensorflow/serving/request_log_count" Counter ["model_name", "status_code"] "Never has a sample." none;
    "/tensorflow/serving/runtime_latency" Histogram ["model_name", "API", "runtime"] "Time of runs, in microseconds." runtime_latency;

    "servable_build_info" Info ["version"] "The version of Servable." build_info;

    "servable_requests_total" Counter ["model", "version", "signature", "method", "protocol", "outcome"] "Requests that ended, by the code of their outcome: OK, or the name of an error. CANCELLED: the client left first." requests;
    "servable_requests_in_flight" Gauge ["model", "version", "signature", "method"] "Requests that wait, run, or are decoded or encoded now." in_flight;
    "servable_requests_refused_total" Counter ["model", "reason"] "Requests that were refused before they ran: deadline, queue_time and overload, because they would have waited too long; requests, model_requests and model_memory, because of a limit; hanging, because runs of the model hang." refused;
    "servable_requests_denied_total" Counter ["reason"] "With --auth_file: requests that were refused because of their tokens: no_token, invalid_token; scope and model, because the token is not for that; rate and in_flight, because of its limits." denied;
    "servable_request_duration_seconds" Histogram ["model", "version", "signature", "method", "protocol"] "Time from a request's last byte to its answer, of those that ended OK." durations;
    "servable_request_decode_seconds" Histogram ["model", "version", "signature", "method"] "Time in which requests were decoded and checked." decode_times;
    "servable_request_queue_seconds" Histogram ["model", "version", "signature", "method"] "Time that requests waited for a thread or a batch, of those that did." queue_times;
    "servable_request_run_seconds" Histogram ["model", "version", "signature", "method"] "Time in which the engine ran for requests." run_times;
    "servable_request_encode_seconds" Histogram ["model", "version", "signature", "method"] "Time in which answers were encoded." encode_times;
    "servable_request_bytes_total" Counter ["model", "version", "signature", "method", "protocol"] "Bytes of the bodies and messages of requests that ended." received;
    "servable_response_bytes_total" Counter ["model", "version", "signature", "method", "protocol"] "Bytes of the answers to requests that ended OK." sent;
    "servable_batch_rows" Histogram ["model", "version"] "Rows of batches, without filler." batch_rows;
    "servable_batch_requests" Histogram ["model", "version"] "Requests of batches." batch_requests;
    "servable_split_requests_total" Counter ["model", "target", "reason"] "Requests that named no version, of models whose traffic is spread, by target and reason: header, key, weight, default; unavailable and rolled_back, because the target could not have them and the default got them." split_requests;
    "servable_split_rolled_back" Gauge ["model", "target"] "1 for a target that is rolled back, 0 for the others." split_rolled_back;
    "servable_split_roll_backs_total" Counter ["model", "target", "cause"] "Times that a target was rolled back, because of errors, or of its latency." split_roll_backs;
    "servable_shadow_requests_total" Counter ["model", "target", "outcome"] "Copies of requests for a shadow: equal and different, by its answer; failed; dropped_busy, dropped_memory and dropped_unavailable, if it was not asked." shadow_requests;
    "servable_shadow_duration_seconds" Histogram ["model", "target", "side"] "Time of answers that were compared: side returned, from the request until the outputs are there, with its wait; side shadow, the run alone." shadow_durations;
    "servable_memory_in_flight_bytes" Gauge [] "Memory that requests hold, from their bodies until their answers are taken." memory_in_flight;
    "servable_memory_in_flight_limit_bytes" Gauge [] "Most memory that requests may hold." memory_limit;
    "servable_memory_in_flight_refusals_total" Counter [] "Requests that were refused for lack of that memory." memory_refusals;
    "servable_connections" Gauge [] "Open connections, on all ports and the administration." open_connections;
    "servable_connections_accepted_total" Counter [] "Connections that were accepted." accepted_connections;
    "servable_limits_reached_total" Counter ["limit"] "Clients that reached a limit of the server's edge: docs/edge.md lists them, with what each is answered." limits_reached;
    "servable_tls_handshake_failures_total" Counter ["reason"] "TLS handshakes that failed: not_tls, timeout, client_certificate, or other." handshake_failures;
    "servable_access_log_lines_lost_total" Counter [] "Lines of the access log that came faster than they were written, or could not be. None without such a log." access_lines;
    "servable_payload_log_records_total" Counter ["outcome"] "Records of payload logs: written; or lost, because they came too fast, could not be written, or there was no memory for them." payload_records;

    "servable_trace_spans_total" Counter ["outcome"] "Spans of traces that were sent to a collector, or were not: sent; queue_full, because too many waited; failed, because it could not be reached in time or answered an error; rejected by it." spans;

    "servable_model_version_state" Gauge ["model", "version", "state"] "1 for the state of a version: START, LOADING, AVAILABLE, UNLOADING, or FAILED. Unloaded versions have none." version_states;
    "servable_model_loads_total" Counter ["model", "outcome"] "Loads of versions by an engine, by the code of their outcome: OK, or the name of an error." loads;
    "servable_model_load_seconds" Histogram ["model"] "Time of loads that succeeded, warm-up included." load_times;
    "servable_model_file_bytes" Gauge ["model", "version"] "Size of the files of a loaded version: about what it takes in memory, which engines do not tell." file_bytes;
    "servable_versions" Gauge ["state"] "With --lazy_load: versions by their state: START, not loaded yet or to make room for others; LOADING, AVAILABLE, UNLOADING, FAILED." versions;
    "servable_model_memory_bytes" Gauge ["model", "version"] "With --lazy_load: what a version has taken of the memory, at its load and when its runs moved to another engine, as it was measured. None if the load was not." memory_taken;
    "servable_memory_budget_bytes" Gauge [] "Most memory that all models may take: --memory_budget. None without it." memory_budget;
    "servable_model_rests_total" Counter [] "With --lazy_load: versions that were unloaded to make room for others." rests;
    "servable_load_waits_total" Counter [] "With --lazy_load: requests that waited for the load of their version." load_waits;
    "servable_load_waiting" Gauge [] "With --lazy_load: requests that wait for a load now." load_waiting;
    "servable_signature_engine_info" Info ["model", "version", "signature", "engine"] "The engine that runs a signature now." engines;

    "process_cpu_seconds_total" Counter [] "CPU time of the process, in seconds." process_cpu;
    "process_resident_memory_bytes" Gauge [] "Memory of the process in RAM." process_resident;
    "process_virtual_memory_bytes" Gauge [] "Address space of the process." process_virtual;
    "process_open_fds" Gauge [] "Open file descriptors of the process." process_open_fds;
    "process_max_fds" Gauge [] "Most open file descriptors that the process may have." process_max_fds;
    "process_start_time_seconds" Gauge [] "When the process began, in seconds of Unix time." process_start;
    "process_threads" Gauge [] "Threads of the process." process_threads;
};

fn none(_: &mut Samples<'_>, _: &Content<'_>) {}

fn load_attempts(samples: &mut Samples<'_>, content: &Content<'_>) {
    for folder in &content.loads.0 {
        for (status, count) in [("fail", folder.failed_loads), ("success", folder.loads)] {
            if count > 0 {
                samples.sample(&[&folder.path, status], count);
            }
        }
    }
}

fn load_latency(samples: &mut Samples<'_>, content: &Content<'_>) {
    for folder in content.loads.0.iter().filter(|folder| folder.loads > 0) {
        samples.sample(&[&folder.path], folder.load_micros);
    }
}

fn memory_in_flight(samples: &mut Samples<'_>, content: &Content<'_>) {
    samples.sample(&[], content.memory.used());
}

fn memory_limit(samples: &mut Samples<'_>, content: &Content<'_>) {
    samples.sample(&[], content.memory.limit());
}

fn memory_refusals(samples: &mut Samples<'_>, content: &Content<'_>) {
    samples.sample(&[], content.memory.refused());
}

fn scheduler_refusals(samples: &mut Samples<'_>, content: &Content<'_>) {
    content.refusals.total().for_each(|(reason, count)| samples.sample(&[reason], count));
}

fn denied(samples: &mut Samples<'_>, content: &Content<'_>) {
    let counts = content.denials.into_iter().flat_map(Denials::counts);
    counts.for_each(|(reason, count)| samples.sample(&[reason], count));
}

fn handshake_failures(samples: &mut Samples<'_>, content: &Content<'_>) {
    content.handshakes.counts().for_each(|(reason, count)| samples.sample(&[reason], count));
}

fn open_connections(samples: &mut Samples<'_>, content: &Content<'_>) {
    samples.sample(&[], content.edge.open());
}

fn accepted_connections(samples: &mut Samples<'_>, content: &Content<'_>) {
    samples.sample(&[], content.edge.accepted());
}

fn limits_reached(samples: &mut Samples<'_>, content: &Content<'_>) {
    content.edge.limits().for_each(|(limit, count)| samples.sample(&[limit], count));
}

fn spans(samples: &mut Samples<'_>, content: &Content<'_>) {
    content.exports.counts().for_each(|(outcome, count)| samples.sample(&[outcome], count));
}

/// Returns the number and the nanoseconds of runs that are not counted as batches.
fn runs_alone(content: &Content<'_>) -> (u64, u64) {
    let all = content.models.iter().flat_map(|model| &model.total).map(|tally| tally.alone());
    all.fold((0, 0), |(runs, nanos), (more, longer)| (runs + more, nanos + longer))
}

fn graph_run_time(samples: &mut Samples<'_>, content: &Content<'_>) {
    samples.sample(&[], runs_alone(content).1 / 1000 + content.batches.run_micros);
}

fn graph_runs(samples: &mut Samples<'_>, content: &Content<'_>) {
    samples.sample(&[], runs_alone(content).0 + content.batches.runs);
}

fn warmup_latency(samples: &mut Samples<'_>, content: &Content<'_>) {
    for folder in &content.loads.0 {
        for (status, warmups) in &folder.warmups {
            samples.histogram(&[&folder.path, status], &LATENCY, &warmups.latency(), 1.0);
        }
    }
}

fn warmup_records(samples: &mut Samples<'_>, content: &Content<'_>) {
    for folder in &content.loads.0 {
        for (status, warmups) in &folder.warmups {
            samples.sample(&[&folder.path, status], warmups.records);
        }
    }
}

/// The methods whose requests TensorFlow Serving counts.
const COUNTED: [Api; 4] = [Api::Predict, Api::Classify, Api::Regress, Api::Other];

fn request_count(samples: &mut Samples<'_>, content: &Content<'_>) {
    for model in &content.models {
        let answers = || COUNTED.iter().flat_map(|api| &model.total[*api as usize].by_protocol);
        for code in 0..CODES {
            let count: u64 = answers().map(|answers| answers.outcomes[code]).sum();
            if count > 0 {
                samples.sample(&[&model.name, code_text(code)], count);
            }
        }
    }
}

fn example_total(samples: &mut Samples<'_>, content: &Content<'_>) {
    for (name, examples) in examples(content) {
        samples.sample(&[name], examples.sum);
    }
}

fn example_counts(samples: &mut Samples<'_>, content: &Content<'_>) {
    for (name, examples) in examples(content) {
        samples.histogram(&[name], &EXAMPLES, examples, 1.0);
    }
}

fn examples<'a>(content: &'a Content<'_>) -> impl Iterator<Item = (&'a str, &'a Merged)> {
    let of = |model: &'a ModelContent| (&*model.name, &model.total[Api::MultiInference as usize].examples);
    content.models.iter().map(of).filter(|(_, examples)| examples.count() > 0)
}

fn request_latency(samples: &mut Samples<'_>, content: &Content<'_>) {
    for model in &content.models {
        for protocol in Protocol::ALL {
            for api in COUNTED {
                let took = &model.total[api as usize].by_protocol[protocol as usize].took;
                if took.count() > 0 {
                    let labels = [&*model.name, api.label(protocol), protocol.name()];
                    samples.histogram(&labels, &LATENCY, &took.micros(), 1.0);
                }
            }
        }
    }
}

fn runtime_latency(samples: &mut Samples<'_>, content: &Content<'_>) {
    for model in &content.models {
        for api in [Api::Predict, Api::Classify, Api::Regress] {
            let runs = &model.total[api as usize].runs;
            if runs.count() > 0 {
                let labels = [&*model.name, api.label(Protocol::Grpc), "TF1"];
                samples.histogram(&labels, &LATENCY, &runs.micros(), 1.0);
            }
        }
    }
}

fn input_sizes(samples: &mut Samples<'_>, content: &Content<'_>) {
    if content.batches.inputs.count() > 0 {
        samples.histogram(&[], &BATCH_SIZES, &content.batches.inputs, 1.0);
    }
}

fn processed_sizes(samples: &mut Samples<'_>, content: &Content<'_>) {
    if content.batches.processed.count() > 0 {
        samples.histogram(&[], &BATCH_SIZES, &content.batches.processed, 1.0);
    }
}

fn padding(samples: &mut Samples<'_>, content: &Content<'_>) {
    for (size, filler) in content.batches.padding.iter().filter(|(_, filler)| filler.count() > 0) {
        samples.histogram(&[&size.to_string()], &BATCH_SIZES, filler, 1.0);
    }
}

fn queuing(samples: &mut Samples<'_>, content: &Content<'_>) {
    if content.batches.queuing.count() > 0 {
        samples.histogram(&[""], &QUEUING, &content.batches.queuing, 1.0);
    }
}

fn batch_runs(samples: &mut Samples<'_>, content: &Content<'_>) {
    if content.batches.runs > 0 {
        samples.sample(&[], content.batches.runs);
    }
}

fn build_info(samples: &mut Samples<'_>, _: &Content<'_>) {
    samples.sample(&[env!("CARGO_PKG_VERSION")], 1u64);
}

/// Calls `tell` with each series: the values of its first labels, from the model to the method, and what it counts.
fn each(content: &Content<'_>, mut tell: impl FnMut([&str; 4], &Labelled)) {
    for model in &content.models {
        for series in &model.series {
            tell([&model.name, &series.version, &series.signature, series.api.method()], series);
        }
    }
}

/// The same for each protocol by which requests have come.
fn each_protocol(content: &Content<'_>, mut tell: impl FnMut([&str; 5], &Answers)) {
    each(content, |[model, version, signature, method], series| {
        for protocol in Protocol::ALL {
            let answers = &series.tally.by_protocol[protocol as usize];
            if answers.count() > 0 {
                tell([model, version, signature, method, protocol.label()], answers);
            }
        }
    });
}

fn requests(samples: &mut Samples<'_>, content: &Content<'_>) {
    each_protocol(content, |[model, version, signature, method, protocol], answers| {
        for (code, count) in answers.outcomes.iter().enumerate().filter(|(_, count)| **count > 0) {
            samples.sample(&[model, version, signature, method, protocol, code_text(code)], *count);
        }
    });
}

fn in_flight(samples: &mut Samples<'_>, content: &Content<'_>) {
    each(content, |labels, series| samples.sample(&labels, series.tally.in_flight()));
}

fn refused(samples: &mut Samples<'_>, content: &Content<'_>) {
    for (model, reasons) in content.refusals.all().into_iter().filter(|(model, _)| !model.is_empty()) {
        reasons.counts().for_each(|(reason, count)| samples.sample(&[&model, reason], count));
    }
}

fn durations(samples: &mut Samples<'_>, content: &Content<'_>) {
    each_protocol(content, |labels, answers| {
        seconds(samples, &labels, &answers.took, Some((&answers.exemplars, &answers.native)));
    });
}

fn decode_times(samples: &mut Samples<'_>, content: &Content<'_>) {
    phase(samples, content, Phase::Decode);
}

fn queue_times(samples: &mut Samples<'_>, content: &Content<'_>) {
    phase(samples, content, Phase::Queue);
}

fn run_times(samples: &mut Samples<'_>, content: &Content<'_>) {
    phase(samples, content, Phase::Run);
}

fn encode_times(samples: &mut Samples<'_>, content: &Content<'_>) {
    phase(samples, content, Phase::Encode);
}

fn phase(samples: &mut Samples<'_>, content: &Content<'_>, phase: Phase) {
    each(content, |labels, series| {
        seconds(samples, &labels, &series.tally.phases[phase as usize], None);
    });
}

/// Writes a histogram of times unless it is empty. `more`: some of them, and all in native buckets.
fn seconds(samples: &mut Samples<'_>, labels: &[&str], times: &Times, more: Option<(&Kept, &native::Times)>) {
    if times.count() > 0 {
        #[allow(clippy::cast_precision_loss)] // Far below where doubles skip integers.
        let limits = TIMES.map(|nanos| nanos as f64);
        let (none, merged) = (Kept::default(), &times.own());
        let (exemplars, native) = more.map_or((&none, None), |(some, native)| (some, Some(native)));
        samples.buckets(labels, &Buckets { limits: &limits, merged, scale: 1e9, exemplars, native });
    }
}

fn received(samples: &mut Samples<'_>, content: &Content<'_>) {
    each_protocol(content, |labels, answers| samples.sample(&labels, answers.received));
}

fn sent(samples: &mut Samples<'_>, content: &Content<'_>) {
    each_protocol(content, |labels, answers| samples.sample(&labels, answers.sent));
}

/// Calls `tell` with the model and the number of each loaded version.
fn each_version(content: &Content<'_>, mut tell: impl FnMut([&str; 2], &VersionContent)) {
    for model in &content.models {
        for version in &model.versions {
            tell([&model.name, &version.number.to_string()], version);
        }
    }
}

fn batch_rows(samples: &mut Samples<'_>, content: &Content<'_>) {
    each_version(content, |labels, version| {
        if version.rows.count() > 0 {
            samples.histogram(&labels, &BATCH_SIZES, &version.rows, 1.0);
        }
    });
}

fn batch_requests(samples: &mut Samples<'_>, content: &Content<'_>) {
    each_version(content, |labels, version| {
        if version.requests.count() > 0 {
            samples.histogram(&labels, &BATCH_SIZES, &version.requests, 1.0);
        }
    });
}

fn version_states(samples: &mut Samples<'_>, content: &Content<'_>) {
    for one in &content.surroundings.versions {
        samples.sample(&[&one.model, &one.version.to_string(), one.state], 1u64);
    }
}

fn loads(samples: &mut Samples<'_>, content: &Content<'_>) {
    for model in &content.models {
        for (code, count) in model.loads.iter().enumerate().filter(|(_, count)| **count > 0) {
            samples.sample(&[&model.name, code_text(code)], *count);
        }
    }
}

fn load_times(samples: &mut Samples<'_>, content: &Content<'_>) {
    for model in content.models.iter().filter(|model| model.load_times.count() > 0) {
        samples.histogram(&[&model.name], &LOAD_TIMES, &model.load_times, 1e3);
    }
}

fn file_bytes(samples: &mut Samples<'_>, content: &Content<'_>) {
    each_version(content, |labels, version| {
        if version.facts.bytes > 0 {
            samples.sample(&labels, version.facts.bytes);
        }
    });
}

fn engines(samples: &mut Samples<'_>, content: &Content<'_>) {
    let models: HashMap<&str, &ModelContent> =
        content.models.iter().map(|model| (&*model.name, model)).collect();
    let of_files = |of: &SignatureEngine| {
        let model = models.get(&*of.model)?;
        let version = model.versions.iter().find(|version| version.number == of.version)?;
        Some(version.facts.engine)
    };
    for of in &content.surroundings.engines {
        let engine = if of.engine.is_empty() { of_files(of).unwrap_or_default() } else { &of.engine };
        samples.sample(&[&of.model, &of.version.to_string(), &of.signature, engine], 1u64);
    }
}

fn split_requests(samples: &mut Samples<'_>, content: &Content<'_>) {
    content.splits.each_target(|[model, target], counts| {
        for (reason, count) in counts.counts().filter(|(_, count)| *count > 0) {
            samples.sample(&[model, target, reason], count);
        }
    });
}

fn split_rolled_back(samples: &mut Samples<'_>, content: &Content<'_>) {
    content.splits.each_target(|labels, counts| samples.sample(&labels, counts.rolled_back()));
}

fn split_roll_backs(samples: &mut Samples<'_>, content: &Content<'_>) {
    content.splits.each_target(|[model, target], counts| {
        for (cause, count) in counts.roll_backs().filter(|(_, count)| *count > 0) {
            samples.sample(&[model, target, cause], count);
        }
    });
}

fn shadow_requests(samples: &mut Samples<'_>, content: &Content<'_>) {
    content.splits.each_shadow(|[model, target], counts| {
        for (outcome, count) in counts.counts() {
            samples.sample(&[model, target, outcome], count);
        }
    });
}

fn shadow_durations(samples: &mut Samples<'_>, content: &Content<'_>) {
    content.splits.each_shadow(|[model, target], counts| {
        for (side, times) in counts.times() {
            seconds(samples, &[model, target, side], &times, None);
        }
    });
}

fn versions(samples: &mut Samples<'_>, content: &Content<'_>) {
    for (state, count) in content.surroundings.residence.iter().flat_map(|residence| &residence.versions) {
        samples.sample(&[state], *count);
    }
}

fn memory_taken(samples: &mut Samples<'_>, content: &Content<'_>) {
    for (model, version, bytes) in
        content.surroundings.residence.iter().flat_map(|residence| &residence.taken)
    {
        samples.sample(&[model, &version.to_string()], *bytes);
    }
}

fn memory_budget(samples: &mut Samples<'_>, content: &Content<'_>) {
    known(samples, content.surroundings.residence.as_ref().and_then(|residence| residence.budget));
}

fn rests(samples: &mut Samples<'_>, content: &Content<'_>) {
    known(samples, content.surroundings.residence.as_ref().map(|residence| residence.rests));
}

fn load_waits(samples: &mut Samples<'_>, content: &Content<'_>) {
    known(samples, content.surroundings.residence.as_ref().map(|residence| residence.waits));
}

fn load_waiting(samples: &mut Samples<'_>, content: &Content<'_>) {
    known(samples, content.surroundings.residence.as_ref().map(|residence| residence.waiting));
}

fn access_lines(samples: &mut Samples<'_>, content: &Content<'_>) {
    known(samples, content.surroundings.logs.access_lines_lost);
}

fn payload_records(samples: &mut Samples<'_>, content: &Content<'_>) {
    let logs = content.surroundings.logs;
    for (outcome, count) in [("written", logs.payload_records), ("lost", logs.payload_records_lost)] {
        samples.sample(&[outcome], count);
    }
}

fn process_cpu(samples: &mut Samples<'_>, content: &Content<'_>) {
    let cpu = content.surroundings.process.cpu;
    cpu.into_iter().for_each(|cpu| samples.sample(&[], cpu.as_secs_f64()));
}

fn process_resident(samples: &mut Samples<'_>, content: &Content<'_>) {
    known(samples, content.surroundings.process.resident_bytes);
}

fn process_virtual(samples: &mut Samples<'_>, content: &Content<'_>) {
    known(samples, content.surroundings.process.virtual_bytes);
}

fn process_open_fds(samples: &mut Samples<'_>, content: &Content<'_>) {
    known(samples, content.surroundings.process.open_descriptors);
}

fn process_max_fds(samples: &mut Samples<'_>, content: &Content<'_>) {
    known(samples, content.surroundings.process.most_descriptors);
}

fn process_start(samples: &mut Samples<'_>, content: &Content<'_>) {
    content.surroundings.process.started.into_iter().for_each(|started| samples.sample(&[], started));
}

fn process_threads(samples: &mut Samples<'_>, content: &Content<'_>) {
    known(samples, content.surroundings.process.threads);
}

fn known(samples: &mut Samples<'_>, value: Option<u64>) {
    value.into_iter().for_each(|value| samples.sample(&[], value));
}

/// Returns the name of the canonical code, `OK` included.
fn code_text(code: usize) -> &'static str {
    let code = i32::try_from(code).unwrap_or(0);
    code_name(if code == 0 { Ok(()) } else { Err(Kind::from_code(code)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_sorted_as_on_tensorflow_servings_page() {
        assert!(
            LIST.iter().filter(|(family, _)| !family.is_own()).is_sorted_by_key(|(family, _)| family.name)
        );
    }

    #[test]
    fn names_are_as_prometheus_wants_them_and_there_once() {
        let names: BTreeSet<_> = LIST.iter().map(|(family, _)| family.sample_name()).collect();
        assert_eq!(names.len(), LIST.len());
        for (family, _) in LIST.iter().filter(|(family, _)| family.is_own()) {
            assert_eq!(family.name.ends_with("_total"), family.kind == Type::Counter, "{}", family.name);
            assert_eq!(family.name.ends_with("_info"), family.kind == Type::Info, "{}", family.name);
            assert!(family.name.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase()));
        }
        assert!(LIST.iter().all(|(family, _)| family.help.ends_with('.')), "each is explained in a sentence");
    }
}
