"""``tieout read``: what the readers make of files, as JSON lines or a table, without loading anything."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tieout import files, money
from tieout.files.proof import Reading, Rejected

READ, MISSING = 0, 2
COLUMNS = ("file", "format", "status", "statements", "entries", "signed_sum", "balance", "reason")


def read_files(paths: Sequence[Path], json_output: bool, console: Console) -> int:
    """Read each file through the readers of the landing and print what it holds; load nothing.

    JSON goes out as one object a line with the keys of ``COLUMNS``; otherwise as one table.

    :returns: 0 when every file was read or quarantined in good order, 2 when a path cannot be opened.
    """
    missing = [path for path in paths if not path.is_file()]
    if missing:
        names = ", ".join(map(str, missing))
        console.print(
            f"No such file: {names}. Nothing was read; check the path.", style="red", markup=False, soft_wrap=True
        )
        return MISSING
    outcomes = []
    for path in paths:
        outcome = read_file(path)
        if json_output:
            # Straight to the stream: the console would wrap a line and colour what looks like markup.
            console.file.write(json.dumps(outcome, ensure_ascii=False) + "\n")
        outcomes.append(outcome)
    if not json_output:
        console.print(_table(outcomes))
    return READ


def read_file(path: Path) -> dict[str, Any]:
    """One file's outcome, keyed by ``COLUMNS``; ``reason`` is None unless the file is quarantined."""
    reason = None
    try:
        reading = files.read(path, _discard)
    except Rejected as rejected:
        reading, reason = rejected.reading or Reading(), str(rejected)
    return {
        "file": str(path),
        "format": reading.format,
        "status": "quarantined" if reason else "ok",
        "statements": reading.statements,
        "entries": reading.entries,
        "signed_sum": _signed_sum(reading),
        "balance": reading.balance,
        "reason": reason,
    }


def _discard(table: str, row: tuple[Any, ...]) -> None:
    """A sink for those who only count."""


def _signed_sum(reading: Reading) -> str | dict[str, str]:
    """The sum in major units: decimal text for one currency, an object by currency for several."""
    texts = {currency: f"{amount:f}" for currency, amount in reading.exact_sum.items()}
    for currency, minor in reading.signed_sum.items():
        if currency not in texts:
            texts[currency] = money.to_text(minor, currency, provider=reading.origin)
    if len(texts) > 1:
        return dict(sorted(texts.items()))
    return next(iter(texts.values()), f"{Decimal(0):f}")


def _table(outcomes: Sequence[dict[str, Any]]) -> Table:
    table = Table(title="What the readers make of them", show_lines=True)
    for column in COLUMNS:
        table.add_column(column, overflow="fold", justify="right" if column in ("statements", "entries") else "left")
    for outcome in outcomes:
        cells = []
        for column in COLUMNS:
            value = outcome[column]
            if isinstance(value, dict):
                value = "\n".join(f"{currency} {amount}" for currency, amount in value.items())
            elif column == "file":
                value = Path(value).name
            cells.append("" if value is None else str(value).replace("[", r"\["))
        table.add_row(*cells)
    return table
