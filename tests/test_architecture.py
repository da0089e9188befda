"""The invariants of ARCHITECTURE.md as assertions on the sources."""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from servable.config import flags
from servable.engines import formats, libraries

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"
CONTROL_PLANE = ROOT / "python" / "servable"
TESTS = ROOT / "tests"

ARROWS = {
    "python": {"server", "lifecycle", "admin", "bench", "direct", "log_kept", "log_line", "native_line"},
    "bench": {"chance", "host", "tls"},
    "direct": {"methods"},
    "server": {"rest", "grpc", "throttled", "listen"},
    "admin": {"http", "json", "listen", "methods", "rest"},
    "rest": {"registry", "methods", "open_inference", "browsers", "console", "http", "http2", "json"},
    "console": {"control_plane", "http", "json", "traffic"},
    "control_plane": {"error"},
    "traffic": {"host", "methods", "metrics"},
    "browsers": {"grpc", "http"},
    "http": {"connections", "config", "pace"},
    "json": {"tensor", "error", "config", "parallel"},
    "grpc": {"registry", "methods", "open_inference", "http2"},
    "open_inference": {"control_plane", "methods", "registry"},
    "http2": {"connections"},
    "lifecycle": {"registry", "methods", "files", "tfrecord"},
    "methods": {"registry", "servable", "config", "exchange", "telemetry"},
    "registry": {"servable"},
    "servable": {"batch"},
    "batch": {"engine", "scheduler"},
    "scheduler": {"context", "metrics", "parallel", "profile"},
    "context": {"memory", "access", "auth", "timeline", "traffic_split"},
    "traffic_split": {"metrics"},
    "exchange": {"access", "telemetry"},
    "telemetry": {"access", "chance", "log_queue", "metrics", "throttled", "tls"},
    "access": {"chance", "host", "log_file", "log_format", "log_queue", "peer", "throttled", "timeline"},
    "timeline": {"metrics", "trace_context"},
    "trace_context": {"chance"},
    "chance": set(),
    "auth": {"error", "files", "follow", "metrics"},
    "payload": {"chance", "log_file", "log_format", "log_queue", "memory", "pb", "tfrecord", "throttled"},
    "engine": {"tensor", "error", "pb", "host", "files"},
    "host": {"error", "memory"},
    "connections": {"memory", "metrics", "pace", "proxies"},
    "proxies": {"error", "peer"},
    "peer": set(),
    "pb": {"tensor", "error"},
    "metrics": {"error", "memory", "profile", "trace_context"},
    "memory": {"error"},
    "parallel": set(),
    "profile": set(),
    "config": {"auth", "exchange", "pace", "scheduler", "payload", "proxies", "telemetry", "tls"},
    "tls": {"error", "follow", "metrics"},
    "follow": set(),
    "pace": set(),
    "files": set(),
    "throttled": set(),
    "log_file": set(),
    "log_format": set(),
    "log_kept": set(),
    "log_line": {"log_format"},
    "log_queue": set(),
    "native_line": set(),
    "tfrecord": {"error"},
    "listen": set(),
    "tensor": set(),
    "error": set(),
}
"""The allowed uses: the modules at an arrow's head, and everything below them."""

PYTHON_ARROWS = {
    "__main__": {"cli"},
    "cli": {"checkup", "client", "bench", "embedded", "ray", "starter"},
    "pytest_plugin": {"embedded"},
    "ray": {"embedded"},
    "embedded": {"serving", "client"},
    "checkup": {"serving"},
    "starter": set(),
    "bench": {"savedmodel"},
    "serving": {"console"},
    "console": {"admin"},
    "admin": {"lifecycle"},
    "lifecycle": {"sources"},
    "sources": {"config", "progress", "sizes"},
    "progress": {"sizes"},
    "config": {"engines", "cgroups"},
    "cgroups": set(),
    "savedmodel": {"messages", "regular_files", "sizes"},
    "engines": {"savedmodel", "installing"},
    "installing": set(),
    "client": {"messages"},
    "messages": {"errors", "_core"},
    "errors": set(),
    "regular_files": set(),
    "sizes": set(),
    "_core": set(),
}
"""The same for the packages and single modules of ``servable``; imports for type checkers count."""

