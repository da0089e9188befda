"""custom.metrics.k8s.io from the pods' own metrics: what prometheus-adapter answers, without a Prometheus
between.

The HorizontalPodAutoscaler's controller asks the API server, which asks here.
"""

from __future__ import annotations

import json
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import requests
from certificates import Authority
from kube_api import Api, Object
from releases import is_ready

GROUP = "custom.metrics.k8s.io"
VERSION = "v1beta2"
METRIC = "servable_requests_in_flight"


def in_flight(address: str) -> float:
    """Returns the requests that wait or run in the server at ``address``, the mean of some looks."""
    looks = [
        sum(map(float, re.findall(rf"^{METRIC}\{{.*\}} (\S+)$", page, re.MULTILINE)))
        for page in (requests.get(f"http://{address}:8501/metrics", timeout=5).text for _ in range(3))
    ]
    return sum(looks) / len(looks)


@contextmanager
def adapter(api: Api, folder: Path, address: str) -> Iterator[None]:
    """Answers the API server's questions for metrics until the block ends."""
    certificate, key = Authority("adapter").issue("adapter").write(folder, "adapter")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            found = asked.path.startswith(f"/apis/{GROUP}/")
            told = answer(api, unquote(asked.path), parse_qs(asked.query)) if found else {}
            body = json.dumps(told).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer((address, 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        register(api, address, server.server_address[1])
        yield
        api.delete(f"/apis/apiregistration.k8s.io/v1/apiservices/{VERSION}.{GROUP}")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def register(api: Api, address: str, port: int) -> None:
    """Has the API server ask here."""
    meta = {"name": "metrics-adapter", "namespace": "kube-system"}
    ports = [{"name": "https", "port": 443, "targetPort": port}]
    api.create("/api/v1/namespaces/kube-system/services", {"metadata": meta, "spec": {"ports": ports}})
    labels = {"kubernetes.io/service-name": meta["name"]}
    api.create(
        "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices",
        {
            "metadata": {**meta, "labels": labels},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        },
    )
    api.create(
        "/apis/apiregistration.k8s.io/v1/apiservices",
        {
            "metadata": {"name": f"{VERSION}.{GROUP}"},
            "spec": {
                "group": GROUP,
                "version": VERSION,
                "service": {"name": meta["name"], "namespace": meta["namespace"], "port": 443},
                "insecureSkipTLSVerify": True,
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
            },
        },
    )


def answer(api: Api, path: str, query: dict[str, list[str]]) -> Object:
    """Returns what is answered: the list of resources, or a metric of pods."""
    found = re.fullmatch(rf"/apis/{GROUP}/{VERSION}/namespaces/([^/]+)/pods/\*/{METRIC}", path)
    if not found:
        resource = {"name": f"pods/{METRIC}", "namespaced": True, "kind": "MetricValueList", "verbs": ["get"]}
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": f"{GROUP}/{VERSION}",
            "resources": [{**resource, "singularName": ""}],
        }
    pods = api.items(f"/api/v1/namespaces/{found[1]}/pods", labelSelector=query.get("labelSelector", [""])[0])
    return {
        "kind": "MetricValueList",
        "apiVersion": f"{GROUP}/{VERSION}",
        "metadata": {},
        "items": [value(pod) for pod in pods if is_ready(pod)],
    }


def value(pod: Object) -> Object:
    """Returns the metric of a pod."""
    named = {key: pod["metadata"][key] for key in ("name", "namespace")}
    return {
        "describedObject": {"kind": "Pod", "apiVersion": "/v1", **named},
        "metric": {"name": METRIC},
        "timestamp": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "value": f"{in_flight(pod['status']['podIP']):.3f}",
    }
