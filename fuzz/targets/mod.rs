//! What is tried on every decoder: no bytes make it panic, and what it accepts is consistent.
//!
//! Shared by libFuzzer, which searches for long (`fuzz_targets/`), and by `tests/decoders.rs`, which tries some thousands of
//! changed examples with every run of the tests.

#![allow(clippy::expect_used, unreachable_pub)] // A failure is what is searched for; each user is a crate.

mod array_bodies;
mod infer_bodies;
mod json_bodies;

pub use array_bodies::{msgpack_document, npy_file, npz_archive};
use bytes::Bytes;
pub use infer_bodies::{infer_body, infer_strings};
pub use json_bodies::json_decode;
use prost::Message;
use servable::access::id;
use servable::auth::{Auth, Need};
use servable::engine::litert::file::File;
use servable::engine::onnx::graph::describe;
use servable::engine::openvino::layers::scan;
use servable::memory::Reservation;
use servable::metrics::Format;
use servable::open_inference::{datatype, strings};
use servable::pb::infer::{Contents, InferRequest, locate};
use servable::pb::tensor::{Encoded, decode, locate_numbers, open};
use servable::pb::tensorflow::Example;
use servable::pb::tensorflow::serving::prediction_log::LogType;
use servable::pb::tensorflow::serving::{ClassificationRequest, PredictRequest, PredictionLog};
use servable::pb::wire::Pieces;
use servable::proxies::header::{Start, start};
use servable::proxies::{Networks, forwarded};
use servable::rest::payload_json;
use servable::tensor::{Tensor, element_count};
use servable::tfrecord::Records;
use servable::tls::Tls;
use servable::trace_context::{TraceContext, state};
use std::io::Cursor;