CLIENT_ARROWS = {
    "codecs": {"reply", "values"},
    "values": {"answers", "text"},
    "transport": {"limits", "packages", "reply", "text"},
    "answers": set(),
    "reply": set(),
    "limits": set(),
    "packages": set(),
    "text": set(),
}
"""The same for the parts of ``client`` below its dialogue: codecs and transports do not know each other."""

HTTP_CRATES = ("h2", "hyper", "hyper_util", "http", "http_body", "http_body_util")
FUNCTION_LINES = {"rs": 70, "py": 60}
FILE_LINES = 600
MEDIAN_FILE_LINES = 150
ARGUMENTS = 6
OPTIONS = {f"python/servable/client/{kind}_client.py: __init__" for kind in ("async", "sync")}
"""Functions whose keyword-only arguments are the options of a public interface, as many as there are."""


# ---- reading sources


@cache
def rust_files() -> list[Path]:
    """Returns every hand-written file of the data plane, except its tests."""
    return [path for path in sorted(SRC.rglob("*.rs")) if not is_generated(path) and not is_test(path)]


def is_generated(path: Path) -> bool:
    return path.parent == SRC / "pb" and path.name.startswith(("inference.", "tensorflow."))


def is_test(path: Path) -> bool:
    inside = path.relative_to(SRC).parts
    return path.name == "tests.rs" or "tests" in inside[:-1]


@cache
def python_files() -> list[Path]:
    folders = [CONTROL_PLANE, TESTS, ROOT / "examples", ROOT / "benches", ROOT / "deploy", ROOT / "scripts"]
    return sorted(
        path for folder in folders for path in folder.rglob("*.py") if "__pycache__" not in path.parts
    )


@cache
def code_of(path: Path) -> str:
    """Returns Rust without comments, contents of strings and inline tests; lines keep their numbers."""
    text = _without_comments_and_strings(path.read_text())
    tests = re.search(r"^#\[cfg\(test\)\]\nmod \w+ \{", text, re.MULTILINE)
    return text[: tests.start()] if tests else text


_TOKENS = re.compile(
    r"""
      (?P<comment> //[^\n]* | /\*.*?\*/ )
    | (?P<raw> b?r(?P<hashes>\#*)".*?"(?P=hashes) )
    | (?P<string> [bc]?"(?:\\.|[^"\\])*" )
    | (?P<char> b?'(?:\\[^\n]{1,8}?|[^'\\\n])' )
    """,
    re.VERBOSE | re.DOTALL,
)


def _without_comments_and_strings(text: str) -> str:
    def blank(found: re.Match[str]) -> str:
        kept = "\n" * found[0].count("\n")
        return kept if found["comment"] else '"' + kept + '"'

    return _TOKENS.sub(blank, text)


def names_used(path: Path) -> set[str]:
    """Returns every ``crate::a::b`` of a file as ``a`` and ``a::b``; ``super::`` is resolved."""
    module = list(path.relative_to(SRC).with_suffix("").parts)
    if module[-1] in ("mod", "lib"):
        module.pop()
    code = code_of(path)
    used: set[str] = set()
    for prefix, rest in re.findall(r"\b(crate|super(?:::super)*)::((?:\w+|\{[^;]*?\})(?:::\w+)?)", code):
        above = len(module) if prefix == "crate" else prefix.count("super")
        base = module[: len(module) - above]
        for name in _expanded(rest):
            used.add("::".join([*base, *name.split("::")][:2]))
    return used | {name.split("::")[0] for name in used}


def _expanded(rest: str) -> Iterable[str]:
    return re.findall(r"(?:^|[{,])\s*(\w+(?:::\w+)?)", rest) if rest.startswith("{") else [rest]


