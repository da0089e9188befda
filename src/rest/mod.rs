//! Door 1: the only place that knows HTTP and JSON.
//!
//! [`connection`] speaks HTTP/1.1 with one client; [`answer`] finds what a request asks for and has it done.

mod base64;
mod body;
mod column;
mod columns;
pub mod connection;
pub mod decode;
mod echo;
pub mod encode;
mod features;
pub mod float;
mod grisu;
mod json;
mod line;
mod monitoring;
mod number;
mod path;
pub mod proto_json;
mod reply;
mod rounding;
mod rows;
mod target;
mod text;
mod timed;
mod walk;
pub mod writer;

use crate::compute::guarded;
use crate::error::{Error, Kind, Result};
use crate::methods::{Context, Room, bind, examples, info, predict};
use crate::profile::{self, Phase};
use crate::registry::VersionChoice;
use crate::servable::Servable;
use crate::tensor::{Strings, Tensor};
use body::Unpacked;
use bytes::Bytes;
use decode::Limits;
use http::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, EXPECT, HOST, ORIGIN, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use line::{Client, Line};
use monitoring::Watch;
use path::{Target, Verb};
use reply::{Body, Refusal, Reply};
use std::sync::Arc;
use std::time::Instant;

/// The two shapes of a predict request and of its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `instances` → `predictions`: a list of rows.
    Row,
    /// `inputs` → `outputs`: a tensor per name.
    Columnar,
}

/// Up to this many bytes a body is decoded in the thread that read it (some 30 µs).
const SMALL_BODY: usize = 16 << 10;

/// About what `tensor` takes as text.
fn text_size(tensor: &Tensor) -> usize {
    match tensor.dtype().size() {
        0 => tensor.memory(),
        // A bool and a comma; a small number, its sign and a comma.
        1 => 8 * tensor.len(),
        2 => 10 * tensor.len(),
        4 => 14 * tensor.len(),
        _ => 24 * tensor.len(),
    }
}

