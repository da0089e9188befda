"""Which lower precision can be had, what a server says where it cannot, and the program that makes int8."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from servable.admin.acceleration import acceleration_fields
from servable.config.arguments import parse
from servable.config.settings import server_config
from servable.engines.precision import processor_flags, quantizer, unavailable
from servable.errors import StatusError, UsageError

AVX2 = frozenset({"fpu", "avx", "avx2"})


def why(precision: str, missing: str = "", flags: frozenset[str] = AVX2, nncf: bool = True) -> StatusError:
    error = unavailable(precision, missing, lambda: flags, lambda: nncf)
    assert error is not None
    return error


def test_a_processor_with_bfloat16_may_have_it() -> None:
    for flag in ("avx512_bf16", "amx_bf16"):
        assert unavailable("bf16", "", lambda one=flag: AVX2 | {one}, lambda: False) is None  # type: ignore[misc]


@pytest.mark.parametrize(
    ("flags", "has"),
    [
        (AVX2, "this one has avx, avx2"),
        (AVX2 | {"avx512f"}, "this one has avx, avx2, avx512f"),
        (frozenset(), "none of the features"),
    ],
)
def test_another_one_is_refused_with_what_it_has(flags: frozenset[str], has: str) -> None:
    error = why("bf16", flags=flags)
    assert error.code == "FAILED_PRECONDITION"
    assert "--engine_precision=bf16 needs a processor with amx_bf16 or avx512_bf16" in error.message
    assert has in error.message and "leave the flag out" in error.hint


def test_int8_needs_nncf_and_any_of_them_openvino() -> None:
    assert unavailable("int8", "", lambda: AVX2, lambda: True) is None
    error = why("int8", nncf=False)
    assert error.code == "FAILED_PRECONDITION" and 'pip install "servable[int8]"' in error.hint
    assert "OpenVINO not found" in why("int8", "OpenVINO not found: no package").message
    assert unavailable("f32", "OpenVINO not found", lambda: AVX2, lambda: False) is None


def test_processor_flags_are_those_of_linux(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel name\t: X\nflags\t\t: fpu avx2 amx_bf16\nbugs\t\t: none\n")
    assert processor_flags(str(info)) == {"fpu", "avx2", "amx_bf16"}
    info.write_text("Features\t: fp asimd\n")
    assert processor_flags(str(info)) == frozenset()
    assert processor_flags(str(tmp_path / "none")) == frozenset()


def test_flags_become_options(tmp_path: Path) -> None:
    def load(*flags: str, serve: bool = True) -> tuple[str, tuple[str, ...]]:
        named = [f"--model_base_path={tmp_path}", "--model_name=m", *flags]
        options = server_config(parse(named, serve=serve), {}).load
        return options.engine_precision, options.engine_quantizer

    assert load() == load("--engine_precision=f32") == ("f32", ())
    assert load("--engine_precision=bf16") == ("bf16", ())
    assert load("--engine_precision=int8") == ("int8", quantizer())
    assert load("--engine_precision=int8", "--engine=openvino", serve=False)[0] == "int8"
    with pytest.raises(UsageError, match="engine_precision"):
        load("--engine_precision=int4")
    for flags, serve in ((["--engine=tensorflow"], True), ([], False)):
        with pytest.raises(UsageError, match="needs --engine=auto or --engine=openvino"):
            load("--engine_precision=int8", *flags, serve=serve)


def test_agreement_is_told_where_it_was_measured() -> None:
    candidates = [("openvino", 1e-6, None, None, "openvino int8 was asked for")]
    lower = ("openvino int8", 0.13, 0.95, None, "")
    fields = acceleration_fields(("s", "moved", "openvino int8", "", 0, [*candidates, lower]))
    exact, measured = fields["candidates"]
    assert "agreement" not in exact
    assert (measured["agreement"], measured["decision"]) == (0.95, "accurate enough, and faster")


def test_the_program_says_why_it_failed_in_its_last_line(tmp_path: Path) -> None:
    """Without a graph, or without NNCF: either way it ends with a reason, and leaves no model."""
    command = [*quantizer(), str(tmp_path), "x:0"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = process.stderr.read().strip().splitlines()
        assert process.wait(60) == 1
    assert said[-1].partition(":")[0].endswith("Error")
    assert not (tmp_path / "model.xml").exists()


def test_the_program_ends_with_the_server(tmp_path: Path) -> None:
    waiting = "import threading, time; from servable.engines import quantize; quantize.quantize = "
    waiting += "lambda *_: threading.Event().wait(); quantize.main()"
    *interpreter, _, path = quantizer()
    program = f"import json, sys; sys.path[:] = json.loads(sys.argv[1]); {waiting}"
    process = subprocess.Popen([*interpreter, program, path, str(tmp_path)], stdin=subprocess.PIPE)
    try:
        assert json.loads(path)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 1
    finally:
        process.kill()
        process.wait()