def module_of(path: Path) -> str:
    inside = path.relative_to(SRC).with_suffix("").parts
    return "servable::signature" if inside[:2] == ("servable", "signature") else inside[0]


def rust_functions(code: str) -> Iterator[tuple[str, int]]:
    """Yields name and length of each function with a body: its non-blank lines, as clippy counts."""
    for found in re.finditer(r"\bfn\s+(\w+)", code):
        after_arguments = _closing(code, code.index("(", found.end()), "()")
        start = re.compile(r"[{;]").search(code, after_arguments)
        if start is None or start[0] == ";":
            continue
        body = code[start.start() : _closing(code, start.start(), "{}")].splitlines()[1:]
        yield found[1], sum(1 for line in body if line.strip())


def _closing(code: str, opening: int, pair: str) -> int:
    """Returns the position at which the bracket at ``opening`` is closed."""
    depth = 0
    for found in re.compile("|".join(map(re.escape, pair))).finditer(code, opening):
        depth += 1 if found[0] == pair[0] else -1
        if depth == 0:
            return found.start()
    return len(code)


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


# ---- the data plane


def test_the_sources_are_found() -> None:
    """Checks that the other tests have something to examine."""
    assert {module_of(path) for path in rust_files()} >= {*ARROWS, "lib"}
    assert {"serve", "resolve"} <= {
        name for path in rust_files() for name, _ in rust_functions(code_of(path))
    }
    assert {"registry", "servable::placement"} <= names_used(SRC / "lifecycle" / "mod.rs")
    assert "methods" in names_used(SRC / "rest" / "mod.rs")


def below(module: str, arrows: Mapping[str, set[str]] = ARROWS) -> set[str]:
    """Returns the modules that ``module`` may use, directly or indirectly."""
    reached: set[str] = set()
    ahead = [module]
    while ahead:
        for one in arrows[ahead.pop()] - reached:
            reached.add(one)
            ahead.append(one)
    return reached


@pytest.mark.parametrize("module", sorted(ARROWS))
def test_arrows_point_down(module: str) -> None:
    allowed = below(module) | {module, module.split("::")[0] if "::" in module else module}
    modules = {name.split("::")[0] for name in ARROWS}
    for path in rust_files():
        if module_of(path) != module:
            continue
        for name in names_used(path):
            if name in modules and name not in allowed:
                inner = {one for one in names_used(path) if one.startswith(f"{name}::")}
                assert inner and inner <= allowed, (
                    f"{shown(path)} uses {name}: {sorted(inner) or 'all of it'}"
                )


def test_the_arrows_have_no_circle() -> None:
    for arrows in (ARROWS, PYTHON_ARROWS, CLIENT_ARROWS):
        for module in arrows:
            assert module not in below(module, arrows)


LAYERED = [
    *("admin", "auth", "batch", "bench", "browsers", "engine", "grpc", "host", "http", "http2", "json"),
    *("methods", "metrics", "rest", "telemetry"),
]


@pytest.mark.parametrize("folder", LAYERED)
def test_no_file_uses_itself_by_way_of_others(folder: str) -> None:
    """Leaves out the folder's own file, which names its contents."""
    files = {f"{folder}::{path.stem}": path for path in (SRC / folder).glob("*.rs") if path in rust_files()}
    used = {name: names_used(path) & files.keys() - {name} for name, path in files.items()}
    assert any(used.values())
    assert [name for name in used if name in below(name, used)] == []


def users_of(pattern: str) -> set[str]:
    found = re.compile(pattern)
    return {path.relative_to(SRC).as_posix() for path in rust_files() if found.search(code_of(path))}


def outside(used: set[str], *places: str) -> set[str]:
    return {path for path in used if not path.startswith(places)}


def test_pyo3_is_in_one_place() -> None:
    assert outside(users_of(r"\bpyo3\b|\bPython<|\.(detach|attach)\("), "python.rs", "python/") == set()


