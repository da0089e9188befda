//! The service as seen by a client: calls over HTTP/2 in memory, to models written in Rust.

use super::rpc::decoded;
use super::*;
use crate::batch::Scheduler;
use crate::config::Options;
use crate::connections::Connections;
use crate::engine::signature::{Signature, TensorSpec};
use crate::engine::{Endpoint, Model, RunOptions, Termination};
use crate::http2::connection::serve;
use crate::memory::Budget;
use crate::methods::record::Recorder;
use crate::pb::tensorflow::serving::model_spec::VersionChoice as Choice;
use crate::pb::tensorflow::serving::{
    self as wire, ModelSpec as WireSpec, PredictRequest, PredictResponse, ReloadConfigRequest,
    ReloadConfigResponse,
};
use crate::pb::tensorflow::{
    DataType, ProfileRequest, ProfileResponse, TensorProto, TensorShapeProto, TerminateRequest,
    tensor_shape_proto::Dim,
};
use crate::registry::Registry;
use crate::servable::placement::Policy;
use crate::servable::{Resources, Servable};
use crate::tensor::{DType, Tensor};
use http::HeaderMap;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2 as client_http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time;

mod raw;
mod v2;

/// Returns `x` as `y`; waits while `gate` is held.
struct Echo {
    signatures: BTreeMap<String, Signature>,
    gate: Arc<Mutex<()>>,
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
        true
    }

    fn run(&self, feeds: &[(Endpoint, Tensor)], fetches: &[Endpoint], _: RunOptions) -> Result<Vec<Tensor>> {
        let _open = self.gate.lock().unwrap();
        Ok(fetches.iter().map(|_| feeds[0].1.clone()).collect())
    }
}

fn spec(alias: &str) -> TensorSpec {
    TensorSpec { alias: alias.to_owned(), tensor: format!("{alias}:0"), dtype: DType::Float, shape: None }
}

fn echo(gate: Arc<Mutex<()>>) -> Box<Echo> {
    let signature = Signature {
        name: "serving_default".into(),
        method_name: "tensorflow/serving/predict".to_owned(),
        inputs: vec![spec("x")],
        outputs: vec![spec("y")],
        defaults: BTreeMap::new(),
    };
    Box::new(Echo { signatures: [("serving_default".to_owned(), signature)].into(), gate })
}

/// A client of a service.
struct Client {
    send: client_http2::SendRequest<Full<Bytes>>,
    connection: JoinHandle<hyper::Result<()>>,
    gate: Arc<Mutex<()>>,
    connections: Arc<Connections>,
}

/// The outcome of a call.
#[derive(Debug)]
struct Answer {
    status: String,
    text: String,
    message: Bytes,
}

/// Makes a service with `echo` as version 3 of model `m`; returns it with its gate and its server's connections.
fn service(policy: Policy, settings: Settings) -> (Arc<GrpcService>, Arc<Mutex<()>>, Arc<Connections>) {
    let gate = Arc::default();
    let scheduler = Scheduler::with_slots(1);
    let (servable, _drain) =
        Servable::new("m".to_owned(), 3, echo(Arc::clone(&gate)), Resources::plain(policy, &scheduler));
    let registry = Registry::default();
    registry.publish(servable);
    let server = Arc::new(ServerState {
        registry,
        scheduler,
        batches: None,
        options: Options::closed(),
        metrics: None,
        recorder: Recorder::none(),
        access: None,
        traces: None,
        changes: crate::methods::changes::Changes::default(),
        shadows: crate::methods::shadow::Shadows::default(),
        demand: None,
    });
    let connections = Connections::new(9, Budget::new(1 << 30));
    let view = OpenInference::new(server.clone(), Arc::new(true.into()), None, None);
    let settings = Settings { open_inference: Some(view), ..settings };
    (Arc::new(GrpcService::new(server, settings, connections.stages()).unwrap()), gate, connections)
}

fn accepted(connections: &Arc<Connections>) -> Arc<Connection> {
    connections.accepted().connection.clone()
}

async fn client(policy: Policy, settings: Settings) -> Client {
    let (service, gate, connections) = service(policy, settings);
    let (near, far) = tokio::io::duplex(1 << 16);
    tokio::spawn(serve(far, service, accepted(&connections)));
    let (send, connection) = client_http2::handshake(TokioExecutor::new(), TokioIo::new(near)).await.unwrap();
    Client { send, connection: tokio::spawn(connection), gate, connections }
}

/// Blocks every run until dropped.
struct Held {
    release: Option<mpsc::Sender<()>>,
    holder: Option<std::thread::JoinHandle<()>>,
}

