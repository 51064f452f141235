"""Everything on one machine, its state in one folder: the embedded server, its databases, roles and passwords.

Folder (``<project>/.tieout``, or ``TIEOUT_STATE``)::

    settings.json   ports, passwords, the key of card tokens and what the sandbox was made with; for its owner only
    postgres/       the server's data; in /var/tmp when the server's user cannot enter this folder
    landing/        files as processors and banks deliver them
    airflow/        Airflow's home and logs        docs/  the documentation site        logs/  process logs

:class:`Machine` owns the folder. One process at a time changes it (:meth:`Machine.exclusive`).
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from tieout import postgres
from tieout.card_numbers import KEY_VARIABLE as CARD_KEY_VARIABLE
from tieout.postgres import Cluster

PROJECT = Path(__file__).resolve().parents[3]
SUPERUSER = "postgres"
# Owner of the sandbox's payment system; the pipeline only ever reads it, as `extractor`.
PAYMENTS_OWNER = "payments"
EXTRACTOR = "extractor"
AIRFLOW_OWNER = "airflow"
CARD_KEY = "card-key"
# What a full walk through the default sandbox leaves behind is a quarter of this.
FREE_BYTES_MIN = 2 * 1024**3
PORTS = {"postgres": 54320, "airflow": 8080, "docs": 8081, "task_logs": 8793}
# What a user may bring along: their own payment system, landing, receiver, key and clocks.
USERS_OWN = (
    "AIRFLOW_CONN_PAYMENTS",
    "AIRFLOW_CONN_SLACK",
    "TIEOUT_LANDING",
    CARD_KEY_VARIABLE,
    "TIEOUT_INGEST_SCHEDULE",
    "TIEOUT_WATCH_SCHEDULE",
)
PORT_VARIABLES = {
    "postgres": "TIEOUT_PG_PORT",
    "airflow": "TIEOUT_AIRFLOW_PORT",
    "docs": "TIEOUT_DOCS_PORT",
    "task_logs": "TIEOUT_TASK_LOGS_PORT",
}


class LocalError(RuntimeError):
    """Something on this machine stands in the way; the message names it and the remedy."""


class UsageError(LocalError):
    """The caller asked for something this state folder cannot give."""


@dataclass
class Settings:
    """What must be the same the next time, as kept in ``settings.json``.

    :param ports: of ``postgres``, ``airflow``, ``docs`` and ``task_logs``.
    :param passwords: of database roles, of Airflow's users as ``airflow:<name>``, and the key of card tokens.
    :param sandbox: ``payments_per_day`` and ``seed`` of the payment system made here, empty before that.
    :param deployed: digest of everything that the warehouse was last deployed with.
    """

    ports: dict[str, int] = field(default_factory=dict)
    passwords: dict[str, str] = field(default_factory=dict)
    sandbox: dict[str, int] = field(default_factory=dict)
    deployed: str = ""


def state_folder() -> Path:
    """The state folder: ``TIEOUT_STATE`` or ``.tieout`` in the project."""
    return Path(os.environ.get("TIEOUT_STATE") or PROJECT / ".tieout").expanduser().resolve()


def own_payments() -> bool:
    """Whether the user has brought a payment system of their own, with ``AIRFLOW_CONN_PAYMENTS``."""
    return bool(os.environ.get("AIRFLOW_CONN_PAYMENTS"))


def deployment_digest() -> str:
    """sha256 over everything that decides what a deployment makes: the dbt project, its runner, the migrations."""
    from tieout.dbt_runner import project_digest

    package = Path(__file__).parents[1]
    digest = sha256(project_digest().encode())
    for path in (package / "dbt_runner.py", *sorted((package / "migrations").glob("*.sql"))):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


class Machine:
    """One state folder and the server whose data it holds.

    :param state: the folder; made when missing.
    """

    def __init__(self, state: Path | None = None) -> None:
        self.state = state or state_folder()
        self.state.mkdir(parents=True, exist_ok=True)
        self._alone = False
        self._serving = False
        self.settings = self._load_settings()
        for role in (SUPERUSER, PAYMENTS_OWNER, EXTRACTOR, AIRFLOW_OWNER, *postgres.ROLES):
            self.settings.passwords.setdefault(role, secrets.token_urlsafe(24))
        self.settings.passwords.setdefault(CARD_KEY, secrets.token_urlsafe(32))

    @property
    def landing(self) -> Path:
        """Folder into which processors and banks deliver files."""
        return self.state / "landing"

    @property
    def logs(self) -> Path:
        """Folder of the logs of every process started here."""
        return self.state / "logs"

    @property
    def docs(self) -> Path:
        """Folder of the documentation site."""
        return self.state / "docs"

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the folder; a second process is refused. May be nested.

        :raises UsageError: another process holds it.
        """
        if self._alone:
            yield
            return
        path = self.state / "lock"
        with path.open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                holder = lock.read().strip() or "unknown"
                raise UsageError(f"process {holder} is at work in {self.state}: wait for it or stop it") from None
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            self._alone = True
            try:
                yield
            finally:
                self._alone = False

    def save(self) -> None:
        """Write the settings, readable by their owner only, all or nothing."""
        path = self.state / "settings.json"
        draft = path.with_suffix(".new")
        draft.unlink(missing_ok=True)
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(vars(self.settings), indent=2))
        draft.replace(path)

    def port(self, name: str) -> int:
        """The port of a service of :data:`PORTS`: the environment's, else the remembered, else a free one.

        :raises UsageError: the environment names one that is in use or no port at all.
        """
        variable = PORT_VARIABLES[name]
        wanted = os.environ.get(variable)
        if wanted:
            if not (wanted.isascii() and wanted.isdecimal()) or not 0 < int(wanted) < 65536:
                raise UsageError(f"{variable}={wanted} is no port number: choose one from 1 to 65535")
            if not postgres.port_is_free(int(wanted)):
                raise UsageError(f"port {wanted} is in use: stop what listens there, or choose another {variable}")
            self.settings.ports[name] = int(wanted)
        else:
            taken = {port for other, port in self.settings.ports.items() if other != name}
            for port in (self.settings.ports.get(name), PORTS[name]):
                if port and port not in taken and postgres.port_is_free(port):
                    break
            else:
                port = postgres.free_port()
            self.settings.ports[name] = port
        self.save()
        return self.settings.ports[name]

    def cluster(self) -> Cluster:
        """The server, started or not, on its remembered port."""
        return Cluster(self._server_folder(), self.settings.ports.get("postgres", 0), self.settings.passwords)

    @contextmanager
    def databases(self) -> Iterator[Cluster]:
        """The running server. Whoever holds the folder stops it at the end, also one that a killed process left;
        others, and inner blocks, use the one that runs.

        :raises LocalError: too little room on the disk.
        :raises UsageError: the server does not run, and another process holds the folder.
        """
        running = self.cluster()
        if running.running() and (self._serving or not self._alone) and self._kept():
            yield running
            return
        with self.exclusive():
            self._forget_lost_server()
            cluster = self.cluster()
            if not cluster.running():
                self._refuse_full_disk()
                self.port("postgres")
                cluster = self.cluster()
                self._make_way()
                cluster.start()
            self._serving = True
            try:
                yield cluster
            finally:
                self._serving = False
                cluster.stop()

    def _kept(self) -> bool:
        return (self.state / "settings.json").exists()

    def _refuse_full_disk(self) -> None:
        free = shutil.disk_usage(self.state).free
        if free < FREE_BYTES_MIN:
            raise LocalError(
                f"the disk of {self.state} has {free >> 20} MB left, {FREE_BYTES_MIN >> 20} MB are needed: "
                "free some space, or choose another folder with TIEOUT_STATE"
            )

    def prepare(self, cluster: Cluster) -> None:
        """Make roles, databases, the warehouse's schemas and raw tables; what is there stays."""
        from tieout.sources import ensure_raw_tables, load_registry

        roles = (PAYMENTS_OWNER, EXTRACTOR, AIRFLOW_OWNER, *postgres.ROLES)
        with cluster.connect() as connection:
            postgres.ensure_roles(connection, {role: self.settings.passwords[role] for role in roles})
        postgres.ensure_database(cluster, "payments", PAYMENTS_OWNER, (EXTRACTOR,))
        postgres.ensure_database(cluster, "airflow", AIRFLOW_OWNER)
        postgres.ensure_database(cluster, "warehouse", SUPERUSER, postgres.ROLES)
        # Reading every table is a server-wide right, but this role may enter no other database.
        cluster.execute(f"grant pg_read_all_data to {EXTRACTOR}")
        with cluster.connect("warehouse") as connection:
            postgres.migrate(connection)
            ensure_raw_tables(connection, load_registry())

    def payments_dsn(self, cluster: Cluster) -> str:
        """URI of the sandbox's payment system for its owner, the sandbox; the pipeline has another, that only reads."""
        return cluster.dsn("payments", PAYMENTS_OWNER)

    def environment(self, sandbox: bool = False) -> dict[str, str]:
        """What DAGs, dbt and the CLI are told about this machine, as environment variables.

        :param sandbox: the sandbox's payment system and landing are used, whatever the user has set of
            :data:`USERS_OWN`; otherwise the user's own win.
        """
        cluster = self.cluster()
        self.landing.mkdir(parents=True, exist_ok=True)
        brought = {name: os.environ[name] for name in USERS_OWN if name in os.environ}
        if not own_payments():
            # An empty value is no payment system.
            brought.pop("AIRFLOW_CONN_PAYMENTS", None)
        for name in ("TIEOUT_LANDING", CARD_KEY_VARIABLE):
            if not brought.get(name):
                brought.pop(name, None)
        return {
            "TIEOUT_STATE": str(self.state),
            "TIEOUT_LANDING": self.landing.as_uri(),
            "TIEOUT_PG_HOST": "127.0.0.1",
            "TIEOUT_PG_PORT": str(cluster.port),
            "TIEOUT_PG_USER": "builder",
            "TIEOUT_PG_PASSWORD": self.settings.passwords["builder"],
            "TIEOUT_PG_DATABASE": "warehouse",
            CARD_KEY_VARIABLE: self.settings.passwords[CARD_KEY],
            "AIRFLOW_CONN_PAYMENTS": cluster.dsn("payments", EXTRACTOR),
            **{f"AIRFLOW_CONN_WAREHOUSE_{role.upper()}": cluster.dsn("warehouse", role) for role in postgres.ROLES[:3]},
            **({} if sandbox else brought),
        }

    def deploy(self, cluster: Cluster) -> None:
        """Deploy the dbt project and write its documentation, unless this very code is deployed already."""
        from tieout.dbt_runner import DbtRunner, Server

        digest = deployment_digest()
        page = self.docs / "index.html"
        if self.settings.deployed == digest and page.exists():
            return
        dbt = DbtRunner(Server.from_dsn(cluster.dsn("warehouse", "builder")), self.state)
        dbt.deploy()
        self.docs.mkdir(exist_ok=True)
        shutil.copyfile(dbt.docs(), page)
        self.settings.deployed = digest
        self.save()

    def remove(self) -> None:
        """Stop the server and remove its data where it lies outside the state folder."""
        self.cluster().stop("immediate")
        outside = self._outside_folder()
        if outside.exists():
            self._check_own(outside)
            shutil.rmtree(outside)

    def _load_settings(self) -> Settings:
        path = self.state / "settings.json"
        try:
            return Settings(**json.loads(path.read_text()))
        except FileNotFoundError:
            return Settings()
        except (ValueError, TypeError) as error:
            raise LocalError(f"{path} cannot be read ({error}): `make clean` starts anew") from error

    def _server_folder(self) -> Path:
        if os.getuid() != 0 or postgres.closed_to_others(self.state) is None:
            return self.state / "postgres"
        outside = self._outside_folder()
        if outside.is_symlink() or outside.exists():
            self._check_own(outside)
        return outside / "postgres"

    def _make_way(self) -> None:
        """Make the folder outside the state folder that the server's data goes into, when it needs one."""
        outside = self._outside_folder()
        if self._server_folder().parent == outside and not outside.exists():
            outside.mkdir()
            outside.chmod(0o755)

    def _outside_folder(self) -> Path:
        return Path("/var/tmp") / f"tieout-{sha256(str(self.state).encode()).hexdigest()[:12]}"

    def _check_own(self, folder: Path) -> None:
        # /var/tmp is everyone's: somebody else may have put something there under this name.
        facts = folder.lstat()
        if folder.is_symlink() or not folder.is_dir() or facts.st_uid != os.getuid() or facts.st_mode & 0o022:
            raise LocalError(f"{folder} was made by someone else: remove it, or choose another TIEOUT_STATE")

    def _forget_lost_server(self) -> None:
        """Remove a server whose passwords are lost: its data outlived the settings."""
        if not self._kept():
            cluster = self.cluster()
            cluster.stop("immediate")
            if cluster.directory.exists():
                shutil.rmtree(cluster.directory)
