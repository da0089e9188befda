"""Runs the applications of a file on a Ray cluster."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from servable.embedded.running import LONGEST_LOAD
from servable.errors import UsageError
from servable.ray.cluster_address import checked, try_to_reach
from servable.ray.configuration import Application, Configuration
from servable.ray.deployments import deployment
from servable.ray.grpc_service import GRPC_FUNCTIONS
from servable.ray.package import ray_and_serve
from servable.ray.reasons import reason

DEPLOYMENT = "servable"
"""The name of each application's only deployment."""
GLANCE_SECONDS = 1.0
PROBLEM_SECONDS = LONGEST_LOAD + 60.0
"""Seconds that the replicas have to say whether their models are those that were wanted, once they are."""


class Terminated(KeyboardInterrupt):
    """SIGTERM came before the applications ran."""


def run(configuration: Configuration, say: Callable[[str], None], stays: bool = False) -> bool:
    """Brings the applications to the cluster, and returns once they answer, or with False if one does not.

    stays: they go on without this program, with which a cluster that it began would end. Raises
    ``RuntimeError`` for one that cannot be started, ``ConnectionError`` if there is no cluster, and
    ``UsageError`` for what Ray refuses. Those that run already are changed: without a restart if only their
    models differ. Others are left. If one does not answer, or the program is interrupted, also by SIGTERM
    (``Terminated``), those that were not there before end, unless all stay.
    """
    address = configuration.address or checked(os.environ.get("RAY_ADDRESS", ""), "RAY_ADDRESS")
    with _interrupted_by_sigterm():
        ray, serve = ray_and_serve()
        with _no_handlers_of(ray), _interrupted_later():
            _connect(ray, address, stays)
        with _reasons(ray):
            _start_proxies(serve, configuration)
            return _are_run(serve, configuration, say, stays, lambda: _tell(ray, configuration, say))


def wait(configuration: Configuration, say: Callable[[str], None]) -> None:
    """Tells what becomes of the applications, until SIGINT or SIGTERM; then ends them.

    Raises ``RuntimeError`` if the cluster ends before.
    """
    ray, serve = ray_and_serve()
    before: dict[str, str] = {}
    with _reasons(ray), _asked_to_end() as ended:
        while not ended.wait(GLANCE_SECONDS):
            for application in configuration.applications:
                now = _status(serve, application)
                if before.setdefault(application.name, "RUNNING") != now:
                    say(f"{application.name}: {now}")
                    before[application.name] = now
        for application in configuration.applications:
            serve.delete(application.name)
    # Ends a cluster that began with this program; Serve goes on in one that was there.
    ray.shutdown()


def _connect(ray: Any, address: str, stays: bool) -> None:
    try_to_reach(address)
    if stays and address in ("", "auto", "local"):
        address = "auto"
    try:
        ray.init(address=address or None, log_to_driver=False)
    except ConnectionError as error:
        if address != "auto":
            raise
        raise ConnectionError(
            "no Ray cluster runs on this machine: begin one by `ray start --head`, or name one in address"
        ) from error
    except ValueError as error:
        raise ConnectionError(f"Ray does not know the address {address}: {error}") from None


def _start_proxies(serve: Any, configuration: Configuration) -> None:
    grpc = {"port": configuration.grpc_port, "grpc_servicer_functions": list(GRPC_FUNCTIONS)}
    try:
        serve.start(
            proxy_location=configuration.proxies,
            http_options={"host": configuration.host, "port": configuration.http_port},
            grpc_options=grpc if configuration.grpc_port is not None else None,
        )
    except RuntimeError as error:
        raise RuntimeError(
            f"Ray's proxies cannot start: {reason(error)} Is it a port that another program has? http and "
            "grpc in the file are for others."
        ) from error


