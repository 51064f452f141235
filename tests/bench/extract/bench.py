"""Extraction side by side: Tieout, a bare COPY pipe, and the tools people use today; the same rows, the same server.

Tieout and the pipe write into the same logged raw table with its two indexes, take turns in every round, and are
compared within a round, since the machine is never quiet. The other tools make their tables themselves, without an
index, and run once. Times are those of the whole client process, its start included; memory is the largest sum of
its processes' resident sets. Every run's rows and sums are compared with the source's.
"""

from __future__ import annotations

import argparse
import contextlib
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

import peers
import psutil
import psycopg2

from tieout.postgres import Cluster, ensure_roles, free_port, migrate
from tieout.sources import ensure_raw_tables, load_registry

HERE = Path(__file__).parent
PLUGINS = HERE.parents[2] / "plugins"
SAMPLE_EVERY_S = 0.05
PEER_TIMEOUT_S = 3600
PIPE, PIPE_TOTALS, TIEOUT, TRANSPORT = "psql | psql", "psql | psql, totals", "tieout", "tieout, no totals"
MASKED = "tieout, card numbers masked"
UNINDEXED = ", no index"
MEMORY_MAX_MB = 150

TABLE = """
create schema shop;
create table shop.payments (
    payment_id bigint primary key, merchant_id bigint not null, order_reference text not null,
    method text not null, network text, market text not null, currency text not null, amount_minor bigint not null,
    fee_minor bigint not null, rate numeric(18, 8), is_live boolean not null, status text not null, description text,
    created_at timestamptz not null, updated_at timestamptz not null
);
insert into shop.payments
select i, i % 5000, 'ORD-' || md5(i::text), (array['card', 'wallet', 'bank_transfer'])[1 + i % 3],
       (array['visa', 'mastercard', null])[1 + i % 3], (array['NL', 'DE', 'GB', 'US', 'JP'])[1 + i % 5],
       (array['EUR', 'EUR', 'GBP', 'USD', 'JPY'])[1 + i % 5], 100 + i % 99900, 20 + i % 300,
       1 + (i % 1000)::numeric / 100000, i % 50 <> 0, (array['captured', 'refunded', 'settled'])[1 + i % 3],
       case when i % 1000 = 0 then 'paid by card ' || (array[
           '4111111111111111', '5555 5555 5555 4444', '378282246310005', '6011-1111-1111-1117', '3530111333300000',
           '30569309025904', '4242 4242 4242 4242', '2223003122003222'])[1 + i / 1000 % 8]
           else 'payment for order ' || i end, timestamptz '2026-10-01' + i * interval '50 ms',
       timestamptz '2026-10-01' + i * interval '51 ms'
from generate_series(1::bigint, %s) i;
"""
COLUMNS = (
    "payment_id bigint", "merchant_id bigint", "order_reference text", "method text", "network text", "market text",
    "currency text", "amount_minor bigint", "fee_minor bigint", "rate numeric(18,8)", "is_live boolean", "status text",
    "description text", "created_at timestamptz", "updated_at timestamptz",
)  # fmt: skip
NAMES = ", ".join(column.split()[0] for column in COLUMNS)
DECLARATION = """
sources:
  - name: shop
    schema: raw
    config:
      meta: {owner: bench, kind: snapshot, connection: shop, schema: shop, classification: internal}
    tables:
      - name: payments
        identifier: shop_payments
        config:
          meta: {key: [payment_id], mode: incremental, cursor: updated_at,
                 amounts: {amount_minor: currency, fee_minor: currency}}
        columns:
"""
FREE_TEXT = "description"
# One in so many of them holds a card number.
CARDS_ONE_IN = 1000
# Without totals it is the same code with the weighing left out on both sides, to show what the transport costs.
CHILD = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
import psycopg2
from psycopg2 import sql
from tieout import batches
from tieout.extraction import snapshot, copying as source_copy
from tieout.sources import load_registry
source, warehouse, project, totals = sys.argv[1:]
if totals == "without":
    nothing = batches.Totals(0, 0, {})
    source_copy.totals_statement = lambda *_: sql.SQL("select 0")
    source_copy.fold_totals = batches.raw_totals = lambda *_: nothing
