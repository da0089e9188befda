//! Requests to spans, and what a queue that is full drops.

use super::*;
use crate::access::{End, Entry, Head, Traced};
use crate::metrics::Protocol;
use crate::peer::{Address, Sender};
use crate::profile::Phase;
use crate::timeline::{BatchRun, Execution};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use std::collections::BTreeMap;
use std::time::Instant;

fn context() -> TraceContext {
    TraceContext { trace: new_trace(), span: new_span(), sampled: true }
}

/// A request that has gone through all phases, in `batch` if there is one.
fn request(protocol: &'static str, span: TraceContext, batch: Option<&Arc<BatchRun>>) -> Entry {
    let head = Head {
        protocol,
        sender: Sender { client: Address::Socket("192.0.2.7:5555".parse().unwrap()), proxy: None },
        certified: None,
        id: (&b"id"[..]).into(),
        trace: Some(span),
        scheme: (protocol == "rest").then_some("http"),
    };
    let parent = context();
    let traced = Traced { span, parent: Some(parent.span), state: Some("a=1".into()) };
    let path = match protocol {
        "rest" => "/v1/models/m/versions/3:predict",
        _ => "/tensorflow.serving.PredictionService/Predict",
    };
    let entry = Entry::begin(
        head,
        if protocol == "rest" { "POST" } else { "Predict" },
        Some(path),
        None,
        Some(traced),
    );
    if protocol == "rest" {
        entry.calls("predict");
    }
    entry.names("m");
    entry.is_for(3);
    entry.asks("s");
    entry.has_rows(Some(2));
    let timeline = &entry.timeline;
    timeline.received(17);
    let at = |millis| Instant::now() + Duration::from_millis(millis);
    timeline.enter(Phase::Queue, at(10));
    timeline.enter(Phase::Run, at(20));
    timeline.enter(Phase::Encode, at(30));
    batch.into_iter().for_each(|batch| entry.runs_in(batch));
    entry
}

fn ended(entry: Entry, status: Option<u16>, code: Option<&'static str>) -> Ended {
    entry.timeline.end(Protocol::Rest, Ok(1), None);
    let end = End { status, code, bytes: 35, took: Duration::from_millis(50) };
    Ended { entry: Arc::new(entry), end }
}

fn spans_of(ended: &Ended) -> Vec<Span> {
    let engine_of: EngineOf =
        Arc::new(|model, version, signature| Some(format!("{model}-{version}-{signature}")));
    let spans = spans::of(ended, &engine_of);
    assert!(spans.len() <= spans::count(ended));
    spans
}

fn attributes(span: &Span) -> BTreeMap<&str, String> {
    #[allow(clippy::wildcard_enum_match_arm)] // Of the kinds, those that are used.
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    let pair = |pair: &'_ opentelemetry_proto::tonic::common::v1::KeyValue| {
        text(pair.value.as_ref().unwrap().value.as_ref().unwrap())
    };
    span.attributes.iter().map(|one| (one.key.as_str(), pair(one))).collect()
}

fn names(spans: &[Span]) -> Vec<&str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

#[test]
fn a_request_has_a_span_and_one_for_each_phase() {
    let span = context();
    let spans = spans_of(&ended(request("rest", span, None), Some(200), None));
    let own = "POST /v1/models/{model}/versions/{version}:predict";
    assert_eq!(names(&spans), [own, "decode", "queue", "run"]);
    let [server, phases @ ..] = &spans[..] else { panic!() };
    assert_eq!(
        (&server.trace_id[..], &server.span_id[..]),
        (&span.trace.to_bytes()[..], &span.span.to_bytes()[..])
    );
    assert_eq!((server.parent_span_id.len(), server.flags, server.trace_state.as_str()), (8, 0x301, "a=1"));
    assert_eq!(server.end_time_unix_nano - server.start_time_unix_nano, 50_000_000);
    for phase in phases {
        assert_eq!((&phase.trace_id, &phase.parent_span_id), (&server.trace_id, &server.span_id));
        assert_eq!((phase.flags, phase.kind), (0x101, 1));
        assert!(server.start_time_unix_nano <= phase.start_time_unix_nano);
        assert!(phase.start_time_unix_nano < phase.end_time_unix_nano);
        assert!(phase.end_time_unix_nano <= server.end_time_unix_nano);
    }
    assert!(phases.is_sorted_by_key(|phase| phase.start_time_unix_nano));
    let told = attributes(server);
    for (key, value) in [
        ("http.request.method", "POST"),
        ("http.response.status_code", "200"),
        ("url.path", "/v1/models/m/versions/3:predict"),
        ("url.scheme", "http"),
        ("http.request.body.size", "17"),
        ("client.address", "192.0.2.7"),
        ("servable.model.name", "m"),
        ("servable.model.version", "3"),
        ("servable.model.signature", "s"),
        ("servable.model.engine", "m-3-s"),
        ("servable.request.rows", "2"),
        ("servable.request.id", "id"),
    ] {
        assert_eq!(told.get(key).map(String::as_str), Some(value), "{key}");
    }
    assert!(!told.contains_key("error.type") && server.status.is_none());
}

