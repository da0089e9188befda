//! The Open Inference Protocol as seen by a client.

use super::*;
use crate::pb::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use crate::pb::inference::{
    InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse, ModelMetadataResponse,
    ModelReadyRequest, ModelStreamInferResponse, RepositoryModelLoadRequest,
    infer_parameter::ParameterChoice,
};
use http_body::Frame;
use hyper::body::Body as HttpBody;
use hyper::body::Incoming;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc as channel;

fn path(method: &str) -> String {
    format!("/inference.GRPCInferenceService/{method}")
}

fn input(count: usize) -> InferInputTensor {
    InferInputTensor {
        name: "x".to_owned(),
        datatype: "FP32".to_owned(),
        shape: vec![count as i64],
        ..Default::default()
    }
}

/// Makes a request with `count` numbers, raw.
fn raw(count: usize) -> ModelInferRequest {
    let numbers: Vec<u8> = (0..count).flat_map(|index| (index as f32).to_le_bytes()).collect();
    ModelInferRequest {
        model_name: "m".to_owned(),
        inputs: vec![input(count)],
        raw_input_contents: vec![numbers.into()],
        ..Default::default()
    }
}

/// The same in the field for its datatype.
fn typed(count: usize) -> ModelInferRequest {
    let fp32_contents = (0..count).map(|index| index as f32).collect();
    let contents = Some(InferTensorContents { fp32_contents, ..Default::default() });
    let inputs = vec![InferInputTensor { contents, ..input(count) }];
    ModelInferRequest { inputs, raw_input_contents: Vec::new(), ..raw(0) }
}

fn text(value: &str) -> InferParameter {
    InferParameter { parameter_choice: Some(ParameterChoice::StringParam(value.to_owned())) }
}

impl Client {
    async fn infer(&self, request: &ModelInferRequest) -> Answer {
        self.send(&path("ModelInfer"), framed(&request.encode_to_vec()), None).await
    }
}

#[tokio::test]
async fn tensors_of_any_size_come_back_in_the_form_in_which_they_went() {
    for policy in [Policy::Caller, Policy::Pool] {
        let client = client(policy, Settings::default()).await;
        for count in [0, 1, 3, 5000, 20_000, 500_000] {
            let sent =
                ModelInferRequest { id: "seven".to_owned(), model_version: "3".to_owned(), ..raw(count) };
            let answer = client.infer(&sent).await;
            assert_eq!((answer.status.as_str(), answer.text.as_str()), ("0", ""), "{count}");
            let told = ModelInferResponse::decode(answer.message).unwrap();
            assert_eq!((&*told.model_name, &*told.model_version, &*told.id), ("m", "3", "seven"));
            assert_eq!(told.raw_output_contents, sent.raw_input_contents);
            let y = &told.outputs[0];
            assert_eq!((&*y.name, &*y.datatype, &y.shape), ("y", "FP32", &vec![count as i64]));
            assert!(y.contents.is_none());

            let sent = typed(count);
            let told = ModelInferResponse::decode(client.infer(&sent).await.message).unwrap();
            assert_eq!(told.outputs[0].contents, sent.inputs[0].contents, "{count}");
            assert!(told.raw_output_contents.is_empty());
        }
    }
}

#[tokio::test]
async fn names_may_say_the_signature() {
    let client = client(Policy::Caller, Settings::default()).await;
    let named = |name: &str| ModelInferRequest { model_name: name.to_owned(), ..raw(1) };
    let told = ModelInferResponse::decode(client.infer(&named("m:serving_default")).await.message).unwrap();
    assert_eq!(told.model_name, "m:serving_default", "as it was asked for");
    let parameters = [("signature_name".to_owned(), text("serving_default"))].into();
    assert_eq!(client.infer(&ModelInferRequest { parameters, ..raw(1) }).await.status, "0");
    let answer = client.infer(&named("m:other")).await;
    assert_eq!((&*answer.status, &*answer.text), ("9", "Serving signature key \"other\" not found."));
}

