"""Checks: one function a question, each ``(connection, registry, as_of) -> list[Finding]``.

A finding says what was looked at and how it is. ``warn`` means: look at it today, everything goes on.
``fail`` means: numbers people read are late, incomplete or unproven. A check that cannot look, gets NULL
where it needs a value, or finds nothing to look at, reports a ``fail`` on ``ITSELF``: silence never passes.

Time is the business clock ``as_of``, never the database's: what counts is whether the data a day needs
is there. Files follow business days, so hours of weekends and holidays do not age them.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from psycopg2 import Error as DatabaseError
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from tieout.batches import SESSION_SPELLING, Totals, fold_totals, totals_statement
from tieout.business_days import BusinessCalendar, read_calendar
from tieout.sources import BATCH_ID, IS_DELETED, RAW_SCHEMA, Registry, Table, canonical_type, raw_identifier
from tieout.watch.close_checks import (
    breaks_over_threshold,
    close_state,
    dbt_results,
    journal_chain,
    proof_exceptions,
    reference_rates,
    refused_actions,
)
from tieout.watch.findings import BOOK, DUE_HOURS, PLATFORM, Check, Finding, Severity, blind, query
from tieout.watch.load_checks import load_notes

# A check that takes longer has a broken plan or waits for a lock; either is news.
CHECK_TIMEOUT_S = 120
# Below this many earlier loads, or rows in the usual one, a ratio says nothing.
VOLUME_HISTORY_MIN = 3
VOLUME_HISTORY_DAYS = 60
VOLUME_ROWS_MIN = 20
# A Monday carries three days of captures: up to four times the usual is a week's rhythm.
VOLUME_RATIO_MAX = 4


def run_checks(
    connection: Connection, registry: Registry, as_of: datetime, checks: Sequence[Check] | None = None
) -> list[Finding]:
    """Run the checks in order, on one snapshot of the warehouse; an error of one does not stop the others.

    :param connection: in no transaction; reads only.
    :param as_of: the business clock, with time zone.
    :param checks: by default ``CHECKS``.
    """
    if as_of.tzinfo is None:
        raise ValueError(f"as_of needs a time zone, got {as_of.isoformat()}")
    findings: list[Finding] = []
    with connection, connection.cursor() as cursor:
        cursor.execute("set transaction isolation level repeatable read, read only")
        cursor.execute(SESSION_SPELLING)
        cursor.execute(f"set local statement_timeout = '{CHECK_TIMEOUT_S}s'")
        for check in CHECKS if checks is None else checks:
            name = check.__name__
            cursor.execute("savepoint one_check")
            try:
                found = check(connection, registry, as_of)
                findings.extend(found or [blind(name, "it looked at nothing")])
            except (DatabaseError, LookupError, ValueError, TypeError, ArithmeticError) as error:
                reason = str(error).strip().split("\n", 1)[0] or "no reason given"
                findings.append(blind(name, f"it could not look: {type(error).__name__}: {reason}"))
            finally:
                if not connection.closed:
                    cursor.execute("rollback to savepoint one_check")
    return findings


def _name(table: Table) -> str:
    return f"{table.source}.{table.name}"


def load_freshness(connection: Connection, registry: Registry, as_of: datetime) -> list[Finding]:
    """Was every declared table loaded lately? By the as_of of its newest batch, against dbt's freshness periods."""
    newest = {
        (source, table): at
        for source, table, at in query(
            connection, "select source, table_name, max(as_of) from ops.batches group by source, table_name"
        )
    }
    calendar = read_calendar(connection, BOOK)
    findings = []
    for table in registry.tables:
        at = newest.get((table.source, table.name))
        severity: Severity = "ok"
        if at is None:
            severity, message, hours = "fail", "was never loaded", None
            if table.load_error_hours is None:
                severity, message = "ok", "was never loaded, and nothing says that it has to be"
        else:
            age = calendar.open_hours(at, as_of) if table.kind == "file" else (as_of - at).total_seconds() / 3600
            hours = round(age, 1)
            if table.load_error_hours is not None and age > table.load_error_hours:
                severity = "fail"
            elif table.load_warn_hours is not None and age > table.load_warn_hours:
                severity = "warn"
            message = f"last loaded {hours} h ago, allowed are {table.load_warn_hours} h"
        observed = {"hours": hours, "warn_hours": table.load_warn_hours, "error_hours": table.load_error_hours}
        findings.append(Finding("load_freshness", _name(table), severity, message, observed, table.owner))
    return findings


