"""What the fault tests load: a shop's database and a landing folder, each half loaded, and the rest to be loaded.

The first day is in a template, so each test has a warehouse of its own in a tenth of a second. The second day is what
a run under a fault loads; a quiet run says what raw must be in the end.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Protocol

import psycopg2
from psycopg2.extensions import connection as Connection

from tieout.extraction.snapshot import Batch, take_snapshot
from tieout.failpoints import VARIABLE, Failpoint
from tieout.landing.load import FileOutcome, load_landing
from tieout.postgres import Cluster, ensure_roles, migrate
from tieout.sources import Registry, ensure_raw_tables, load_registry

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "plugins" / "files" / "fixtures"
DAY = datetime(2026, 10, 19, tzinfo=UTC)
AS_OF = datetime(2026, 10, 21, 4, tzinfo=UTC)
CHILD_TIMEOUT_S = 1800 if os.environ.get("TIEOUT_FAULTS") == "long" else 120

DECLARATION = """
sources:
  - name: shop
    schema: raw
    config:
      meta: {owner: payments-data, kind: snapshot, connection: shop, schema: shop, classification: internal,
             mode: incremental, cursor: updated_at}
    tables:
      - name: orders
        identifier: shop_orders
        config: {meta: {key: [order_id], amounts: {amount_minor: currency}}}
        columns:
          - {name: order_id, data_type: bigint, constraints: [{type: not_null}]}
          - {name: amount_minor, data_type: bigint, constraints: [{type: not_null}]}
          - {name: currency, data_type: text, constraints: [{type: not_null}]}
          - {name: note, data_type: text}
          - {name: updated_at, data_type: timestamptz, constraints: [{type: not_null}]}
      - name: lines
        identifier: shop_lines
        config: {meta: {key: [order_id, line_no], mode: append}}
        columns:
          - {name: order_id, data_type: bigint, constraints: [{type: not_null}]}
          - {name: line_no, data_type: integer, constraints: [{type: not_null}]}
          - {name: updated_at, data_type: timestamptz, constraints: [{type: not_null}]}
"""
# The moment is the application's: it says when the row was made, not when it could be seen.
SOURCE_TABLES = """
create schema shop;
create table shop.orders (
    order_id bigint primary key, amount_minor bigint not null, currency text not null, note text,
    updated_at timestamptz not null default clock_timestamp()
);
create table shop.lines (
    order_id bigint not null, line_no integer not null, updated_at timestamptz not null default clock_timestamp(),
    primary key (order_id, line_no)
);
"""
FIRST_DAY = """
insert into shop.orders select i, i * 7, (array['EUR', 'JPY', 'KWD'])[1 + i % 3], null from generate_series(1, 500) i;
insert into shop.lines select i, 1 from generate_series(1, 500) i;
"""
# Wide enough for several pieces of a COPY; what is gone asks for a sweep.
SECOND_DAY = """
update shop.orders set amount_minor = amount_minor + 1 where order_id % 5 = 0;
delete from shop.orders where order_id = 3;
insert into shop.orders select i, i * 7, 'EUR', repeat(md5(i::text), 30) from generate_series(501, 1500) i;
insert into shop.lines select i, 1 from generate_series(501, 1500) i;
"""
# How a point is armed at which a child stands still until it is thawed: a sleep that is a stop, so nobody hurries.
FROZEN = "sleep:999"
PRELUDE = """
import os, signal, time
nap = time.sleep
time.sleep = lambda seconds: os.kill(os.getpid(), signal.SIGSTOP) if seconds == 999 else nap(seconds)
"""
# With "-" for the warehouse, one load a line of standard input. Printed: from when to when, and what came of it.
EXTRACT = """
import sys, time
from datetime import datetime, timedelta
from pathlib import Path
import psycopg2
from tieout.extraction.snapshot import take_snapshot
from tieout.sources import load_registry
source, warehouse, project, start, as_of = sys.argv[1:]
start, registry = datetime.fromisoformat(start), load_registry(Path(project))
for warehouse in sys.stdin if warehouse == "-" else [warehouse]:
    began = time.monotonic()
    batches = take_snapshot(
        source, psycopg2.connect(warehouse.strip()), registry, "shop", start, start + timedelta(days=1),
        datetime.fromisoformat(as_of),
    )
    print(began, time.monotonic(), *(batch.outcome for batch in batches), flush=True)
