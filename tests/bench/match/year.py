"""A year of closes at one volume: what a day costs at its end against what it cost after a month."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Sequence
from pathlib import Path

from tests.bench.match.closes import Closed

WANTED_RATIO = 1.15
# Closes around a day whose median stands for it: single closes differ with what happens on them.
AROUND = 10
DAYS_A_CLOSE = 7 / 5


def report(closed: Closed, folder: Path) -> dict[str, object]:
    """Write the series as CSV and SVG; the ratio of day 365 to day 30, for the result line.

    Fewer closes than a year has are reported as far as they go.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "year.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["close", "rows", "open_items", "sql_seconds", "seconds"])
        for number, row in enumerate(zip(closed.rows, closed.open_items, closed.sql_seconds, closed.seconds,
                                         strict=True), 1):  # fmt: skip
            writer.writerow([number, *row])
    (folder / "year.svg").write_text(_plot(closed.sql_seconds), encoding="utf-8")
    count = len(closed.seconds)
    early, late = min(round(30 / DAYS_A_CLOSE), count), min(round(365 / DAYS_A_CLOSE), count)
    found: dict[str, object] = {"closes": count, "rows_a_close": round(statistics.mean(closed.rows))}
    for name, series in (("sql", closed.sql_seconds), ("whole", closed.seconds)):
        first, last = _around(series, early), _around(series, late)
        found[name] = {"day_30_s": round(first, 2), "last_s": round(last, 2), "ratio": round(last / first, 3)}
        print(f"{name}: close {early} {first:.2f} s, close {late} {last:.2f} s, {last / first:.3f}x "
              f"(at most {WANTED_RATIO})")  # fmt: skip
    for start in range(0, count, AROUND):
        part = closed.sql_seconds[start : start + AROUND]
        print(f"  closes {start + 1:3}-{start + len(part):3} {statistics.median(part):6.2f} s "
              + "#" * round(40 * statistics.median(part) / max(closed.sql_seconds)))  # fmt: skip
    print(f"series: {folder / 'year.csv'}, plot: {folder / 'year.svg'}")
    return {**found, "wanted": WANTED_RATIO}


def _around(series: Sequence[float], number: int) -> float:
    """The median of the closes around one, as many before as after it where there are."""
    end = min(number + AROUND // 2, len(series))
    return statistics.median(series[max(end - AROUND, 0) : end])


def _plot(series: Sequence[float]) -> str:
    """One line over the closes, with its scale."""
    width, height, top = 900, 300, max(series) * 1.1
    points = " ".join(
        f"{40 + n * (width - 60) / max(len(series) - 1, 1):.1f},{height - 30 - s * (height - 50) / top:.1f}"
        for n, s in enumerate(series)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="11">'
        f'<text x="40" y="14">seconds of SQL a close; highest {max(series):.1f} s</text>'
        f'<line x1="40" y1="{height - 30}" x2="{width - 20}" y2="{height - 30}" stroke="#888"/>'
        f'<text x="40" y="{height - 14}">close 1</text>'
        f'<text x="{width - 90}" y="{height - 14}">close {len(series)}</text>'
        f'<polyline points="{points}" fill="none" stroke="#1f6feb" stroke-width="1.5"/></svg>\n'
    )