def test_options_are_the_same_on_both_sides_of_the_boundary() -> None:
    """The core's structs equal, field by field, the protocols by which mypy checks options."""
    struct = r"#\[derive\(FromPyObject\)\]\n(?:pub\(super\) )?struct (\w+) \{\n(.*?)\n\}"
    source = "".join((SRC / "python" / name).read_text() for name in ("options.rs", "bench.rs", "traffic.rs"))
    structs = {
        name: re.findall(r"^    (\w+): ", body, re.MULTILINE)
        for name, body in re.findall(struct, source, re.DOTALL)
    }
    protocols = {
        node.name: [member.name for member in node.body if isinstance(member, ast.FunctionDef)]
        for node in ast.parse((CONTROL_PLANE / "_core.pyi").read_text()).body
        if isinstance(node, ast.ClassDef) and [ast.unparse(base) for base in node.bases] == ["Protocol"]
    }
    assert len(structs) == 19
    assert structs == protocols


def test_formats_and_engines_are_the_same_on_both_sides() -> None:
    """The core chooses by the files that Python watches, and knows every engine that the flag names."""
    source = (SRC / "engine" / "choice.rs").read_text()
    names = dict(re.findall(r'EngineKind::(\w+) => "(\w+)"', source))

    def listed(name: str) -> list[tuple[str, str]]:
        start = source.index(f"const {name}:")
        rows = re.findall(r'\("([^"]+)", EngineKind::(\w+)\)', source[start : source.index("];", start)])
        assert rows
        return [(file, names[kind]) for file, kind in rows]

    assert listed("FORMATS") == [(file, one.engine) for one in formats.FORMATS for file in one.files]
    alone = [(one.ending.removeprefix("."), one.engine) for one in formats.FORMATS if one.ending]
    assert listed("ENDINGS") == alone
    assert {*names.values()} == {"tensorflow", *(package.engine for package in libraries.PACKAGES)}
    assert set(flags.FLAGS["engine"].choices) - {"auto"} <= {*names.values()}


def test_http_is_in_the_protocols() -> None:
    crates = users_of(rf"\b({'|'.join(HTTP_CRATES)})::")
    assert "http/connection.rs" in crates
    # As servers, and as clients: of a collector, and of servers under load.
    servers = (
        "http/",
        "http2/",
        "rest/",
        "browsers/",
        "admin/",
        "console/",
        "server.rs",
        "grpc/",
        "arriving.rs",
    )
    assert outside(crates, *servers, "telemetry/", "bench/") == set()
    assert users_of(r"\bserde_json\b") == set()


def test_tonic_is_in_grpc() -> None:
    # The module of OpenTelemetry's messages has that name, too.
    used = users_of(r"(?<!opentelemetry_proto::)\btonic(_\w+)?::")
    assert outside(used, "grpc/", "server.rs", "pb/") == set()


def test_unsafe_is_in_the_engine_and_its_host() -> None:
    found = users_of(r"\bunsafe\b|allow\(unsafe_code\)")
    assert found
    assert outside(found, "engine/", "host/") == set()


def test_resolving_takes_no_lock() -> None:
    code = code_of(SRC / "registry.rs")
    start = code.index("pub fn resolve(")
    body = code[start : code.index("\n    }\n", start)]
    assert "self.table.load()" in body
    assert not re.search(r"lock|Mutex|write\(|read\(|await", body)


def test_there_is_one_state_enum_and_one_error_table() -> None:
    everything = "\n".join(code_of(path) for path in rust_files())
    assert re.findall(r"enum (\w*State)\b", everything) == ["State"]
    assert users_of(r"fn (http_status|grpc_code)\(") == {"error.rs"}
    assert len(re.findall(r"enum DType\b", everything)) == 1


def test_the_core_builds_without_python() -> None:
    tomllib = pytest.importorskip("tomllib")
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
    assert manifest["dependencies"]["pyo3"]["optional"] is True
    assert "default" not in manifest["features"]
    assert manifest["lints"]["rust"]["unsafe_code"] == "deny"
    assert manifest["lints"]["clippy"]["undocumented_unsafe_blocks"] == "deny"


