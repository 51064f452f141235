"""Files side by side: a bare COPY of a settlement report, and Tieout's whole load of it; the same file, one server.

The bare COPY writes the CSV as it is into a logged table of text columns without an index. Tieout's load copies the
file, hashes it, reads and proves every line, and writes typed rows into a logged raw table with its indexes and its
control totals taken on both sides. The two take turns in every round and are compared within a round, since the
machine is never quiet. "our rows" is a bare COPY of what Tieout wrote back into the same emptied raw table: what the
server alone asks for. Times are those of the whole client process, its start included; memory is the largest sum of
its processes' resident sets.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import camt_file
import psutil
import reports
from psycopg2 import sql

from tieout.postgres import Cluster, ensure_roles, free_port, migrate
from tieout.sources import ensure_raw_tables, load_registry

HERE = Path(__file__).parent
PLUGINS = HERE.parents[2] / "plugins"
SAMPLE_EVERY_S = 0.02
COPY, OUR_ROWS, TIEOUT, READER = "psql COPY", "psql COPY, our rows", "tieout", "tieout, reader alone"
ADYEN, STRIPE, CHECKOUT, CAMT = "adyen", "stripe", "checkout (declared)", "camt.053"
WANTED_RATIO = 0.3
LOAD = """
import sys
from datetime import UTC, datetime
from pathlib import Path
import psycopg2
from tieout.landing.load import load_landing
from tieout.sources import load_registry
landing, warehouse = sys.argv[1:]
as_of = datetime(2026, 11, 20, tzinfo=UTC)
(outcome,) = load_landing(Path(landing), psycopg2.connect(warehouse), load_registry(), as_of)
if outcome.outcome != "loaded":
    sys.exit(f"{outcome.outcome}: {outcome.reason}")
"""
READ = """
import sys
from pathlib import Path
from tieout import files
files.read(next(Path(sys.argv[1]).iterdir()), lambda table, row: None)
"""


@dataclass(frozen=True)
class Run:
    """One way's one run over one report: seconds of wall time, and the peak of resident memory in MB."""

    report: str
    way: str
    rows: int
    seconds: float
    memory_mb: float


class Bench:
    """A server with an empty warehouse, and the reports, each in a folder of its own."""

    def __init__(self, cluster: Cluster, scratch: Path) -> None:
        self.cluster, self.scratch = cluster, scratch
        self.target = cluster.dsn("warehouse")
        cluster.execute("create database warehouse")
        self.tables = [table.raw_table for table in load_registry().tables if table.kind == "file"]
        with cluster.connect("warehouse") as connection:
            ensure_roles(connection)
            migrate(connection)
            ensure_raw_tables(connection, load_registry())

    def landing(self, report: str) -> Path:
        """The folder of one report."""
        folder = self.scratch / report
        folder.mkdir(exist_ok=True)
        return folder

    def prepare_copy(self, report: Path) -> None:
        """An empty logged table of text columns, one a column of the CSV."""
        with report.open(newline="", encoding="utf-8") as stream:
            names = next(csv.reader(stream))
        columns = sql.SQL(", ").join(sql.SQL("{} text").format(sql.Identifier(name)) for name in names)
        with self.cluster.connect("warehouse") as connection, connection.cursor() as cursor:
            cursor.execute("drop table if exists bare")
            cursor.execute(sql.SQL("create table bare ({})").format(columns))

    def keep_our_rows(self) -> None:
        """Write what Tieout loaded out, in the format in which it goes in."""
        self._psql(f"\\copy raw.settlement_lines to '{self.scratch / 'our_rows'}' (format binary)")

    def measure(self, report: str, way: str, rows: int) -> Run:
        """Run one way on an emptied warehouse and a server at rest.

        :raises RuntimeError: it failed, or it left another number of rows.
        """
        path = next(self.landing(report).iterdir())
        with self.cluster.connect("warehouse") as connection, connection.cursor() as cursor:
            names = ", ".join(f"raw.{table}" for table in self.tables)
            # What may never be emptied in earnest is here between two runs.
            cursor.execute("set session_replication_role = replica")
            cursor.execute(f"truncate {names}, ops.files, ops.batches, ops.batch_totals cascade")
        counted = "raw.bank_entries" if report == CAMT else "raw.settlement_lines"
        command = {
            TIEOUT: [sys.executable, "-c", LOAD, str(path.parent), self.target],
            READER: [sys.executable, "-c", READ, str(path.parent)],
            COPY: self._command(f"\\copy bare from '{path}' (format csv, header)"),
            OUR_ROWS: self._command(f"\\copy raw.settlement_lines from '{self.scratch / 'our_rows'}' (format binary)"),
        }[way]
        if way == COPY:
            self.prepare_copy(path)
            counted = "bare"
        self.cluster.execute("checkpoint")
        with tempfile.TemporaryFile("w+") as said:
            began = time.monotonic()
            client = psutil.Popen(
                command, env={**os.environ, "PYTHONPATH": str(PLUGINS)}, stdout=subprocess.DEVNULL, stderr=said
            )
            memory_mb = _peak_memory(client) / 2**20
            seconds = time.monotonic() - began
            said.seek(0)
            if client.returncode:
                raise RuntimeError(f"{way}: {(said.read().strip().splitlines() or [f'exit {client.returncode}'])[-1]}")
        with self.cluster.connect("warehouse") as connection, connection.cursor() as cursor:
            cursor.execute(f"select count(*) from {counted}")
            (found,) = cursor.fetchone() or (None,)
        if way != READER and found != rows:
            raise RuntimeError(f"{way}: {found} rows of {report} arrived, expected {rows}")
        return Run(report, way, rows, seconds, memory_mb)

    def _psql(self, statement: str) -> None:
        subprocess.run(self._command(statement), check=True, stdout=subprocess.DEVNULL)

    def _command(self, statement: str) -> list[str]:
        psql = shutil.which("psql", path=f"{self.cluster.bin}:{os.environ['PATH']}") or "psql"
        return [psql, "-qX", "-v", "ON_ERROR_STOP=1", self.target, "-c", statement]


