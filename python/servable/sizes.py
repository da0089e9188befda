"""Human-readable sizes."""

from __future__ import annotations

_UNITS = {"": 1, "B": 1} | {
    name: base**power
    for base, names in ((1000, ("k", "M", "G", "T")), (1024, ("Ki", "Mi", "Gi", "Ti")))
    for power, unit in enumerate(names, 1)
    for name in (unit, unit.upper(), unit + "B", unit.upper() + "B")
}


def parse_size(text: str) -> int:
    """Parses ``1500000``, ``1.5GB`` (powers of 1000) or ``2GiB`` (powers of 1024). Raises ``ValueError``."""
    stripped = text.strip()
    number = stripped.rstrip("BKMGTikmgt").rstrip()
    unit = stripped[len(number) :].strip()
    if unit not in _UNITS or not number.replace(".", "", 1).isdecimal() or not number.isascii():
        raise ValueError(f"expected a size such as 500MB or 2GiB, got {text!r}")
    size = float(number) * _UNITS[unit]
    if size == float("inf"):
        raise ValueError(f"expected a size such as 500MB or 2GiB, got one of {len(number)} digits")
    return int(size)


def size_text(count: float) -> str:
    """Formats a number of bytes: ``17.3 MB`` (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
