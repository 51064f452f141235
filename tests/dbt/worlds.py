"""The books that the tests look at: one deployed warehouse, the scenarios and sandboxes closed without Airflow.

dbt's parsed project names the database, so every warehouse that dbt works on bears one name; the others are
copies, kept under names of their own and cloned back when a test wants to go on from there.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection

from tests.dbt import given
from tieout import close, sandbox
from tieout.dbt_runner import DbtRunner, Server
from tieout.extraction import snapshot
from tieout.landing import load as landing
from tieout.postgres import Cluster, migrate
from tieout.sandbox.days import ONE_DAY
from tieout.sources import ensure_raw_tables, load_registry

BOOK = "global"
# The warehouse dbt works on; the parsed project is for this name.
WORKING = "books"
EMPTY = "books_empty"
# `make run`: seven business days in one opening close, then day by day.
CLOSES = (date(2026, 10, 27), date(2026, 10, 28), date(2026, 10, 29), date(2026, 10, 30))


@dataclass
class Warehouse:
    """One deployed warehouse under :data:`WORKING`, and copies of it under other names."""

    cluster: Cluster
    state: Path

    def server(self, role: str = "builder") -> Server:
        """Where dbt finds the working warehouse."""
        return Server.from_dsn(self.cluster.dsn(WORKING, role))

    @property
    def runner(self) -> DbtRunner:
        """dbt as the builder, with the project parsed once a session."""
        return DbtRunner(self.server(), self.state)

    def deploy(self) -> None:
        """Make the working warehouse from nothing, and keep it as :data:`EMPTY`."""
        self.cluster.execute(f"create database {WORKING}")
        with self.cluster.connect(WORKING) as connection:
            migrate(connection)
            ensure_raw_tables(connection, load_registry())
        self.runner.deploy()
        self.keep(EMPTY)

    def keep(self, name: str) -> None:
        """Copy the working warehouse as it is now."""
        self.cluster.execute(f'create database "{name}" template {WORKING}')

    def restore(self, name: str) -> None:
        """Make the working warehouse what the copy ``name`` is."""
        self.cluster.execute(f"drop database if exists {WORKING} with (force)")
        self.cluster.execute(f'create database {WORKING} template "{name}"')

    @contextmanager
    def connect(self, role: str = "postgres", name: str = WORKING) -> Iterator[Connection]:
        """A connection that commits at the end, to the working warehouse or to a copy."""
        with self.cluster.connect(name, role) as connection:
            yield connection

    def query(self, statement: str, parameters: tuple[object, ...] = (), name: str = WORKING) -> list[tuple[Any, ...]]:
        """Every row of a superuser's query."""
        with self.connect(name=name) as connection, connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return cursor.fetchall()

    def execute(self, statement: str, parameters: tuple[object, ...] = ()) -> int:
        """Run a superuser's statement on the working warehouse; the number of rows it touched."""
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return cursor.rowcount

    def digest(self, close_id: int, name: str = WORKING) -> dict[str, tuple[int, str]]:
        """mart -> (rows, hash of them) of one close's partition, whatever the close's number is."""
        marts = self.query(
            "select table_schema || '.' || table_name from information_schema.columns "
            "where column_name = 'close_id' and table_schema in ('reconciliation', 'accounting', 'kpi') order by 1",
            name=name,
        )
        return {
            mart: self.query(
                "select count(*), md5(coalesce(string_agg(row, '' order by row), '')) "
                f"from (select (to_jsonb(m) - 'close_id')::text as row from {mart} m where close_id = %s) rows",
                (close_id,),
                name,
            )[0]
            for (mart,) in marts
        }

    def open_close(self, business_date: date) -> close.Close:
        """Open a close as the loader."""
        with self.connect("loader") as connection:
            return close.open_close(connection, BOOK, business_date, sandbox.as_of(business_date))

    def build(self, opened: close.Close, *steps: str) -> None:
        """Build steps of a close as the builder; by default what proves it."""
        for step in steps or ("reconcile", "books"):
            close.build(self.server(), opened.close_id, opened.fencing_token, step, self.state)

    def publish(self, opened: close.Close) -> int:
        """Publish a proven close as the publisher; the number of journal lines booked."""
        with self.connect("publisher") as connection:
            return close.publish(connection, opened.close_id, opened.fencing_token)