/// Answers one request.
async fn answer(room: Arc<Room>, line: Arc<Line>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let _in_hand = line.begin();
    let client = line.connection.clone();
    let (head, body) = request.into_parts();
    let path = target::of(&head.uri);
    let mut response = answered(&room, line, &head, &path, body).await;
    if client.is_draining() {
        // The next request is to go elsewhere.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Answers a request whose `head` and `path` were read.
async fn answered(
    room: &Arc<Room>,
    line: Arc<Line>,
    head: &Parts,
    path: &str,
    body: Incoming,
) -> Response<Full<Bytes>> {
    if monitoring::is_page(room, path) {
        drain(head, body).await;
        return monitoring::page(room, path).await.into_response(&room.options, false);
    }
    let started = room.metrics.is_some().then(Instant::now);
    let api = path::is_api(path);
    let reply = match route(room, head, path, api) {
        Ok(post) => {
            let client = Client { line, is_modern: head.version == Version::HTTP_11 };
            watched(room, &client, post, body).await
        }
        Err(reply) => {
            monitoring::answered_at_once(room, &head.method, path, started, &reply);
            drain(head, body).await;
            reply
        }
    };
    reply.into_response(&room.options, api)
}

/// Reads a body that nobody wants. Who asked whether to send one at all has not sent it.
async fn drain(head: &Parts, body: Incoming) {
    if !body.is_end_stream() && !head.headers.contains_key(EXPECT) {
        body::drain(body).await;
    }
}

/// Reads the body, then has the call answered, counted around.
async fn watched(room: &Arc<Room>, client: &Client, post: Post, body: Incoming) -> Reply {
    let memory = Arc::new(client.line.connection.reserve());
    let body = match body::read(body, &room.options, &memory).await {
        Ok(body) => body,
        Err(reply) => return reply,
    };
    let _answering = client.line.connection.answering();
    let watch = Watch::begin(room, &post);
    let context = Context { deadline: deadline(room), memory };
    let reply = call(room, client, post, body, context).await;
    if let Some(watch) = watch {
        watch.end(&reply);
    }
    reply
}

/// A POST to a model: what its head says.
struct Post {
    verb: Verb,
    name: String,
    choice: VersionChoice,
    gzip: bool,
    accepts_gzip: bool,
}

/// Finds what is asked for: a call, whose body is needed, or an answer that the head alone is enough for.
fn route(room: &Room, head: &Parts, path: &str, api: bool) -> Result<Post, Reply> {
    if let Some(refusal) = refusal(head, path, api) {
        return Err(refusal.into());
    }
    if !api {
        return Err(Refusal::new(404, not_found(path)).into());
    }
    let accepts_gzip = accepts_gzip(&head.headers);
    let answer = match head.method {
        Method::GET | Method::HEAD => ask(room, path::parse(false, path)),
        Method::POST => match path::parse(true, path) {
            Target::Call(verb, name, choice) => {
                return Ok(Post { verb, name, choice, gzip: is_gzip(&head.headers), accepts_gzip });
            }
            Target::VersionTooLarge(digits) => Some(Err(version_too_large(&digits))),
            Target::Malformed | Target::Status(..) | Target::Metadata(..) => None,
        },
        Method::OPTIONS => return Err(preflight(&head.headers)),
        _ => None,
    };
    Err(match answer {
        Some(Ok(body)) => Reply::json(Body::packed(body, accepts_gzip, &room.options)),
        Some(Err(error)) => error.into(),
        None => malformed(&head.method, path).into(),
    })
}

/// A GET: status or metadata.
fn ask(room: &Room, target: Target) -> Option<Result<Vec<u8>>> {
    let missing = |name: &str| name.is_empty().then(|| Err(Error::invalid("Missing model name in request.")));
    match target {
        Target::Status(name, choice) => {
            Some(missing(&name).unwrap_or_else(|| Ok(encode::status(&info::status(room, &name, &choice)?))))
        }
        Target::Metadata(name, choice) => Some(missing(&name).unwrap_or_else(|| {
            let (version, signatures) = info::metadata(room, &name, &choice)?;
            Ok(encode::metadata(&name, version, &signatures))
        })),
        Target::VersionTooLarge(digits) => Some(Err(version_too_large(&digits))),
        Target::Malformed | Target::Call(..) => None,
    }
}

/// Predicts, classifies or regresses, here or on a compute thread.
async fn call(room: &Arc<Room>, client: &Client, post: Post, body: Bytes, context: Context) -> Reply {
    let Post { verb, name, choice, gzip, accepts_gzip } = post;
    let options = &room.options;
    let small = !gzip && body.len() <= SMALL_BODY;
    let call = Call { room: room.clone(), verb, servable: room.registry.resolve(&name, &choice), context };
    let answer = if small {
        // Decoding takes less than a hand-over; where it runs is the signature's to say.
        match guarded(|| call.decode(&body)) {
            Ok(asked) => {
                let in_caller = asked.in_caller();
                let run = room.compute.run(in_caller, move || call.run(asked, accepts_gzip));
                // What runs in the caller is over when it is first polled.
                if in_caller { run.await } else { bounded(room, client, run).await }
            }
            Err(error) => Err(error),
        }
    } else {
        let limit = options.max_body_bytes;
        let expected = match gzip.then(|| Unpacked::expect(&body, limit, &call.context.memory)).transpose() {
            Ok(expected) => expected,
            Err(error) => return error.into(),
        };
        let work = move || {
            let asked = match expected {
                Some(expected) => {
                    call.decode(&body::unpacked(&body, limit, &expected, &call.context.memory)?)
                }
                None => call.decode(&body),
            }?;
            drop(body);
            call.run(asked, accepts_gzip)
        };
        bounded(room, client, room.compute.run(false, work)).await
    };
    match answer {
        Ok(body) => Reply::json(body),
        Err(error) => error.into(),
    }
}

/// A POST whose body was read: decode, then run, on any thread.
struct Call {
    room: Arc<Room>,
    verb: Verb,
    servable: Result<Arc<Servable>>,
    context: Context,
}

/// What a body asks for, with all that is needed to run it.
struct Asked {
    servable: Arc<Servable>,
    signature_name: String,
    question: Question,
}

enum Question {
    Predict(Format, Vec<Tensor>),
    Examples(Strings),
}

impl Asked {
    fn in_caller(&self) -> bool {
        self.servable.in_caller(&self.signature_name)
    }
}

impl Call {
    fn decode(&self, body: &[u8]) -> Result<Asked> {
        let _decode = profile::phase(Phase::Decode);
        let limits = Limits { max_depth: self.room.options.max_depth };
        let (signature_name, question) = match self.verb {
            Verb::Predict => {
                let signatures = self.servable.as_ref().map(|servable| servable.signatures());
                let asked = decode::predict(body, signatures, limits)?;
                // A number takes two characters at least, and eight bytes at most.
                self.context.memory.grow(asked.inputs.iter().map(Tensor::memory).sum())?;
                (asked.signature.name.clone(), Question::Predict(asked.format, asked.inputs))
            }
            Verb::Classify | Verb::Regress => {
                let asked = decode::examples(body, &self.context.memory)?;
                (asked.signature_name, Question::Examples(asked.examples))
            }
        };
        Ok(Asked { servable: self.servable.clone()?, signature_name, question })
    }

    fn run(&self, asked: Asked, accepts_gzip: bool) -> Result<Body> {
        let sample = monitoring::sample(self, &asked);
        let Asked { servable, signature_name, question } = asked;
        let body = match question {
            Question::Predict(format, inputs) => self.predict(&servable, &signature_name, format, inputs),
            Question::Examples(examples) => {
                self.examples(&servable, examples::Input { signature_name, examples })
            }
        }?;
        if let Some(sample) = sample {
            sample.keep();
        }
        Body::packed(body, accepts_gzip, &self.room.options).counted(&self.context.memory)
    }

    fn predict(
        &self,
        servable: &Servable,
        signature: &str,
        format: Format,
        inputs: Vec<Tensor>,
    ) -> Result<Vec<u8>> {
        let signature = bind::signature(&self.room, servable, signature)?;
        let all: Vec<usize> = (0..signature.outputs.len()).collect();
        let tensors = predict::predict(servable, signature, inputs, &all, &self.context)?;
        let _encode = profile::phase(Phase::Encode);
        self.context.memory.grow(tensors.iter().map(text_size).sum())?;
        let names = signature.outputs.iter().map(|spec| spec.alias.as_str());
        encode::predict(format, &names.zip(&tensors).collect::<Vec<_>>(), self.room.options.non_utf8)
    }

    fn examples(&self, servable: &Servable, input: examples::Input) -> Result<Vec<u8>> {
        match self.verb {
            Verb::Regress => {
                encode::regressions(&examples::regress(&self.room, servable, input, &self.context)?)
            }
            Verb::Classify | Verb::Predict => {
                let classes = examples::classify(&self.room, servable, input, &self.context)?;
                encode::classifications(&classes, self.room.options.non_utf8)
            }
        }
    }
}

fn deadline(room: &Room) -> Option<Instant> {
    room.options.rest_timeout.map(|timeout| Instant::now() + timeout)
}

/// Waits for `run` no longer than REST requests may take, and than the client does.
async fn bounded<T>(room: &Room, client: &Client, run: impl Future<Output = Result<T>>) -> Result<T> {
    let run = async {
        tokio::select! {
            biased;
            done = run => done,
            () = client.left() => Err(Error::new(Kind::Cancelled, "The client left before it was answered")),
        }
    };
    match room.options.rest_timeout {
        None => run.await,
        Some(timeout) => tokio::time::timeout(timeout, run).await.unwrap_or_else(|_| {
            Err(Error::new(
                Kind::DeadlineExceeded,
                format!(
                    "Timed out: no answer within {} ms. Send less at once, or raise --rest_api_timeout_in_ms",
                    timeout.as_millis()
                ),
            ))
        }),
    }
}

/// What can be refused by looking at the head alone.
fn refusal(head: &Parts, path: &str, api: bool) -> Option<Refusal> {
    if !target::is_valid(path) {
        let message = "Bad Request: the path holds a character that must be percent-encoded (RFC 3986)";
        return Some(Refusal::closing(400, message));
    }
    if let Some(refusal) = wrong_framing(head) {
        return Some(refusal);
    }
    let known = [
        Method::GET,
        Method::POST,
        Method::HEAD,
        Method::PUT,
        Method::DELETE,
        Method::OPTIONS,
        Method::PATCH,
    ];
    if !known.contains(&head.method) {
        return Some(Refusal::closing(501, format!("Not Implemented: method {}", head.method)));
    }
    let expects = head.headers.get(EXPECT).filter(|_| api);
    if expects.is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Some(Refusal::closing(417, "Expectation Failed: only 'Expect: 100-continue' is known"));
    }
    None
}

/// What RFC 9112 wants refused (sections 3.2 and 6.1): so that nobody on the way understands the request differently.
fn wrong_framing(head: &Parts) -> Option<Refusal> {
    let hosts = head.headers.get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && head.version == Version::HTTP_11) {
        let message = format!("Bad Request: expected one Host header, got {hosts}");
        return Some(Refusal::closing(400, message));
    }
    let codings = head.headers.get_all(TRANSFER_ENCODING);
    if let Some(other) = codings.iter().find(|value| !value.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        let shown = String::from_utf8_lossy(other.as_bytes());
        let message = format!("Not Implemented: Transfer-Encoding {shown}; only chunked is");
        return Some(Refusal::closing(501, message));
    }
    (codings.iter().count() > 1)
        .then(|| Refusal::closing(400, "Bad Request: expected one Transfer-Encoding header, got several"))
}

