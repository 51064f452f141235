"""The figures of a run as the Markdown page that stands beside the benchmark, one a mode."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SPEED = """# Matching a million items with a million, measured

`make bench-match MODE=speed PAYMENTS=1000000`: one close over a whole world. What turns items into judged items, beside
a full join written by hand that puts the same columns into a logged table with the same indexes, analysed, and knows no
fallback, tolerance, fee or repeat. They take turns.
"""
YEAR = """# A year of closes, measured

`make bench-match MODE=year`: closes of one small volume, each held against the truth. Medians of ten closes.

![seconds of SQL a close](year.svg)
"""
HEAD = """# Matching, measured

`make bench-match` plants breaks with their truth over 30 business days and holds every close against it. An item counts
once for each close at which it is open. "held back" is a world with other rates and lags, and with faults that meet on
one item. Which of the lines that a report repeats is which, when it comes again, is given, as the loader says it.
"""


def write(path: Path, result: Mapping[str, Any]) -> None:
    """Write the page of a run."""
    lines = {"match": _match, "speed": _speed, "year": _year}[result["mode"]](result)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _speed(result: Mapping[str, Any]) -> list[str]:
    return [
        SPEED, f"{result['left']:,} x {result['right']:,} items; {os.cpu_count()} cores. Median "
        f"{result['ratio']:.2f} times the join by hand, wanted {result['wanted']:.0f} at most; "
        f"{result['items_per_s']:,} items a second.", "",
        "| round | Tieout, s | by hand, s | ratio |", "|---|---|---|---|",
        *(f"| {n} | {ours:.1f} | {theirs:.1f} | {ours / theirs:.2f} |"
          for n, (ours, theirs) in enumerate(result["rounds"], 1)),
    ]  # fmt: skip


def _year(result: Mapping[str, Any]) -> list[str]:
    named = {"sql": "SQL of the close", "whole": "the whole close"}
    return [
        YEAR, f"{result['closes']} closes of {result['rows_a_close']:,} rows; {os.cpu_count()} cores. Wanted: "
        f"{result['wanted']} at most. Wrong: {'none' if result['perfect'] else 'some'}, "
        f"unexplained: {result['unexplained']}.", "", "| | day 30, s | last, s | ratio |", "|---|---|---|---|",
        *(f"| {named[name]} | {of['day_30_s']:.2f} | {of['last_s']:.2f} | {of['ratio']:.3f} |"
          for name in named for of in [result[name]]),
    ]  # fmt: skip


def _match(result: Mapping[str, Any]) -> list[str]:
    worlds: Sequence[Mapping[str, Any]] = result["worlds"]
    seeds = ", ".join(
        f"{world['seed']}{' (drawn)' * (world['seed'] in result['drawn'])}{' held back' * (world['world'] != 'usual')}"
        for world in worlds
    )
    rivals = {name: found for name, found in result["rivals"].items() if "codes" in found}
    lines = [
        HEAD, f"{result['payments']:,} payments a world, seeds {seeds}; {os.cpu_count()} cores. Unexplained: "
        f"{result['unexplained']}. {result['rows_per_s']:,} rows a second through whole closes, "
        f"{result['jobs']} world(s) at a time.", "",
        "| code | planted | found | precision | recall |" + "".join(f" {name} |" for name in rivals),
        "|---|---|---|---|---|" + "---|" * len(rivals),
    ]  # fmt: skip
    for code, of in result["all"].items():
        theirs = (found["codes"].get(code) for found in rivals.values())
        cells = "".join(f" {_pair(cell)} |" for cell in theirs)
        ours = f"{of['planted']:,} | {of['found']:,} | {of['precision']:.2%} | {of['recall']:.2%}"
        lines.append(f"| {code} | {ours} |{cells}")
    return [
        *lines, "", "Of the others: precision / recall at the last close of the first world, in payment_processor and "
        "processor_bank; empty where that close has none of a code.",
    ]  # fmt: skip


def _pair(cell: Mapping[str, float] | None) -> str:
    return f"{cell['precision']:.0%} / {cell['recall']:.0%}" if cell else ""