def content_freshness(connection: Connection, registry: Registry, as_of: datetime) -> list[Finding]:
    """Is the newest content young enough, per table by its SLA, and per reporting account by business days?

    A load of old rows is fresh by load time and stale here. An account one business day behind is late (warn),
    two or more are missing (fail). An account that never sent a file is not known here: its items end as
    MISSING_OVERDUE breaks.
    """
    calendar = read_calendar(connection, BOOK)
    newest = {
        (source, table): until
        for source, table, until in query(
            connection, "select source, table_name, max(content_until) from ops.batches group by source, table_name"
        )
    }
    findings = []
    for table in registry.tables:
        sla = table.content_sla_hours
        if sla is None:
            continue
        until = newest.get((table.source, table.name))
        if until is None:
            message, hours, stale = "has no content at all", None, True
        else:
            age = calendar.open_hours(until, as_of) if table.kind == "file" else (as_of - until).total_seconds() / 3600
            hours, stale = round(age, 1), age > sla
            message = f"its newest content is {hours} h old, allowed are {sla:g} h"
        observed = {"hours": hours, "sla_hours": sla}
        findings.append(
            Finding("content_freshness", _name(table), "fail" if stale else "ok", message, observed, table.owner)
        )
    return findings + _account_freshness(connection, registry, calendar, as_of)


def _account_freshness(
    connection: Connection, registry: Registry, calendar: BusinessCalendar, as_of: datetime
) -> list[Finding]:
    reports = query(
        connection,
        "select distinct on (origin, coalesce(origin_account, '')) origin, origin_account, content_date, file_id, name "
        "from ops.files where status = 'loaded' and origin is not null and content_date is not null "
        "order by origin, coalesce(origin_account, ''), content_date desc, file_id desc",
    )
    files = [report[3] for report in reports]
    currencies: dict[int, set[str]] = defaultdict(set)
    # Which calendar an account follows is seen from the currencies its newest file settled in.
    for statement in (
        "select distinct file_id, net_currency from raw.settlement_lines where file_id = any(%s)",
        "select distinct file_id, currency from raw.bank_statements where file_id = any(%s)",
    ):
        for file_id, currency in query(connection, statement, (files,)):
            currencies[file_id].add(currency)
    owner = next((table.owner for table in registry.tables if table.kind == "file"), PLATFORM)
    due = calendar.last_due_day(as_of, DUE_HOURS)
    findings = []
    for origin, account, content_date, file_id, file_name in reports:
        missing = calendar.days_missing(sorted(currencies[file_id]), content_date, due)
        severity: Severity = "ok" if not missing else "warn" if len(missing) == 1 else "fail"
        message = f"its newest file {file_name} ends at {content_date}"
        if missing:
            word = "late" if severity == "warn" else "missing"
            message += f"; {word} for {len(missing)} business day(s) since {missing[0]}"
        observed = {"content_date": str(content_date), "missing": [str(day) for day in missing[:10]]}
        findings.append(
            Finding("content_freshness", f"{origin} {account or ''}".strip(), severity, message, observed, owner)
        )
    return findings


