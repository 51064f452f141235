"""Databases for tests: one embedded PostgreSQL server a session, databases cloned from a migrated template."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg2
import pytest
from hypothesis import settings
from psycopg2.extensions import connection as Connection

from tieout.postgres import Cluster, ensure_roles, free_port, migrate

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import Scheduling

TEMPLATE = "warehouse_template"

# A failing example is printed as a line to paste; no deadline, the machine is shared.
settings.register_profile("tieout", deadline=None, print_blob=True)
settings.load_profile("tieout")

_numbers = itertools.count(1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    """Several processes (``-n 2``) share the tests out by what those have in common."""
    from tests.processes import LongestFirst

    return LongestFirst(config, log)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A running server of this test session's own, gone with its data at the session's end."""
    directory = Path(tempfile.mkdtemp(prefix="tieout-test-", dir="/tmp"))
    # PostgreSQL runs as another user when the tests run as root.
    directory.chmod(0o755)
    server = Cluster(directory / "pg", free_port())
    try:
        server.start()
        with server.connect() as connection:
            ensure_roles(connection)
        yield server
    finally:
        server.stop("immediate")
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def template(cluster: Cluster) -> str:
    """Name of a database with every migration applied and every declared raw table made."""
    from tieout.sources import ensure_raw_tables, load_registry

    cluster.execute(f"create database {TEMPLATE}")
    with cluster.connect(TEMPLATE) as connection:
        migrate(connection)
        ensure_raw_tables(connection, load_registry())
    return TEMPLATE


@pytest.fixture
def database(cluster: Cluster) -> Iterator[Callable[..., str]]:
    """Factory of databases that live as long as the test: ``database(name, template=None) -> name``."""
    made: list[str] = []

    def create(name: str = "scratch", template: str | None = None) -> str:
        unique = f"{name}_{next(_numbers)}"
        source = f" template {template}" if template else ""
        cluster.execute(f'create database "{unique}"{source}')
        made.append(unique)
        return unique

    yield create
    for name in made:
        cluster.execute(f'drop database if exists "{name}" with (force)')


@pytest.fixture
def warehouse(cluster: Cluster, database: Callable[..., str], template: str) -> Iterator[Connection]:
    """A superuser's connection to a fresh warehouse: migrated, raw tables made, no rows."""
    connection = psycopg2.connect(cluster.dsn(database("warehouse", template)))
    try:
        yield connection
    finally:
        connection.close()
