"""The Airflow face of Tieout: thin operators over plain code. Those of the watch are in :mod:`tieout.watch.operators`.

Every heavy import happens inside ``execute``: parsing a DAG file costs Airflow's own import and no more.
A missing connection is an error that says how to add it; only Slack is optional.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook, BaseOperator, Connection
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSkipException,
)

if TYPE_CHECKING:
    from airflow.sdk import Context
    from psycopg2.extensions import connection as PgConnection

    from tieout.close import Close, StepResult
    from tieout.dbt_runner import Server

BOOK = "global"
LOADER = "warehouse_loader"
BUILDER = "warehouse_builder"
PUBLISHER = "warehouse_publisher"
READER = "warehouse_reader"
STEPS = ("reconcile", "books", "monitoring")
# Airflow's connection types that are a Postgres, and what their URI looks like.
POSTGRES_TYPES = ("postgres", "postgresql")
POSTGRES_URI = "postgresql://USER:PASSWORD@HOST:5432/DATABASE"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")


def find_connection(conn_id: str, example: str) -> Connection:
    """The Airflow connection of that id.

    :raises AirflowFailException: it is not defined; the message says how to add it.
    """
    try:
        return BaseHook.get_connection(conn_id)
    except AirflowNotFoundException as error:
        raise AirflowFailException(
            f"Airflow has no connection {conn_id!r}. Add it: airflow connections add {conn_id} --conn-uri '{example}', "
            f"or set the environment variable AIRFLOW_CONN_{conn_id.upper()}"
        ) from error


def postgres_arguments(conn_id: str) -> dict[str, Any]:
    """The connection as libpq knows it: host, port, user, password, dbname, and what its extra adds (sslmode, ...)."""
    found = find_connection(conn_id, POSTGRES_URI)
    if found.conn_type not in POSTGRES_TYPES:
        raise AirflowFailException(
            f"connection {conn_id!r} is of type {found.conn_type!r}: it must be a Postgres, {POSTGRES_URI}"
        )
    user, password = found.login, found.password
    arguments = {"host": found.host, "port": found.port, "user": user, "password": password, "dbname": found.schema}
    extra = {name: value for name, value in found.extra_dejson.items() if isinstance(value, str | int)}
    return {**extra, **{name: value for name, value in arguments.items() if value}}


@contextmanager
def warehouse(conn_id: str) -> Iterator[PgConnection]:
    """A psycopg2 connection to the warehouse, closed at the end. (Airflow's hook may give one of psycopg 3.)"""
    import psycopg2

    from tieout.extraction.source import DEAD_PEER_OPTIONS

    arguments = postgres_arguments(conn_id)
    try:
        opened = psycopg2.connect(**{**DEAD_PEER_OPTIONS, "application_name": "tieout", **arguments})
    except psycopg2.OperationalError as error:
        raise AirflowException(
            f"the warehouse does not answer on connection {conn_id!r} "
            f"({arguments.get('host')}:{arguments.get('port')}): {str(error).strip()}. Start it, or correct it"
        ) from error
    with closing(opened):
        yield opened


def business_clock(connection: PgConnection) -> datetime:
    """What checks and loads call now: ``ops.as_of()``."""
    with connection, connection.cursor() as cursor:
        cursor.execute("select ops.as_of()")
        row = cursor.fetchone()
    if row is None:
        raise AirflowException("ops.as_of() returned nothing: run the migrations")
    return row[0]  # type: ignore[no-any-return]


def require_name(value: str, name: str) -> str:
    """The value, if it is a name such as a connection has."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError(f"{name} must be a name of letters, digits, '_', '.' or '-', got {value!r}")
    return value


def resolve_interval(
    context: Context, connection: PgConnection, book: str, business_date: Any, interval_start: Any
) -> tuple[date, datetime, datetime]:
    """Business date and interval in the book's zone; without a date, the day before the run's.

    :raises AirflowFailException: a parameter is no date or time, or the day has not ended by the business clock.
    """
    from tieout.business_days import DateRefused, asked_interval, read_calendar

    with connection:
        zone = read_calendar(connection, book).zone
    asked_at = context.get("data_interval_end") or context["dag_run"].run_after
    try:
        return asked_interval(zone, business_clock(connection), asked_at, business_date, interval_start)
    except DateRefused as error:
        raise AirflowFailException(str(error)) from error


class ExtractSnapshotOperator(BaseOperator):
    """Load every declared table of a source from one consistent snapshot, as the batches of one interval.

    A repeated run of an interval changes nothing. A table that no longer keeps its declared contract is left out;
    the others are loaded, then the task fails and names it. The run's parameters ``tables`` (names, empty for all) and
    ``accept_deletions`` (tables of which any number of rows may be gone) are read from the context, never rendered.

    :param source_name: source in the dbt source YAML, e.g. ``"payments"``; its ``meta.connection`` is where it is read.
    :param business_date: e.g. ``"2026-10-28"``; empty for the day before the run. (templated)
    :param interval_start: e.g. ``"2026-10-19T00:00:00+02:00"``; empty for the day's midnight. (templated)
    :param book: whose zone cuts the days, e.g. ``"global"``.
    :param warehouse_conn_id: e.g. ``"warehouse_loader"``.
    """

    template_fields: Sequence[str] = ("business_date", "interval_start")

    def __init__(
        self,
        *,
        source_name: str,
        business_date: str = "",
        interval_start: str = "",
        book: str = BOOK,
        warehouse_conn_id: str = LOADER,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source_name = require_name(source_name, "source_name")
        self.business_date = business_date
        self.interval_start = interval_start
        self.book = require_name(book, "book")
        self.warehouse_conn_id = require_name(warehouse_conn_id, "warehouse_conn_id")

    def execute(self, context: Context) -> dict[str, Any]:
        """Take the snapshot; returns the date, the interval and the rows loaded."""
        from psycopg2.extensions import make_dsn

        from tieout.extraction.snapshot import take_snapshot
        from tieout.sources import RegistryError, load_registry

        registry = load_registry()
        source = registry.source(self.source_name)
        params = context.get("params") or {}
        chosen = params.get("tables") or None, params.get("accept_deletions") or ()
        dsn = make_dsn(**postgres_arguments(source.connection or self.source_name))
        with warehouse(self.warehouse_conn_id) as connection:
            day, start, end = resolve_interval(context, connection, self.book, self.business_date, self.interval_start)
            as_of = business_clock(connection)
            try:
                batches = take_snapshot(dsn, connection, registry, self.source_name, start, end, as_of, *chosen)
            except RegistryError as error:
                raise AirflowFailException(str(error)) from error
        for batch in batches:
            said = batch.problem or f"{batch.row_count:,} rows up to {batch.content_until or 'nothing new'}"
            self.log.info("%-24s %-9s %s", batch.table, batch.outcome, said)
            for noted in batch.notes:
                self.log.warning("%s: %s", batch.table, noted)
        refused = [batch for batch in batches if batch.outcome == "refused"]
        if refused:
            reasons = "; ".join(str(batch.problem) for batch in refused)
            said = f"{len(refused)} of {len(batches)} tables of {self.source_name} were left out: {reasons}"
            raise AirflowFailException(said)
        return {
            "business_date": str(day), "interval_start": start.isoformat(), "interval_end": end.isoformat(),
            "rows": sum(batch.row_count for batch in batches if batch.outcome == "loaded"),
        }  # fmt: skip


class LoadFilesOperator(BaseOperator):
    """Load what arrived in the landing folder; each file once, proven, or set aside with a reason.

    Its outlets' events carry ``{"book", "business_date"}``: put it last, so that the event says all is there. Where no
    close is to follow (chosen tables, a date before the last close) it ends as skipped, and tells nobody.

    :param landing: an ObjectStoragePath URI, e.g. ``"s3://aws_default@bucket/landing"``; None reads TIEOUT_LANDING
        when the task runs.
    :param business_date: e.g. ``"2026-10-28"``; empty for the day before the run. (templated)
    :param book: e.g. ``"global"``.
    :param warehouse_conn_id: e.g. ``"warehouse_loader"``.
    """

    template_fields: Sequence[str] = ("business_date",)

    def __init__(
        self,
        *,
        landing: str | None = None,
        business_date: str = "",
        book: str = BOOK,
        warehouse_conn_id: str = LOADER,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if landing is not None and "://" not in landing:
            raise ValueError(f"landing must be a URI such as file:///data/landing, got {landing!r}")
        self.landing = landing
        self.business_date = business_date
        self.book = require_name(book, "book")
        self.warehouse_conn_id = require_name(warehouse_conn_id, "warehouse_conn_id")

    def execute(self, context: Context) -> dict[str, int]:
        """Load the landing; returns how many files ended how."""
        from collections import Counter

        from airflow.sdk import ObjectStoragePath

        from tieout.close import published_until
        from tieout.landing.accounts import declared_accounts
        from tieout.landing.load import load_landing
        from tieout.sources import load_registry

        if (context.get("params") or {}).get("tables"):
            raise AirflowSkipException("the run loads chosen tables only: no files, and no close follows")
        landing = self.landing or os.environ.get("TIEOUT_LANDING", "")
        if "://" not in landing:
            raise AirflowFailException(
                "no landing folder: set TIEOUT_LANDING to a URI such as file:///data/landing or s3://conn_id@bucket/path"
            )
        with warehouse(self.warehouse_conn_id) as connection:
            day, _, _ = resolve_interval(context, connection, self.book, self.business_date, "")
            as_of = business_clock(connection)
            outcomes = load_landing(ObjectStoragePath(landing), connection, load_registry(), as_of, declared_accounts())
            closed = published_until(connection, self.book)
        counts = Counter(outcome.outcome for outcome in outcomes)
        for outcome in outcomes:
            if outcome.outcome == "loaded":
                rows = ", ".join(f"{count:,} {table}" for table, count in outcome.row_counts.items())
                self.log.info("%s: %s, %s", outcome.name, outcome.format, rows or "no rows")
            elif outcome.outcome != "known":
                self.log.warning("%s: %s, %s", outcome.name, outcome.outcome, outcome.reason)
        self.log.info("%s files: %s", len(outcomes), dict(counts))
        broken = [outcome for outcome in outcomes if outcome.outcome == "failed"]
        if broken:
            reasons = "; ".join(f"{outcome.name}: {outcome.reason}" for outcome in broken)
            raise AirflowException(f"{len(broken)} file(s) broke our own reader, all others are loaded: {reasons}")
        if closed and day < closed:
            raise AirflowSkipException(f"{len(outcomes)} files; {day} is before the last close {closed}: none follows")
        for outlet in self.outlets:
            context["outlet_events"][outlet].extra = {"book": self.book, "business_date": str(day)}
        return {str(outcome): count for outcome, count in counts.items()}


class OpenCloseOperator(BaseOperator):
    """Open the close of a business date: fix its parent, its generation and the batches it consumes.

    A date that has not ended by the business clock, in the book's zone, is refused.

    :param business_date: e.g. ``"2026-10-28"``; empty for the latest date of the asset events that triggered
        the run. (templated)
    :param book: e.g. ``"global"``.
    :param warehouse_conn_id: e.g. ``"warehouse_loader"``.
    """

    template_fields: Sequence[str] = ("business_date",)

    def __init__(
        self, *, business_date: str = "", book: str = BOOK, warehouse_conn_id: str = LOADER, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.business_date = business_date
        self.book = require_name(book, "book")
        self.warehouse_conn_id = require_name(warehouse_conn_id, "warehouse_conn_id")

    def execute(self, context: Context) -> dict[str, Any]:
        """Open it; returns the close for the tasks that follow."""
        from tieout.business_days import DateRefused, parse_date, read_calendar, refuse_unended
        from tieout.close import CloseRefused, open_close

        with warehouse(self.warehouse_conn_id) as connection:
            try:
                day = parse_date(self.business_date, "business_date") or self._announced(context)
                as_of = business_clock(connection)
                with connection:
                    zone = read_calendar(connection, self.book).zone
                refuse_unended(day, zone, as_of)
                opened = open_close(connection, self.book, day, as_of)
            except (CloseRefused, DateRefused) as error:
                raise AirflowFailException(str(error)) from error
        self.log.info("close %s of %s for %s is %s", opened.close_id, self.book, opened.business_date, opened.state)
        return {name: str(value) if isinstance(value, date) else value for name, value in asdict(opened).items()}

    def _announced(self, context: Context) -> date:
        from tieout.business_days import announced_dates

        events = (context.get("triggering_asset_events") or {}).values()
        *skipped, latest = announced_dates([event.extra or {} for one in events for event in one], self.book)
        if skipped:
            said = "several ingests were waiting: the close of %s takes all they loaded, there will be none of %s"
            self.log.warning(said, latest, ", ".join(map(str, skipped)))
        return latest


def dbt_server(conn_id: str) -> Server:
    """Where dbt builds, from an Airflow connection."""
    from tieout.dbt_runner import Server

    arguments = postgres_arguments(conn_id)
    return Server(
        host=arguments.get("host", "127.0.0.1"), port=int(arguments.get("port", 5432)),
        user=arguments.get("user", ""), password=arguments.get("password", ""), database=arguments.get("dbname", ""),
    )  # fmt: skip


def state_folder() -> Path:
    """The folder for what dbt keeps."""
    return Path(os.environ.get("TIEOUT_STATE") or Path(__file__).resolve().parents[2] / ".tieout")


class BuildCloseOperator(BaseOperator):
    """Run one step of a close's dbt build in this process, and fail when the step's proof fails.

    :param step: ``"reconcile"``, ``"books"`` or ``"monitoring"``.
    :param close: what ``OpenCloseOperator`` returned, e.g. ``open_task.output``. (templated)
    :param warehouse_conn_id: e.g. ``"warehouse_builder"``.
    """

    template_fields: Sequence[str] = ("close",)

    def __init__(self, *, step: str, close: Any, warehouse_conn_id: str = BUILDER, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if step not in STEPS:
            raise ValueError(f"step must be one of {', '.join(STEPS)}, got {step!r}")
        self.step = step
        self.close = close
        self.warehouse_conn_id = require_name(warehouse_conn_id, "warehouse_conn_id")

    def execute(self, context: Context) -> None:
        """Build the step and log each model."""
        from tieout import close

        close_id, token = _identity(self.close)
        if self.close.get("state") == "published":
            self.log.info("close %s is published already, the step %s has nothing to do", close_id, self.step)
            return
        try:
            result = close.build(dbt_server(self.warehouse_conn_id), close_id, token, self.step, state_folder())
        except (close.CloseNotProven, close.CloseRefused) as error:
            # The same rows fail the same way again: what helps is a person, not a retry.
            raise AirflowFailException(str(error)) from error
        for node in result.nodes:
            self.log.info("%-8s %6.2f s  %s  %s", node.status, node.seconds, node.node, node.message or "")
        self.log.info("%s: %s nodes, %.1f s of SQL", self.step, len(result.nodes), result.sql_seconds)


class PublishCloseOperator(BaseOperator):
    """Book the proven close's journal and flip the readers' pointer to it, in one transaction.

    :param close: what ``OpenCloseOperator`` returned, e.g. ``open_task.output``. (templated)
    :param warehouse_conn_id: e.g. ``"warehouse_publisher"``.
    """

    template_fields: Sequence[str] = ("close",)

    def __init__(self, *, close: Any, warehouse_conn_id: str = PUBLISHER, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.close = close
        self.warehouse_conn_id = require_name(warehouse_conn_id, "warehouse_conn_id")

    def execute(self, context: Context) -> None:
        """Publish it; a published close stays as it is. What the database refuses is not tried again."""
        from psycopg2.errors import CheckViolation, InsufficientPrivilege, RaiseException

        from tieout.close import publish

        close_id, token = _identity(self.close)
        if self.close.get("state") == "published":
            self.log.info("close %s is published already, there is nothing to publish", close_id)
            return
        with warehouse(self.warehouse_conn_id) as connection:
            try:
                lines = publish(connection, close_id, token)
            except (RaiseException, CheckViolation, InsufficientPrivilege) as error:
                raise AirflowFailException(
                    f"the database refused to publish close {close_id}, nothing has changed: {str(error).strip()}"
                ) from error
        self.log.info("close %s is published, %s journal lines booked", close_id, lines)


class RecloseOperator(BaseOperator):
    """Close a past date again with every date after it, and publish all of them at once; a repeated run goes on.

    The run's parameters ``business_date``, ``reason`` and ``actor`` are read from the context, never rendered.

    :param book: e.g. ``"global"``.
    :param loader_conn_id: e.g. ``"warehouse_loader"``.
    :param builder_conn_id: e.g. ``"warehouse_builder"``.
    :param publisher_conn_id: e.g. ``"warehouse_publisher"``.
    """

    template_fields: Sequence[str] = ()

    def __init__(
        self,
        *,
        book: str = BOOK,
        loader_conn_id: str = LOADER,
        builder_conn_id: str = BUILDER,
        publisher_conn_id: str = PUBLISHER,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.book = require_name(book, "book")
        self.loader_conn_id = require_name(loader_conn_id, "loader_conn_id")
        self.builder_conn_id = require_name(builder_conn_id, "builder_conn_id")
        self.publisher_conn_id = require_name(publisher_conn_id, "publisher_conn_id")

    def execute(self, context: Context) -> int:
        """Build the chain and publish it; returns the journal lines booked or taken back."""
        from psycopg2.errors import CheckViolation, InsufficientPrivilege, RaiseException, UniqueViolation

        from tieout import close, reclose
        from tieout.business_days import DateRefused, parse_date

        asked = {name: str((context.get("params") or {}).get(name) or "") for name in ("reason", "actor")}
        server = dbt_server(self.builder_conn_id)
        with warehouse(self.loader_conn_id) as loader, warehouse(self.publisher_conn_id) as publisher:
            try:
                day = parse_date((context.get("params") or {}).get("business_date"), "business_date")
                if day is None:
                    raise DateRefused("no business date: trigger the run with the parameter business_date")
                chain, lines = reclose.close_again(
                    loader, publisher, server, state_folder(), self.book, day, **asked, tell=self._tell
                )
            except (
                close.CloseNotProven, close.CloseRefused, DateRefused, RaiseException, CheckViolation, UniqueViolation,
                InsufficientPrivilege,
            ) as error:  # fmt: skip
                raise AirflowFailException(f"{str(error).strip()}\nNothing is published") from error
        self.log.info("re-close %s: %s closes, %s journal lines", chain.reclosing_id, len(chain.closes), lines)
        return lines

    def _tell(self, closed: Close, result: StepResult) -> None:
        self.log.info(
            "close %s of %s: %s, %.1f s of SQL", closed.close_id, closed.business_date, result.step, result.sql_seconds
        )


def _identity(close: Any) -> tuple[int, int]:
    try:
        return int(close["close_id"]), int(close["fencing_token"])
    except (KeyError, TypeError, ValueError) as error:
        raise AirflowFailException(
            f"close must be what OpenCloseOperator returned (close_id, fencing_token), got {str(close)[:80]!r}"
        ) from error