/// A decoder: the name of its target, what is done with bytes, and examples of these.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    pub examples: &'static [&'static [u8]],
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "json_decode", run: json_decode, examples: json_bodies::EXAMPLES },
    Target { name: "infer_body", run: infer_body, examples: infer_bodies::EXAMPLES },
    Target { name: "infer_strings", run: infer_strings, examples: &[b"\x02\x01\0\0\0a\0\0\0\0", b"\x01\x02\0\0\0ab"] },
    Target { name: "npy_file", run: npy_file, examples: array_bodies::NPY },
    Target { name: "npz_archive", run: npz_archive, examples: array_bodies::NPZ },
    Target { name: "msgpack_document", run: msgpack_document, examples: array_bodies::MSGPACK },
    Target { name: "tensor_proto", run: tensor_proto, examples: &[TENSOR, b"\x08\x13\x12\x04\x12\x02\x08\x02\x6a\x02\x01\x02"] },
    Target { name: "grpc_messages", run: grpc_messages, examples: &[PREDICT, b"\x12\x0a\x0a\x08\x0a\x06\x0a\x04\x0a\x01x\x12\x00"] },
    Target { name: "infer_request", run: infer_request, examples: &[INFER_RAW, INFER_TYPED, INFER_STRINGS] },
    Target { name: "tfrecord", run: tfrecord, examples: &[RECORD] },
    Target { name: "payload_json", run: payload_json_line, examples: &[b"\x0a\x07\x0a\x05\x0a\x01m\x18\x01\x32\x14\x0a\x12\x12\x10\x0a\x01x\x12\x0b\x08\x01\x12\x00\x22\x04\0\0\x80?"] },
    Target { name: "onnx_graph", run: onnx_graph, examples: &[b"\x08\x08\x3a\x0e\x0a\x0a\x0a\x01a\x12\x01b\x22\x03Add\x12\x00", include_bytes!("../../tests/models/onnx_pair/1/model.onnx")] },
    Target { name: "tflite_file", run: tflite_file, examples: &[include_bytes!("../../tests/models/tflite_pair/1/model.tflite")] },
    Target { name: "openvino_xml", run: openvino_xml, examples: &[b"<net><layers><layer id=\"0\" type=\"Parameter\"><data shape=\"?,3\" element_type=\"f32\"/></layer></layers></net>"] },
    Target { name: "headers", run: headers, examples: &[b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", b"application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.4"] },
    Target { name: "forwarded", run: forwarded, examples: &[b"for=192.0.2.60;proto=http;by=203.0.113.43, for=\"[2001:db8::17]:4711\"", b"for=_hidden, for=unknown", b"203.0.113.195, 2001:db8::1, 10.0.0.7:80"] },
    Target { name: "proxy_protocol", run: proxy_protocol, examples: &[b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x01\xdc\x04\x01\xbb"] },
    Target { name: "tokens", run: tokens, examples: &[b"ann sha256:AAAAAAAAAAAA:0000000000000000000000000000000000000000000000000000000000000000 scopes=predict,read models=half*,m rate=100/s burst=5 in_flight=2\n"] },
    Target { name: "tls_files", run: tls_files, examples: &[b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n\xff-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n\xff"] },
];

const TENSOR: &[u8] = b"\x08\x01\x12\x04\x12\x02\x08\x02\x22\x08\0\0\x80?\0\0\0@";
const PREDICT: &[u8] = b"\x0a\x03\x0a\x01m\x12\x17\x0a\x01x\x12\x12\x08\x01\x12\x04\x12\x02\x08\x02\x22\x08\0\0\x80?\0\0\0@\x1a\x01y";
/// Two FP32, raw, and an output with a parameter.
const INFER_RAW: &[u8] = b"\x0a\x01m\x12\x013\x1a\x02id\x2a\x0c\x0a\x01x\x12\x04FP32\x1a\x01\x02\x32\x18\x0a\x01y\x12\x13\x0a\x0dclassificatio\x12\x02\x10\x02\x3a\x08\0\0\x80?\0\0\0@";
/// Two INT32 in their field, and a parameter.
const INFER_TYPED: &[u8] = b"\x0a\x01m\x22\x08\x0a\x01p\x12\x03\x1a\x01s\x2a\x13\x0a\x01x\x12\x05INT32\x1a\x01\x02\x2a\x04\x12\x02\x01\x02";
/// Two BYTES in theirs, and some raw.
const INFER_STRINGS: &[u8] = b"\x0a\x01m\x2a\x15\x0a\x01x\x12\x05BYTES\x1a\x01\x02\x2a\x06\x42\x01a\x42\x01b\x3a\x0b\x02\0\0\0ab\x01\0\0\0a";
/// Of three bytes.
const RECORD: &[u8] = b"\x03\0\0\0\0\0\0\0\x8b\x1c\x19\x6fabc\x62\x1e\x5e\x0d";

/// What is drawn out to many megabytes takes long, and is no other case than a few kilobytes.
const LARGE: usize = 1 << 16;

/// `TensorProto`s: what is accepted comes back the same in either form.
pub fn tensor_proto(proto: &[u8]) {
    let proto = Bytes::copy_from_slice(proto);
    if is_large(&proto) {
        return;
    }
    let Ok(tensor) = decode(&proto) else { return };
    for as_content in [false, true] {
        let again = decode(&written(&tensor, as_content)).expect("what was written can be read");
        assert_eq!((again.dtype(), again.shape()), (tensor.dtype(), tensor.shape()));
        assert_eq!(again.bytes(), tensor.bytes());
        let strings = |tensor: &Tensor| {
            tensor.as_strings().map(|all| all.iter().map(<[u8]>::to_vec).collect::<Vec<_>>())
        };
        assert_eq!(strings(&again), strings(&tensor));
    }
}

/// Returns whether a tensor is drawn out to so much that trying it takes long.
fn is_large(proto: &Bytes) -> bool {
    open(proto).is_ok_and(|opened| {
        opened.drawn_out() > LARGE || opened.shape().iter().any(|dim| *dim > LARGE as i64)
    })
}

fn written(tensor: &Tensor, as_content: bool) -> Bytes {
    let encoded = Encoded::new(tensor, as_content);
    let mut out = Pieces::with_capacity(encoded.len());
    encoded.write(&mut out);
    let bytes = out.finish().into_iter().flatten().collect::<Bytes>();
    assert_eq!(bytes.len(), encoded.len());
    bytes
}

/// Requests, the tensors and Examples in them, and the search for numbers in what has come of one so far.
pub fn grpc_messages(message: &[u8]) {
    let bytes = Bytes::copy_from_slice(message);
    if let Some(at) = locate_numbers(message) {
        assert!(at <= message.len());
    }
    if let Ok(request) = PredictRequest::decode(bytes.clone()) {
        request.inputs.values().for_each(|proto| tensor_proto(proto));
    }
    let _request = ClassificationRequest::decode(bytes.clone());
    let _example = Example::decode(bytes);
}

/// Requests of the Open Inference Protocol: what is accepted of their inputs is as many elements as their shapes have.
pub fn infer_request(message: &[u8]) {
    if let Some(at) = locate(message) {
        assert!(at <= message.len());
    }
    let Ok(request) = InferRequest::open(Bytes::copy_from_slice(message)) else { return };
    assert!(request.raw_count() + request.input_count() <= message.len());
    request.parameters().map_while(Result::ok).for_each(|(name, _)| assert!(name.len() < message.len()));
    for output in request.outputs().map_while(Result::ok) {
        let _parameters = output.parameters().count();
    }
    let mut raw = request.raw();
    for input in request.inputs().map_while(Result::ok) {
        let _parameters = input.parameters().count();
        let Some(count) = element_count(&input.shape).filter(|count| *count <= LARGE) else { continue };
        let Some(dtype) = datatype::named(input.datatype) else { continue };
        if let Ok(contents) = Contents::open(&input, dtype, count)
            && let Ok(tensor) = contents.read(input.shape.clone())
        {
            assert_eq!((tensor.len(), tensor.dtype()), (count, dtype));
        }
        let bytes = raw.next().unwrap_or_default();
        if let Ok(Ok(strings)) = strings::read(&bytes, count, &Reservation::default()) {
            assert_eq!((strings.len(), strings::size(&strings)), (count, bytes.len()));
        }
    }
}

/// Warm-up files: there is no more in the records than in the file.
pub fn tfrecord(file: &[u8]) {
    let mut records = Records::new(file);
    let read: usize = records.by_ref().map_while(Result::ok).map(|record| record.len() + 16).sum();
    assert!(read <= file.len());
    assert!(records.next().is_none());
}

/// Records of payload logs: each is one line.
pub fn payload_json_line(record: &[u8]) {
    let record = Bytes::copy_from_slice(record);
    if let Ok(log) = PredictionLog::decode(record.clone())
        && let Some(LogType::PredictLog(log)) = log.log_type
    {
        let (request, response) = (log.request.unwrap_or_default(), log.response.unwrap_or_default());
        if request.inputs.values().chain(response.outputs.values()).any(is_large) {
            return;
        }
    }
    let line = payload_json::line(&record);
    assert!(line.starts_with(b"{") && line.ends_with(b"}") && !line.contains(&b'\n'));
}

/// ONNX files: the walk over a model's graph does not read beyond the file.
pub fn onnx_graph(file: &[u8]) {
    if let Ok(found) = describe(Cursor::new(file), file.len() as u64) {
        let named: usize = found.external.iter().chain(&found.unranked).map(String::len).sum();
        assert!(named <= file.len());
    }
}

/// TensorFlow Lite's files.
pub fn tflite_file(bytes: &[u8]) {
    let _ = File::read(bytes);
}

/// OpenVINO's XML.
pub fn openvino_xml(xml: &[u8]) {
    assert!(scan(xml).count <= xml.len());
}

/// Headers that name requests and traces, and that say what is accepted.
pub fn headers(value: &[u8]) {
    if id::is_sane(value) {
        assert!(value.len() <= id::LONGEST && value.is_ascii());
    }
    if let Some(TraceContext { trace, span, .. }) = TraceContext::parse(value) {
        let named = format!("-{trace}-{span}-");
        assert!(String::from_utf8_lossy(value).contains(&named));
    }
    assert!(state([value].into_iter()).is_none_or(|state| state.len() <= 512));
    let _format = Format::accepted(&String::from_utf8_lossy(value));
}

/// Headers by which proxies name clients.
pub fn forwarded(header: &[u8]) {
    let trusted = Networks::read(["10.0.0.0/8", "fd00::/8", "unix"]).expect("these are networks");
    let (none, lines) = (|| Vec::new().into_iter(), || vec![header].into_iter());
    let _standard = forwarded::client(&trusted, lines(), none());
    let _usual = forwarded::client(&trusted, none(), lines());
    let _both = forwarded::client(&trusted, lines(), lines());
}

/// What comes before a connection by the PROXY protocol.
pub fn proxy_protocol(bytes: &[u8]) {
    match start(bytes) {
        Start::Header { length, .. } => assert!(length <= bytes.len()),
        Start::Part(most) => assert!(bytes.len() < most),
        Start::Other | Start::Broken => {}
    }
}

/// Files of tokens, and what requests show as one.
pub fn tokens(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let auth = Auth::of_text(&text).or_else(|_| Auth::of_text("# none")).expect("a comment can be read");
    assert!(auth.admit(|_| Some(bytes)).is_err());
    assert!(auth.check(None, Need::Any).is_err());
}

/// Certificates, keys and authorities, with 0xff between these.
pub fn tls_files(files: &[u8]) {
    let mut parts = files.split(|byte| *byte == 0xff).map(String::from_utf8_lossy);
    let mut next = || parts.next().unwrap_or_default();
    let (certificate, key, authority) = (next(), next(), next());
    let _tls = Tls::new(&key, &certificate, &authority, files.first() == Some(&b'-'));
}