def _peak_memory(client: psutil.Popen) -> int:
    """Wait for a process; the largest sum of resident memory of it and all its children, in bytes."""
    peak = 0
    while client.poll() is None:
        total = 0
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in (client, *client.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    total += process.memory_info().rss
        peak = max(peak, total)
        time.sleep(SAMPLE_EVERY_S)
    return peak


@contextlib.contextmanager
def server() -> Iterator[Bench]:
    directory = Path(tempfile.mkdtemp(prefix="tieout-bench-", dir="/tmp"))
    directory.chmod(0o755)
    cluster = Cluster(directory / "pg", free_port())
    try:
        cluster.start()
        scratch = directory / "scratch"
        scratch.mkdir()
        yield Bench(cluster, scratch)
    finally:
        cluster.stop("immediate")
        shutil.rmtree(directory, ignore_errors=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--lines", type=int, default=2_000_000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--camt-mb", type=int, default=100)
    options.add_argument("--table", type=Path, help="file to write the table to")
    given = options.parse_args()
    runs: list[Run] = []

    def run(bench: Bench, report: str, way: str, rows: int) -> None:
        made = bench.measure(report, way, rows)
        runs.append(made)
        rate, memory = made.rows / made.seconds, made.memory_mb
        print(f"{report:20} {way:22} {made.seconds:7.1f} s {rate:11,.0f} rows/s {memory:6.0f} MB", flush=True)

    with server() as bench:
        reports.write_adyen(bench.landing(ADYEN) / "report.csv", given.lines)
        for number in range(given.rounds):
            for way in (COPY, TIEOUT)[:: -1 if number % 2 else 1]:
                run(bench, ADYEN, way, given.lines)
                if way == TIEOUT and not number:
                    bench.keep_our_rows()
        run(bench, ADYEN, OUR_ROWS, given.lines)
        run(bench, ADYEN, READER, given.lines)
        (bench.scratch / "our_rows").unlink()
        for report, write in ((STRIPE, reports.write_stripe), (CHECKOUT, reports.write_checkout)):
            write(bench.landing(report) / "report.csv", given.lines // 4)
            for way in (COPY, TIEOUT, READER):
                run(bench, report, way, given.lines // 4)
        entries, _ = camt_file.write_camt(bench.landing(CAMT) / "statement.xml", given.camt_mb << 20)
        for way in (TIEOUT, READER):
            run(bench, CAMT, way, entries)
    result = summarise(runs, given.lines, given.rounds, given.camt_mb)
    table = as_table(runs, result)
    print(f"\n{table}")
    if given.table:
        given.table.write_text(table)
    print("RESULT " + json.dumps(result))


def summarise(runs: list[Run], lines: int, rounds: int, camt_mb: int) -> dict[str, object]:
    """The figures: medians, and the ratio to the bare COPY taken within a round."""
    figures: dict[str, dict[str, dict[str, int]]] = {}
    for made in runs:
        alike = [each for each in runs if (each.report, each.way) == (made.report, made.way)]
        figures.setdefault(made.report, {})[made.way] = {
            "rows_per_s": round(made.rows / statistics.median(each.seconds for each in alike)),
            "memory_mb": round(max(each.memory_mb for each in alike)),
        }

    def ratio(report: str) -> float:
        ours, bare = (
            [each.seconds for each in runs if (each.report, each.way) == (report, way)] for way in (TIEOUT, COPY)
        )
        return round(statistics.median(b / a for a, b in zip(ours, bare, strict=True)), 2)

    ratios = {report: ratio(report) for report in (ADYEN, STRIPE, CHECKOUT)}
    camt_s = statistics.median(each.seconds for each in runs if (each.report, each.way) == (CAMT, TIEOUT))
    return {
        "bench": "files", "lines": lines, "rounds": rounds, "ways": figures, "load_vs_copy": ratios,
        "wanted": WANTED_RATIO, "reached": ratios[ADYEN] >= WANTED_RATIO, "camt_mb": camt_mb,
        "camt_s": round(camt_s, 1),
    }  # fmt: skip


def as_table(runs: list[Run], result: dict[str, object]) -> str:
    """The figures as a Markdown table."""
    ways: dict[str, dict[str, dict[str, int]]] = result["ways"]  # type: ignore[assignment]
    ratios: dict[str, float] = result["load_vs_copy"]  # type: ignore[assignment]
    rows = {made.report: made.rows for made in runs}
    lines = [
        f"{os.cpu_count()} processors for client and server together; {result['rounds']} rounds for Adyen's report "
        f"(medians), one run for the others; camt.053 of {result['camt_mb']} MB",
        "",
        "| report | way | rows | rows/s | of the bare COPY | peak client memory |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for report, figures in ways.items():
        for way, figure in figures.items():
            share = f"{ratios[report]:.2f}" if way == TIEOUT and report in ratios else ""
            rate, memory = figure["rows_per_s"], figure["memory_mb"]
            lines.append(f"| {report} | {way} | {rows[report]:,} | {rate:,} | {share} | {memory} MB |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
