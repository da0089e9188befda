"""Makes the Grafana dashboard ``deploy/grafana/servable.json``: ``make docs`` writes it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parent.parent / "deploy" / "grafana" / "servable.json"

SERVER = 'job="$job",instance=~"$instance"'
MODEL = f'{SERVER},model=~"$model"'
EVERY = "[$__rate_interval]"


@dataclass(frozen=True)
class Panel:
    """A graph: each expression with the legend of its lines. unit: as Grafana names it."""

    title: str
    unit: str
    lines: tuple[tuple[str, str], ...]
    explained: str = ""


def rate(name: str, by: str, where: str = MODEL) -> str:
    """Returns the sum of rates of a counter."""
    return f"sum by ({by}) (rate({name}{{{where}}}{EVERY}))"


def quantiles(name: str, where: str = MODEL) -> tuple[tuple[str, str], ...]:
    """Returns the median and two quantiles of a histogram, by model."""
    buckets = rate(f"{name}_bucket", "model, le", where)
    return tuple(
        (f"histogram_quantile({share / 100}, {buckets})", f"{{{{model}}}} p{share}") for share in (50, 90, 99)
    )


def average(name: str) -> str:
    """Returns the average of a histogram's values, by model."""
    return f"{rate(f'{name}_sum', 'model')} / {rate(f'{name}_count', 'model')}"


CALLS = f'{MODEL},method!="other"'
FAILED = f'{MODEL},outcome!="OK"'
ALL = rate("servable_requests_total", "model")
PHASES = ("decode", "queue", "run", "encode")
ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "Requests",
        (
            Panel(
                "Requests by model",
                "reqps",
                ((rate("servable_requests_total", "model, method"), "{{model}} {{method}}"),),
            ),
            Panel(
                "Outcomes",
                "reqps",
                ((rate("servable_requests_total", "outcome"), "{{outcome}}"),),
                "CANCELLED: the client left before it was answered.",
            ),
            Panel(
                "Errors, of all requests",
                "percentunit",
                ((f"{rate('servable_requests_total', 'model', FAILED)} / {ALL}", "{{model}}"),),
            ),
            Panel(
                "Time to answer",
                "s",
                quantiles("servable_request_duration_seconds", CALLS),
                "From the last byte of a request to its answer, of those that ended well.",
            ),
            Panel(
                "Where the time goes",
                "s",
                tuple(
                    (average(f"servable_request_{phase}_seconds"), f"{{{{model}}}} {phase}")
                    for phase in PHASES
                ),
                "Averages, each of the requests that came that far; queue: of those that waited.",
            ),
            Panel(
                "In flight",
                "short",
                ((f"sum by (model) (servable_requests_in_flight{{{MODEL}}})", "{{model}}"),),
            ),
            Panel(
                "Refused",
                "reqps",
                ((rate("servable_requests_refused_total", "model, reason"), "{{model}} {{reason}}"),),
            ),
            Panel(
                "Bytes in and out",
                "Bps",
                (
                    (rate("servable_request_bytes_total", "model"), "{{model}} in"),
                    (rate("servable_response_bytes_total", "model"), "{{model}} out"),
                ),
            ),
            Panel(
                "Batches: rows and requests",
                "short",
                (
                    (average("servable_batch_rows"), "{{model}} rows"),
                    (average("servable_batch_requests"), "{{model}} requests"),
                ),
            ),
        ),
    ),
    (
        "Models",
        (
            Panel(
                "Versions by state",
                "short",
                (
                    (
                        f"sum by (model, state) (servable_model_version_state{{{MODEL}}})",
                        "{{model}} {{state}}",
                    ),
                ),
            ),
            Panel(
                "Loads",
                "short",
                (
                    (
                        f"sum by (model, outcome) (servable_model_loads_total{{{MODEL}}})",
                        "{{model}} {{outcome}}",
                    ),
                ),
            ),
            Panel(
                "Time of loads, average",
                "s",
                (
                    (
                        f"sum by (model) (servable_model_load_seconds_sum{{{MODEL}}}) / "
                        f"sum by (model) (servable_model_load_seconds_count{{{MODEL}}})",
                        "{{model}}",
                    ),
                ),
            ),
            Panel(
                "Size of loaded files",
                "bytes",
                (
                    (
                        f"sum by (model, version) (servable_model_file_bytes{{{MODEL}}})",
                        "{{model}} {{version}}",
                    ),
                ),
                "About what a model takes in memory: engines do not tell.",
            ),
            Panel(
                "Signatures by engine",
                "short",
                (
                    (
                        f"count by (model, engine) (servable_signature_engine_info{{{MODEL}}})",
                        "{{model}} {{engine}}",
                    ),
                ),
            ),
        ),
    ),
    (
        "Traffic between versions",
        (
            Panel(
                "Requests by target",
                "reqps",
                ((rate("servable_split_requests_total", "model, target"), "{{model}} {{target}}"),),
                "Of models whose traffic is spread: requests that name no version.",
            ),
            Panel(
                "Why it went there",
                "reqps",
                ((rate("servable_split_requests_total", "model, reason"), "{{model}} {{reason}}"),),
                "unavailable, rolled_back: the target could not have them, and the default got them.",
            ),
            Panel(
                "Rolled back",
                "short",
                ((f"servable_split_rolled_back{{{MODEL}}}", "{{model}} {{target}}"),),
                "1 until `servable traffic resume`, new rules or another version.",
            ),
            Panel(
                "Copies for shadows",
                "reqps",
                (
                    (
                        rate("servable_shadow_requests_total", "model, target, outcome"),
                        "{{model}} {{target}} {{outcome}}",
                    ),
                ),
            ),
            Panel(
                "Time of compared answers, average",
                "s",
                (
                    (
                        f"{rate('servable_shadow_duration_seconds_sum', 'model, side')} / "
                        f"{rate('servable_shadow_duration_seconds_count', 'model, side')}",
                        "{{model}} {{side}}",
                    ),
                ),
                "returned: with its wait; shadow: the run alone.",
            ),
        ),
    ),
    (
        "Models on demand (--lazy_load)",
        (
            Panel(
                "Versions by state",
                "short",
                ((f"sum by (state) (servable_versions{{{SERVER}}})", "{{state}}"),),
            ),
            Panel(
                "Memory of models",
                "bytes",
                (
                    (f"sum by (instance) (servable_model_memory_bytes{{{SERVER}}})", "{{instance}}"),
                    (f"servable_memory_budget_bytes{{{SERVER}}}", "{{instance}} budget"),
                ),
                "What loads were measured to take, and --memory_budget.",
            ),
            Panel(
                "Requests that waited for a load",
                "reqps",
                ((rate("servable_load_waits_total", "instance", SERVER), "{{instance}}"),),
            ),
            Panel(
                "Requests that wait for a load now",
                "short",
                ((f"servable_load_waiting{{{SERVER}}}", "{{instance}}"),),
            ),
            Panel(
                "Unloaded to make room",
                "ops",
                ((rate("servable_model_rests_total", "instance", SERVER), "{{instance}}"),),
                "Many beside few requests: the budget is too small for this traffic.",
            ),
        ),
    ),
    (
        "Server",
        (
            Panel(
                "CPU",
                "short",
                ((rate("process_cpu_seconds_total", "instance", SERVER), "{{instance}} cores"),),
            ),
            Panel("Memory", "bytes", ((f"process_resident_memory_bytes{{{SERVER}}}", "{{instance}}"),)),
            Panel(
                "Memory that requests hold",
                "bytes",
                (
                    (f"servable_memory_in_flight_bytes{{{SERVER}}}", "{{instance}}"),
                    (f"servable_memory_in_flight_limit_bytes{{{SERVER}}}", "{{instance}} limit"),
                ),
            ),
            Panel(
                "Open descriptors",
                "short",
                (
                    (f"process_open_fds{{{SERVER}}}", "{{instance}}"),
                    (f"process_max_fds{{{SERVER}}}", "{{instance}} limit"),
                ),
            ),
            Panel("Connections", "short", ((f"servable_connections{{{SERVER}}}", "{{instance}}"),)),
            Panel(
                "Limits of the edge that clients reach",
                "ops",
                ((rate("servable_limits_reached_total", "limit", SERVER), "{{limit}}"),),
            ),
            Panel(
                "Denied because of tokens",
                "reqps",
                ((rate("servable_requests_denied_total", "reason", SERVER), "{{reason}}"),),
                "Only with --auth_file.",
            ),
            Panel(
                "Spans that were lost",
                "ops",
                (
                    (
                        rate("servable_trace_spans_total", "outcome", f'{SERVER},outcome!="sent"'),
                        "{{outcome}}",
                    ),
                ),
                "queue_full, failed, rejected: the collector has not got them.",
            ),
            Panel("Threads", "short", ((f"process_threads{{{SERVER}}}", "{{instance}}"),)),
            Panel(
                "Up since",
                "dateTimeAsIso",
                ((f"process_start_time_seconds{{{SERVER}}} * 1000", "{{instance}}"),),
            ),
            Panel("Version", "short", ((f"servable_build_info{{{SERVER}}}", "{{instance}} {{version}}"),)),
        ),
    ),
)
DATA_SOURCE = {"type": "prometheus", "uid": "$datasource"}