def test_rust_functions_are_short() -> None:
    functions = [
        (lines, shown(path), name) for path in rust_files() for name, lines in rust_functions(code_of(path))
    ]
    assert [one for one in functions if one[0] > FUNCTION_LINES["rs"]] == []


def test_rust_files_are_short() -> None:
    lengths = {shown(path): code_of(path).rstrip().count("\n") + 1 for path in rust_files()}
    assert {path: lines for path, lines in lengths.items() if lines > FILE_LINES} == {}
    assert statistics.median(lengths.values()) <= MEDIAN_FILE_LINES


def test_every_rust_file_opens_with_what_it_is() -> None:
    written = [*SRC.rglob("*.rs"), *(ROOT / "benches").glob("*.rs"), *(ROOT / "proto").rglob("src/*.rs")]
    headless = [shown(path) for path in written if not is_generated(path) and path.read_text()[:4] != "//! "]
    assert headless == []


# ---- the control plane


def test_every_python_file_opens_with_what_it_is() -> None:
    assert [shown(path) for path in python_files() if not ast.get_docstring(tree_of(path))] == []


def test_python_functions_are_short_and_take_few_arguments() -> None:
    too_long, too_many = [], []
    for path in python_files():
        for node in ast.walk(tree_of(path)):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            if (node.end_lineno or node.lineno) - node.lineno + 1 > FUNCTION_LINES["py"]:
                too_long.append(f"{shown(path)}: {node.name}")
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            if f"{shown(path)}: {node.name}" in OPTIONS:
                arguments = arguments[: -len(node.args.kwonlyargs)]
            if len([one for one in arguments if one.arg not in ("self", "cls")]) > ARGUMENTS:
                too_many.append(f"{shown(path)}: {node.name}")
    assert (too_long, too_many) == ([], [])


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    return found


def modules_used(path: Path) -> set[str]:
    """Returns the imported modules of ``servable`` by their path within it: ``config.flags``."""
    names = {name.removeprefix("servable.") for name in imports(path) if name.startswith("servable.")}
    return {name for name in names if name in package_modules()}


@cache
def package_modules() -> dict[str, Path]:
    """Returns every module of ``servable``, by its path within it; a package is its ``__init__``."""
    inside = {path: path.relative_to(CONTROL_PLANE).with_suffix("") for path in CONTROL_PLANE.rglob("*.py")}
    named = {
        ".".join(one.parts[:-1] if one.name == "__init__" else one.parts): path
        for path, one in inside.items()
    }
    return {name: path for name, path in named.items() if name}


@pytest.mark.parametrize("package", sorted(PYTHON_ARROWS.keys() - {"_core"}))
def test_imports_point_down(package: str) -> None:
    allowed = below(package, PYTHON_ARROWS) | {package}
    files = [path for name, path in package_modules().items() if name.split(".")[0] == package]
    assert files
    for path in files:
        used = {name.split(".")[0] for name in modules_used(path)}
        assert used <= allowed, f"{shown(path)} uses {sorted(used - allowed)}"


@pytest.mark.parametrize("part", sorted(CLIENT_ARROWS))
def test_imports_in_the_client_point_down(part: str) -> None:
    allowed = below(part, CLIENT_ARROWS) | {part}
    files = [path for name, path in package_modules().items() if f"{name}.".startswith(f"client.{part}.")]
    assert files
    for path in files:
        used = {name.split(".")[1] for name in modules_used(path) if name.startswith("client.")}
        assert used <= allowed, f"{shown(path)} uses {sorted(used - allowed)}"


def test_every_module_has_its_place() -> None:
    assert {name.split(".")[0] for name in package_modules()} == PYTHON_ARROWS.keys() - {"_core"}


def test_no_module_imports_itself_by_way_of_others() -> None:
    used = {
        name: modules_used(path)
        - {name}
        # A package's first file imports what it offers; modules inside do not import that.
        - ({one for one in package_modules() if name.startswith(f"{one}.")})
        for name, path in package_modules().items()
    }
    assert "config.values" in used["config.settings"]
    circles = [name for name in used if name in below(name, used)]
    assert circles == []