def _are_run(
    serve: Any,
    configuration: Configuration,
    say: Callable[[str], None],
    stays: bool,
    tell: Callable[[], None],
) -> bool:
    """Brings the applications to the cluster, and calls ``tell`` then.

    Ends those that are new if one cannot be brought, or the program is interrupted.
    """
    before = set(serve.status().applications)
    begun: list[str] = []
    is_up = False
    try:
        for application in configuration.applications:
            begun.append(application.name)
            if not _is_run(serve, application, say):
                return False
        tell()
        is_up = True
        return True
    finally:
        if not is_up:
            for name in begun:
                _leave(serve, name, name in before or stays, say)


def _leave(serve: Any, name: str, stays: bool, say: Callable[[str], None]) -> None:
    """Ends an application of a run that has failed, or says that it goes on."""
    try:
        found = serve.status().applications.get(name)
        if found is None:
            return
        if stays:
            say(f"{name}: stays, {found.status.value}")
            return
        serve.delete(name)
        say(f"{name}: ended, as not all of the file runs")
    except Exception as error:  # what has failed before counts; the cluster may be gone
        say(f"{name}: may go on, as it cannot be ended: {reason(error)}")


def _is_run(serve: Any, application: Application, say: Callable[[str], None]) -> bool:
    """Brings an application to the cluster; says why if it does not have the models that it should."""
    say(f"{application.name}: starting {', '.join(application.models)}")
    problem = _problem(_started(serve, application, say))
    if problem:
        say(f"{application.name}: {problem}")
    return not problem


def _problem(handle: Any) -> str:
    """Returns why replicas have not taken the models; "" if all of them have."""
    from ray.serve.exceptions import DeploymentUnavailableError

    try:
        told = handle.broadcast("problem").results(timeout_s=PROBLEM_SECONDS, return_exceptions=True)
    except DeploymentUnavailableError:
        # None runs, or the handle knows of none yet: it waits for one, which Ray begins if there is none.
        try:
            told = [handle.problem.remote().result(timeout_s=PROBLEM_SECONDS)]
        except TimeoutError as error:
            told = [error]
    except TimeoutError as error:
        told = [error]
    found = [one for one in told if isinstance(one, str) and one]
    if found:
        return found[0] if len(found) == len(told) else f"of {len(found)} of {len(told)} replicas: {found[0]}"
    if any(isinstance(one, TimeoutError) for one in told):
        return f"not every replica has said within {PROBLEM_SECONDS:g} s whether it has taken the new ones"
    # What Ray replaces meanwhile begins with the new ones.
    return ""


def _started(serve: Any, application: Application, say: Callable[[str], None]) -> Any:
    """Returns the handle of an application once it runs; says meanwhile what keeps it from it."""
    built = _built(application)
    told: list[str] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(GLANCE_SECONDS):
            now = _message(serve, application)
            if now and now not in told:
                told.append(now)
                say(f"{application.name}: {now}")

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        return serve.run(built, name=application.name, route_prefix=application.route)
    except RuntimeError as error:
        why = _message(serve, application) or error
        raise RuntimeError(f"{application.name} cannot be started: {why}") from error
    finally:
        ended.set()
        watching.join()


def _message(serve: Any, application: Application) -> str:
    """Returns what Ray says of the replicas; "" if there is nothing to be said."""
    found = serve.status().applications.get(application.name)
    deployment = found.deployments.get(DEPLOYMENT) if found is not None else None
    return reason(deployment.message) if deployment is not None else ""


def _built(application: Application) -> Any:
    models = {name: model.plain() for name, model in application.models.items()}
    try:
        return deployment(
            models,
            name=DEPLOYMENT,
            replicas=application.replicas,
            multiplexed=application.multiplexed,
            options=application.options,
            **application.flags,
        )
    except UsageError as error:
        raise UsageError(f"{application.name}: {error}") from None


def _status(serve: Any, application: Application) -> str:
    found = serve.status().applications.get(application.name)
    return "NOT_STARTED" if found is None else str(found.status.value)