def variable(name: str, query: str, several: bool) -> dict[str, Any]:
    """Returns a choice among the values that ``query`` finds."""
    return {
        "name": name,
        "type": "query",
        "datasource": DATA_SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": several,
        "includeAll": several,
        "allValue": ".*" if several else None,
        "current": {"text": "All", "value": "$__all"}
        if several
        else {"text": "servable", "value": "servable"},
    }


def graph(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    """Returns a panel at its place."""
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.explained,
        "datasource": DATA_SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {
                "datasource": DATA_SOURCE,
                "expr": expression,
                "legendFormat": legend,
                "refId": chr(ord("A") + index),
            }
            for index, (expression, legend) in enumerate(panel.lines)
        ],
    }


def panels() -> list[dict[str, Any]]:
    """Returns every row and its graphs, three beside each other."""
    made: list[dict[str, Any]] = []
    below = 0
    for title, graphs in ROWS:
        place = {"x": 0, "y": below, "w": 24, "h": 1}
        made.append(
            {"id": len(made) + 1, "type": "row", "title": title, "gridPos": place, "collapsed": False}
        )
        below += 1
        for index, panel in enumerate(graphs):
            place = {"x": 8 * (index % 3), "y": below + 8 * (index // 3), "w": 8, "h": 8}
            made.append(graph(len(made) + 1, panel, place))
        below += 8 * -(-len(graphs) // 3)
    return made


def dashboard() -> str:
    """Returns the file."""
    choices = [
        {"name": "datasource", "type": "datasource", "query": "prometheus"},
        variable("job", "label_values(servable_build_info, job)", several=False),
        variable("instance", 'label_values(servable_build_info{job="$job"}, instance)', several=True),
        variable("model", f"label_values(servable_model_version_state{{{SERVER}}}, model)", several=True),
    ]
    made = {
        "uid": "servable",
        "title": "Servable",
        "tags": ["servable"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": choices},
        "panels": panels(),
    }
    return json.dumps(made, indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(dashboard())
