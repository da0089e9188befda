"""The page of metrics: its flag and its content."""

from __future__ import annotations

import re
from pathlib import Path

from conftest import Served
from wire import ask

PAGE = "/monitoring/prometheus/metrics"
SERVING = ":tensorflow:serving:"
SAMPLE = re.compile(r'(?P<name>[:a-zA-Z0-9_]+)\{(?P<labels>(?:\w+="(?:[^"\\]|\\.)*",?)*)\} (?P<value>\S+)')


def monitoring(folder: Path, text: str = "prometheus_config { enable: true }") -> str:
    """Returns the flag for a text MonitoringConfig."""
    file = folder / "monitoring.config"
    file.write_text(text)
    return f"--monitoring_config_file={file}"


def samples(served: Served, path: str = PAGE) -> dict[str, str]:
    """Returns every sample: name and labels as written → value. Fails on any line but samples and types."""
    reply = ask(served, "GET", path)
    assert (reply.status, reply.headers["content-type"]) == (200, "text/plain"), reply
    found = {}
    for line in reply.text.removesuffix("\n").split("\n"):
        if re.fullmatch(r"# TYPE [:a-zA-Z0-9_]+ (counter|gauge|histogram|untyped)", line):
            continue
        sample = SAMPLE.fullmatch(line)
        assert sample, line
        found[f"{sample['name']}{{{sample['labels']}}}"] = sample["value"]
    return found