/// A request that breaks a rule, the status that follows, and a part of its text.
type Broken = (ModelInferRequest, &'static str, &'static str);

/// Requests that name what is not there.
fn misnamed() -> Vec<Broken> {
    let model = |model_name: &str, model_version: &str| ModelInferRequest {
        model_name: model_name.to_owned(),
        model_version: model_version.to_owned(),
        ..raw(1)
    };
    let output = |name: &str| InferRequestedOutputTensor { name: name.to_owned(), ..Default::default() };
    let outputs = |outputs| ModelInferRequest { outputs, ..raw(1) };
    let label = |label| ModelInferRequest {
        parameters: [("version_label".to_owned(), text(label))].into(),
        ..raw(1)
    };
    vec![
        (model("", ""), "5", "Request for unknown model: '' is not found"),
        (model("n", ""), "5", "Request for unknown model: 'n' is not found"),
        (model("m", "4"), "5", "Request for unknown model: 'm' version 4 is not found"),
        (model("m", "x"), "3", "failed to get model version from specified version string 'x'"),
        (label("none"), "3", "Unrecognized servable version label: none"),
        (outputs(vec![output("z")]), "3", "unexpected inference output 'z' for model 'm'"),
        (outputs(vec![output("y"), output("y")]), "3", "output 'y' already requested"),
    ]
}

/// Requests with inputs that are not what they should be.
fn misshapen() -> Vec<Broken> {
    let inputs = |inputs| ModelInferRequest { inputs, ..raw(1) };
    let shape = |shape: &[i64]| inputs(vec![InferInputTensor { shape: shape.to_vec(), ..input(1) }]);
    let datatype = |name: &str| inputs(vec![InferInputTensor { datatype: name.to_owned(), ..input(1) }]);
    let other = InferInputTensor { name: "z".to_owned(), ..input(1) };
    let region = [("shared_memory_region".to_owned(), text("r"))].into();
    vec![
        (shape(&[-1]), "3", "input 'x' has the shape [-1]"),
        (shape(&[i64::MAX, 2]), "3", "input 'x' has the shape"),
        (shape(&[1; 255]), "3", "input 'x' has the shape"),
        (shape(&[2]), "3", "unexpected total byte size 4 for input 'x', expecting 8"),
        (datatype("INT32"), "3", "inference input 'x' data-type is 'INT32', but model 'm' expects 'FP32'"),
        (datatype("fp32"), "3", "input 'x' has the datatype 'fp32'"),
        (inputs(vec![other]), "3", "unexpected inference input 'z' for model 'm'"),
        (inputs(vec![input(1), input(1)]), "3", "input 'x' already exists in request"),
        (inputs(vec![]), "3", "the number of inputs (0) does not match the number of raw_input_contents (1)"),
        (
            inputs(vec![InferInputTensor { parameters: region, ..input(1) }]),
            "3",
            "parameter 'shared_memory_region'",
        ),
    ]
}

/// Requests whose elements are not those of their inputs.
fn misfilled() -> Vec<Broken> {
    let contents = |contents| {
        let inputs = vec![InferInputTensor { contents: Some(contents), ..input(1) }];
        ModelInferRequest { inputs, ..typed(0) }
    };
    let raw_of = |all: &[&'static [u8]]| ModelInferRequest {
        raw_input_contents: all.iter().map(|bytes| Bytes::from_static(bytes)).collect(),
        ..raw(1)
    };
    let ints = InferTensorContents { int_contents: vec![1], ..Default::default() };
    let both = ModelInferRequest { inputs: typed(1).inputs, ..raw(1) };
    vec![
        (raw_of(&[]), "3", "unable to find data for input tensor 'x' for model 'm' in request."),
        (raw_of(&[b"abc"]), "3", "unexpected total byte size 3 for input 'x', expecting 4"),
        (
            raw_of(&[b"abcd", b""]),
            "3",
            "the number of inputs (1) does not match the number of raw_input_contents (2)",
        ),
        (
            both,
            "3",
            "contents field must not be specified when using raw_input_contents for 'x' for model 'm'",
        ),
        (
            contents(ints),
            "3",
            "unexpected explicit tensor data for input tensor 'x' for model 'm' in int_contents",
        ),
        (
            contents(InferTensorContents::default()),
            "3",
            "unexpected number of elements 0 for input 'x', expecting 1",
        ),
    ]
}

