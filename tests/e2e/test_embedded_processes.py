"""Programs with a server inside: forks, spawned processes, their ends, Ctrl-C, TensorFlow beside it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import ROOT
from servers import MODELS, until

pytestmark = [pytest.mark.needs_tensorflow, pytest.mark.timeout(300)]

ONE = MODELS / "half_plus_two"
SECONDS = 120


def run(folder: Path, script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end; what it leaves in the temporary folder is in ``folder/tmp``."""
    program, temporary = folder / "program.py", folder / "tmp"
    program.write_text(textwrap.dedent(script))
    temporary.mkdir()
    return subprocess.run(
        [sys.executable, program, *arguments],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        # Unbuffered: a child that is forked would print what the program has not printed yet, too.
        env={**os.environ, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1", "TF_CPP_MIN_LOG_LEVEL": "2"},
    )


FORKS = """
    import multiprocessing, os, sys, urllib.request
    import servable
    from servable import FailedPreconditionError

    MODEL = sys.argv[1]

    def fresh(queue):
        with servable.serve(MODEL) as server:
            queue.put(server.predict([1]).tolist())

    def inherited(queue, server):
        said = []
        for use in (lambda: server.predict([1]), server.models, server.logs, server.start,
                    lambda: servable.serve(MODEL)):
            try:
                use()
            except FailedPreconditionError as error:
                said.append(error.message)
        server.stop()
        said.append(repr(server))
        said.append(urllib.request.urlopen(server.url + "/v1/models/half_plus_two").status)
        queue.put(said)

    def asked(context, target, *more):
        queue = context.Queue()
        process = context.Process(target=target, args=(queue, *more))
        process.start()
        answer = queue.get(timeout=60)
        process.join()
        return process.exitcode, answer

    if __name__ == "__main__":
        fork, spawn = multiprocessing.get_context("fork"), multiprocessing.get_context("spawn")
        print("forked before", *asked(fork, fresh))
        server = servable.serve(MODEL)
        status, said = asked(fork, inherited, server)
        print("forked after", status, *said, sep="\\n  ")
        print("spawned", *asked(spawn, fresh))
        print("parent", server.predict([2]).tolist())
        child = os.fork()
        if child == 0:
            sys.exit(0)
        print("left", os.waitpid(child, 0)[1])
        # A process that lives on keeps no port open.
        waits, ends = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(ends)
            os.read(waits, 1)
            os._exit(0)
        url = server.url
        server.stop()
        try:
            urllib.request.urlopen(url)
        except OSError as error:
            print("closed", type(error.reason).__name__)
        os.close(ends)
        os.waitpid(child, 0)
        with server:
            print("again", server.predict([3]).tolist())
"""


def test_processes_that_are_forked_and_spawned(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        FORKS,
        ONE,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "forked before 0 [2.5]"
    assert lines[1:3] == ["forked after", "  0"]
    assert all(
        re.match(r"  the server runs in process \d+, which this one was forked from$", one)
        for one in lines[3:6]
    )
    assert all(one.startswith("  this process was forked from process ") for one in lines[6:8])
    assert lines[8] == "  <servable.Server, which runs in the process that this one was forked from>"
    assert lines[9:] == [
        "  200",
        "spawned 0 [2.5]",
        "parent [3.0]",
        "left 0",
        "closed ConnectionRefusedError",
        "again [3.5]",
    ]


def test_an_interpreter_ends_with_its_servers(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
        import sys, threading
        import servable

        server = servable.serve(sys.argv[1])
        other = servable.serve({"a": sys.argv[1], "b": sys.argv[2]})
        kept = server.predict([1.0] * 100_000)
        asks = threading.Thread(target=lambda: [server.predict([1]) for _ in range(10**9)], daemon=True)
        asks.start()
        print(server.predict([1]).tolist(), other.predict([1], "a").tolist())
        """,
        ONE,
        MODELS / "echo",
    )
    assert (done.returncode, done.stdout) == (0, "[2.5] [2.5]\n"), done.stderr
    assert "Fatal" not in done.stderr and "panicked" not in done.stderr
    assert list((tmp_path / "tmp").glob("servable*")) == []


def test_where_no_thread_starts_at_the_end_all_is_unloaded_too(tmp_path: Path) -> None:
    """As with Python 3.12.1: by itself, and where the program stops a server as late as that."""
    done = run(
        tmp_path,
        """
        import atexit, sys, threading

        cores = []
        atexit.register(lambda: print([core.states() for core in cores]))
        import servable

        class Refusing:
            def start(self):
                raise RuntimeError("can't create new thread at interpreter shutdown")

        def end_of_threads():
            threading.Thread.start = Refusing.start

        by_itself, stopped = servable.serve(sys.argv[1]), servable.serve(sys.argv[1])
        cores += [by_itself._running.core, stopped._running.core]
        atexit.register(stopped.stop)
        atexit.register(end_of_threads)
        print(by_itself.predict([1]).tolist())
        """,
        ONE,
    )
    states = "[('half_plus_two', 1, 'END', 'OK', '')]"
    assert (done.returncode, done.stdout) == (0, f"[2.5]\n[{states}, {states}]\n"), done.stderr
    assert done.stderr == ""


def is_waiting(pid: int) -> bool:
    """Returns whether the main thread of the process sleeps.

    CPython misses a signal that comes between its last look and the beginning of a wait, which then goes on.
    """
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("S")


@pytest.mark.parametrize("when", ["waits", "asks"])
def test_ctrl_c_ends_a_program_and_its_server(tmp_path: Path, when: str) -> None:
    work = {"waits": "threading.Event().wait()", "asks": "server.predict({'steps': 1 << 60})"}[when]
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            f"""
            import sys, threading
            import servable

            try:
                with servable.serve(sys.argv[1], shutdown_grace_seconds=1) as server:
                    print("up", flush=True)
                    {work}
            finally:
                print("down", server.is_running, flush=True)
            """
        )
    )
    command = [sys.executable, program, MODELS / "loop"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        assert until(lambda: is_waiting(process.pid))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=SECONDS)
    assert out == "down False\n"
    assert err.rstrip().endswith("KeyboardInterrupt"), err
    assert process.returncode == -signal.SIGINT


EXPORTS = """
    import os, sys
    import servable
    before = sys.argv[2] == "before"
    if before:
        import tensorflow as tf
        print("first", float(tf.reduce_sum(tf.ones([3]))))
    with servable.serve(sys.argv[1]) as server:
        print("served", server.predict([1, 2]).tolist())
        import keras, numpy as np, tensorflow as tf
        if not before:
            print("then", float(tf.reduce_sum(tf.ones([3]))))
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(2)])

        class Scale(tf.Module):
            def __init__(self):
                self.by = tf.Variable(3.0)

            @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
            def __call__(self, x):
                return {"y": x * self.by}

            @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
            def less(self, x):
                return {"y": x - self.by}

        scale = Scale()
        concrete = scale.less.get_concrete_function()
        models = {"keras": model, "module": scale, "concrete": concrete, "function": scale.less}
        with servable.serve(models) as other:
            x = np.arange(8, dtype=np.float32).reshape(2, 4)
            np.testing.assert_allclose(other.predict(x, "keras"), model(x).numpy(), rtol=1e-5)
            for name, signature in (("module", ""), ("module", "less"), ("concrete", ""), ("function", "")):
                print(name, signature, other.predict([1, 2], name, signature).tolist())
            # One library: an eager tensor's memory is numpy's, and so is the server's.
            print("eager", tf.constant(server.predict([4.0])).numpy().tolist())
            scale.by.assign(5.0)
        folder = servable.Server(scale)
        with folder:
            print("later", folder.predict([1]).tolist())
        for what in (tf.Module(), tf.function(lambda x: x), tf.constant(1)):
            try:
                servable.serve(what)
            except servable.InvalidArgumentError as error:
                print("refused", error.message.partition("TensorSpec")[0])
    maps = open("/proc/self/maps").read().splitlines()
    print("libraries", len({line.split()[-1] for line in maps if "libtensorflow_cc" in line}))
"""


@pytest.mark.skipif(find_spec("keras") is None, reason="Keras is not installed")
@pytest.mark.parametrize("order", ["before", "after"])
def test_tensorflow_may_be_imported_before_and_after(tmp_path: Path, order: str) -> None:
    done = run(tmp_path, EXPORTS, ONE, order)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert sorted(lines[:2]) == (
        ["first 3.0", "served [2.5, 3.0]"] if order == "before" else ["served [2.5, 3.0]", "then 3.0"]
    )
    assert lines[2:8] == [
        "module  [3.0, 6.0]",
        "module less [-2.0, -1.0]",
        "concrete  [-2.0, -1.0]",
        "function  [-2.0, -1.0]",
        "eager [4.0]",
        "later [5.0]",
    ]
    assert [line.split(" ", 1)[0] for line in lines[8:11]] == ["refused"] * 3
    assert lines[11:] == ["libraries 1"]
    assert list((tmp_path / "tmp").glob("servable*")) == []


def test_a_fork_after_tensorflow_has_run_says_so(tmp_path: Path) -> None:
    """With a stand-in for TensorFlow's Python, as only what it says of itself counts."""
    done = run(
        tmp_path,
        """
        import os, sys, types
        import servable, servable.embedded

        context = types.ModuleType("tensorflow.python.eager.context")
        context._context = types.SimpleNamespace(_initialized=True)
        sys.modules[context.__name__] = context
        child = os.fork()
        if child == 0:
            try:
                servable.serve(sys.argv[1])
            except servable.FailedPreconditionError as error:
                print(error.message, flush=True)
                os._exit(7)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """,
        ONE,
    )
    assert done.stdout.startswith("this process was forked after TensorFlow had run"), done.stderr
    assert done.stdout.endswith("\n7\n")


def test_it_starts_on_a_thread_that_ends(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
        import sys, threading
        import servable

        servers = []
        for _ in range(2):
            start = threading.Thread(target=lambda: servers.append(servable.serve(sys.argv[1])))
            start.start()
            start.join()
        print([server.predict([1]).tolist() for server in servers])
        for server in servers:
            server.stop()
        """,
        ONE,
    )
    assert (done.returncode, done.stdout) == (0, "[[2.5], [2.5]]\n"), done.stderr


def test_without_numpy_it_serves_and_says_what_predict_needs(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
        import sys, urllib.request
        sys.modules["numpy"] = None
        import servable

        with servable.serve(sys.argv[1]) as server:
            print(urllib.request.urlopen(server.url + "/v1/models/half_plus_two").status, repr(server)[:30])
            try:
                server.predict([1])
            except servable.MissingPackageError as error:
                print(error)
        """,
        ONE,
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == "200 <servable.Server of half_plus_"
    assert second.startswith("predict needs numpy") and second.endswith("pip install numpy")


def test_the_example_test_and_the_plugin(tmp_path: Path) -> None:
    example = ROOT / "examples" / "test_half_plus_two.py"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "servable.pytest_plugin",
            "-p",
            "no:cacheprovider",
            "-q",
            "--rootdir",
            tmp_path,
            "-c",
            os.devnull,
            example,
        ],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\b3 passed\b", done.stdout)


def test_the_plugin_imports_nothing_until_it_is_used(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
        import sys
        import servable.pytest_plugin
        heavy = ("numpy", "tensorflow")
        print(*sorted(name for name in sys.modules if name.startswith("servable.") or name in heavy))
        """,
    )
    assert done.stdout == "servable.pytest_plugin\n", done.stderr