def volume(connection: Connection, registry: Registry, as_of: datetime) -> list[Finding]:
    """Is the newest load about as large as the usual one?

    Snapshot tables are compared in rows a day of their interval, files with earlier files of the same account.
    Fails when an empty load comes where none was empty before; warns outside a quarter to four times the median.
    """
    earliest = as_of - timedelta(days=VOLUME_HISTORY_DAYS)
    history: dict[tuple[str, str, str], list[Decimal]] = defaultdict(list)
    for source, table_name, account, rows in query(
        connection,
        "select b.source, b.table_name, coalesce(f.origin || ' ' || coalesce(f.origin_account, ''), ''), "
        "  case when b.file_id is not null then b.row_count::numeric "
        "  else b.row_count * 86400 / extract(epoch from b.interval_end - b.interval_start) end "
        "from ops.batches b left join ops.files f using (file_id) where b.as_of >= %s "
        # The newest by what it covers: several files may be loaded by one run, in any order.
        "order by b.source, b.table_name, coalesce(b.interval_end, f.content_date), b.batch_id",
        (earliest,),
    ):
        history[source, table_name, account.strip()].append(rows)
    owners = {(table.source, table.name): table.owner for table in registry.tables}
    findings = []
    for (source, table_name, account), counts in history.items():
        *before, now = counts
        subject = f"{source}.{table_name} {account}".strip()
        observed: dict[str, Any] = {"rows": round(now), "earlier": len(before)}
        severity: Severity = "ok"
        if len(before) < VOLUME_HISTORY_MIN:
            message = f"{now:.0f} rows; {len(before)} earlier loads are too few to compare with"
        else:
            usual = statistics.median(before)
            observed["usual"] = round(usual)
            message = f"{now:.0f} rows, usual are {usual:.0f}"
            if now == 0 and min(before) > 0:
                severity, message = "fail", f"no rows at all, usual are {usual:.0f}"
            elif usual >= VOLUME_ROWS_MIN and not usual / VOLUME_RATIO_MAX <= now <= usual * VOLUME_RATIO_MAX:
                severity = "warn"
        findings.append(
            Finding("volume", subject, severity, message, observed, owners.get((source, table_name), PLATFORM))
        )
    return findings


def quarantine(connection: Connection, registry: Registry, as_of: datetime) -> list[Finding]:
    """Is there a file, refused or held, that no later good one replaced?

    A loaded file that came later replaces it when it covers the same account and day, or when its name is the
    refused one's, perhaps with something added before the extension (``x.csv``, ``x_resent.csv``, not ``x2.csv``).
    The folder does not count: it may be an archive's. A refused file whose sender is known is replaced by a file of
    that sender only.
    """
    owner = next((table.owner for table in registry.tables if table.kind == "file"), PLATFORM)
    counted = query(connection, "select count(*), count(*) filter (where status <> 'loaded') from ops.files")
    total, refused = counted[0]
    if not total:
        return [blind("quarantine", "no file has ever arrived in the landing")]
    unresolved = query(
        connection,
        "with named as (select *, regexp_replace(name, '^.*/', '') as base from ops.files), "
        r"refused as (select *, regexp_replace(base, '\.[^.]*$', '') as stem from named where status <> 'loaded') "
        "select q.file_id, q.name, q.status, q.reason, q.seen_at from refused q "
        "where not exists (select from named good where good.status = 'loaded' and good.file_id > q.file_id and ("
        "  starts_with(good.base, q.stem) and substr(good.base, length(q.stem) + 1, 1) !~ '[[:alnum:]]'"
        "  and (q.origin is null or good.origin = q.origin)"
        "  or (good.origin, good.origin_account, good.content_date) = (q.origin, q.origin_account, q.content_date)"
        ")) order by q.file_id",
    )
    findings = [
        Finding(
            "quarantine", f"{name} (file {file_id})", "fail",
            f"{'is held' if status == 'held' else 'was refused'}, and no good one has replaced it: {reason}",
            {"file_id": file_id, "seen_at": str(seen_at)}, owner,
        )
        for file_id, name, status, reason, seen_at in unresolved
    ]  # fmt: skip
    message = f"{total} files seen, {refused} refused or held, {len(unresolved)} of them not replaced"
    return [*findings, Finding("quarantine", "landing", "ok", message, {"files": total, "refused": refused}, owner)]