#[test]
fn an_error_is_one_of_the_server_or_not() {
    let is_error =
        |span: &Span| span.status.as_ref().is_some_and(|status| status.code == StatusCode::Error as i32);
    for (protocol, status, code, kind, failed) in [
        ("rest", Some(404), Some("NOT_FOUND"), "NOT_FOUND", false),
        ("rest", Some(503), None, "503", true),
        ("rest", None, Some("CANCELLED"), "CANCELLED", true),
        ("grpc", Some(0), Some("NOT_FOUND"), "NOT_FOUND", false),
        ("grpc", Some(0), Some("UNAVAILABLE"), "UNAVAILABLE", true),
        ("grpc", None, Some("CANCELLED"), "CANCELLED", false),
        ("grpc", Some(415), None, "UNKNOWN", true),
    ] {
        let spans = spans_of(&ended(request(protocol, context(), None), status, code));
        assert_eq!(attributes(&spans[0])["error.type"], kind);
        assert_eq!(is_error(&spans[0]), failed, "{protocol} {code:?}");
    }
    let spans = spans_of(&ended(request("grpc", context(), None), Some(0), Some("UNAVAILABLE")));
    assert_eq!(spans[0].name, "tensorflow.serving.PredictionService/Predict");
    let told = attributes(&spans[0]);
    assert_eq!(told["rpc.service"], "tensorflow.serving.PredictionService");
    assert_eq!((told["rpc.method"].as_str(), told["rpc.grpc.status_code"].as_str()), ("Predict", "14"));
}

#[test]
fn methods_that_there_are_not_have_one_name() {
    let head = Head {
        protocol: "grpc",
        sender: Sender { client: Address::Socket("192.0.2.7:5555".parse().unwrap()), proxy: None },
        certified: None,
        id: (&b"id"[..]).into(),
        trace: None,
        scheme: None,
    };
    let traced = Traced { span: context(), parent: None, state: None };
    let entry = Entry::begin(head, "POST", Some("/made.Up/Name7"), None, Some(traced));
    let spans = spans_of(&ended(entry, Some(0), Some("UNIMPLEMENTED")));
    assert_eq!(spans[0].name, "_OTHER");
    let told = attributes(&spans[0]);
    assert_eq!((told["rpc.method"].as_str(), told.contains_key("rpc.service")), ("_OTHER", false));
    assert_eq!(told["rpc.method_original"], "made.Up/Name7");
}

#[test]
fn a_batch_and_its_requests_link_to_each_other() {
    let requests = [context(), context()];
    let batch = Arc::new(BatchRun::begin(requests.to_vec(), 3, 5, 8));
    batch.ran(batch.began);
    batch.cut();
    drop(Execution(batch.clone()));
    let first = spans_of(&ended(request("rest", requests[0], Some(&batch)), Some(200), None));
    let second = spans_of(&ended(request("rest", requests[1], Some(&batch)), Some(200), None));
    assert_eq!(names(&first)[1..], ["decode", "queue", "batch", "run", "batch", "run"]);
    assert_eq!(names(&second)[1..], ["decode", "queue", "batch", "run"], "a batch is told once");
    let own = &first[5];
    assert_eq!((&own.trace_id[..], own.parent_span_id.len()), (&batch.span.trace.to_bytes()[..], 0));
    let linked: Vec<_> = own.links.iter().map(|link| link.span_id.clone()).collect();
    assert_eq!(linked, requests.map(|request| request.span.to_bytes().to_vec()));
    let told = attributes(own);
    let [requests, rows, size] =
        ["requests", "rows", "size"].map(|key| told[format!("servable.batch.{key}").as_str()].clone());
    assert_eq!([requests, rows, size], ["3", "5", "8"]);
    for spans in [&first, &second] {
        let [batch, run] = [&spans[3], &spans[4]];
        assert_eq!(batch.links[0].span_id, own.span_id);
        assert_eq!((&batch.parent_span_id, &run.parent_span_id), (&spans[0].span_id, &batch.span_id));
    }
    assert_eq!(first[6].parent_span_id, own.span_id);
}

#[test]
fn a_batch_that_fails_says_so() {
    let span = context();
    let batch = Arc::new(BatchRun::begin(vec![span], 1, 1, 1));
    drop(Execution(batch.clone()));
    let spans = spans_of(&ended(request("rest", span, Some(&batch)), Some(500), Some("INTERNAL")));
    assert_eq!(names(&spans)[1..], ["decode", "queue", "batch", "batch"]);
    assert_eq!(spans[4].status.as_ref().unwrap().code, StatusCode::Error as i32);
}

#[test]
fn a_batch_that_runs_is_told_by_those_who_stay() {
    let requests = [context(), context()];
    let batch = Arc::new(BatchRun::begin(requests.to_vec(), 2, 2, 2));
    let gone = spans_of(&ended(request("rest", requests[0], Some(&batch)), None, Some("CANCELLED")));
    assert_eq!(names(&gone)[1..], ["decode", "queue", "batch"]);
    batch.ran(batch.began);
    batch.cut();
    drop(Execution(batch.clone()));
    let stays = spans_of(&ended(request("rest", requests[1], Some(&batch)), Some(200), None));
    assert_eq!(names(&stays)[1..], ["decode", "queue", "batch", "run", "batch", "run"]);
    assert_eq!((&stays[5].span_id[..], &stays[5].status), (&batch.span.span.to_bytes()[..], &None));
}