def test_documents_name_files_that_are_there() -> None:
    """Checks paths with a folder in back quotes, from the root, ``src`` or ``python/servable``."""
    places = (ROOT, SRC, CONTROL_PLANE)
    found, missing = 0, []
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        if document.name == "CHANGELOG.md":
            continue
        for named in re.findall(r"`((?:\w+/)+(?:[\w.]+\.(?:rs|py|sh|toml|md))?)`", document.read_text()):
            found += 1
            if not any((place / named).exists() for place in places):
                missing.append(f"{document.name}: {named}")
    assert found > 50
    assert missing == []


def test_sources_cite_sections_that_are_there() -> None:
    cited: set[tuple[str, str]] = set()
    cites = re.compile(r"docs/spec/(\w+)\.md,?\s+(?://[/!] )?sections? ([\d.]*\d)")
    for path in [*SRC.rglob("*.rs"), *python_files()]:
        cited |= set(cites.findall(path.read_text()))
    assert len(cited) > 15
    for document, section in sorted(cited):
        headings = (ROOT / "docs" / "spec" / f"{document}.md").read_text()
        assert re.search(rf"^#+ {re.escape(section)}\b", headings, re.MULTILINE), f"{document}.md {section}"


@pytest.mark.parametrize("module", ["policy", "labels", "condition", "availability", "residency"])
def test_what_decides_about_versions_is_pure(module: str) -> None:
    """So is everything in ``lifecycle`` that it imports, directly or indirectly."""
    inside = {name: path for name, path in package_modules().items() if name.startswith("lifecycle.")}
    used = {name: modules_used(path) & inside.keys() for name, path in inside.items()}
    assert "lifecycle.models" in below("lifecycle.manager", used)
    allowed = {"__future__", "collections", "dataclasses", "enum", "typing", "servable"}
    for name in below(f"lifecycle.{module}", used) | {f"lifecycle.{module}"}:
        path = inside[name]
        assert _roots(imports(path)) <= allowed, shown(path)
        calls = [node.func for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)]
        assert not {one.id for one in calls if isinstance(one, ast.Name)} & {"open", "print", "input"}


def test_a_version_has_the_condition_that_its_events_gave_it() -> None:
    """Outside ``condition.py``, conditions start with an announcement, and no field of one is set."""
    owner = CONTROL_PLANE / "lifecycle" / "condition.py"
    condition = next(node for node in tree_of(owner).body if getattr(node, "name", "") == "Condition")
    fields = {node.target.id for node in ast.walk(condition) if isinstance(node, ast.AnnAssign)}
    assert {"state", "error", "retry_at"} <= fields
    announced = 0
    for path in set(python_files()) - {owner}:
        if not path.is_relative_to(CONTROL_PLANE / "lifecycle"):
            continue
        for node in ast.walk(tree_of(path)):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id == "Condition":
                announced += 1
                assert (len(node.args), node.keywords) == (1, []), shown(path)
            elif node.func.id == "replace":
                assert not {one.arg for one in node.keywords} & fields, shown(path)
    assert announced > 0


@pytest.mark.parametrize(
    "path",
    [
        "batch/queue.rs",
        "traffic_split/choice.rs",
        "traffic_split/rollback.rs",
        *(f"scheduler/{name}.rs" for name in ("queues", "lane", "turns", "rate", "sharing", "sizes")),
    ],
)
def test_decisions_of_queues_are_pure(path: str) -> None:
    code = code_of(SRC / path)
    assert not re.search(
        r"\b(now\(|thread|sleep|fs|io|net|Mutex|Condvar|mpsc)\b", code.replace("now: Instant", "")
    )


