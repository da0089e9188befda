//! The span of a request itself: its name, its attributes and its status by OpenTelemetry's semantic conventions for
//! HTTP and RPC (1.37), and what is Servable's own under `servable.`.

use super::attributes::{Attributes, whole};
use super::span::{flags, named};
use crate::access::{End, Ended, Entry, Traced};
use crate::error::Kind;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use std::ops::Range;
use std::sync::Arc;

/// The methods of HTTP that are known to the conventions.
const METHODS: [&str; 9] = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];

/// Returns the engine that runs a signature of a version of a model, if that is known.
pub type EngineOf = Arc<dyn Fn(&str, i64, &str) -> Option<String> + Send + Sync>;

/// Returns the span of a request that took the time `time`.
pub(super) fn of(ended: &Ended, traced: &Traced, time: Range<u64>, engine_of: &EngineOf) -> Span {
    let Ended { entry, end } = ended;
    let mut attributes = Attributes::default();
    let (name, error) = match entry.head.protocol {
        "grpc" => grpc(&mut attributes, entry, end),
        _ => http(&mut attributes, entry, end),
    };
    let client = entry.head.sender.client;
    attributes.text("client.address", client.ip().map(|ip| ip.to_string()).as_deref());
    attributes.number("client.port", client.port().map(i64::from));
    model(&mut attributes, entry, engine_of);
    let mut span = named(&name, SpanKind::Server, traced.span, time, traced);
    span.flags = flags(traced.parent.is_some());
    span.parent_span_id = traced.parent.map(|parent| parent.to_bytes().to_vec()).unwrap_or_default();
    span.attributes = attributes.0;
    let failed = || Status { code: StatusCode::Error.into(), message: String::new() };
    span.status = error.then(failed);
    span
}

fn model(attributes: &mut Attributes, entry: &Entry, engine_of: &EngineOf) {
    let ((model, signature), version) = (entry.model(), entry.version());
    attributes.text("servable.model.name", model);
    attributes.number("servable.model.version", version);
    attributes.text("servable.model.signature", signature);
    let engine = model.zip(version).and_then(|(model, version)| engine_of(model, version, signature?));
    attributes.text("servable.model.engine", engine.as_deref());
    attributes.number("servable.request.rows", entry.rows());
    attributes.text("servable.request.id", Some(&String::from_utf8_lossy(&entry.head.id)));
    attributes.text("servable.client.name", entry.client());
}

/// Adds what a call of gRPC is; returns its name, and whether it failed by the server's fault.
fn grpc(attributes: &mut Attributes, entry: &Entry, end: &End) -> (String, bool) {
    let (method, path, _) = entry.asked();
    let asked = path.unwrap_or(method).trim_start_matches('/');
    // What there is not has one name, whatever clients ask for.
    let is_unknown = end.code == Some(Kind::Unimplemented.name()) && entry.model().0.is_none();
    let path = if is_unknown { "_OTHER" } else { asked };
    let (service, method) = path.rsplit_once('/').unwrap_or(("", path));
    attributes.text("rpc.system", Some("grpc"));
    attributes.text("rpc.service", Some(service).filter(|service| !service.is_empty()));
    attributes.text("rpc.method", Some(method));
    attributes.text("rpc.method_original", Some(asked).filter(|_| is_unknown));
    // HTTP refuses what is no call of gRPC at all; its clients take that for UNKNOWN.
    let refused = end.status.is_some_and(|status| status >= 400);
    let code = end.code.unwrap_or(if refused { "UNKNOWN" } else { "OK" });
    let kind = Kind::from_name(code);
    let number = kind.map_or(if code == "OK" { 0 } else { 2 }, |kind| i64::from(kind as i32));
    attributes.number("rpc.grpc.status_code", Some(number));
    attributes.text("error.type", Some(code).filter(|code| *code != "OK"));
    (path.to_owned(), kind.is_some_and(is_servers_fault))
}

/// Adds what a request by HTTP is; returns its name, and whether it failed by the server's fault.
fn http(attributes: &mut Attributes, entry: &Entry, end: &End) -> (String, bool) {
    let (asked, path, verb) = entry.asked();
    let method = if METHODS.contains(&asked) { asked } else { "_OTHER" };
    // The answer to a client that has left reaches nobody.
    let left = Some(Kind::Cancelled.http_status());
    let answered = end.status.filter(|status| Some(*status) != left);
    let route = verb.map(|verb| route(path.unwrap_or_default(), verb));
    attributes.text("http.request.method", Some(method));
    attributes.text("http.request.method_original", Some(asked).filter(|asked| *asked != method));
    attributes.text("http.route", route.as_deref());
    attributes.text("url.scheme", entry.head.scheme);
    attributes.text("url.path", path);
    attributes.number("http.response.status_code", answered.map(i64::from));
    attributes.number("http.request.body.size", Some(whole(entry.timeline.bytes())));
    attributes.number("http.response.body.size", answered.map(|_| whole(end.bytes)));
    let failed = answered.is_none_or(|status| status >= 400);
    let status = answered.map(|status| status.to_string());
    let why = end.code.filter(|code| *code != "OK").or(status.as_deref());
    attributes.text("error.type", why.filter(|_| failed));
    // Names of spans are few, whatever clients send.
    let method = if method == asked { method } else { "HTTP" };
    let name = route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}"));
    (name, answered.is_none_or(|status| status >= 500))
}

/// Returns the form of the path of a model's method.
fn route(path: &str, verb: &str) -> String {
    let choice = match path {
        _ if path.contains("/versions/") => "/versions/{version}",
        _ if path.contains("/labels/") => "/labels/{label}",
        _ => "",
    };
    match path {
        _ if path.starts_with("/v2/") => format!("/v2/models/{{model}}{choice}/{verb}"),
        _ => format!("/v1/models/{{model}}{choice}:{verb}"),
    }
}

/// Returns whether an error of gRPC is one of its server.
fn is_servers_fault(kind: Kind) -> bool {
    match kind {
        Kind::Unknown
        | Kind::DeadlineExceeded
        | Kind::Unimplemented
        | Kind::Internal
        | Kind::Unavailable
        | Kind::DataLoss => true,
        Kind::Cancelled
        | Kind::InvalidArgument
        | Kind::NotFound
        | Kind::AlreadyExists
        | Kind::PermissionDenied
        | Kind::ResourceExhausted
        | Kind::FailedPrecondition
        | Kind::Aborted
        | Kind::OutOfRange
        | Kind::Unauthenticated => false,
    }
}

#[cfg(test)]
mod tests {
    use super::route;

    #[test]
    fn routes_have_the_form_of_their_protocol() {
        for (path, verb, expected) in [
            ("/v1/models/m:predict", "predict", "/v1/models/{model}:predict"),
            ("/v1/models/m/labels/l:regress", "regress", "/v1/models/{model}/labels/{label}:regress"),
            ("/v2/models/m/infer", "infer", "/v2/models/{model}/infer"),
            ("/v2/models/m/versions/3/infer", "infer", "/v2/models/{model}/versions/{version}/infer"),
        ] {
            assert_eq!(route(path, verb), expected);
        }
    }
}
