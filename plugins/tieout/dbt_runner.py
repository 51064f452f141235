"""The dbt project, run inside this process: deployed once, built step by step for each close, documented.

A changed ``--vars`` makes dbt parse the whole project again, so the parsed manifest is kept under a digest of the
project's files and handed to every run; a run writes its artifacts to a folder of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from tieout.sources import default_project

PROJECT_SUFFIXES = {".sql", ".yml", ".csv", ".md"}
ERROR_CHARS_MAX = 600


class DbtFailed(RuntimeError):
    """dbt could not do what was asked; the message holds its own words."""


@dataclass(frozen=True)
class NodeResult:
    """How one model or test ended: ``status`` is dbt's word, ``seconds`` the time it took."""

    node: str
    resource_type: str
    status: str
    seconds: float
    message: str


@dataclass(frozen=True)
class Server:
    """Where dbt connects to, and as whom."""

    host: str
    port: int
    user: str
    password: str
    database: str

    @classmethod
    def from_dsn(cls, dsn: str) -> Server:
        """Read a libpq URI such as ``postgresql://user:secret@127.0.0.1:5432/warehouse``."""
        parts = urlsplit(dsn)
        return cls(
            host=parts.hostname or "127.0.0.1",
            port=parts.port or 5432,
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            database=parts.path.lstrip("/"),
        )

    def environment(self) -> dict[str, str]:
        """The variables ``profiles.yml`` reads."""
        return {
            "TIEOUT_PG_HOST": self.host,
            "TIEOUT_PG_PORT": str(self.port),
            "TIEOUT_PG_USER": self.user,
            "TIEOUT_PG_PASSWORD": self.password,
            "TIEOUT_PG_DATABASE": self.database,
        }


