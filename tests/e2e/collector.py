"""An OpenTelemetry collector for tests, made of the official messages: takes OTLP by HTTP and by gRPC."""

from __future__ import annotations

import gzip
import ssl
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

Attributes = dict[str, Any]


@dataclass
class Span:
    """A span, its identifiers as text."""

    name: str
    trace: str
    span: str
    parent: str
    kind: int
    start: int
    end: int
    state: str
    flags: int
    attributes: Attributes
    links: list[tuple[str, str]]
    failed: bool


@dataclass
class Collector:
    """What was received. fails: answers, instead of taking a message, this status, so many times."""

    address: str = ""
    spans: list[Span] = field(default_factory=list)
    metrics: list[Any] = field(default_factory=list)
    resources: list[Attributes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    fails: list[Any] = field(default_factory=list)
    rejects: int = 0
    silent: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    def trace(self, trace: str) -> list[Span]:
        """Returns the spans of a trace, by their beginning."""
        return sorted((span for span in self.spans if span.trace == trace), key=lambda span: span.start)

    def named(self, name: str) -> list[Span]:
        """Returns the spans of a name."""
        return [span for span in self.spans if span.name == name]

    def take_traces(self, request: ExportTraceServiceRequest) -> ExportTraceServiceResponse:
        """Keeps the spans of a message."""
        answer = ExportTraceServiceResponse()
        for of_server in request.resource_spans:
            self.resources.append(attributes(of_server.resource.attributes))
            for of_scope in of_server.scope_spans:
                assert of_scope.scope.name == "servable"
                self.spans += [span_of(span) for span in of_scope.spans]
        if self.rejects:
            answer.partial_success.rejected_spans = self.rejects
            answer.partial_success.error_message = "not all of them"
        return answer

    def take_metrics(self, request: ExportMetricsServiceRequest) -> ExportMetricsServiceResponse:
        """Keeps the metrics of a message, the latest alone."""
        for of_server in request.resource_metrics:
            self.resources.append(attributes(of_server.resource.attributes))
            for of_scope in of_server.scope_metrics:
                self.metrics = list(of_scope.metrics)
        return ExportMetricsServiceResponse()

    def wait_if_silent(self) -> None:
        """Does not answer as long as that is wanted."""
        if self.silent.is_set():
            self.ended.wait(60)


def attributes(pairs: Any) -> Attributes:
    """Returns attributes as a dictionary."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


def span_of(span: Any) -> Span:
    """Reads a span."""
    return Span(
        name=span.name,
        trace=span.trace_id.hex(),
        span=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        kind=span.kind,
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        state=span.trace_state,
        flags=span.flags,
        attributes=attributes(span.attributes),
        links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        failed=span.status.code == 2,
    )


@contextmanager
def by_http(tls: tuple[str, str] | None = None) -> Iterator[Collector]:
    """Runs a collector that takes protobuf over HTTP. tls: the files of its certificate and key."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.wait_if_silent()
            collector.headers.append({name.lower(): value for name, value in self.headers.items()})
            if collector.fails:
                self.answer(collector.fails.pop(0), b"")
                return
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            assert self.headers["Content-Type"] == "application/x-protobuf"
            if self.path == "/v1/traces":
                taken: Any = collector.take_traces(ExportTraceServiceRequest.FromString(body))
            else:
                assert self.path == "/v1/metrics"
                taken = collector.take_metrics(ExportMetricsServiceRequest.FromString(body))
            self.answer(200, taken.SerializeToString())

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    scheme = "http"
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    collector.address = f"{scheme}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        collector.ended.set()
        server.shutdown()
        server.server_close()
        thread.join(60)


@contextmanager
def by_grpc(tls: tuple[str, str] | None = None) -> Iterator[Collector]:
    """Runs a collector that takes calls of gRPC."""
    collector = Collector()

    def taking(take: Any) -> Any:
        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            collector.wait_if_silent()
            collector.headers.append({key: str(value) for key, value in context.invocation_metadata()})
            if collector.fails:
                context.abort(collector.fails.pop(0), "not now")
            return take(request)

        return answer

    services = {
        "trace.v1.TraceService": (collector.take_traces, ExportTraceServiceRequest),
        "metrics.v1.MetricsService": (collector.take_metrics, ExportMetricsServiceRequest),
    }
    server = grpc.server(futures.ThreadPoolExecutor(4))
    for name, (take, message) in services.items():
        handler = grpc.unary_unary_rpc_method_handler(
            taking(take), message.FromString, lambda answer: answer.SerializeToString()
        )
        full = f"opentelemetry.proto.collector.{name}"
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(full, {"Export": handler}),))
    if tls is None:
        port, scheme = server.add_insecure_port("127.0.0.1:0"), "http"
    else:
        certificate, key = (Path(path).read_bytes() for path in tls)
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, certificate)]))
        scheme = "https"
    collector.address = f"{scheme}://127.0.0.1:{port}"
    server.start()
    try:
        yield collector
    finally:
        collector.ended.set()
        server.stop(None).wait(60)