"""
LAND = """
import sys, time
from datetime import datetime
from pathlib import Path
import psycopg2
from tieout.landing.load import load_landing
from tieout.sources import load_registry
folder, warehouse, project, as_of = sys.argv[1:]
registry = load_registry(Path(project))
for warehouse in sys.stdin if warehouse == "-" else [warehouse]:
    began = time.monotonic()
    outcomes = load_landing(
        Path(folder), psycopg2.connect(warehouse.strip()), registry, datetime.fromisoformat(as_of)
    )
    print(began, time.monotonic(), *(outcome.outcome for outcome in outcomes), flush=True)
# As the operator ends: a file that broke our reader stopped no other one, and the run says so.
sys.exit(any(outcome.outcome == "failed" for outcome in outcomes))
"""
# Numbers that a run which failed has used up are left out, and the clock of the machine.
SHOP_STATE = {
    "orders": "select b.interval_start, to_jsonb(r) - 'batch_id' from raw.shop_orders r join ops.batches b "
    "using (batch_id)",
    "lines": "select b.interval_start, to_jsonb(r) - 'batch_id' from raw.shop_lines r join ops.batches b "
    "using (batch_id)",
    "batches": "select horizon is not null, to_jsonb(b) - array['batch_id', 'loaded_at', 'horizon', 'snapshot', "
    "'source_state'] from ops.batches b",
    "totals": "select b.table_name, b.interval_start, to_jsonb(t) - 'batch_id' from ops.batch_totals t "
    "join ops.batches b using (batch_id)",
    "notes": "select b.interval_start, to_jsonb(n) - array['note_id', 'batch_id', 'noted_at'] from ops.load_notes n "
    "left join ops.batches b using (batch_id)",
    "orphans": "select batch_id from raw.shop_orders where batch_id not in (select batch_id from ops.batches) "
    "union all select batch_id from raw.shop_lines where batch_id not in (select batch_id from ops.batches)",
}


# Part of the state -> its rows, counted and hashed.
Digest = dict[str, str]


class Child:
    """A load in a process of its own, armed with failpoints, with a folder for what it leaves when it is killed."""

    def __init__(self, code: str, arguments: list[str], failpoints: str, environment: dict[str, str]) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="tieout-child-")
        self.process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + code, *arguments],
            env={
                **os.environ, VARIABLE: failpoints, "PYTHONPATH": str(ROOT / "plugins"),
                "TMPDIR": self._scratch.name, **environment,
            },
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.said = ""
        self.printed = ""

    def freeze_at(self, point: Failpoint) -> None:
        """Wait until the process stands still at a point, which is armed with :data:`FROZEN`."""
        assert self.process.stderr is not None
        said = []
        for line in self.process.stderr:
            said.append(line)
            if line == f"reached {point.value}\n":
                break
        else:
            raise AssertionError(f"it ended before {point.value}: {''.join(said)}")
        found = os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert found is not None
        assert found.si_code == os.CLD_STOPPED, "it went on"

    def thaw(self) -> None:
        """Let a stopped process go on."""
        self.process.send_signal(signal.SIGCONT)

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self) -> tuple[float, float, list[str]]:
        """The next load it has done: when it began and ended, by the monotonic clock, and the outcomes."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        began, ended, *outcomes = line.split()
        return float(began), float(ended), outcomes

    def end(self) -> int:
        """Wait for its end; its exit code. ``said`` and ``printed`` hold its standard error and output."""
        self.printed, self.said = self.process.communicate(timeout=CHILD_TIMEOUT_S)
        return self.process.returncode

    def close(self) -> None:
        """Leave no process behind, however the test ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
        self._scratch.cleanup()


@dataclass
class Stand:
    """Databases of one server."""

    cluster: Cluster
    clones: list[str] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def clone(self, template: str) -> str:
        """A warehouse of the test's own."""
        name = f"{template}_{next(self.numbers)}"
        # The other strategy's copy gives numbers of a sequence twice when it crashes before the next checkpoint: what
        # was logged ahead is known of the template only. Warehouses that people have are not copies.
        self.cluster.execute(f"create database {name} template {template} strategy file_copy")
        self.clones.append(name)
        return name

    def make_source(self) -> str:
        """An empty shop of the test's own."""
        name = f"source_{next(self.numbers)}"
        self.cluster.execute(f"create database {name}")
        self.clones.append(name)
        self.execute(name, SOURCE_TABLES)
        return name

    def drop_clones(self) -> None:
        """Every database the test made."""
        while self.clones:
            self.cluster.execute(f"drop database {self.clones.pop()} with (force)")

    def execute(self, database: str, statement: str, *arguments: Any) -> None:
        """Run a statement in a transaction of its own."""
        with self.cluster.connect(database) as connection, connection.cursor() as cursor:
            cursor.execute(statement, arguments or None)

    def ask(self, database: str, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with self.cluster.connect(database) as connection, connection.cursor() as cursor:
            cursor.execute(statement, arguments or None)
            return list(cursor.fetchall())

    def digest(self, database: str, state: dict[str, str]) -> Digest:
        """Row count and hash of each query's rows, whatever their order."""
        with self.cluster.connect(database) as connection, connection.cursor() as cursor:
            found = {}
            for part, query in state.items():
                cursor.execute(
                    "select count(*) || ' rows ' || coalesce(md5(string_agg(q::text, '|' order by q::text)), '') "
                    f"from ({query}) q"
                )
                found[part] = str((cursor.fetchone() or ("",))[0])
        return found

    def hang_up(self, *databases: str) -> None:
        """Cut every connection to these databases, as a failed-over server or a firewall does."""
        self.execute(
            "postgres",
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = any(%s)",
            list(databases),
        )


class Load(Protocol):
    """A load that can be broken: the shop's extraction, or the landing's files."""

    stand: Stand
    template: str
    # The digest before the load, and after each of its transactions that changes something.
    states: list[Digest]

    def dsn(self, warehouse: str) -> str:
        """Where the loader finds a warehouse."""

    def load(self, warehouse: str, *, dsn: str | None = None) -> Sequence[Any]:
        """Run it in this process; ``dsn`` may lead to the warehouse through a proxy."""

    def run(self, loader: Connection) -> Sequence[Any]:
        """The same, over a connection that is there."""

    def digest(self, warehouse: str) -> Digest:
        """Everything the load may leave in a warehouse."""

    def committed_at(self, point: Failpoint, turn: int = 1) -> int:
        """Which of the states a warehouse is in when a run reaches the point for that time."""

    def again(self, warehouse: str) -> int:
        """Run it in this process, to its end; how many transactions had something left to change."""

    def start(self, warehouse: str, failpoints: str = "", *, dsn: str | None = None) -> Child:
        """Run it in a process of its own."""


@dataclass
class Shop:
    """A shop on the second day, and a warehouse template that holds the first."""

    stand: Stand
    project: Path
    registry: Registry
    states: list[Digest] = field(default_factory=list)
    template: str = "first_day"
    points: ClassVar = tuple(point for point in Failpoint if point.value.startswith(("snapshot.", "batch.")))

    def dsn(self, warehouse: str) -> str:
        """Where the loader finds a warehouse."""
        return self.stand.cluster.dsn(warehouse, "loader")

    def load(
        self, warehouse: str, day: int = 1, source: str = "shop", *, dsn: str | None = None,
        source_dsn: str | None = None,
    ) -> list[Batch]:  # fmt: skip
        """Extract the shop of now as the interval of a day; the addresses may be those of proxies."""
        connection = psycopg2.connect(dsn or self.dsn(warehouse))
        try:
            return self.extract(connection, day, source_dsn or self.stand.cluster.dsn(source))
        finally:
            connection.close()

    def extract(self, loader: Connection, day: int = 1, source_dsn: str | None = None) -> list[Batch]:
        """The same, over a connection that is there."""
        start = DAY + timedelta(days=day)
        source_dsn = source_dsn or self.stand.cluster.dsn("shop")
        return take_snapshot(source_dsn, loader, self.registry, "shop", start, start + timedelta(days=1), AS_OF)

    def run(self, loader: Connection) -> list[Batch]:
        """The second day, over a connection that is there."""
        return self.extract(loader)

    def committed_at(self, point: Failpoint, turn: int = 1) -> int:
        """All tables are one transaction."""
        return int(point is Failpoint.AFTER_COMMIT)

    def again(self, warehouse: str) -> int:
        """Load the second day; 0 when it was there."""
        outcomes = {batch.outcome for batch in self.load(warehouse)}
        assert outcomes in ({"loaded"}, {"committed"}), outcomes
        return int(outcomes == {"loaded"})

    def digest(self, warehouse: str) -> Digest:
        """Everything an extraction may leave."""
        return self.stand.digest(warehouse, SHOP_STATE)

    def start(
        self, warehouse: str, failpoints: str = "", *, dsn: str | None = None, source_dsn: str | None = None,
        code: str = EXTRACT,
    ) -> Child:  # fmt: skip
        """Load the second day in a process of its own."""
        arguments = [
            source_dsn or self.stand.cluster.dsn("shop"), dsn or self.dsn(warehouse), str(self.project),
            (DAY + timedelta(days=1)).isoformat(), AS_OF.isoformat(),
        ]  # fmt: skip
        return Child(code, arguments, failpoints, {})

    @classmethod
    def made(cls, stand: Stand, directory: Path) -> Shop:
        """Make the shop, load its first day into the template, and learn from a quiet run what the second leaves."""
        project = directory / "shop"
        (project / "models").mkdir(parents=True)
        (project / "models" / "shop.yml").write_text(DECLARATION)
        shop = cls(stand, project, load_registry(project))
        stand.cluster.execute("create database empty")
        fill_warehouse(stand.cluster, "empty", shop.registry)
        stand.cluster.execute(f"create database {shop.template} template empty")
        stand.cluster.execute("create database shop")
        stand.execute("shop", SOURCE_TABLES)
        stand.execute("shop", FIRST_DAY)
        shop.load(shop.template, 0)
        stand.execute("shop", SECOND_DAY)
        quiet = stand.clone(shop.template)
        shop.states.append(shop.digest(quiet))
        assert [batch.row_count for batch in shop.load(quiet)] == [1101, 1000]
        shop.states.append(shop.digest(quiet))
        assert shop.states[0] != shop.states[1]
        return shop


def fill_warehouse(cluster: Cluster, name: str, registry: Registry) -> None:
    """Migrate an empty database and make the declared raw tables."""
    with cluster.connect(name) as connection:
        ensure_roles(connection)
        migrate(connection)
        ensure_raw_tables(connection, registry)


# Of the known file, of a good one and of one that nobody can read.
EXPECTED_OUTCOMES = [["known", *rest] for rest in (["loaded", "quarantined"], ["known", "quarantined"], ["known"] * 2)]


@dataclass
class Landing:
    """A landing folder with three files, and a warehouse template into which the first one is loaded."""

    stand: Stand
    folder: Path
    registry: Registry
    state: dict[str, str]
    states: list[Digest] = field(default_factory=list)
    template: str = "first_file"
    points: ClassVar = tuple(point for point in Failpoint if point.value.startswith(("landing.", "batch.")))

    def dsn(self, warehouse: str) -> str:
        """Where the loader finds a warehouse."""
        return self.stand.cluster.dsn(warehouse, "loader")

    def load(self, warehouse: str, *, dsn: str | None = None, folder: Path | None = None) -> list[FileOutcome]:
        """Load the landing; the address may be that of a proxy."""
        connection = psycopg2.connect(dsn or self.dsn(warehouse))
        try:
            return self.run(connection, folder)
        finally:
            connection.close()

    def run(self, loader: Connection, folder: Path | None = None) -> list[FileOutcome]:
        """The same, over a connection that is there."""
        return load_landing(folder or self.folder, loader, self.registry, AS_OF)

    def committed_at(self, point: Failpoint, turn: int = 1) -> int:
        """Each file is a transaction: the second is loaded in the first one that changes anything."""
        quarantine = (Failpoint.AFTER_FILE_COMMIT, Failpoint.BEFORE_QUARANTINE)
        if point is Failpoint.AFTER_QUARANTINE:
            return 2
        return int(point in quarantine or (point is Failpoint.FILE_COPIED and turn == 3))

    def again(self, warehouse: str) -> int:
        """Load the landing; how many files were not known."""
        outcomes = [outcome.outcome for outcome in self.load(warehouse)]
        assert outcomes in EXPECTED_OUTCOMES, outcomes
        return len(outcomes) - outcomes.count("known")

    def digest(self, warehouse: str) -> Digest:
        """Everything a file may leave."""
        return self.stand.digest(warehouse, self.state)

    def start(
        self, warehouse: str, failpoints: str = "", *, dsn: str | None = None, folder: Path | None = None,
        code: str = LAND, environment: dict[str, str] | None = None,
    ) -> Child:  # fmt: skip
        """Load the landing in a process of its own."""
        arguments = [
            str(folder or self.folder), dsn or self.dsn(warehouse), str(ROOT / "dbt_project"), AS_OF.isoformat()
        ]  # fmt: skip
        return Child(code, arguments, failpoints, environment or {})

    @classmethod
    def made(cls, stand: Stand, directory: Path) -> Landing:
        """Fill the folder, load the first file into the template, learn from quiet runs what the others leave."""
        registry = load_registry(ROOT / "dbt_project")
        landing = cls(stand, directory / "landing", registry, _landing_state(registry))
        landing.folder.mkdir()
        stand.cluster.execute("create database empty_books")
        fill_warehouse(stand.cluster, "empty_books", registry)
        stand.cluster.execute(f"create database {landing.template} template empty_books")
        # A statement and its entries: two tables of one file.
        statement = (FIXTURES / "camt053.xml").read_text()
        (landing.folder / "1.xml").write_text(statement)
        assert [outcome.outcome for outcome in landing.load(landing.template)] == ["loaded"]
        # Delivered again, with another reference on an entry: a row is gone, and one is new.
        assert "E2E-1" in statement
        (landing.folder / "2.xml").write_text(statement.replace("E2E-1", "E2E-2"))
        quiet = stand.clone(landing.template)
        landing.states.append(landing.digest(quiet))
        assert [outcome.outcome for outcome in landing.load(quiet)] == ["known", "loaded"]
        landing.states.append(landing.digest(quiet))
        assert stand.ask(quiet, "select is_deleted, count(*) from raw.bank_entries group by 1 order by 1") == [
            (False, 4), (True, 1)
        ]  # fmt: skip
        (landing.folder / "3.csv").write_text("nobody knows this format\n")
        assert landing.again(quiet) == 1
        landing.states.append(landing.digest(quiet))
        assert all(earlier != later for earlier, later in itertools.pairwise(landing.states))
        return landing


def _landing_state(registry: Registry) -> dict[str, str]:
    of_file = "(select f.sha256 from ops.files f where f.file_id = {0}.file_id)"
    state = {
        table.raw_table: f"select {of_file.format('r')}, to_jsonb(r) - array['batch_id', 'file_id'] "
        f"from raw.{table.raw_table} r"
        for table in registry.tables
        if table.kind == "file"
    }
    return {
        **state,
        "files": "select to_jsonb(f) - 'file_id' from ops.files f",
        "documents": f"select {of_file.format('d')}, (select f.sha256 from ops.files f where f.file_id = "
        "d.superseded_by), to_jsonb(d) - array['file_id', 'superseded_by'] from ops.documents d",
        "actions": f"select {of_file.format('a')}, to_jsonb(a) - array['action_id', 'file_id', 'acted_at'] "
        "from ops.file_actions a",
        "batches": f"select {of_file.format('b')}, to_jsonb(b) - array['batch_id', 'file_id', 'loaded_at'] "
        "from ops.batches b",
        "totals": "select b.table_name, to_jsonb(t) - 'batch_id' from ops.batch_totals t "
        "join ops.batches b using (batch_id)",
        "notes": f"select {of_file.format('n')}, to_jsonb(n) - array['note_id', 'batch_id', 'file_id', 'noted_at'] "
        "from ops.load_notes n",
    }
