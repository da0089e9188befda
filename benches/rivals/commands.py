"""The servers that are compared: how each is installed, started and asked."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from environments import BUILD, FOLDER, Environment
from models import Model
from start import free_port

SERVERS = FOLDER / "servers"
ROOT = FOLDER.parent.parent
CORES = len(os.sched_getaffinity(0))
THREADS = 16  # of each gunicorn worker
SERVABLE = "servable"

Command = Callable[[Path, int], Sequence[str | Path]]
"""The command line, from the folder of the environment's programs and the port."""


@dataclass(frozen=True)
class Rival:
    """A server with its settings. name: on the command line. package: whose version is named.

    processes: how many run the model. bare: answers ``[…]`` in place of ``{"predictions": […]}``.
    """

    name: str
    title: str
    package: str
    command: Command
    processes: int = 1
    batching: bool = False
    bare: bool = False

    @property
    def environment(self) -> Environment:
        """The environment that it runs in."""
        return Environment(SERVERS / f"requirements-{self.package}.txt")

    def install(self) -> str:
        """Installs it; returns its version. Raises ``BenchError`` with the reason if it cannot."""
        self.environment.install()
        return self.environment.version(self.package)

    def line(self, model: Model, port: int, temporary: Path) -> list[str | Path]:
        """Returns the command that serves the model at the port, with its environment variables."""
        programs = self.environment.programs
        variables = self._variables(model, port, temporary)
        settings = (f"{name}={value}" for name, value in variables.items())
        return ["env", *settings, *self.command(programs, port)]

    def _variables(self, model: Model, port: int, temporary: Path) -> Mapping[str, object]:
        return {
            "MODEL": model.version_folder,
            "PORT": port,
            "PROCESSES": self.processes,
            "BATCHING": int(self.batching),
            "PYTHONPATH": SERVERS,
            "PATH": f"{self.environment.programs}{os.pathsep}{os.environ.get('PATH', '')}",
            "TF_CPP_MIN_LOG_LEVEL": 2,
            "TMPDIR": temporary,
            "RAY_TMPDIR": temporary,
            "RAY_USAGE_STATS_ENABLED": 0,
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": 1,
            "MLSERVER_METRICS_DIR": temporary / "mlserver",
            "BENTOML_HOME": temporary / "bentoml",
            "BENTOML_DO_NOT_TRACK": True,
        }

    def path(self, _model: Model) -> str:
        """Returns the path that is asked."""
        return "/predict"


@dataclass(frozen=True)
class Servable:
    """This checkout's Servable. flags: besides the ports."""

    name: str
    title: str
    flags: tuple[str, ...] = ()
    bare: bool = False

    def install(self) -> str:
        """Returns no version: the commit is named with the machine."""
        return ""

    def line(self, model: Model, port: int, _temporary: Path) -> list[str | Path]:
        """Returns the command that serves the model at the port."""
        serve: list[str | Path] = [sys.executable, "-m", "servable", "serve", model.base]
        return [
            "env",
            f"PYTHONPATH={ROOT / 'python'}",
            *serve,
            f"--rest_api_port={port}",
            "--port=0",
            *self.flags,
        ]

    def path(self, model: Model) -> str:
        """Returns the path that is asked."""
        return f"/v1/models/{model.base.name}:predict"


Server = Rival | Servable


def servers() -> list[Server]:
    """Returns every server, in the order of the table."""
    return [
        Servable(SERVABLE, "Servable"),
        Servable("servable-batching", "Servable, batching", ("--batching=auto",)),
        Rival("fastapi", "FastAPI, one process", "fastapi", _uvicorn(1)),
        Rival("fastapi-cores", "FastAPI, one per core", "fastapi", _uvicorn(CORES), CORES),
        Rival("flask", "Flask, one per core", "flask", _gunicorn, CORES),
        Rival("litserve", "LitServe, one per core", "litserve", _script("litserve"), CORES),
        Rival("litserve-batching", "LitServe, batching", "litserve", _script("litserve"), batching=True),
        Rival("bentoml", "BentoML, one per core", "bentoml", _bentoml, CORES),
        Rival("bentoml-batching", "BentoML, batching", "bentoml", _bentoml, batching=True, bare=True),
        Rival("ray", "Ray Serve, one per core", "ray", _script("ray"), CORES),
        Rival("ray-batching", "Ray Serve, batching", "ray", _script("ray"), batching=True),
        Rival("mlserver", "MLServer, one per core", "mlserver", _mlserver, CORES),
    ]


def log_file(server: Server, model: Model) -> Path:
    """Returns where the server's output goes."""
    return BUILD / f"{server.name}.{model.name}.log"


def _uvicorn(workers: int) -> Command:
    def line(programs: Path, port: int) -> Sequence[str | Path]:
        quick = ("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning")
        address = ("--host", "127.0.0.1", "--port", str(port), "--workers", str(workers))
        return [programs / "uvicorn", "fastapi_server:app", "--app-dir", SERVERS, *address, *quick]

    return line


def _gunicorn(programs: Path, port: int) -> Sequence[str | Path]:
    workers = ("--workers", str(CORES), "--worker-class", "gthread", "--threads", str(THREADS))
    bind = ("--bind", f"127.0.0.1:{port}", "--keep-alive", "60")
    return [programs / "gunicorn", "--chdir", SERVERS, *workers, *bind, "flask_server:app"]


def _script(name: str) -> Command:
    return lambda programs, _port: [programs / "python", SERVERS / f"{name}_server.py"]


def _bentoml(programs: Path, port: int) -> Sequence[str | Path]:
    address = ("--host", "127.0.0.1", "--port", str(port))
    return [programs / "bentoml", "serve", "bentoml_server:Service", "--working-dir", SERVERS, *address]


def _mlserver(programs: Path, port: int) -> Sequence[str | Path]:
    settings = {
        "HOST": "127.0.0.1",
        "HTTP_PORT": port,
        "GRPC_PORT": free_port(),
        "METRICS_PORT": free_port(),
        "DEBUG": "false",
        "PARALLEL_WORKERS": CORES,
        "MODEL_NAME": "model",
        "MODEL_IMPLEMENTATION": "mlserver_server.Runtime",
    }
    variables = (f"MLSERVER_{name}={value}" for name, value in settings.items())
    return ["env", *variables, programs / "mlserver", "start", SERVERS]