#[test]
fn a_wait_after_a_batch_keeps_its_time() {
    let batch = Arc::new(BatchRun::begin(vec![context()], 1, 1, 1));
    // Its request waits ten milliseconds after that.
    let spans = spans_of(&ended(request("rest", context(), Some(&batch)), Some(200), None));
    let queue = spans.iter().find(|span| span.name == "queue").unwrap();
    assert!(queue.end_time_unix_nano - queue.start_time_unix_nano >= 9_000_000);
}

#[test]
fn a_wait_ends_when_its_batch_begins() {
    let mut batch = BatchRun::begin(vec![context()], 1, 1, 1);
    batch.began += Duration::from_millis(15);
    let batch = Arc::new(batch);
    let spans = spans_of(&ended(request("rest", context(), Some(&batch)), Some(200), None));
    let [queue, batch] = ["queue", "batch"].map(|name| spans.iter().find(|span| span.name == name).unwrap());
    assert_eq!(queue.end_time_unix_nano, batch.start_time_unix_nano);
    assert!(queue.start_time_unix_nano < queue.end_time_unix_nano);
}

#[test]
fn a_method_of_nobody_is_not_in_a_name() {
    let head = request("rest", context(), None).head;
    let traced = || Some(Traced { span: context(), parent: None, state: None });
    for (asked, name, method, original) in [
        ("GET", "GET", "GET", None),
        ("get", "HTTP", "_OTHER", Some("get")),
        ("BREW", "HTTP", "_OTHER", Some("BREW")),
    ] {
        let entry = Entry::begin(head.clone(), asked, Some("/"), None, traced());
        let spans = spans_of(&ended(entry, Some(405), None));
        let told = attributes(&spans[0]);
        assert_eq!((spans[0].name.as_str(), told["http.request.method"].as_str()), (name, method));
        assert_eq!(told.get("http.request.method_original").map(String::as_str), original);
    }
}

fn traces(variables: &[(&str, &str)]) -> (Arc<Traces>, Arc<Exports>) {
    let variable =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let (settings, warnings) = Settings::read(&variable);
    assert_eq!(warnings, Vec::<String>::new());
    let counts = Arc::new(Exports::default());
    let traces = Traces::start(&settings.unwrap(), counts.clone(), Arc::new(|_, _, _| None));
    (traces.unwrap(), counts)
}

#[test]
fn parents_are_respected_by_those_samplers_that_do() {
    let to = ("OTEL_TRACES_EXPORTER", "otlp");
    let [sampled, not] = [true, false].map(|sampled| Some(TraceContext { sampled, ..context() }));
    for (sampler, expected) in [
        ("parentbased_always_on", [true, true, false]),
        ("parentbased_always_off", [false, true, false]),
        ("always_on", [true, true, true]),
        ("always_off", [false, false, false]),
    ] {
        let (traces, _) = traces(&[to, ("OTEL_TRACES_SAMPLER", sampler)]);
        assert_eq!([None, sampled, not].map(|parent| traces.sample(parent).is_some()), expected, "{sampler}");
    }
    let (traces, _) = self::traces(&[to]);
    let (span, parent) = traces.sample(sampled).unwrap();
    assert_eq!((span.trace, parent), (sampled.unwrap().trace, Some(sampled.unwrap().span)));
    assert!(span.span != sampled.unwrap().span && traces.sample(None).unwrap().1.is_none());
    let (traces, _) = self::traces(&[to, ("OTEL_PROPAGATORS", "none")]);
    assert!(traces.sample(sampled).unwrap().0.trace != sampled.unwrap().trace);
}

#[test]
fn a_share_of_traces_is_chosen_by_their_identifiers() {
    let (traces, _) = traces(&[
        ("OTEL_TRACES_EXPORTER", "otlp"),
        ("OTEL_TRACES_SAMPLER", "traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
    ]);
    let count = (0..20_000).filter(|_| traces.sample(None).is_some()).count();
    assert!((2_000..8_000).contains(&count), "{count}");
    let parent = Some(TraceContext { sampled: false, ..context() });
    let all: Vec<_> = (0..100).map(|_| traces.sample(parent).is_some()).collect();
    assert!(all.iter().all(|one| *one == all[0]), "one trace is chosen as a whole");
}

#[test]
fn what_does_not_fit_is_dropped_and_counted() {
    // Nobody answers there: the listener accepts nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", silent.local_addr().unwrap());
    let (traces, counts) = traces(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &address),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "16"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4"),
    ]);
    for _ in 0..20 {
        traces.offer(ended(request("rest", context(), None), Some(200), None));
    }
    let dropped = || format!("{counts:?}");
    assert!(!dropped().contains("[0, 0, 0, 0]"), "{}", dropped());
    assert!(!traces.finish(Duration::from_millis(10)), "it is not waited for");
}
