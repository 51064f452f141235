"""The figures of a run as the Markdown page that stands beside the benchmark."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HEAD = """# Matching, measured

`make bench-match` plants breaks with their truth over 30 business days and holds every close against it. An item counts
once for each close at which it is open. "held back" is a world with other rates and lags, and with faults that meet on
one item.
"""


def write(path: Path, result: Mapping[str, Any]) -> None:
    """Write the page of a run of mode ``match``."""
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
    lines += ["", "Of the others: precision / recall at the last close of the first world, in payment_processor and "
              "processor_bank; empty where that close has none of a code."]  # fmt: skip
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _pair(cell: Mapping[str, float] | None) -> str:
    return f"{cell['precision']:.0%} / {cell['recall']:.0%}" if cell else ""