#[tokio::test]
async fn who_breaks_a_rule_is_told_and_the_next_call_is_answered() {
    let client = client(Policy::Auto, Settings::default()).await;
    for (request, status, text) in [misnamed(), misshapen(), misfilled()].concat() {
        let answer = client.infer(&request).await;
        assert_eq!(answer.status, status, "{answer:?} instead of {text}");
        assert!(answer.text.contains(text), "{answer:?} instead of {text}");
        assert_eq!(client.infer(&raw(1)).await.status, "0");
    }
    let answer = client.send(&path("ModelInfer"), framed(&[0xff]), None).await;
    assert_eq!(answer.status, "3");
    assert!(answer.text.contains("expected a ModelInferRequest"), "{answer:?}");
    assert_eq!(client.send(&path("Trace"), framed(&[]), None).await.status, "12");
}

#[tokio::test]
async fn the_server_and_its_models_are_told_of() {
    let client = client(Policy::Auto, Settings::default()).await;
    for (method, named) in [("ServerLive", false), ("ServerReady", false), ("ModelReady", true)] {
        let request = ModelReadyRequest { name: "m".to_owned(), version: "3".to_owned() }.encode_to_vec();
        let answer = client.send(&path(method), framed(if named { &request } else { &[] }), None).await;
        assert_eq!((&*answer.status, &answer.message[..]), ("0", &[8, 1][..]), "{method}");
    }
    for (name, version) in [("m", "4"), ("n", "")] {
        let request = ModelReadyRequest { name: name.to_owned(), version: version.to_owned() };
        let answer = client.send(&path("ModelReady"), framed(&request.encode_to_vec()), None).await;
        assert_eq!((&*answer.status, answer.message.len()), ("0", 0), "it is not ready");
    }
    // name: "m"
    let answer = client.send(&path("ModelMetadata"), framed(b"\x0a\x01m"), None).await;
    let told = ModelMetadataResponse::decode(answer.message).unwrap();
    assert_eq!((&*told.name, &told.versions), ("m", &vec!["3".to_owned()]));
    assert_eq!(
        (&*told.inputs[0].name, &*told.inputs[0].datatype, &told.inputs[0].shape),
        ("x", "FP32", &vec![-1])
    );
    for method in ["ModelMetadata", "ModelConfig"] {
        let answer = client.send(&path(method), framed(b"\x0a\x01n"), None).await;
        assert_eq!((&*answer.status, &*answer.text), ("5", "Request for unknown model: 'n' is not found"));
    }
    let load = RepositoryModelLoadRequest { model_name: "m".to_owned(), ..Default::default() };
    let answer = client.send(&path("RepositoryModelLoad"), framed(&load.encode_to_vec()), None).await;
    assert_eq!(answer.status, "7", "{answer:?}");
    for method in ["ServerMetadata", "RepositoryIndex"] {
        assert_eq!(client.send(&path(method), framed(&[]), None).await.status, "0", "{method}");
    }
}

/// A request's body that is sent message by message.
struct Sent(channel::UnboundedReceiver<Bytes>);

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|next| next.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// A stream as its client sees it.
struct Stream {
    /// Dropped at the end of the requests.
    send: Option<channel::UnboundedSender<Bytes>>,
    answers: Incoming,
    received: Vec<u8>,
    status: Option<String>,
    gate: Arc<Mutex<()>>,
    connections: Arc<Connections>,
    budget: Arc<Budget>,
}