class Proxies(NamedTuple):
    """Where Ray's proxies listen. grpc_port: None if they have none that knows Servable's services."""

    host: str
    http_port: int
    grpc_port: int | None


def _tell(ray: Any, configuration: Configuration, say: Callable[[str], None]) -> None:
    """Says where the applications answer."""
    found = _proxies(ray, configuration)
    if configuration.proxies != "Disabled":
        for line in _differences(configuration, found):
            say(line)
    for application in configuration.applications:
        for line in _addresses(configuration, found, application):
            say(line)


def _proxies(ray: Any, configuration: Configuration) -> Proxies:
    """Returns where the proxies listen, as far as Ray tells."""
    try:
        from ray.serve.context import _get_global_client

        client = _get_global_client()
        http, grpc = client.http_config, ray.get(client._controller.get_grpc_config.remote())
        is_known = set(GRPC_FUNCTIONS) <= set(grpc.grpc_servicer_functions)
        return Proxies(http.host, http.port, grpc.port if is_known and grpc.port > 0 else None)
    except (ImportError, AttributeError):
        return Proxies(configuration.host, configuration.http_port, configuration.grpc_port)


def _differences(configuration: Configuration, found: Proxies) -> Iterator[str]:
    """Yields what the proxies have otherwise than the file says: they were begun before."""
    wanted = configuration.grpc_port
    is_other_http = (found.host, found.http_port) != (configuration.host, configuration.http_port)
    if is_other_http or (None not in (wanted, found.grpc_port) and wanted != found.grpc_port):
        yield "Ray Serve runs already, and keeps its ports: end it first to have those of the file"
    if wanted is not None and found.grpc_port is None:
        yield (
            "Ray Serve runs already, without gRPC for these services: end it first to have it, or begin it "
            "with servable.ray.GRPC_FUNCTIONS"
        )


def _addresses(configuration: Configuration, found: Proxies, application: Application) -> Iterator[str]:
    """Yields where the application answers."""
    if configuration.proxies == "Disabled":
        yield f"{application.name}: ready, without proxies"
        return
    route = application.route.rstrip("/")
    yield f"{application.name}: ready at http://{found.host}:{found.http_port}{route}/v1/models/"
    if configuration.grpc_port is not None and found.grpc_port is not None:
        yield f"{application.name}: gRPC on port {found.grpc_port}, metadata application: {application.name}"


@contextmanager
def _reasons(ray: Any) -> Iterator[None]:
    """Raises ``RuntimeError`` with the reason for errors of Ray's own."""
    try:
        yield
    except ray.exceptions.RayError as error:
        raise RuntimeError(f"Ray: {reason(error)}") from error


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Raises ``Terminated`` where the program is, for SIGTERM, which would end it on the spot."""

    def interrupt(*_: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _interrupted_later() -> Iterator[None]:
    """Holds an interruption back until the end: Ray leaves processes of a cluster that is half begun.

    A second one does not wait.
    """
    held: list[type[KeyboardInterrupt]] = []

    def hold(number: int, _: object) -> None:
        held.append(Terminated if number == signal.SIGTERM else KeyboardInterrupt)
        if len(held) > 1:
            raise held[0]

    before = {one: signal.signal(one, hold) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
        if held:
            raise held[0]


@contextmanager
def _no_handlers_of(ray: Any) -> Iterator[None]:
    """Keeps Ray from taking SIGTERM over: it would end its processes, and without them this one aborts."""
    try:
        utils = ray._private.utils
        former = utils.set_sigterm_handler
    except AttributeError:
        yield
        return
    utils.set_sigterm_handler = lambda _: None
    try:
        yield
    finally:
        utils.set_sigterm_handler = former


@contextmanager
def _asked_to_end() -> Iterator[threading.Event]:
    """Yields an event that a signal sets."""
    ended = threading.Event()
    before = {one: signal.signal(one, lambda *_: ended.set()) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield ended
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