fn malformed(method: &Method, path: &str) -> Error {
    Error::invalid(format!("Malformed request: {method} {path}"))
}

fn version_too_large(digits: &str) -> Error {
    Error::invalid(format!("Failed to convert version: {digits} to numeric."))
}

fn not_found(path: &str) -> String {
    format!("Not Found: {path}. The API is below /v1/models/, such as POST /v1/models/NAME:predict")
}

/// A browser's question whether it may send a request from another origin.
fn preflight(headers: &HeaderMap) -> Reply {
    let origin = headers.get(ORIGIN).map_or(&b""[..], |value| value.as_bytes());
    let known = [&b"http://"[..], b"https://"].iter().any(|scheme| contains(origin, scheme));
    let content_type = "text/html; charset=ISO-8859-1";
    let (status, outcome) = if known { (200, Ok(())) } else { (400, Err(Kind::FailedPrecondition)) };
    Reply { status, content_type, body: Body::default(), close: false, retry: false, outcome: Some(outcome) }
}

fn is_gzip(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_ENCODING).is_some_and(|value| contains(value.as_bytes(), b"gzip"))
}

/// Whether `Accept-Encoding` names gzip with a quality above zero.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value.split(',').any(|item| {
            let mut parts = item.split(';').map(str::trim);
            let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
            let refused = parts.any(|part| {
                part.strip_prefix("q=")
                    .is_some_and(|quality| quality.trim().parse::<f32>().is_ok_and(|q| q <= 0.0))
            });
            named && !refused
        })
    })
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}

#[cfg(test)]
mod tests;