impl Stream {
    async fn open(policy: Policy, settings: Settings, timeout: Option<&str>) -> Stream {
        let (service, gate, connections) = service(policy, settings);
        let budget = Budget::new(1 << 30);
        let (near, far) = tokio::io::duplex(1 << 16);
        tokio::spawn(serve(far, service, accepted(&Connections::new(1, budget.clone()))));
        let (mut client, connection) =
            client_http2::handshake(TokioExecutor::new(), TokioIo::new(near)).await.unwrap();
        tokio::spawn(connection);
        let (send, sent) = channel::unbounded_channel();
        let mut request = Request::post(format!("http://server{}", path("ModelStreamInfer")))
            .header("content-type", "application/grpc");
        if let Some(timeout) = timeout {
            request = request.header("grpc-timeout", timeout);
        }
        let response = client.send_request(request.body(Sent(sent)).unwrap()).await.unwrap();
        let answers = response.into_body();
        Stream { send: Some(send), answers, received: Vec::new(), status: None, gate, connections, budget }
    }

    fn send(&self, request: &ModelInferRequest) {
        self.send.as_ref().unwrap().send(framed(&request.encode_to_vec())).unwrap();
    }

    /// Returns the next answer; `None` once the stream has ended.
    async fn next(&mut self) -> Option<ModelStreamInferResponse> {
        loop {
            if let Some((head, rest)) = self.received.split_first_chunk::<5>() {
                let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
                if rest.len() >= length {
                    let answer = ModelStreamInferResponse::decode(&rest[..length]).unwrap();
                    self.received.drain(..5 + length);
                    return Some(answer);
                }
            }
            let frame = self.answers.frame().await?.unwrap();
            match frame.into_data() {
                Ok(data) => self.received.extend(data),
                Err(frame) => {
                    let status = frame.into_trailers().unwrap()["grpc-status"].to_str().unwrap().to_owned();
                    self.status = Some(status);
                }
            }
        }
    }

    /// Returns the identifier of the next answer, and whether it is an error.
    async fn next_id(&mut self) -> (String, bool) {
        let answer = self.next().await.unwrap();
        (answer.infer_response.unwrap().id, !answer.error_message.is_empty())
    }
}

fn numbered(index: usize, request: ModelInferRequest) -> ModelInferRequest {
    ModelInferRequest { id: index.to_string(), ..request }
}

#[tokio::test]
async fn requests_on_a_stream_are_answered_in_their_order() {
    for policy in [Policy::Caller, Policy::Pool] {
        let mut stream = Stream::open(policy, Settings::default(), None).await;
        let held = Held::new(Arc::clone(&stream.gate));
        // More than are in flight at once; one in three fails.
        for index in 0..100 {
            let request = if index % 3 == 0 {
                ModelInferRequest { inputs: vec![], ..raw(1) }
            } else {
                raw(index * 100)
            };
            stream.send(&numbered(index, request));
        }
        if policy == Policy::Caller {
            drop(held);
            for index in 0..100 {
                assert_eq!(stream.next_id().await, (index.to_string(), index % 3 == 0));
            }
        } else {
            assert_eq!(stream.next_id().await, ("0".to_owned(), true), "it waits for no other");
            drop(held);
            for index in 1..100 {
                assert_eq!(stream.next_id().await, (index.to_string(), index % 3 == 0));
            }
        }
        stream.send(&raw(1));
        stream.send = None;
        assert_eq!(stream.next_id().await, (String::new(), false));
        assert!(stream.next().await.is_none());
        assert_eq!(stream.status.as_deref(), Some("0"));
    }
}

