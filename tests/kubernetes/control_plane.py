"""A control plane of Kubernetes in processes of this machine: etcd, API server, controllers, scheduler;
kwok on top.

All are the real ones, built by tools.sh. There is no kubelet: nodes are kwok's, which simulates them with
their pods, or that of node_agent.py, which runs pods' containers as processes.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
from certificates import Authority
from kube_api import Api
from servers import until

TOKEN = "the-tests-token"
KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: tests
clusters: [{{name: tests, cluster: {{server: "{url}", certificate-authority: "{ca}"}}}}]
users: [{{name: tests, user: {{token: {token}}}}}]
contexts: [{{name: tests, context: {{cluster: tests, user: tests}}}}]
"""
SECONDS = 90.0
"""Longest start of a component."""


def bin_folder() -> Path:
    """Returns the folder of the tools."""
    return Path(os.environ["SERVABLE_KUBERNETES_BIN"])


def free_port(host: str = "127.0.0.1") -> int:
    """Returns a port that is free now, as components cannot choose one and say which."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class ControlPlane:
    """A running control plane."""

    api: Api
    kubeconfig: Path
    folder: Path

    def kubectl(self, *arguments: str, given: str | None = None, check: bool = True) -> str:
        """Runs kubectl, and returns what it prints."""
        return self.tool([str(bin_folder() / "cluster"), "kubectl", *arguments], given, check)

    def helm(self, *arguments: str) -> str:
        """Runs Helm, and returns what it prints."""
        return self.tool([str(bin_folder() / "helm"), *arguments])

    def tool(self, command: Sequence[str], given: str | None = None, check: bool = True) -> str:
        """Runs a program that asks this API server."""
        done = subprocess.run(
            command,
            input=given,
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig), "HOME": str(self.folder)},
            check=False,
        )
        assert done.returncode == 0 or not check, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout + ("" if check else done.stderr)


@contextmanager
def running(folder: Path, address: str) -> Iterator[ControlPlane]:
    """Runs a control plane until the block ends; ``address``: one of this machine, no loopback."""
    with ExitStack() as stack:
        url, files = _api_server(stack, folder, address)
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(KUBECONFIG.format(url=url, ca=files["ca"], token=TOKEN))
        plane = ControlPlane(Api(url, str(files["ca"]), TOKEN), kubeconfig, folder)
        assert until(lambda: _is_ready(plane.api), SECONDS), (folder / "kube-apiserver.log").read_text()[
            -4000:
        ]
        common = [f"--kubeconfig={kubeconfig}", "--leader-elect=false", "--bind-address=127.0.0.1"]
        _start(stack, folder, "kube-scheduler", [*common, f"--secure-port={free_port()}"])
        _start(
            stack,
            folder,
            "kube-controller-manager",
            [
                *common,
                f"--secure-port={free_port()}",
                f"--service-account-private-key-file={files['key']}",
                f"--root-ca-file={files['ca']}",
                # A test does not wait for what people do not mind.
                "--horizontal-pod-autoscaler-sync-period=1s",
                "--horizontal-pod-autoscaler-initial-readiness-delay=1s",
            ],
        )
        account = "/api/v1/namespaces/default/serviceaccounts"
        assert until(lambda: plane.api.items(account), SECONDS), _log(folder, "kube-controller-manager")
        yield plane


def _api_server(stack: ExitStack, folder: Path, address: str) -> tuple[str, Mapping[str, Path]]:
    authority, aggregator = Authority("cluster"), Authority("aggregator")
    certificate, key = authority.issue("kube-apiserver").write(folder, "server")
    proxy_certificate, proxy_key = aggregator.issue("aggregator").write(folder, "proxy")
    ca, proxy_ca = folder / "ca.pem", folder / "proxy-ca.pem"
    ca.write_bytes(authority.pem)
    proxy_ca.write_bytes(aggregator.pem)
    tokens = folder / "tokens.csv"
    tokens.write_text(f'{TOKEN},tests,tests,"system:masters"\n')
    store, peer, port = (free_port() for _ in range(3))
    etcd = f"http://127.0.0.1:{store}"
    _start(
        stack,
        folder,
        "etcd",
        [
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync",
        ],
    )
    _start(
        stack,
        folder,
        "kube-apiserver",
        [
            f"--etcd-servers={etcd}",
            "--bind-address=127.0.0.1",
            f"--advertise-address={address}",
            f"--secure-port={port}",
            "--service-cluster-ip-range=10.96.0.0/16",
            f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}",
            f"--client-ca-file={ca}",
            f"--token-auth-file={tokens}",
            "--authorization-mode=Node,RBAC",
            "--service-account-issuer=https://tests",
            f"--service-account-key-file={certificate}",
            f"--service-account-signing-key-file={key}",
            # Extensions of the API are asked at their pods' addresses: nothing here forwards Services'.
            "--enable-aggregator-routing=true",
            f"--requestheader-client-ca-file={proxy_ca}",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={proxy_certificate}",
            f"--proxy-client-key-file={proxy_key}",
        ],
    )
    return f"https://127.0.0.1:{port}", {"ca": ca, "key": key}


@contextmanager
def kwok(plane: ControlPlane) -> Iterator[None]:
    """Simulates the nodes with the annotation ``kwok.x-k8s.io/node: fake``, and their pods."""
    with ExitStack() as stack:
        annotation = "kwok.x-k8s.io/node=fake"
        _launch(
            stack,
            plane.folder / "kwok.log",
            [
                str(bin_folder() / "kwok"),
                f"--config={bin_folder() / 'kwok.yaml'}",
                f"--kubeconfig={plane.kubeconfig}",
                f"--manage-nodes-with-annotation-selector={annotation}",
                "--node-lease-duration-seconds=40",
                "--cidr=10.78.0.1/16",
            ],
        )
        yield


def _is_ready(api: Api) -> bool:
    try:
        return requests.get(f"{api.url}/readyz", verify=api.ca, timeout=5).ok
    except requests.RequestException:
        return False


def _start(stack: ExitStack, folder: Path, name: str, arguments: Sequence[str]) -> None:
    _launch(stack, folder / f"{name}.log", [str(bin_folder() / "cluster"), name, *arguments])


def _launch(stack: ExitStack, log: Path, command: Sequence[str]) -> None:
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    stack.callback(_end, process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


def _log(folder: Path, name: str) -> str:
    return (folder / f"{name}.log").read_text()[-4000:]
