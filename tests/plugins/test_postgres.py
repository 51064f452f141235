"""The embedded server, its roles and the migrations."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg2
import pytest

from tieout import postgres
from tieout.postgres import Cluster, PostgresError, ensure_database, ensure_roles, free_port, migrate


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="tieout-test-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def server(folder: Path) -> Iterator[Cluster]:
    """A server with passwords, not started yet."""
    cluster = Cluster(folder / "pg", free_port(), {"postgres": "p@ss/word", "loader": "l&?"})
    yield cluster
    cluster.stop("immediate")


def test_starts_again_after_its_postmaster_was_killed(server: Cluster) -> None:
    server.start()
    server.execute("create table kept as select 1 as one")
    pid = int((server.data / "postmaster.pid").read_text().split("\n")[0])
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=10)
    assert not server.running()
    server.start()
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("select one from kept")
        assert cursor.fetchone() == (1,)


def test_a_pid_file_naming_another_process_is_no_server(server: Cluster) -> None:
    server.data.mkdir(parents=True)
    (server.data / "postmaster.pid").write_text(f"{os.getpid()}\n")
    assert not server.running()


def test_asks_for_passwords_when_given_some(server: Cluster) -> None:
    server.start()
    with server.connect() as connection:
        ensure_roles(connection, server.passwords)
        ensure_roles(connection, server.passwords)
    with server.connect(user="loader") as connection, connection.cursor() as cursor:
        cursor.execute("select current_user")
        assert cursor.fetchone() == ("loader",)
    with pytest.raises(psycopg2.OperationalError, match="password"):
        psycopg2.connect(f"postgresql://loader:wrong@127.0.0.1:{server.port}/postgres")
    with pytest.raises(psycopg2.OperationalError, match="password"):
        psycopg2.connect(f"postgresql://builder@127.0.0.1:{server.port}/postgres")
    assert not list(server.directory.glob("password*"))


def test_only_guests_may_enter_a_database(cluster: Cluster) -> None:
    try:
        ensure_database(cluster, "guarded", "builder", ("reader",))
        ensure_database(cluster, "guarded", "builder", ("reader",))
        with cluster.connect("guarded", "reader"):
            pass
        with pytest.raises(psycopg2.OperationalError, match="permission denied"):
            psycopg2.connect(cluster.dsn("guarded", "controller"))
    finally:
        cluster.execute("drop database if exists guarded")


def test_a_taken_port_is_named_with_the_remedy(server: Cluster) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", server.port))
        other.listen()
        with pytest.raises(PostgresError, match=rf"port {server.port} is in use.*TIEOUT_PG_PORT"):
            server.start()


@pytest.mark.skipif(os.getuid() != 0, reason="only root runs the server as another user")
def test_root_in_a_closed_folder_is_told_which_folder(folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(PostgresError, match=f"cannot enter {closed}"):
        Cluster(closed / "pg", free_port()).start()


@pytest.mark.skipif(os.getuid() != 0, reason="only root runs the server as another user")
def test_root_gets_a_copy_of_binaries_the_server_cannot_reach(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = postgres.closed_to_others
    monkeypatch.setattr(postgres, "closed_to_others", lambda p: p if "site-packages" in str(p) else real(p))
    server = Cluster(folder / "pg", free_port())
    assert server.bin.is_relative_to(folder)
    server.start()
    # Another process, that has not started it, stops it.
    Cluster(folder / "pg", server.port).stop()
    assert not server.running()


def test_migrations_apply_once_and_notice_a_changed_file(
    cluster: Cluster, database: Callable[..., str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = database("migrations")
    (folder / "0001_a.sql").write_text("create table a (id int);")
    monkeypatch.setattr(postgres, "MIGRATIONS", folder)
    with cluster.connect(name) as connection:
        assert migrate(connection) == ["0001_a.sql"]
        (folder / "0002_b.sql").write_text("create table b (id int); insert into nowhere values (1);")
        with pytest.raises(psycopg2.errors.UndefinedTable):
            migrate(connection)
        with connection, connection.cursor() as cursor:
            cursor.execute("select to_regclass('b')")
            assert cursor.fetchone() == (None,)
        (folder / "0002_b.sql").write_text("create table b (id int);")
        assert migrate(connection) == ["0002_b.sql"]
        assert migrate(connection) == []
        (folder / "0001_a.sql").write_text("create table a (id bigint);")
        with pytest.raises(PostgresError, match=r"0001_a\.sql was changed"):
            migrate(connection)


def test_a_warehouse_is_migrated_from_nothing(cluster: Cluster, database: Callable[..., str]) -> None:
    with cluster.connect(database("fresh")) as connection:
        assert migrate(connection) == [path.name for path in sorted(postgres.MIGRATIONS.glob("*.sql"))]
        with connection, connection.cursor() as cursor:
            cursor.execute("select schema_name from information_schema.schemata where schema_name in ('ops', 'ledger')")
            assert len(cursor.fetchall()) == 2