#[tokio::test]
async fn what_is_no_request_is_told_and_what_is_no_message_ends_the_stream() {
    let settings = Settings { max_message_bytes: 1000, ..Settings::default() };
    let mut stream = Stream::open(Policy::Caller, settings, None).await;
    let send = stream.send.clone().unwrap();
    send.send(framed(&[0xff])).unwrap();
    assert!(stream.next().await.unwrap().error_message.contains("expected a ModelInferRequest"));
    // In pieces, two at once.
    let two =
        [framed(&numbered(1, raw(3)).encode_to_vec()), framed(&numbered(2, raw(3)).encode_to_vec())].concat();
    for piece in two.chunks(7) {
        send.send(Bytes::copy_from_slice(piece)).unwrap();
    }
    assert_eq!(stream.next_id().await, ("1".to_owned(), false));
    assert_eq!(stream.next_id().await, ("2".to_owned(), false));
    stream.send(&raw(1));
    stream.send(&raw(1000));
    assert!(stream.next().await.unwrap().error_message.is_empty());
    assert!(stream.next().await.is_none());
    assert_eq!(stream.status.as_deref(), Some("8"), "it is too long");
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_at_its_deadline_and_when_the_server_closes() {
    let mut stream = Stream::open(Policy::Caller, Settings::default(), Some("5S")).await;
    stream.send(&raw(1));
    assert_eq!(stream.next_id().await, (String::new(), false));
    assert!(stream.next().await.is_none());
    assert_eq!(stream.status.as_deref(), Some("4"));

    let mut stream = Stream::open(Policy::Pool, Settings::default(), None).await;
    let held = Held::new(Arc::clone(&stream.gate));
    stream.send(&raw(1));
    // The server has read it before time passes.
    time::sleep(SECOND).await;
    stream.connections.enter(Stage::Closing);
    time::sleep(SECOND).await;
    drop(held);
    assert_eq!(stream.next_id().await, (String::new(), false), "what was read is answered");
    assert!(stream.next().await.is_none());
    assert_eq!(stream.status.as_deref(), Some("14"));
}

#[tokio::test(start_paused = true)]
async fn who_takes_no_answers_gets_no_further_ones() {
    let mut stream = Stream::open(Policy::Caller, Settings::default(), None).await;
    const COUNT: usize = 300;
    const NUMBERS: usize = 25_000;
    for index in 0..COUNT {
        stream.send(&numbered(index, raw(NUMBERS)));
    }
    // Time passes once nobody can go on: the client has not taken what was answered.
    time::sleep(SECOND).await;
    let most = 2 * super::super::v2::stream::IN_FLIGHT * NUMBERS * size_of::<f32>();
    let held = stream.budget.used();
    assert!(held < 3 * most, "{held} of {}", COUNT * NUMBERS * size_of::<f32>());
    for index in 0..COUNT {
        assert_eq!(stream.next_id().await, (index.to_string(), false));
    }
    stream.send = None;
    assert!(stream.next().await.is_none());
    assert_eq!(stream.budget.used(), 0);
}

#[tokio::test]
async fn the_protocol_can_be_off() {
    let (service, _gate, connections) = service(Policy::Caller, Settings::default());
    let settings = Settings { open_inference: None, ..service.settings.clone() };
    let service = GrpcService::new(service.server.clone(), settings, connections.stages()).unwrap();
    let (near, far) = tokio::io::duplex(1 << 16);
    tokio::spawn(serve(far, Arc::new(service), accepted(&connections)));
    let (send, connection) = client_http2::handshake(TokioExecutor::new(), TokioIo::new(near)).await.unwrap();
    let client = Client { send, connection: tokio::spawn(connection), gate: Arc::default(), connections };
    for method in ["ServerLive", "ModelInfer", "ModelStreamInfer"] {
        let answer = client.send(&path(method), framed(&[]), None).await;
        assert_eq!(answer.status, "12", "{method}");
    }
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let answer = client.send(reflection, framed(&[0x3a, 0]), None).await;
    assert!(!String::from_utf8_lossy(&answer.message).contains("inference."), "{answer:?}");
}
