"""What is known of the acceleration of a version, in a form for people and programs."""

from __future__ import annotations

from typing import Any

from servable.admin.interfaces import Acceleration, Candidate, Times

LOWER = (" bf16", " int8")
"""How the names of candidates in lower precision end."""


def acceleration_fields(acceleration: Acceleration) -> dict[str, Any]:
    """Returns the fields of one signature."""
    _, progress, engine, reason, refused, candidates = acceleration
    fields: dict[str, Any] = {"engine": engine, "progress": progress}
    if reason:
        fields["reason"] = reason
    if refused:
        fields["runs_refused"] = refused
    fields["candidates"] = [_candidate(one) for one in candidates]
    return fields


def _candidate(candidate: Candidate) -> dict[str, Any]:
    engine, difference, agreement, times, refusal = candidate
    fields: dict[str, Any] = {"engine": engine}
    if difference is not None:
        fields["largest_difference"] = difference
    if agreement is not None:
        fields["agreement"] = agreement
    if times is not None:
        fields["milliseconds"] = _milliseconds(times)
    chosen = "accurate enough, and faster" if engine.endswith(LOWER) else "equal and faster"
    fields["decision"] = f"not chosen: {refusal}" if refusal else chosen
    return fields


def _milliseconds(times: Times) -> dict[str, dict[str, float]]:
    """Returns times of one run: of TensorFlow and of the candidate."""
    names = ("one_caller", "one_caller_cpu", "all_cores", "all_cores_cpu")
    return {
        name: {"tensorflow": round(reference * 1e3, 3), "candidate": round(candidate * 1e3, 3)}
        for name, (reference, candidate) in zip(names, times, strict=True)
    }