def contract_drift(connection: Connection, registry: Registry, as_of: datetime) -> list[Finding]:
    """Do the raw tables still have the declared columns? What a source has otherwise, its load notes."""
    present: dict[str, dict[str, str]] = defaultdict(dict)
    for table_name, column, data_type in query(
        connection,
        "select c.relname, a.attname, format_type(a.atttypid, a.atttypmod) from pg_class c "
        "join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid "
        "where n.nspname = %s and a.attnum > 0 and not a.attisdropped",
        (RAW_SCHEMA,),
    ):
        present[table_name][column] = data_type
    findings = []
    with connection.cursor() as cursor:
        for table in registry.tables:
            raw = present.get(table.raw_table, {})
            problems = [f"raw.{table.raw_table} does not exist: run the migrations"] if not raw else []
            if raw and IS_DELETED not in raw:
                problems.append(f"raw lacks {IS_DELETED}: set up again, which adds it")
            for column in table.columns if raw else ():
                declared = canonical_type(cursor, column.data_type)
                if column.name not in raw:
                    problems.append(f"raw lacks the declared column {column.name}")
                elif raw[column.name] != declared:
                    problems.append(f"{column.name} is {raw[column.name]} in raw and declared as {declared}")
            extra = sorted(raw.keys() - {BATCH_ID, IS_DELETED, *table.column_names})
            severity: Severity = "fail" if problems else "warn" if extra else "ok"
            if extra:
                problems.append(f"raw has undeclared columns: {', '.join(extra)}")
            message = "; ".join(problems) or f"all {len(table.columns)} declared columns are as declared"
            findings.append(
                Finding("contract_drift", _name(table), severity, message, {"problems": problems}, table.owner)
            )
    return findings


def control_totals(connection: Connection, registry: Registry, as_of: datetime) -> list[Finding]:
    """Does the newest batch of each table still hold the rows, sums and keys counted at the source?"""
    newest = query(
        connection,
        "select distinct on (source, table_name) source, table_name, batch_id, row_count, key_hash "
        "from ops.batches order by source, table_name, batch_id desc",
    )
    declared = {(table.source, table.name): table for table in registry.tables}
    findings = []
    for source, table_name, batch_id, row_count, key_hash in newest:
        table = declared.get((source, table_name))
        if table is None:
            continue
        amounts = {
            (measure, currency): (rows, int(total))
            for measure, currency, rows, total in query(
                connection,
                "select measure, currency, row_count, sum_minor from ops.batch_totals where batch_id = %s",
                (batch_id,),
            )
        }
        condition = sql.SQL("{} = {}").format(sql.Identifier(BATCH_ID), sql.Literal(batch_id))
        found = fold_totals(table, query(connection, totals_statement(table, raw_identifier(table), condition)))
        problems = _differences(Totals(row_count, int(key_hash), amounts), found)
        message = f"batch {batch_id}: " + ("; ".join(problems) or f"{row_count} rows as counted at the source")
        findings.append(
            Finding(
                "control_totals", _name(table), "fail" if problems else "ok", message,
                {"batch_id": batch_id, "problems": problems}, table.owner,
            )
        )  # fmt: skip
    return findings


def _differences(expected: Totals, found: Totals) -> list[str]:
    problems = []
    if expected.row_count != found.row_count:
        problems.append(f"{found.row_count} rows in raw, {expected.row_count} at the source")
    elif expected.key_hash != found.key_hash:
        problems.append("as many rows in raw as at the source, but other keys")
    for measure, currency in sorted(expected.amounts.keys() | found.amounts.keys()):
        there, here = (side.amounts.get((measure, currency), (0, 0)) for side in (expected, found))
        if there != here:
            problems.append(
                f"{measure} in {currency}: {here[0]} rows, {here[1]} minor units in raw; "
                f"{there[0]} rows, {there[1]} at the source"
            )
    return problems


CHECKS: tuple[Check, ...] = (
    load_freshness,
    content_freshness,
    volume,
    quarantine,
    contract_drift,
    load_notes,
    control_totals,
    close_state,
    breaks_over_threshold,
    proof_exceptions,
    refused_actions,
    reference_rates,
    dbt_results,
    journal_chain,
)