@dataclass
class Told:
    """The closes over everything the scenarios give, published one after the other."""

    warehouse: Warehouse
    root: Path
    closes: dict[date, close.Close] = field(default_factory=dict)
    published: str = "scenarios"

    def proven(self, business_date: date) -> str:
        """The copy in which this date's close is proven and not yet published."""
        return f"scenarios_proven_{business_date:%m%d}"

    def artifacts(self, business_date: date) -> list[Path]:
        """What dbt wrote while it built the steps of a kept close, in order."""
        return [self.root / f"{business_date:%m%d}" / step for step in ("reconcile", "books")]

    def play(self, keep: tuple[date, ...] = ()) -> None:
        """Close every date of the scenarios; of those in ``keep``, also the moment before publication is kept."""
        warehouse = self.warehouse
        warehouse.restore(EMPTY)
        balances: dict[str, int] = {}
        for number, business_date in enumerate(given.CLOSES, 1):
            with warehouse.connect() as connection, connection.cursor() as cursor:
                given.load(cursor, number, balances)
            opened = warehouse.open_close(business_date)
            self.closes[business_date] = opened
            warehouse.build(opened)
            if business_date in keep:
                warehouse.keep(self.proven(business_date))
                for folder in self.artifacts(business_date):
                    shutil.copytree(warehouse.state / "dbt" / f"close-{opened.close_id}" / folder.name, folder)
            warehouse.build(opened, "monitoring")
            warehouse.publish(opened)
        warehouse.keep(self.published)


@dataclass
class World:
    """A sandbox whose closes have been published, one copy of its warehouse kept a moment."""

    warehouse: Warehouse
    root: Path
    payments_per_day: int
    seed: int
    closes: dict[date, close.Close] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return f"world_{self.payments_per_day}_{self.seed}"

    @property
    def landing(self) -> Path:
        return self.root / "landing"

    @property
    def truth(self) -> Path:
        """The sandbox's own list of what has to be open when."""
        return sandbox.truth_files(self.root / "state")[0]

    @property
    def source(self) -> str:
        return self.warehouse.cluster.dsn(f"{self.label}_payments")

    @property
    def published(self) -> str:
        """The copy after the last close."""
        return f"{self.label}_published"

    def proven(self, business_date: date) -> str:
        """The copy in which this date's close is proven and not yet published."""
        return f"{self.label}_proven_{business_date:%m%d}"

    def loaded(self, business_date: date) -> str:
        """The copy in which this date's batches are loaded and its close is not yet opened."""
        return f"{self.label}_loaded_{business_date:%m%d}"

    def artifacts(self, business_date: date) -> list[Path]:
        """What dbt wrote while it built the steps of a kept close, in order."""
        return [self.root / "artifacts" / f"{business_date:%m%d}" / step for step in ("reconcile", "books")]

    def query(self, statement: str, parameters: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """Every row of a query on the published warehouse."""
        return self.warehouse.query(statement, parameters, self.published)

    def play(self, keep: tuple[date, ...] = ()) -> None:
        """Live through the closes of ``make run``; of dates in ``keep``, also the moments before are kept."""
        warehouse = self.warehouse
        warehouse.restore(EMPTY)
        warehouse.cluster.execute(f"create database {self.label}_payments")
        sandbox.create(self.source, self.landing, self.root / "state", self.payments_per_day, self.seed)
        for business_date in CLOSES:
            sandbox.advance(self.source, self.landing, self.root / "state", business_date)
            self.ingest(business_date)
            if business_date in keep:
                warehouse.keep(self.loaded(business_date))
            opened = warehouse.open_close(business_date)
            self.closes[business_date] = opened
            warehouse.build(opened)
            if business_date in keep:
                warehouse.keep(self.proven(business_date))
                for folder in self.artifacts(business_date):
                    shutil.copytree(warehouse.state / "dbt" / f"close-{opened.close_id}" / folder.name, folder)
            warehouse.build(opened, "monitoring")
            warehouse.publish(opened)
        warehouse.keep(self.published)

    def ingest(self, business_date: date) -> None:
        """What the ingest DAG does for a business date, as the loader."""
        interval = interval_of(business_date)
        registry = load_registry()
        as_of = sandbox.as_of(business_date)
        connection = psycopg2.connect(self.warehouse.cluster.dsn(WORKING, "loader"))
        try:
            batches = snapshot.take_snapshot(self.source, connection, registry, "payments", *interval, as_of)
            assert [b.problem for b in batches if b.outcome != "loaded"] == []
            landing.load_landing(self.landing, connection, registry, as_of)
        finally:
            connection.close()


def interval_of(business_date: date) -> tuple[datetime, datetime]:
    """The ingest's interval: the business date itself, for the first close everything since the sandbox's start."""
    first = date(2026, 10, 19) if business_date == CLOSES[0] else business_date
    return sandbox.starts_at(first), sandbox.starts_at(business_date + ONE_DAY)