def project_digest(project: Path | None = None) -> str:
    """sha256 over every file that decides what a close computes: rules, models, macros, tests.

    :param project: the dbt project's folder, by default that of the source registry.
    """
    project = project or default_project()
    digest = hashlib.sha256()
    for path in sorted(project.rglob("*")):
        relative = path.relative_to(project)
        if path.suffix in PROJECT_SUFFIXES and relative.parts[0] not in ("target", "logs"):
            digest.update(str(relative).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


class DbtRunner:
    """Runs this project against one server.

    :param server: where the warehouse is.
    :param state: folder for manifests, artifacts and logs.
    :param project: the dbt project's folder, by default that of the source registry.
    """

    def __init__(self, server: Server, state: Path, project: Path | None = None) -> None:
        self.server = server
        self.folder = state / "dbt"
        self.project = project or default_project()

    def run(
        self, command: Sequence[str], variables: Mapping[str, object] | None = None, *, name: str
    ) -> list[NodeResult]:
        """Run one dbt command with the kept manifest; its artifacts go to ``<state>/dbt/<name>``.

        :returns: one result a node that ran, in dbt's order.
        :raises DbtFailed: dbt itself could not run. Failed models and tests are results, not errors.
        """
        from dbt.cli.main import dbtRunner

        with self._environment():
            outcome = dbtRunner(manifest=self.manifest()).invoke(
                [*command, *self._options(name), "--vars", json.dumps(dict(variables or {}))]
            )
        if outcome.exception is not None:
            raise DbtFailed(f"dbt {' '.join(command)}: {outcome.exception}") from outcome.exception
        return list(_node_results(outcome.result))

    def deploy(self) -> None:
        """Load and check the seeds, make the marts' tables where they are missing and the views readers use.

        :raises DbtFailed: something did not build or a close is being built; the message names it.
        """
        with self.at_work(alone=True):
            first = self._missing_marts()
            self._demand(
                ["build", "--select", "resource_type:seed", "--full-refresh", "--indirect-selection", "cautious"]
            )
            # Staging and intermediate tables belong to the close being built: only a first deployment makes them.
            self._demand(["run"] if first else ["run", "--select", "tag:deploy"])
            self._make_reader_views()

    @contextmanager
    def at_work(self, *, alone: bool = False) -> Iterator[None]:
        """Hold off deployments while a close is built, and with ``alone`` hold off closes too.

        :raises DbtFailed: somebody is at work who cannot be worked beside.
        """
        connection = self._connect()
        try:
            with connection, connection.cursor() as cursor:
                if alone:
                    cursor.execute("select count(*) from ops.closes where state in ('running', 'proven', 'failed')")
                    (unfinished,) = cursor.fetchone() or (0,)
                    if unfinished and self._missing_marts():
                        raise DbtFailed("a close is unfinished: publish it or give it up (tieout close abort) first")
                mode = "pg_try_advisory_lock" if alone else "pg_try_advisory_lock_shared"
                cursor.execute(f"select {mode}(hashtext('tieout dbt'))")
                (taken,) = cursor.fetchone() or (False,)
            if not taken:
                raise DbtFailed(
                    "a close is being built: deploy when it is through" if alone
                    else "the dbt project is being deployed: try again when it is through"
                )  # fmt: skip
            yield
        finally:
            connection.close()

    def prune(self, kept: Sequence[str]) -> None:
        """Remove the artefacts of closes other than these."""
        for folder in self.folder.glob("close-*"):
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def _demand(self, command: Sequence[str]) -> None:
        good = ("success", "pass", "no-op")
        failed = [result for result in self.run(command, name="deploy") if result.status not in good]
        if failed:
            raise DbtFailed("; ".join(f"{result.node}: {result.message}" for result in failed))

    def _published(self) -> list[Any]:
        nodes = self.manifest().nodes.values()
        return [node for node in nodes if node.resource_type == "model" and "published" in node.tags]

    def _missing_marts(self) -> list[str]:
        connection = self._connect()
        try:
            with connection.cursor() as cursor:
                cursor.execute("select schemaname || '.' || tablename from pg_tables")
                present = {row[0] for row in cursor.fetchall()}
        finally:
            connection.close()
        return [node.name for node in self._published() if f"{node.schema}.{node.name}" not in present]

    def _connect(self) -> Connection:
        server = self.server
        return psycopg2.connect(
            host=server.host, port=server.port, user=server.user, password=server.password, dbname=server.database
        )

    def docs(self) -> Path:
        """Write the documentation site as one static page and return its path."""
        from dbt.cli.main import dbtRunner

        with self._environment():
            outcome = dbtRunner().invoke(["docs", "generate", "--static", *self._options("docs")])
        if not outcome.success:
            raise DbtFailed(f"dbt docs generate: {outcome.exception or outcome.result}")
        return self.folder / "docs" / "static_index.html"

    def _options(self, name: str) -> list[str]:
        target = self.folder / name
        return [
            "--project-dir", str(self.project), "--profiles-dir", str(self.project),
            "--target-path", str(target), "--log-path", str(self.folder / "logs"),
            "--quiet", "--no-print", "--no-use-colors",
            # It would write each statement down, which takes as long as many of them; failures are told by the results.
            "--log-level-file", "none",
        ]  # fmt: skip

    @contextmanager
    def _environment(self) -> Iterator[None]:
        before = dict(os.environ)
        os.environ.update(self.server.environment())
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)

    def manifest(self) -> Any:
        """The parsed project: read back when it is the same project for the same database, else parsed now."""
        from dbt.cli.main import dbtRunner
        from dbt.contracts.graph.manifest import Manifest
        from dbt.parser.manifest import extended_mashumaro_encoder, extended_mashumuro_decoder

        key = hashlib.sha256(f"{project_digest(self.project)} {self.server.database}".encode()).hexdigest()[:24]
        kept = self.folder / "manifests" / f"{key}.msgpack"
        if kept.exists():
            return Manifest.from_msgpack(kept.read_bytes(), decoder=extended_mashumuro_decoder)
        with self._environment():
            outcome = dbtRunner().invoke(["parse", *self._options("parse"), "--no-partial-parse"])
        if not outcome.success or not isinstance(outcome.result, Manifest):
            raise DbtFailed(f"the dbt project does not parse: {outcome.exception}")
        shutil.rmtree(kept.parent, ignore_errors=True)
        kept.parent.mkdir(parents=True)
        written = kept.with_suffix(f".{os.getpid()}.tmp")
        written.write_bytes(outcome.result.to_msgpack(extended_mashumaro_encoder))
        written.replace(kept)
        return outcome.result

    def _make_reader_views(self) -> None:
        """Two views a published mart: the close that stands for each date, and every close that ever did."""
        nodes = self._published()
        connection = self._connect()
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute("grant usage on schema rules to loader, reader, controller")
                cursor.execute("grant select on all tables in schema rules to loader, reader, controller")
                for node in nodes:
                    mart = sql.Identifier(node.schema, node.name)
                    # Deploying built the tables for close 0, which consumes nothing; what such a close says is noise.
                    cursor.execute(sql.SQL("delete from {} where close_id = 0").format(mart))
                    cursor.execute(
                        "select column_name from information_schema.columns "
                        "where table_schema = %s and table_name = %s order by ordinal_position",
                        (node.schema, node.name),
                    )
                    columns = [sql.Identifier("mart", row[0]) for row in cursor.fetchall()]
                    select = sql.SQL(
                        "select {} from {} as mart join ops.published as pointer on mart.close_id = pointer.close_id"
                    ).format(sql.SQL(", ").join(columns), mart)
                    history = sql.SQL(
                        "select closes.generation, closes.published_at as known_from, "
                        "closes.superseded_at as known_until, {} from {} as mart "
                        "join ops.closes on mart.close_id = closes.close_id where closes.published_at is not null"
                    ).format(sql.SQL(", ").join(columns), mart)
                    for schema, statement in (("published", select), ("known", history)):
                        view = sql.Identifier(schema, node.name)
                        cursor.execute(sql.SQL("create or replace view {} as {}").format(view, statement))
                        cursor.execute(sql.SQL("grant select on {} to reader, loader, controller").format(view))
                        cursor.execute(_comments(view, node))
        finally:
            connection.close()


def _comments(view: sql.Identifier, node: Any) -> sql.Composed:
    """What the project says of a mart and its columns, for those who see no more than the view."""
    comments = [sql.SQL("comment on view {} is {}").format(view, sql.Literal(node.description))]
    comments += [
        sql.SQL("comment on column {}.{} is {}").format(view, sql.Identifier(name), sql.Literal(column.description))
        for name, column in node.columns.items()
    ]
    return sql.SQL("; ").join(comments)


def _node_results(execution: Any) -> Iterator[NodeResult]:
    for result in getattr(execution, "results", []):
        yield NodeResult(
            node=result.node.name,
            resource_type=str(result.node.resource_type),
            status=str(result.status),
            seconds=float(result.execution_time),
            message=str(result.message or "")[:ERROR_CHARS_MAX],
        )