impl Held {
    fn new(gate: Arc<Mutex<()>>) -> Held {
        let (held, is_held) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let holder = std::thread::spawn(move || {
            let _held = gate.lock().unwrap();
            held.send(()).unwrap();
            let _dropped = released.recv();
        });
        is_held.recv().unwrap();
        Held { release: Some(release), holder: Some(holder) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.release.take());
        self.holder.take().unwrap().join().unwrap();
    }
}

fn framed(message: &[u8]) -> Bytes {
    [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat().into()
}

impl Client {
    async fn send(&self, path: &str, stream: Bytes, timeout: Option<&str>) -> Answer {
        let mut request =
            Request::post(format!("http://server{path}")).header("content-type", "application/grpc");
        if let Some(timeout) = timeout {
            request = request.header("grpc-timeout", timeout);
        }
        let response =
            self.send.clone().send_request(request.body(Full::new(stream)).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap();
        let trailers = body.trailers().cloned().unwrap_or_default();
        let field = |name: &str| {
            let value =
                |headers: &HeaderMap| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            value(&head.headers).or(value(&trailers)).unwrap_or_default()
        };
        let data = body.to_bytes();
        let message = if data.is_empty() { data } else { data.slice(5..) };
        Answer { status: field("grpc-status"), text: field("grpc-message"), message }
    }

    async fn predict(&self, request: &PredictRequest, timeout: Option<&str>) -> Answer {
        let path = "/tensorflow.serving.PredictionService/Predict";
        self.send(path, framed(&request.encode_to_vec()), timeout).await
    }
}

fn floats(count: usize) -> TensorProto {
    let dim = Dim { size: count as i64, name: String::new() };
    TensorProto {
        dtype: DataType::DtFloat as i32,
        tensor_shape: Some(TensorShapeProto { dim: vec![dim], unknown_rank: false }),
        float_val: (0..count).map(|index| index as f32).collect(),
        ..Default::default()
    }
}

fn request(x: &TensorProto) -> PredictRequest {
    PredictRequest {
        model_spec: Some(WireSpec { name: "m".to_owned(), ..Default::default() }),
        inputs: [("x".to_owned(), x.encode_to_vec().into())].into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn tensors_of_any_size_are_echoed_with_the_spec_that_was_used() {
    for policy in [Policy::Caller, Policy::Pool] {
        let client = client(policy, Settings::default()).await;
        // More than a frame, than a piece that is handed over, than the stream's window.
        for count in [0, 3, 5000, 20_000, 2_000_000] {
            let x = floats(count);
            let answer = client.predict(&request(&x), Some("60S")).await;
            assert_eq!((answer.status.as_str(), answer.text.as_str()), ("0", ""), "{count}");
            let response = PredictResponse::decode(answer.message).unwrap();
            assert_eq!(TensorProto::decode(response.outputs["y"].clone()).unwrap(), x);
            let used = response.model_spec.unwrap();
            assert_eq!((used.name.as_str(), used.signature_name.as_str()), ("m", "serving_default"));
            assert_eq!(used.version_choice, Some(Choice::Version(3)));
        }
    }
}

#[tokio::test]
async fn bad_calls_leave_good_ones_alone() {
    let client = client(Policy::Auto, Settings { max_message_bytes: 5000, ..Settings::default() }).await;
    let predict = "/tensorflow.serving.PredictionService/Predict";
    let cases: [(&str, Bytes, &str, &str); 6] = [
        (predict, framed(&[0xff]), "3", "The request is not the message that this method takes: "),
        (predict, Bytes::new(), "3", "Expected one message: the stream ended after 0 of 5 bytes"),
        (predict, framed(&[]), "3", "Missing ModelSpec"),
        (
            predict,
            Bytes::from_static(&[0, 0, 1, 0, 0]),
            "8",
            "Received message larger than max (65536 vs. 5000)",
        ),
        ("/tensorflow.serving.SessionService/SessionRun", framed(&[]), "12", "There is no method /"),
        ("/grpc.health.v1.Nothing/Check", framed(&[]), "12", "There is no method /"),
    ];
    for (path, stream, status, text) in cases {
        let answer = client.send(path, stream, None).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert!(answer.text.starts_with(text), "{path}: {answer:?}");
        assert_eq!(client.predict(&request(&floats(4)), None).await.status, "0");
    }
}

#[tokio::test]
async fn a_reply_above_the_limit_is_not_sent() {
    let client = client(Policy::Auto, Settings { max_reply_bytes: 100, ..Settings::default() }).await;
    assert_eq!(client.predict(&request(&floats(1)), None).await.status, "0");
    let answer = client.predict(&request(&floats(100)), None).await;
    assert_eq!((answer.status.as_str(), answer.message.len()), ("8", 0));
    let size = answer.text.strip_prefix("Sent message larger than max (").unwrap();
    let (size, limit) = size.split_once(" vs. ").unwrap();
    assert!(size.parse::<usize>().unwrap() > 400 && limit == "100)", "{}", answer.text);
}

const SECOND: Duration = Duration::from_secs(1);

fn limited(limits: ConnectionLimits) -> Settings {
    Settings { limits, ..Settings::default() }
}

#[tokio::test(start_paused = true)]
async fn a_connections_time_is_over_at_its_age() {
    let began = time::Instant::now();
    let limits = ConnectionLimits { max_age: Some(100 * SECOND), ..ConnectionLimits::default() };
    let client = client(Policy::Caller, limited(limits)).await;
    assert_eq!(client.predict(&request(&floats(1)), None).await.status, "0");
    client.connection.await.unwrap().unwrap();
    assert!((90..=110).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn calls_in_flight_outlive_their_connections_age() {
    let limits = ConnectionLimits { max_age: Some(10 * SECOND), ..ConnectionLimits::default() };
    let client = client(Policy::Pool, limited(limits)).await;
    let held = Held::new(Arc::clone(&client.gate));
    let request = request(&floats(1));
    {
        let mut call = std::pin::pin!(client.predict(&request, None));
        assert!(time::timeout(1000 * SECOND, &mut call).await.is_err());
        drop(held);
        assert_eq!(call.await.status, "0");
    }
    client.connection.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn calls_in_flight_are_cut_off_when_the_grace_is_over() {
    let (max_age, max_age_grace) = (Some(10 * SECOND), Some(20 * SECOND));
    let client = client(
        Policy::Pool,
        limited(ConnectionLimits { max_age, max_age_grace, ..ConnectionLimits::default() }),
    )
    .await;
    let _held = Held::new(Arc::clone(&client.gate));
    let began = time::Instant::now();
    let request = Request::post("http://server/tensorflow.serving.PredictionService/Predict")
        .header("content-type", "application/grpc")
        .body(Full::new(framed(&request(&floats(1)).encode_to_vec())));
    assert!(client.send.clone().send_request(request.unwrap()).await.is_err());
    assert!((29..=31).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

/// Otherwise it would be chosen to give way, never do so, and nobody would be accepted any more.
#[tokio::test(start_paused = true)]
async fn a_connection_beyond_its_age_still_gives_way() {
    let limits = ConnectionLimits { max_age: Some(10 * SECOND), ..ConnectionLimits::default() };
    let (service, _gate, connections) = service(Policy::Caller, limited(limits));
    let (near, far) = tokio::io::duplex(1 << 16);
    let slot = connections.accepted();
    let served = tokio::spawn(serve(far, service, slot.connection.clone()));
    let (mut send, connection) =
        client_http2::handshake(TokioExecutor::new(), TokioIo::new(near)).await.unwrap();
    tokio::spawn(connection);
    let watch = Request::post("http://server/grpc.health.v1.Health/Watch")
        .header("content-type", "application/grpc")
        .body(Full::new(framed(&[])));
    let mut watched = send.send_request(watch.unwrap()).await.unwrap();
    assert!(watched.frame().await.unwrap().is_ok());
    time::sleep(1000 * SECOND).await;
    assert!(!served.is_finished(), "it has no grace");
    assert_eq!(connections.close_waiting(1), 1);
    time::timeout(10 * SECOND, served).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_calls_is_ended() {
    let limits = ConnectionLimits { max_idle: Some(10 * SECOND), ..ConnectionLimits::default() };
    let client = client(Policy::Caller, limited(limits)).await;
    let request = request(&floats(1));
    for _ in 0..20 {
        time::sleep(5 * SECOND).await;
        assert_eq!(client.predict(&request, None).await.status, "0");
    }
    let began = time::Instant::now();
    client.connection.await.unwrap().unwrap();
    assert!((4..=22).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

#[tokio::test]
async fn errors_of_the_request_carry_their_texts() {
    let client = client(Policy::Auto, Settings::default()).await;
    let good = request(&floats(1));
    let named = |name: &str| Some(WireSpec { name: name.to_owned(), ..Default::default() });
    let labelled = |label: &str| {
        let version_choice = Some(Choice::VersionLabel(label.to_owned()));
        Some(WireSpec { name: "m".to_owned(), version_choice, ..Default::default() })
    };
    let negative = TensorProto { tensor_shape: None, dtype: 0, ..floats(1) };
    let cases = [
        (PredictRequest { model_spec: named(""), ..good.clone() }, "3", "ModelSpec has no name specified."),
        (
            PredictRequest { model_spec: named("n"), ..good.clone() },
            "5",
            "Servable not found for request: Latest(n)",
        ),
        (
            PredictRequest { model_spec: labelled(""), ..good.clone() },
            "3",
            "Unrecognized servable version label: ",
        ),
        (request(&negative), "3", "tensor parsing error: x"),
        (
            PredictRequest { output_filter: vec!["z".to_owned()], ..good.clone() },
            "3",
            "output tensor alias not found in signature: z Outputs expected to be in the set {y}.",
        ),
        (
            PredictRequest { output_filter: vec!["y".to_owned(), "y".to_owned()], ..good.clone() },
            "3",
            "duplicate output tensor alias: y",
        ),
    ];
    for (request, status, text) in cases {
        let answer = client.predict(&request, None).await;
        assert_eq!((answer.status.as_str(), answer.text.as_str()), (status, text));
    }
}

#[tokio::test]
async fn a_deadline_bounds_a_call_that_runs_and_one_that_waits() {
    let client = client(Policy::Pool, Settings::default()).await;
    let held = Held::new(Arc::clone(&client.gate));
    let request = request(&floats(1));
    // With a single slot, the first call runs and is stuck, the second waits.
    let (running, waiting) =
        tokio::join!(client.predict(&request, Some("50m")), client.predict(&request, Some("60m")));
    assert_eq!((running.status.as_str(), running.text.as_str()), ("4", "Deadline Exceeded"));
    assert_eq!(waiting.status, "4");
    drop(held);
    assert_eq!(client.predict(&request, None).await.status, "0");
}

#[tokio::test]
async fn a_reload_hands_the_configuration_over() {
    let (given, taken) = mpsc::channel();
    let reload: Reload = Arc::new(move |config, timeout| {
        assert_eq!(timeout, None);
        given.send(config).unwrap();
        Ok(())
    });
    let client = client(Policy::Auto, Settings { reload: Some(reload), ..Settings::default() }).await;
    let path = "/tensorflow.serving.ModelService/HandleReloadConfigRequest";
    // config { model_config_list { config { name: "a" } } } metric_names: "n"
    let wire = [10, 7, 10, 5, 10, 3, 10, 1, b'a', 18, 1, b'n'];
    let answer = client.send(path, framed(&wire), None).await;
    assert_eq!(answer.status, "0", "{answer:?}");
    assert_eq!(taken.recv().unwrap(), &wire[2..9]);
    let response = ReloadConfigResponse::decode(answer.message).unwrap();
    assert_eq!(response.status, Some(Default::default()));
    assert_eq!(response.metric[0].name, "n");

    let answer = client.send(path, framed(&ReloadConfigRequest::default().encode_to_vec()), None).await;
    assert_eq!(answer.status, "3");
    assert!(answer.text.ends_with("Only ModelConfigList is currently supported"), "{answer:?}");
}

#[tokio::test]
async fn health_answers_for_the_names_of_tensorflow_serving_and_for_models() {
    let client = client(Policy::Auto, Settings::default()).await;
    let path = "/grpc.health.v1.Health/Check";
    for (name, status) in [
        ("", "0"),
        ("ModelService", "0"),
        ("PredictionService", "0"),
        ("tensorflow.serving.PredictionService", "5"),
        ("m", "0"),
        ("m/3", "0"),
        ("m/4", "5"),
    ] {
        let wire = if name.is_empty() { vec![] } else { [&[10, name.len() as u8], name.as_bytes()].concat() };
        let answer = client.send(path, framed(&wire), None).await;
        assert_eq!(answer.status, status, "{name}");
        // status: SERVING
        assert_eq!(answer.message, if status == "0" { &[8, 1][..] } else { &[] });
    }
}

#[tokio::test]
async fn reflection_knows_the_services() {
    let client = client(Policy::Auto, Settings::default()).await;
    for version in ["v1", "v1alpha"] {
        let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        // list_services: ""
        let answer = client.send(&path, framed(&[0x3a, 0]), None).await;
        let text = String::from_utf8_lossy(&answer.message);
        for service in [
            "tensorflow.serving.PredictionService",
            "tensorflow.serving.ModelService",
            "inference.GRPCInferenceService",
            "grpc.health.v1.Health",
        ] {
            assert!(text.contains(service), "{answer:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_profile_shows_the_phases_of_the_calls_that_it_saw() {
    let client = client(Policy::Caller, Settings::default()).await;
    // duration_ms: 1000, session_id: "s", emit_xspace
    let profile = ProfileRequest {
        duration_ms: 1000,
        session_id: "s".to_owned(),
        emit_xspace: true,
        ..Default::default()
    };
    let profile = framed(&profile.encode_to_vec());
    let path = "/tensorflow.ProfilerService/Profile";
    let request = request(&floats(1));
    let (profiled, predicted) = tokio::join!(biased;
        client.send(path, profile.clone(), None),
        async {
            // Both calls share a connection and are started in order.
            client.predict(&request, None).await
        }
    );
    assert_eq!((profiled.status.as_str(), predicted.status.as_str()), ("0", "0"), "{profiled:?}");
    let profile = ProfileResponse::decode(profiled.message).unwrap();
    assert!(!profile.empty_trace);
    let plane = &profile.xspace.unwrap().planes[0];
    let seen: Vec<&str> = plane.lines[0]
        .events
        .iter()
        .map(|event| plane.event_metadata[&event.metadata_id].name.as_str())
        .collect();
    for phase in ["servable::decode", "servable::run", "servable::encode"] {
        assert!(seen.contains(&phase), "{seen:?}");
    }
}

#[tokio::test]
async fn the_profiler_can_be_turned_off() {
    let client = client(Policy::Auto, Settings { profiler: false, ..Settings::default() }).await;
    assert_eq!(client.send("/tensorflow.ProfilerService/Monitor", framed(&[]), None).await.status, "12");
}

#[tokio::test]
async fn a_session_is_terminated_by_its_name() {
    let client = client(Policy::Auto, Settings::default()).await;
    let named = TerminateRequest { session_id: "s".to_owned() };
    let terminate = framed(&named.encode_to_vec());
    let path = "/tensorflow.ProfilerService/Terminate";
    assert_eq!(client.send(path, terminate.clone(), None).await.status, "5");
    let profile = ProfileRequest {
        duration_ms: u64::MAX,
        session_id: "s".to_owned(),
        emit_xspace: true,
        ..Default::default()
    };
    let (profiled, terminated) = tokio::join!(biased;
        client.send("/tensorflow.ProfilerService/Profile", framed(&profile.encode_to_vec()), None),
        client.send(path, terminate, None),
    );
    assert_eq!((profiled.status.as_str(), terminated.status.as_str()), ("0", "0"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_does_not_hold_up_the_stop() {
    use tokio::io::AsyncWriteExt;

    let (service, _gate, connections) = service(Policy::Caller, Settings::default());
    let (mut near, far) = tokio::io::duplex(1 << 16);
    // The start of HTTP/2 with empty settings, then nothing.
    near.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let served = tokio::spawn(serve(far, service, accepted(&connections)));
    tokio::task::yield_now().await;
    connections.enter(Stage::Closing);
    served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_comes_while_the_server_drains_is_served_until_it_closes() {
    let client = client(Policy::Caller, Settings::default()).await;
    let request = request(&floats(1));
    assert_eq!(client.predict(&request, None).await.status, "0");
    client.connections.enter(Stage::Draining);
    // Existing clients are told to go.
    client.connection.await.unwrap().unwrap();
    let (service, _gate, connections) = service(Policy::Caller, Settings::default());
    connections.enter(Stage::Draining);
    let (near, far) = tokio::io::duplex(1 << 16);
    let served = tokio::spawn(serve(far, service, accepted(&connections)));
    let (send, connection) = client_http2::handshake(TokioExecutor::new(), TokioIo::new(near)).await.unwrap();
    let client = Client { send, connection: tokio::spawn(connection), gate: Arc::default(), connections };
    time::sleep(60 * SECOND).await;
    assert_eq!(client.predict(&request, None).await.status, "0");
    client.connections.enter(Stage::Closing);
    client.connection.await.unwrap().unwrap();
    served.await.unwrap();
}

#[test]
fn many_small_fields_are_counted_as_what_they_become() {
    let few = request(&floats(100_000)).encode_to_vec();
    assert!(decoded(&few.into()) < 4096);
    let filter = PredictRequest { output_filter: vec![String::new(); 5000], ..request(&floats(1)) };
    assert!(decoded(&filter.encode_to_vec().into()) >= 5000 * size_of::<String>());
    let examples = wire::ExampleList { examples: vec![Bytes::new(); 5000] };
    let input = Some(wire::Input { kind: Some(wire::input::Kind::ExampleList(examples)) });
    let classify = wire::ClassificationRequest { model_spec: None, input };
    assert!(decoded(&classify.encode_to_vec().into()) >= 5000 * size_of::<Bytes>());
    // Invalid bytes end the count where they begin.
    assert!(decoded(&vec![0xff; 5000].into()) < 1000);
}