day = datetime(2026, 10, 19, tzinfo=UTC)
snapshot.take_snapshot(
    source, psycopg2.connect(warehouse), load_registry(Path(project)), "shop", day, day + timedelta(days=1), day
)
"""
# What anyone would write who wants to know whether the copy is right.
TOTALS = (
    "select currency, count(*), sum(amount_minor), sum(fee_minor), "
    "sum(('x' || left(md5(payment_id::text), 15))::bit(60)::bigint) from {} group by currency"
)
FACTS = "select count(*), sum(amount_minor), sum(fee_minor), max(updated_at) from {}"
CARDS = (
    "select count(*) filter (where description like '%{card %'), "
    "count(*) filter (where description ~ '[0-9]{13}') from "
)


@dataclass(frozen=True)
class Run:
    """One way's one run: seconds of wall time, and the peak of resident memory in MB."""

    way: str
    seconds: float
    memory_mb: float


class Bench:
    """A server with the source and the warehouse."""

    def __init__(self, cluster: Cluster, scratch: Path, rows: int) -> None:
        self.cluster, self.scratch, self.rows = cluster, scratch, rows
        self.source, self.target = cluster.dsn("shop"), cluster.dsn("warehouse")
        for name in ("shop", "warehouse"):
            cluster.execute(f"create database {name}")
        self.plain, self.masking = _declare(scratch / "plain", ()), _declare(scratch / "masking", (FREE_TEXT,))
        with cluster.connect("warehouse") as connection:
            ensure_roles(connection)
            migrate(connection)
            ensure_raw_tables(connection, load_registry(self.plain))
        with cluster.connect("shop") as connection, connection.cursor() as cursor:
            cursor.execute(TABLE.replace("%s", str(rows)))
        cluster.execute("vacuum analyze shop.payments", "shop")
        self.facts = self._ask("shop", FACTS.format("shop.payments"))

    def measure(self, way: str, command: list[str], target: str) -> Run:
        """Run one way on an emptied table and a server at rest; refuse a copy that is not the source's."""
        with self.cluster.connect("warehouse") as connection, connection.cursor() as cursor:
            cursor.execute("truncate raw.shop_payments, ops.batches, ops.batch_totals cascade")
        self.cluster.execute("checkpoint")
        ours = {"PYTHONPATH": str(PLUGINS), "TIEOUT_CARD_KEY": "k" * 32}
        settings = ours if way.startswith(TIEOUT) else peers.QUIET
        with tempfile.TemporaryFile("w+") as said:
            began = time.monotonic()
            client = psutil.Popen(
                command, env={**os.environ, **settings}, cwd=self.scratch, stdout=subprocess.DEVNULL, stderr=said
            )
            memory_mb = _peak_memory(client, began + PEER_TIMEOUT_S) / 2**20
            seconds = time.monotonic() - began
            said.seek(0)
            if client.returncode:
                raise RuntimeError((said.read().strip().splitlines() or [f"exit {client.returncode}"])[-1])
        copied = self._ask("warehouse", FACTS.format(target))
        if copied != self.facts:
            raise RuntimeError(f"{target} is not the source: {copied}, expected {self.facts}")
        if way == MASKED:
            cards = self._ask("warehouse", CARDS + target)
            if cards != (self.rows // CARDS_ONE_IN, 0):
                raise RuntimeError(f"{cards[0]} descriptions are masked, {cards[1]} hold a card number still")
        return Run(way, seconds, memory_mb)

    def command(self, way: str) -> list[str]:
        if way in (TIEOUT, TRANSPORT, MASKED):
            project = self.masking if way == MASKED else self.plain
            totals = "without" if way == TRANSPORT else "with"
            return [sys.executable, "-c", CHILD, self.source, self.target, str(project), totals]
        out = f"copy (select 1::bigint, {NAMES} from shop.payments) to stdout (format binary)"
        into = f"copy raw.shop_payments (batch_id, {NAMES}) from stdin (format binary)"
        psql = shutil.which("psql", path=f"{self.cluster.bin}:{os.environ['PATH']}") or "psql"
        pipe = f'{psql} -qX "{self.source}" -c "{out}" | {psql} -qX "{self.target}" -c "{into}"'
        if way == PIPE_TOTALS:
            there, here = TOTALS.format("shop.payments"), TOTALS.format("raw.shop_payments where batch_id = 1")
            pipe = (
                f'{psql} -qX "{self.source}" -c "{there}" & weighing=$!; {pipe}; '
                f'{psql} -qX "{self.target}" -c "{here}"; wait $weighing'
            )
        return ["bash", "-o", "pipefail", "-ec", pipe]

    def drop_indexes(self) -> None:
        """Leave the raw table as the other tools leave theirs."""
        with self.cluster.connect("warehouse") as connection, connection.cursor() as cursor:
            cursor.execute(
                "select string_agg(format('drop index %s', indexrelid::regclass), '; ') from pg_index "
                "where indrelid = 'raw.shop_payments'::regclass"
            )
            (statements,) = cursor.fetchone() or ("",)
            cursor.execute(statements)

    def _ask(self, database: str, query: str) -> tuple[object, ...]:
        with self.cluster.connect(database) as connection, connection.cursor() as cursor:
            cursor.execute(query)
            return tuple(cursor.fetchone() or ())


def _declare(project: Path, free_text: tuple[str, ...]) -> Path:
    """Write the table's declaration into a project of its own, with these columns as free text."""
    (project / "models").mkdir(parents=True)
    lines = [DECLARATION]
    for name, kind in (column.split() for column in COLUMNS):
        rest = ", constraints: [{type: not_null}]" if name == "payment_id" else ""
        rest += ", config: {meta: {free_text: true}}" if name in free_text else ""
        lines.append(f"          - {{name: {name}, data_type: '{kind}'{rest}}}\n")
    (project / "models" / "shop.yml").write_text("".join(lines))
    return project


def _peak_memory(client: psutil.Popen, deadline: float) -> int:
    """Wait for a process; the largest sum of resident memory of it and all its children, in bytes."""
    peak = 0
    while client.poll() is None:
        total = 0
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in (client, *client.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    total += process.memory_info().rss
        peak = max(peak, total)
        if time.monotonic() > deadline:
            for process in (*client.children(recursive=True), client):
                process.kill()
            client.wait()
            raise RuntimeError(f"was not done after {PEER_TIMEOUT_S} s")
        time.sleep(SAMPLE_EVERY_S)
    return peak


@contextlib.contextmanager
def server(rows: int) -> Iterator[Bench]:
    directory = Path(tempfile.mkdtemp(prefix="tieout-bench-", dir="/tmp"))
    directory.chmod(0o755)
    cluster = Cluster(directory / "pg", free_port())
    try:
        cluster.start()
        scratch = directory / "scratch"
        scratch.mkdir()
        yield Bench(cluster, scratch, rows)
    finally:
        cluster.stop("immediate")
        shutil.rmtree(directory, ignore_errors=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=5_000_000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--peers", type=Path, help="folder for the other tools' environments; none: without them")
    options.add_argument("--table", type=Path, help="file to write the table to")
    given = options.parse_args()
    runs: list[Run] = []
    notes: list[str] = []
    with server(given.rows) as bench:
        ways = [PIPE, PIPE_TOTALS, TRANSPORT, TIEOUT, MASKED]
        for number in range(given.rounds):
            for way in ways[number % len(ways) :] + ways[: number % len(ways)]:
                runs.append(bench.measure(way, bench.command(way), "raw.shop_payments"))
                _tell(runs[-1], given.rows)
        if given.peers:
            bench.drop_indexes()
            for way in (PIPE, TIEOUT):
                runs.append(bench.measure(way + UNINDEXED, bench.command(way), "raw.shop_payments"))
                _tell(runs[-1], given.rows)
        for peer in peers.PEERS if given.peers else ():
            refused = peers.install(peer, given.peers.resolve())
            if refused:
                notes.append(f"{peer.name} could not be installed and was not measured: {refused}")
                continue
            try:
                command = peers.command(peer, given.peers.resolve(), bench.source, bench.target, bench.scratch)
                runs.append(bench.measure(peer.name, command, peer.target))
                _tell(runs[-1], given.rows)
            except (RuntimeError, psycopg2.Error) as error:
                notes.append(f"{peer.name} did not copy the table: {str(error).strip()}")
    result = summarise(runs, given.rows, given.rounds, notes)
    table = as_table(result, notes)
    print(f"\n{table}")
    if given.table:
        given.table.write_text(table)
    print("RESULT " + json.dumps(result))


def _tell(run: Run, rows: int) -> None:
    print(f"{run.way:28} {run.seconds:7.1f} s {rows / run.seconds:12,.0f} rows/s {run.memory_mb:6.0f} MB", flush=True)


def summarise(runs: list[Run], rows: int, rounds: int, notes: list[str]) -> dict[str, object]:
    """The figures: medians, and ratios taken within a round."""
    ways: dict[str, list[Run]] = {}
    for run in runs:
        ways.setdefault(run.way, []).append(run)

    def ratio(way: str, other: str) -> float:
        """How many times the rate of ``other`` this way has."""
        return round(statistics.median(b.seconds / a.seconds for a, b in zip(ways[way], ways[other], strict=True)), 2)

    figures = {
        way: {
            "rows_per_s": round(rows / statistics.median(run.seconds for run in made)),
            "memory_mb": round(max(run.memory_mb for run in made)),
        }
        for way, made in ways.items()
    }
    others = {peer.name: figures[peer.name]["rows_per_s"] for peer in peers.PEERS if peer.name in figures}
    fastest = max(others, key=lambda name: others[name]) if others else None
    return {
        "bench": "extract", "rows": rows, "columns": len(COLUMNS), "rounds": rounds, "ways": figures,
        "transport_vs_psql": ratio(TRANSPORT, PIPE),
        "verified_vs_psql": ratio(TIEOUT, PIPE),
        "verified_vs_psql_with_totals": ratio(TIEOUT, PIPE_TOTALS),
        "masked_vs_verified": ratio(MASKED, TIEOUT),
        "fastest_other": fastest,
        "verified_vs_fastest_other": round(
            figures[TIEOUT + UNINDEXED]["rows_per_s"] / others[fastest], 1
        ) if fastest else None,
        "memory_under_150_mb": figures[TIEOUT]["memory_mb"] < MEMORY_MAX_MB, "not_measured": notes,
    }  # fmt: skip


def as_table(result: dict[str, object], notes: list[str]) -> str:
    """The figures as a Markdown table."""
    ways: dict[str, dict[str, int]] = result["ways"]  # type: ignore[assignment]
    bare = ways[PIPE]["rows_per_s"]
    lines = [
        f"{result['rows']:,} rows of {result['columns']} columns, {os.cpu_count()} processors, Postgres to Postgres "
        f"on one server; medians of {result['rounds']} rounds "
        "(without index, and other tools: one run)",
        "",
        "| way | rows/s | of psql's | peak client memory |",
        "|---|---:|---:|---:|",
    ]
    for way, figures in ways.items():
        rate = figures["rows_per_s"]
        lines.append(
            f"| {way.replace('|', chr(92) + '|')} | {rate:,} | {rate / bare:.2f} | {figures['memory_mb']} MB |"
        )
    lines += [
        "",
        f"Within a round: the transport alone {result['transport_vs_psql']}, verified on both sides "
        f"{result['verified_vs_psql']} of psql's rate, {result['verified_vs_psql_with_totals']} of psql's with the "
        "same totals taken by hand. Card numbers looked for in one column, and found in one row of "
        f"{CARDS_ONE_IN:,}: {result['masked_vs_verified']} of the verified rate.",
        *(f"{note}." for note in notes),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
