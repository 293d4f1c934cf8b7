# SPDX-License-Identifier: MIT
"""From the values of all rounds to a table: medians, extremes, ratios, and what falls short of the goals."""

from __future__ import annotations

import statistics
from typing import Any

from rows import ROWS, Row

GOAL_METADATA = 5.0
GOAL_ANY = 1.0
# Closer than this to fuse2fs is called even: rows that the kernel's page cache answers differ by noise alone.
EVEN = 0.95
GOAL_MS = 100.0
PEERS = ("fuse2fs", "ext4")


def median_of(result: dict[str, Any], row: str, fs: str) -> float | None:
    values = result["values"].get(row, {}).get(fs)
    return statistics.median(values) if values else None


def ratio_to(result: dict[str, Any], row: Row, fs: str, peer: str) -> float | None:
    """How many times better `fs` is than `peer`, the median of the ratios within the same round.

    Rounds are paired, so that whatever else the machine did in a round weighs on both sides.
    """
    mine, theirs = (result["values"].get(row.name, {}).get(name) or [] for name in (fs, peer))
    ratios = [a / b if row.unit == "MB/s" else b / a for a, b in zip(mine, theirs) if a > 0 and b > 0]
    return statistics.median(ratios) if ratios else None


def verdict(result: dict[str, Any], row: Row, fs: str) -> str:
    """What the last column says of a row: ok, even, or how it falls short."""
    ratio = ratio_to(result, row, fs, "fuse2fs")
    median = median_of(result, row.name, fs)
    if ratio is None or median is None:
        return "not measured"
    if row.unit == "ms" and median >= GOAL_MS:
        return f"ABOVE {GOAL_MS:.0f} ms"
    if ratio < EVEN:
        return "SLOWER than fuse2fs"
    if row.metadata and ratio < GOAL_METADATA:
        return f"BELOW {GOAL_METADATA:.0f} x fuse2fs"
    return "ok" if ratio >= GOAL_ANY else "even"


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _cell(result: dict[str, Any], row: str, fs: str) -> str:
    values = result["values"].get(row, {}).get(fs)
    if not values:
        return "failed" if result["errors"].get(fs, {}).get(row) else "-"
    text = _number(statistics.median(values))
    return text if len(values) == 1 else f"{text} ({_number(min(values))}..{_number(max(values))})"


def _table(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    names = result["filesystems"]
    subjects = [name for name in names if name not in PEERS]
    peers = [name for name in PEERS if name in names]
    header = ["row", "what", "unit", *names]
    header += [f"{s} x {p}" if len(subjects) > 1 else f"x {p}" for s in subjects for p in peers]
    header += ["goal"] if subjects and "fuse2fs" in names else []
    body = []
    for row in ROWS:
        if row.name not in result["rows"]:
            continue
        line = [row.name, row.title, row.unit] + [_cell(result, row.name, name) for name in names]
        for subject in subjects:
            for peer in peers:
                ratio = ratio_to(result, row, subject, peer)
                line.append("-" if ratio is None else _number(ratio))
        if subjects and "fuse2fs" in names:
            line.append(verdict(result, row, subjects[0]))
        body.append(line)
    return header, body


def _tails(result: dict[str, Any]) -> list[str]:
    """Medians and tails of the loops in which the slow single operation matters."""
    lines = []
    for row in ROWS:
        for fs in result["filesystems"]:
            extras = result["extras"].get(row.name, {}).get(fs)
            if row.group not in ("sync", "stream") or not extras:
                continue
            parts = []
            for key in dict.fromkeys(key for extra in extras for key in extra):
                parts.append(f"{key} {_number(statistics.median(e[key] for e in extras if key in e))}")
            lines.append(f"{row.name}, {fs}: " + ", ".join(parts))
    return lines


def _errors(result: dict[str, Any]) -> list[str]:
    seen = {f"{fs}: {text}" for fs, rows in result["errors"].items() for text in rows.values()}
    return sorted(seen)


def text_render(result: dict[str, Any]) -> str:
    header, body = _table(result)
    drop = header.index("what")
    lines = [f"{key}: {value}" for key, value in result["facts"].items()]
    lines += [f"command: {result['command']}", f"sizes: {_sizes(result)}", ""]
    cells = [[c for i, c in enumerate(line) if i != drop] for line in [header, *body]]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    lines += ["  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in cells]
    tails = _tails(result)
    lines += ["", "single operations, us:", *tails] if tails else []
    errors = _errors(result)
    lines += ["", "not measured, and why:", *errors] if errors else []
    return "\n".join(lines)


def markdown_render(result: dict[str, Any]) -> str:
    header, body = _table(result)
    lines = [f"- {key}: {value}" for key, value in result["facts"].items()]
    lines += [f"- command: `{result['command']}`", f"- sizes: {_sizes(result)}", ""]
    lines += ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(line) + " |" for line in body]
    tails = _tails(result)
    lines += ["", "Single operations, in microseconds:", "", *(f"- {t}" for t in tails)] if tails else []
    errors = _errors(result)
    lines += ["", "Not measured, and why:", "", *(f"- {e}" for e in errors)] if errors else []
    return "\n".join(lines)


def _sizes(result: dict[str, Any]) -> str:
    named = dict(result["sizes"])
    image_gib = named.pop("image_bytes") / 2**30
    return ", ".join([f"image {image_gib:.0f} GiB"] + [f"{k} {v}" for k, v in named.items()])
