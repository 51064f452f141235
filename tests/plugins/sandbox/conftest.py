"""Played sandboxes that the tests look at; what they hold is read here with the standard library alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from tieout import sandbox
from tieout.postgres import Cluster

_numbers = itertools.count(1)


@dataclass
class World:
    """A sandbox in a database and two folders of its own."""

    dsn: str
    root: Path
    payments_per_day: int
    seed: int
    delivered: dict[date, list[Path]] = field(default_factory=dict)

    @property
    def landing(self) -> Path:
        return self.root / "landing"

    @property
    def state(self) -> Path:
        return self.root / "state"

    def create(self) -> None:
        sandbox.create(self.dsn, self.landing, self.state, self.payments_per_day, self.seed)

    def advance(self, day: date) -> sandbox.DayReport:
        report = sandbox.advance(self.dsn, self.landing, self.state, day)
        self.delivered.setdefault(day, []).extend(report.files)
        return report

    def query(self, text: str) -> list[tuple[Any, ...]]:
        connection = psycopg2.connect(self.dsn)
        try:
            with connection.cursor() as cursor:
                cursor.execute("set timezone to 'Europe/Amsterdam'")
                cursor.execute(text)
                return cursor.fetchall()
        finally:
            connection.close()

    def digest(self) -> str:
        """One hash of every row of the payment system, every file that was dropped, and the truth."""
        whole = sha256()
        tables = [name for (name,) in self.query("select tablename from pg_tables where schemaname = 'payments'")]
        for table in sorted(tables):
            rows = self.query(f"select t::text from payments.{table} t order by 1")
            whole.update(f"{table}{rows}".encode())
        files = sorted(path for path in self.landing.rglob("*") if path.is_file())
        for path in [*files, *sandbox.truth_files(self.state)]:
            whole.update(path.name.encode() + path.read_bytes())
        return whole.hexdigest()


@pytest.fixture(scope="session")
def make_world(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, int], World]:
    """Factory of worlds that are created and not yet played: ``make_world(payments_per_day, seed)``."""

    def make(payments_per_day: int = 60, seed: int = 1) -> World:
        name = f"sandbox_{next(_numbers)}"
        cluster.execute(f"create database {name}")
        world = World(cluster.dsn(name), tmp_path_factory.mktemp(name), payments_per_day, seed)
        world.create()
        return world

    return make


def _played(world: World) -> World:
    for day in sandbox.BUSINESS_DAYS:
        world.advance(day)
    return world


@pytest.fixture(scope="session")
def small(make_world: Callable[[int, int], World]) -> World:
    """The smallest world that holds every kind of trouble, played to its end."""
    return _played(make_world(60, 1))


@pytest.fixture(scope="session", params=[(60, 1), (60, 2), (250, 7)], ids=["60-seed1", "60-seed2", "250-seed7"])
def world(request: pytest.FixtureRequest, make_world: Callable[[int, int], World]) -> World:
    """Several worlds, each played to its end."""
    return _played(make_world(*request.param))