def test_the_package_never_imports_tensorflow() -> None:
    """The core opens its library, and a client needs none of it; what converts is a process of its own."""
    exporting = CONTROL_PLANE / "engines" / "keras_export.py"
    heavy = {"tensorflow", "keras", "tf_keras", "h5py", "numpy"}
    users = {path for path in CONTROL_PLANE.rglob("*.py") if "tensorflow" in _roots(imports(path))}
    assert users == {exporting}
    at_import = [node for node in tree_of(exporting).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert not heavy & _roots({name for node in at_import for name in _imported(node)})
    assert not [
        shown(path) for path in package_modules().values() if "engines.keras_export" in modules_used(path)
    ]


def _imported(node: ast.Import | ast.ImportFrom) -> set[str]:
    return {node.module or ""} if isinstance(node, ast.ImportFrom) else {name.name for name in node.names}


def _roots(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


# ---- everything


def test_names_say_what_a_file_is_for() -> None:
    grab_bags = {"util", "utils", "helper", "helpers", "common", "misc", "stuff"}
    files = [*SRC.rglob("*.rs"), *python_files()]
    bad = [shown(path) for path in files if grab_bags & {path.stem, *path.relative_to(ROOT).parts[:-1]}]
    assert bad == []


def test_tests_do_not_sleep() -> None:
    """Neither by that name, nor on an event that nobody can set: ``Event().wait(2)``."""
    sleepers = []
    for path in TESTS.rglob("*.py"):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and (_called(node) == "sleep" or _waits_for_nothing(node)):
                sleepers.append(f"{shown(path)}:{node.lineno}")
    assert sleepers == []


def _called(node: ast.AST) -> str:
    """Returns the last name of what is called; "" if nothing is, or it has none."""
    function = node.func if isinstance(node, ast.Call) else None
    name: str = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name


def _waits_for_nothing(node: ast.Call) -> bool:
    """Waits on a fresh event for a limited time; without a limit, it hangs, which is another matter."""
    limited = bool(node.args or node.keywords) and _called(node) == "wait"
    return limited and isinstance(node.func, ast.Attribute) and _called(node.func.value) == "Event"


@pytest.mark.parametrize(
    ("code", "waits"),
    [
        ("threading.Event().wait(2.5)", True),
        ("Event().wait(timeout=2)", True),
        ("threading.Event().wait()", False),
        ("opened.wait(10)", False),
        ("process.wait(30)", False),
    ],
)
def test_a_sleep_by_another_name_is_known(code: str, waits: bool) -> None:
    call = ast.parse(code, mode="eval").body
    assert isinstance(call, ast.Call)
    assert _waits_for_nothing(call) is waits


def test_tests_fix_no_port() -> None:
    """Sockets use port 0 or one assigned by the system; servers are started on port 0."""
    fixed = []
    opening = {"bind", "create_server", "connect", "create_connection", "HTTPConnection"}
    for path in TESTS.rglob("*.py"):
        for node in ast.walk(tree_of(path)):
            if not isinstance(node, ast.Call):
                continue
            if _called(node) in opening and any(
                _is_port(value) for one in node.args for value in ast.walk(one)
            ):
                fixed.append(f"{shown(path)}:{node.lineno}")
    for path in [*(TESTS / "e2e").rglob("*.py"), *(TESTS / "conformance").rglob("*.py")]:
        for given in re.findall(r"(?:--(?:rest_api_)?port=|localhost:|127\.0\.0\.1:)(\d+)", path.read_text()):
            fixed += [f"{shown(path)}: {given}"] if 0 < int(given) < 1 << 16 else []
    assert fixed == []


def _is_port(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int and node.value >= 1024


def test_the_code_that_contributors_are_shown_is_real() -> None:
    """Every line of Rust quoted in CONTRIBUTING.md is in a source file that it names."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"`(src/[\w./]+\.rs)`", text))
    lines = {line.strip() for name in named for line in (ROOT / name).read_text().splitlines()}
    quoted = [
        line.strip()
        for block in re.findall(r"```rust\n(.*?)```", text, re.DOTALL)
        for line in block.splitlines()
    ]
    assert len(quoted) > 10
    assert [line for line in quoted if line and line not in lines] == []
