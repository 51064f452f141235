"""Every check on fresh, stale, empty and not-yet-due data; and that none passes when it cannot look."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import count
from types import FunctionType
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection

from tieout.batches import Totals, open_batch, seal_batch
from tieout.business_days import BusinessCalendar, read_calendar
from tieout.load_notes import note
from tieout.sources import Registry, default_project, load_registry
from tieout.watch import checks, close_checks, load_checks
from tieout.watch.checks import CHECKS, run_checks
from tieout.watch.findings import ITSELF, Finding

# The morning after Thursday 2026-10-29, 05:00 in Amsterdam (winter time since the 25th).
AS_OF = datetime(2026, 10, 30, 4, tzinfo=UTC)
HOUR = timedelta(hours=1)
SEEDS = {
    "books": "book text, zone text, reporting_currency text, first_entry_business_date date, rate_age_days_max integer",
    "calendars": "calendar text, weekend_first_iso_day integer, weekend_second_iso_day integer",
    "holidays": "calendar text, holiday date, holiday_name text",
}
_numbers = count(1)


@pytest.fixture(scope="session")
def registry() -> Registry:
    return load_registry()


@pytest.fixture
def ready(warehouse: Connection) -> Connection:
    """A warehouse with the seeds the checks read, and an empty break register."""
    with warehouse, warehouse.cursor() as cursor:
        cursor.execute("create schema if not exists rules; create schema if not exists published")
        for name, columns in SEEDS.items():
            cursor.execute(f"create table rules.{name} ({columns})")
            with (default_project() / "seeds" / f"{name}.csv").open() as file:
                cursor.copy_expert(f"copy rules.{name} from stdin (format csv, header match)", file)
        cursor.execute(
            "create table published.break_register (business_date date, reconciliation text, break_code text, "
            "is_timing boolean, severity text, owner text, reporting_exposure_minor bigint, "
            "first_seen_business_date date)"
        )
        cursor.execute(
            "create table published.break_actions (close_id bigint, action_id bigint, kind text, actor text, "
            "outcome text, refusal text)"
        )
        cursor.execute(
            "create table published.proof_exceptions (close_id bigint, check_name text, subject text, currency text, "
            "difference_count bigint, difference_minor numeric, first_seen_business_date date, signed_by text, "
            "reason text)"
        )
        cursor.execute(
            "create table published.reporting_rates (business_date date, currency text, reporting_currency text, "
            "rate numeric, rate_source text, observed_date date)"
        )
    return warehouse


def execute(connection: Connection, statement: str, *values: Any) -> None:
    with connection, connection.cursor() as cursor:
        cursor.execute(statement, values or None)


def one(connection: Connection, statement: str, *values: Any) -> Any:
    with connection, connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        row = cursor.fetchone()
    return row[0] if row else None


def ask(check: checks.Check, connection: Connection, registry: Registry, as_of: datetime = AS_OF) -> dict[str, Finding]:
    """What a check finds, by subject; each subject once, each finding under the check's own name."""
    found = run_checks(connection, registry, as_of, [check])
    assert {finding.check_name for finding in found} == {check.__name__}
    by_subject = {finding.subject: finding for finding in found}
    assert len(by_subject) == len(found)
    return by_subject


def severities(found: dict[str, Finding]) -> dict[str, str]:
    return {subject: finding.severity for subject, finding in found.items() if finding.severity != "ok"}


def add_batch(
    connection: Connection,
    table: str,
    as_of: datetime,
    content_until: datetime | None = None,
    rows: int = 100,
    days: int = 1,
    file_id: int | None = None,
) -> int:
    """A batch as the manifest knows it, without rows in raw."""
    interval = (None, None) if file_id else (as_of - timedelta(days=days), as_of)
    source = "files" if file_id else "payments"
    return int(
        one(
            connection,
            "insert into ops.batches (source, table_name, interval_start, interval_end, file_id, row_count, key_hash, "
            "content_until, as_of) values (%s, %s, %s, %s, %s, %s, 0, %s, %s) returning batch_id",
            source, table, *interval, file_id, rows, content_until, as_of,
        )
    )  # fmt: skip


def add_file(
    connection: Connection,
    origin: str | None = "stripe",
    account: str | None = "acct_us",
    content_date: date | None = date(2026, 10, 29),
    name: str | None = None,
    reason: str | None = None,
) -> int:
    number = next(_numbers)
    return int(
        one(
            connection,
            "insert into ops.files (sha256, name, uri, size_bytes, status, reason, origin, origin_account, "
            "content_date, seen_at) values (%s, %s, %s, 1, %s, %s, %s, %s, %s, %s) returning file_id",
            str(number), name or f"file{number}.csv", "file:///landing", "quarantined" if reason else "loaded", reason,
            origin, account, content_date, AS_OF,
        )
    )  # fmt: skip


def settle(connection: Connection, file_id: int, currency: str) -> None:
    execute(
        connection,
        "insert into raw.settlement_lines (batch_id, file_id, line_no, processor, processor_account, record_type, "
        "gross_minor, gross_currency, fee_minor, net_minor, net_currency, occurred_at, booked_at, record, row_key) "
        "values (1, %s, 1, 'p', 'a', 't', 1, %s, 0, 1, %s, now(), now(), '', '')",
        file_id, currency, currency,
    )  # fmt: skip


def add_close(connection: Connection, day: date, state: str = "published", failure: str | None = None) -> int:
    close_id = int(
        one(
            connection,
            "insert into ops.closes (book, business_date, generation, state, rules_digest, as_of, failure) "
            "values ('global', %s, 1, %s, '', %s, %s) returning close_id",
            day, state, AS_OF, failure,
        )
    )  # fmt: skip
    if state == "published":
        execute(connection, "insert into ops.published values ('global', %s, %s)", day, close_id)
    return close_id


# --- the run itself


def test_every_check_on_an_empty_warehouse_fails_and_none_passes(warehouse: Connection, registry: Registry) -> None:
    found = run_checks(warehouse, registry, AS_OF)
    by_check = {check.__name__: [f for f in found if f.check_name == check.__name__] for check in CHECKS}
    assert all(by_check.values())
    passing = {name for name, findings in by_check.items() if all(f.severity == "ok" for f in findings)}
    # The raw tables are there and as declared, which is all that contract_drift asks.
    assert passing == {"contract_drift"}


def test_a_check_that_errors_fails_and_the_next_still_looks(ready: Connection, registry: Registry) -> None:
    def breaks_sql(connection: Connection, registry: Registry, as_of: datetime) -> list[Finding]:
        execute_in(connection, "select * from ops.no_such_table")
        return []

    def breaks_python(connection: Connection, registry: Registry, as_of: datetime) -> list[Finding]:
        return [Finding("x", "y", "ok", f"{None + 1}", {}, "z")]  # type: ignore[operator]

    def finds_nothing(connection: Connection, registry: Registry, as_of: datetime) -> list[Finding]:
        return []

    def execute_in(connection: Connection, statement: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(statement)

    found = run_checks(ready, registry, AS_OF, [breaks_sql, breaks_python, finds_nothing, close_checks.close_state])
    first = [(f.check_name, f.subject, f.severity) for f in found[:3]]
    assert first == [(name, ITSELF, "fail") for name in ("breaks_sql", "breaks_python", "finds_nothing")]
    assert "no_such_table" in found[0].message
    assert {f.check_name for f in found[3:]} == {"close_state"}


def test_checks_cannot_write(ready: Connection, registry: Registry) -> None:
    def writes(connection: Connection, registry: Registry, as_of: datetime) -> list[Finding]:
        with connection.cursor() as cursor:
            cursor.execute("delete from ops.files")
        return []

    assert "read-only" in run_checks(ready, registry, AS_OF, [writes])[0].message


def test_a_time_without_zone_is_refused(ready: Connection, registry: Registry) -> None:
    with pytest.raises(ValueError, match="time zone"):
        run_checks(ready, registry, AS_OF.replace(tzinfo=None))


# --- freshness


def test_load_freshness_by_the_business_clock(ready: Connection, registry: Registry) -> None:
    for table, hours in (("payments", 1), ("captures", 27), ("refunds", 51)):
        add_batch(ready, table, AS_OF - hours * HOUR)
    found = ask(checks.load_freshness, ready, registry)
    assert set(found) == {f"{table.source}.{table.name}" for table in registry.tables}
    assert [found[f"payments.{table}"].severity for table in ("payments", "captures", "refunds", "disputes")] == [
        "ok", "warn", "fail", "fail",
    ]  # fmt: skip
    assert found["payments.disputes"].message == "was never loaded"
    # Contracts say when an invoice is missing, and nobody has to have any.
    assert found["files.invoice_lines"].severity == "ok"


def test_a_weekend_does_not_age_files_and_does_age_the_payment_system(ready: Connection, registry: Registry) -> None:
    saturday, monday = datetime(2026, 10, 24, 3, tzinfo=UTC), datetime(2026, 10, 26, 4, tzinfo=UTC)
    add_batch(ready, "payments", saturday)
    add_batch(ready, "bank_entries", saturday, file_id=add_file(ready))
    found = ask(checks.load_freshness, ready, registry, monday)
    assert found["files.bank_entries"].severity == "ok"
    assert found["payments.payments"].severity == "warn"


def test_content_is_stale_though_just_loaded(ready: Connection, registry: Registry) -> None:
    add_batch(ready, "payments", AS_OF - HOUR, content_until=AS_OF - 51 * HOUR)
    add_batch(ready, "captures", AS_OF - HOUR, content_until=AS_OF - 49 * HOUR)
    add_batch(ready, "refunds", AS_OF - HOUR, content_until=None)
    found = ask(checks.content_freshness, ready, registry)
    assert found["payments.payments"].severity == "fail"
    assert found["payments.captures"].severity == "ok"
    assert found["payments.refunds"].message == "has no content at all"
    assert found["payments.refunds"].severity == "fail"


def test_a_table_without_a_content_sla_is_not_asked(ready: Connection, registry: Registry) -> None:
    source = registry.sources[0]
    slow = replace(source, tables=tuple(replace(table, content_sla_hours=None) for table in source.tables))
    found = ask(checks.content_freshness, ready, Registry((slow,)))
    assert [finding.message for finding in found.values()] == ["it looked at nothing"]


@pytest.mark.parametrize(
    ("newest", "severity"),
    [(date(2026, 10, 29), None), (date(2026, 10, 28), "warn"), (date(2026, 10, 27), "fail")],
)
def test_the_late_or_missing_report_of_one_account_is_named(
    ready: Connection, registry: Registry, newest: date, severity: str | None
) -> None:
    settle(ready, add_file(ready, "paypal", "EZTIEOUTAP", newest), "JPY")
    settle(ready, add_file(ready, "paypal", "EZTIEOUTEU", date(2026, 10, 29)), "EUR")
    found = ask(checks.content_freshness, ready, registry)
    assert found["paypal EZTIEOUTEU"].severity == "ok"
    assert found["paypal EZTIEOUTAP"].severity == (severity or "ok")


def test_a_report_is_not_missing_before_it_is_due_or_on_a_holiday(ready: Connection, registry: Registry) -> None:
    settle(ready, add_file(ready, "stripe", "acct_gulf", date(2026, 10, 29)), "KWD")
    settle(ready, add_file(ready, "adyen", "TieoutNZ", date(2026, 10, 23)), "NZD")
    settle(ready, add_file(ready, "adyen", "TieoutEU", date(2026, 10, 29)), "EUR")

    def missing(account: str, as_of: datetime) -> int:
        return len(ask(checks.content_freshness, ready, registry, as_of)[account].observed["missing"])

    # 03:00 on Saturday in Amsterdam: Friday's report is due an hour later.
    assert missing("adyen TieoutEU", datetime(2026, 10, 31, 2, tzinfo=UTC)) == 0
    assert missing("adyen TieoutEU", datetime(2026, 10, 31, 4, tzinfo=UTC)) == 1
    # Friday and Saturday are Kuwait's weekend, Sunday is not.
    assert missing("stripe acct_gulf", datetime(2026, 11, 1, 4, tzinfo=UTC)) == 0
    assert missing("stripe acct_gulf", datetime(2026, 11, 2, 4, tzinfo=UTC)) == 1
    # Monday the 26th is Labour Day in New Zealand.
    assert missing("adyen TieoutNZ", datetime(2026, 10, 27, 4, tzinfo=UTC)) == 0
    assert missing("adyen TieoutNZ", datetime(2026, 10, 28, 4, tzinfo=UTC)) == 1


def test_hours_of_a_day_with_25_hours_are_counted_as_they_are(ready: Connection) -> None:
    with ready:
        calendar: BusinessCalendar = read_calendar(ready, "global")
    friday, monday = (datetime(2026, 10, day, 12, tzinfo=calendar.zone) for day in (23, 26))
    assert calendar.open_hours(friday, monday) == 24
    assert calendar.open_hours(monday, monday) == 0
    with pytest.raises(LookupError, match="no book moon"), ready:
        read_calendar(ready, "moon")


# --- volume


@pytest.mark.parametrize(
    ("counts", "severity"),
    [
        ([100, 110, 90, 100], "ok"),
        ([100, 110, 90, 390], "ok"),
        ([100, 110, 90, 410], "warn"),
        ([100, 110, 90, 20], "warn"),
        ([100, 110, 90, 0], "fail"),
        ([100, 0, 90, 0], "warn"),
        ([100, 110, 0], "ok"),
        ([3, 2, 4, 19], "ok"),
        ([0, 0, 0, 0], "ok"),
    ],
)
def test_volume_against_the_usual(ready: Connection, registry: Registry, counts: list[int], severity: str) -> None:
    for day, rows in enumerate(counts):
        add_batch(ready, "payments", AS_OF - (len(counts) - day) * 24 * HOUR, rows=rows)
    assert ask(checks.volume, ready, registry)["payments.payments"].severity == severity


def test_an_opening_load_of_many_days_counts_by_the_day(ready: Connection, registry: Registry) -> None:
    add_batch(ready, "payments", AS_OF - 72 * HOUR, rows=900, days=9)
    for hours in (48, 24, 0):
        add_batch(ready, "payments", AS_OF - hours * HOUR, rows=100)
    observed = ask(checks.volume, ready, registry)["payments.payments"].observed
    assert observed == {"rows": 100, "earlier": 3, "usual": 100}


def test_a_file_is_compared_with_files_of_its_account(ready: Connection, registry: Registry) -> None:
    for account, usual in (("acct_us", 1000), ("acct_gulf", 30)):
        for day in (26, 27, 28, 29):
            rows = 5 if (account, day) == ("acct_gulf", 29) else usual
            file_id = add_file(ready, "stripe", account, date(2026, 10, day))
            add_batch(ready, "settlement_lines", AS_OF, rows=rows, file_id=file_id)
    assert severities(ask(checks.volume, ready, registry)) == {"files.settlement_lines stripe acct_gulf": "warn"}


# --- quarantine


def test_a_refused_file_is_named_until_a_good_one_replaces_it(ready: Connection, registry: Registry) -> None:
    add_file(ready, name="settlement_20261028.csv", reason="line 7 is cut off", origin=None, content_date=None)
    found = ask(checks.quarantine, ready, registry)
    bad = next(subject for subject in found if subject.startswith("settlement_20261028.csv"))
    assert severities(found) == {bad: "fail"}
    assert "line 7 is cut off" in found[bad].message
    add_file(ready, name="settlement_20261028.csv")
    assert severities(ask(checks.quarantine, ready, registry)) == {}


@pytest.mark.parametrize(
    ("refused", "later", "replaced"),
    [
        ("us_20261028.csv", "us_20261028.csv", True),
        ("in/us_20261028.csv", "archive/us_20261028_resent.csv", True),
        ("us_20261028.csv", "us_20261028 (1).txt", True),
        ("batch_1.csv", "batch_11.csv", False),
        ("STL-20261027.01.009.AP.csv", "STL-20261027.01.009.EU.csv", False),
        ("us_20261028.csv", "resent_us_20261028.csv", False),
        ("a%_b.csv", "axyb.csv", False),
    ],
)
def test_a_resent_file_is_known_by_its_name(
    ready: Connection, registry: Registry, refused: str, later: str, replaced: bool
) -> None:
    add_file(ready, name=refused, reason="cut off", origin=None, account=None, content_date=None)
    add_file(ready, name=later)
    assert (severities(ask(checks.quarantine, ready, registry)) == {}) == replaced


def test_a_file_of_the_same_account_and_day_replaces_it_and_others_do_not(
    ready: Connection, registry: Registry
) -> None:
    add_file(ready, "stripe", "acct_us", date(2026, 10, 28), name="earlier.csv")
    add_file(ready, "stripe", "acct_us", date(2026, 10, 28), name="bad.csv", reason="sum is off")
    add_file(ready, "stripe", "acct_us", date(2026, 10, 29), name="next_day.csv")
    add_file(ready, "stripe", "acct_gulf", date(2026, 10, 28), name="other_account.csv")
    assert list(severities(ask(checks.quarantine, ready, registry)).values()) == ["fail"]
    add_file(ready, "stripe", "acct_us", date(2026, 10, 28), name="resent.csv")
    assert severities(ask(checks.quarantine, ready, registry)) == {}


@pytest.mark.parametrize(("sender", "replaced"), [("stripe", True), ("adyen", False)])
def test_the_name_of_another_senders_file_replaces_nothing(
    ready: Connection, registry: Registry, sender: str, replaced: bool
) -> None:
    add_file(ready, "stripe", None, None, name="settlement.csv", reason="cut off")
    add_file(ready, sender, "x", date(2026, 10, 28), name="settlement.csv")
    assert (severities(ask(checks.quarantine, ready, registry)) == {}) == replaced


# --- contract and control totals


@pytest.mark.parametrize(
    ("change", "severity", "said"),
    [
        ("drop column currency", "fail", "lacks the declared column currency"),
        ("alter column amount_minor type integer", "fail", "amount_minor is integer in raw and declared as bigint"),
        ("add column surprise text", "warn", "undeclared columns: surprise"),
    ],
)
def test_drift_of_a_raw_table(ready: Connection, registry: Registry, change: str, severity: str, said: str) -> None:
    assert severities(ask(checks.contract_drift, ready, registry)) == {}
    execute(ready, f"alter table raw.payments_captures {change}")
    found = ask(checks.contract_drift, ready, registry)
    assert severities(found) == {"payments.captures": severity}
    assert said in found["payments.captures"].message


def test_a_raw_table_that_is_gone(ready: Connection, registry: Registry) -> None:
    execute(ready, "drop table raw.payments_refunds")
    assert severities(ask(checks.contract_drift, ready, registry)) == {"payments.refunds": "fail"}


def test_raw_without_the_mark_of_what_is_gone(ready: Connection, registry: Registry) -> None:
    execute(ready, "alter table raw.payments_captures drop column is_deleted")
    assert severities(ask(checks.contract_drift, ready, registry)) == {"payments.captures": "fail"}


# --- what loads noted


def add_note(connection: Connection, kind: str, severity: Any = "warn", **where: Any) -> None:
    given = {"source": "payments", "table_name": "captures", "as_of": AS_OF, "message": f"about {kind}", **where}
    with connection, connection.cursor() as cursor:
        note(cursor, kind=kind, severity=severity, **given)


def test_notes_of_the_newest_load_are_findings(ready: Connection, registry: Registry) -> None:
    batch = add_batch(ready, "captures", AS_OF)
    assert severities(ask(load_checks.load_notes, ready, registry)) == {}
    assert len(ask(load_checks.load_notes, ready, registry)) == len(registry.tables)
    for kind, severity in (("added_column", "warn"), ("rows_deleted", "fail"), ("rows_deleted", "warn")):
        add_note(ready, kind, severity, batch_id=batch, interval_end=AS_OF)
    found = ask(load_checks.load_notes, ready, registry)
    assert severities(found) == {"payments.captures added_column": "warn", "payments.captures rows_deleted": "fail"}
    assert found["payments.captures rows_deleted"].message == "about rows_deleted"
    assert found["payments.captures rows_deleted"].owner == registry.table("payments_captures").owner
    assert "payments.captures" not in found
    add_batch(ready, "captures", AS_OF + 24 * HOUR)
    assert severities(ask(load_checks.load_notes, ready, registry)) == {}


def test_several_notes_of_a_kind_are_one_finding(ready: Connection, registry: Registry) -> None:
    batch = add_batch(ready, "captures", AS_OF)
    for number in range(5):
        add_note(ready, "added_column", batch_id=batch, interval_end=AS_OF, message=f"column {number}")
    found = ask(load_checks.load_notes, ready, registry)["payments.captures added_column"]
    assert found.message == "column 4; column 3; column 2; and 2 more"


def test_a_table_that_was_left_out_stays_a_finding_until_it_is_loaded(ready: Connection, registry: Registry) -> None:
    add_batch(ready, "captures", AS_OF - 24 * HOUR)
    add_note(ready, "table_refused", "fail", interval_end=AS_OF)
    expected = {"payments.captures table_refused": "fail"}
    assert severities(ask(load_checks.load_notes, ready, registry)) == expected
    add_batch(ready, "refunds", AS_OF)
    add_batch(ready, "captures", AS_OF - 72 * HOUR)  # a backfill repairs nothing
    assert severities(ask(load_checks.load_notes, ready, registry)) == expected
    add_batch(ready, "captures", AS_OF)
    assert severities(ask(load_checks.load_notes, ready, registry)) == {}


def test_a_day_that_was_left_out_later_is_a_finding_though_a_newer_one_is_there(
    ready: Connection, registry: Registry
) -> None:
    add_batch(ready, "captures", AS_OF)
    add_note(ready, "table_refused", "fail", interval_end=AS_OF - 72 * HOUR)
    assert severities(ask(load_checks.load_notes, ready, registry)) == {"payments.captures table_refused": "fail"}
    add_batch(ready, "captures", AS_OF - 72 * HOUR)
    assert severities(ask(load_checks.load_notes, ready, registry)) == {}


def test_a_backfill_does_not_hide_what_the_newest_interval_noted(ready: Connection, registry: Registry) -> None:
    newest = add_batch(ready, "captures", AS_OF)
    add_note(ready, "rows_deleted", "fail", batch_id=newest, interval_end=AS_OF)
    backfill = add_batch(ready, "captures", AS_OF - 72 * HOUR)
    add_note(ready, "backfilled", batch_id=backfill, interval_end=AS_OF - 72 * HOUR)
    assert severities(ask(load_checks.load_notes, ready, registry)) == {
        "payments.captures rows_deleted": "fail",
        "payments.captures backfilled": "warn",
    }


def test_notes_of_files_count_until_the_next_run_finds_one(ready: Connection, registry: Registry) -> None:
    file_id = add_file(ready)
    for where in ({"table_name": "settlement_lines", "file_id": file_id}, {"table_name": "landing"}):
        add_note(ready, "seen", source="files", **where)
    found = ask(load_checks.load_notes, ready, registry)
    assert severities(found) == {"files.settlement_lines seen": "warn", "files.landing seen": "warn"}
    assert found["files.landing seen"].owner == registry.source("files").owner
    execute(
        ready,
        "insert into ops.files (sha256, name, uri, size_bytes, status, seen_at) "
        "values ('later', 'b', '', 1, 'loaded', %s)",
        AS_OF + HOUR,
    )
    assert severities(ask(load_checks.load_notes, ready, registry)) == {}


def load_captures(connection: Connection, registry: Registry, rows: Iterable[tuple[str, int, str]]) -> None:
    """A batch of captures that is what its control totals say."""
    table, rows = registry.table("payments_captures"), list(rows)
    key_hash = one(
        connection,
        "select sum(('x' || left(md5(k), 15))::bit(60)::bigint) from unnest(%s) as k",
        [key for key, _, _ in rows],
    )
    amounts: dict[tuple[str, str], tuple[int, int]] = {}
    for _, minor, currency in rows:
        number, total = amounts.get(("amount_minor", currency), (0, 0))
        amounts["amount_minor", currency] = (number + 1, total + minor)
    with connection, connection.cursor() as cursor:
        batch_id = open_batch(cursor, table, AS_OF, interval=(AS_OF - 24 * HOUR, AS_OF))
        for key, minor, currency in rows:
            cursor.execute(
                "insert into raw.payments_captures (batch_id, capture_id, payment_id, processor, amount_minor, "
                "currency, captured_at, updated_at) values (%s, %s, 'p', 'stripe', %s, %s, %s, %s)",
                (batch_id, key, minor, currency, AS_OF, AS_OF),
            )
        seal_batch(cursor, table, batch_id, Totals(len(rows), int(key_hash), amounts))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("delete from raw.payments_captures where capture_id = 'c1'", "1 rows in raw, 2 at the source"),
        ("insert into raw.payments_captures select * from raw.payments_captures", "4 rows in raw, 2 at the source"),
        ("update raw.payments_captures set amount_minor = -100 where capture_id = 'c1'", "amount_minor in EUR"),
        ("update raw.payments_captures set currency = 'GBP' where capture_id = 'c1'", "amount_minor in GBP"),
        ("update raw.payments_captures set capture_id = 'c3' where capture_id = 'c1'", "other keys"),
    ],
)
def test_control_totals_are_proved_again(ready: Connection, registry: Registry, damage: str, said: str) -> None:
    load_captures(ready, registry, [("c1", 100, "EUR"), ("c2", 250, "JPY")])
    assert severities(ask(checks.control_totals, ready, registry)) == {}
    execute(ready, damage)
    found = ask(checks.control_totals, ready, registry)
    assert severities(found) == {"payments.captures": "fail"}
    assert said in found["payments.captures"].message


# --- closes


@pytest.mark.parametrize(("published", "severity"), [(29, None), (28, "warn"), (27, "fail"), (None, "fail")])
def test_the_published_date_against_the_due_one(
    ready: Connection, registry: Registry, published: int | None, severity: str | None
) -> None:
    if published:
        add_close(ready, date(2026, 10, published))
    expected = {"global published": severity} if severity else {}
    assert severities(ask(close_checks.close_state, ready, registry)) == expected


def test_todays_close_is_not_due_yet(ready: Connection, registry: Registry) -> None:
    add_close(ready, date(2026, 10, 28))
    assert severities(ask(close_checks.close_state, ready, registry, AS_OF - 2 * HOUR)) == {}


def test_days_nobody_works_do_not_make_a_close_late(ready: Connection, registry: Registry) -> None:
    add_close(ready, date(2026, 10, 23))
    # Monday morning: due is Sunday, and Friday was the last business day.
    assert severities(ask(close_checks.close_state, ready, registry, datetime(2026, 10, 26, 4, tzinfo=UTC))) == {}
    tuesday, wednesday = (datetime(2026, 10, day, 4, tzinfo=UTC) for day in (27, 28))
    late = "global published"
    assert severities(ask(close_checks.close_state, ready, registry, tuesday)) == {late: "warn"}
    assert severities(ask(close_checks.close_state, ready, registry, wednesday)) == {late: "fail"}


@pytest.mark.parametrize("state", ["running", "proven"])
@pytest.mark.parametrize(("minutes", "severity"), [(119, "ok"), (121, "warn")])
def test_a_close_that_nobody_finishes_is_named_with_the_way_out(
    ready: Connection, registry: Registry, state: str, minutes: int, severity: str
) -> None:
    close_id = add_close(ready, date(2026, 10, 29), state)
    opened = "update ops.closes set opened_at = clock_timestamp() - %s * interval '1 minute' where close_id = %s"
    execute(ready, opened, minutes, close_id)
    found = ask(close_checks.close_state, ready, registry)["global close"]
    assert found.severity == severity
    assert (f"tieout close abort {close_id}" in found.message) == (severity == "warn")


def test_a_published_close_is_finished_whenever_it_was_opened(ready: Connection, registry: Registry) -> None:
    add_close(ready, date(2026, 10, 29))
    execute(ready, "update ops.closes set opened_at = now() - interval '3 days'")
    assert severities(ask(close_checks.close_state, ready, registry)) == {}


def test_a_failed_close_is_named_with_its_reason(ready: Connection, registry: Registry) -> None:
    add_close(ready, date(2026, 10, 28))
    add_close(ready, date(2026, 10, 29), "failed", "clearing psp_clearing EUR: expected 0")
    found = ask(close_checks.close_state, ready, registry)
    assert severities(found) == {"global close": "fail", "global published": "warn"}
    assert "clearing psp_clearing EUR" in found["global close"].message
    assert "2026-10-28" in found["global close"].message


def add_break(
    connection: Connection, code: str, severity: str, minor: int | None, day: int = 29, timing: bool = False
) -> None:
    execute(
        connection,
        "insert into published.break_register values (%s, 'processor_bank', %s, %s, %s, 'treasury', %s, '2026-10-27')",
        date(2026, 10, day), code, timing, severity, minor,
    )  # fmt: skip


def test_breaks_over_threshold_are_one_finding_a_code(ready: Connection, registry: Registry) -> None:
    add_close(ready, date(2026, 10, 28))
    close_id = add_close(ready, date(2026, 10, 29))
    for code, severity, minor in (
        ("PSP_NOT_BANK", "critical", 12_345_678), ("PSP_NOT_BANK", "high", 1_000_000), ("UNDER", "high", None),
        ("OVER", "medium", 999),
    ):  # fmt: skip
        add_break(ready, code, severity, minor)
    add_break(ready, "EXPECTED_NOT_DUE", "critical", 1, timing=True)
    add_break(ready, "DUPLICATE", "critical", 1, day=28)
    found = ask(close_checks.breaks_over_threshold, ready, registry)
    assert severities(found) == {"processor_bank PSP_NOT_BANK": "fail", "processor_bank UNDER": "warn"}
    worst = found["processor_bank PSP_NOT_BANK"]
    assert worst.observed == {
        "close_id": close_id, "breaks": 2, "critical": 1, "exposure_minor": 13_345_678, "currency": "EUR",
    }  # fmt: skip
    assert "133456.78 EUR" in worst.message
    assert worst.owner == "treasury"
    assert "not all valued" in found["processor_bank UNDER"].message


def test_a_close_without_breaks_passes(ready: Connection, registry: Registry) -> None:
    add_close(ready, date(2026, 10, 29))
    assert severities(ask(close_checks.breaks_over_threshold, ready, registry)) == {}


def test_an_exception_stays_a_warning_while_closes_carry_it(ready: Connection, registry: Registry) -> None:
    before, close_id = add_close(ready, date(2026, 10, 28)), add_close(ready, date(2026, 10, 29))
    execute(
        ready,
        "insert into published.proof_exceptions values "
        "(%s, 'clearing', 'psp_clearing:adyen', 'EUR', 0, -7, '2026-10-28', 'ann, bob', 'known')",
        before,
    )  # fmt: skip
    assert severities(ask(close_checks.proof_exceptions, ready, registry)) == {}
    execute(ready, "update published.proof_exceptions set close_id = %s", close_id)
    found = ask(close_checks.proof_exceptions, ready, registry)
    assert severities(found) == {"clearing psp_clearing:adyen EUR 2026-10-28": "warn"}
    message = found["clearing psp_clearing:adyen EUR 2026-10-28"].message
    assert "by 0 item(s) and -0.07 EUR since 2026-10-28; signed by ann, bob: known" in message


def test_every_refused_action_is_told_and_by_whom(ready: Connection, registry: Registry) -> None:
    before, close_id = add_close(ready, date(2026, 10, 28)), add_close(ready, date(2026, 10, 29))
    execute(
        ready,
        "insert into published.break_actions values (%s, 1, 'force', 'ana', 'refused', 'its items differ'), "
        "(%s, 2, 'link', 'ben', 'applied', null)",
        before, close_id,
    )  # fmt: skip
    assert severities(ask(close_checks.refused_actions, ready, registry)) == {}
    execute(ready, "update published.break_actions set close_id = %s", close_id)
    found = ask(close_checks.refused_actions, ready, registry)
    assert severities(found) == {"action 1": "warn"}
    assert "the close of 2026-10-29 refused the force by ana: its items differ" in found["action 1"].message


def test_a_currency_without_a_recent_rate_is_named_with_the_remedy(ready: Connection, registry: Registry) -> None:
    add_close(ready, date(2026, 10, 29))
    assert severities(ask(close_checks.reference_rates, ready, registry)) == {ITSELF: "fail"}
    execute(
        ready,
        "insert into published.reporting_rates values ('2026-10-29', 'USD', 'EUR', 1.16, 'ecb', '2026-10-28'), "
        "('2026-10-29', 'KWD', 'EUR', null, null, null), ('2026-10-28', 'JPY', 'EUR', null, null, null)",
    )
    found = ask(close_checks.reference_rates, ready, registry)
    assert severities(found) == {"KWD": "fail"}
    assert "treasury_rates" in found["KWD"].message


def add_result(connection: Connection, close_id: int, node: str, status: str, message: str = "") -> None:
    execute(
        connection,
        "insert into ops.build_results (close_id, step, node, resource_type, status, seconds, message) "
        "values (%s, 'books', %s, 'test', %s, 1, %s)",
        close_id, node, status, message,
    )  # fmt: skip


def test_dbt_results_of_the_newest_close(ready: Connection, registry: Registry) -> None:
    old, new = add_close(ready, date(2026, 10, 28)), add_close(ready, date(2026, 10, 29), "failed")
    add_result(ready, old, "test_old", "fail")
    add_result(ready, new, "model_a", "success")
    add_result(ready, new, "test_a", "pass")
    assert severities(ask(close_checks.dbt_results, ready, registry)) == {}
    add_result(ready, new, "test_b", "fail", "Got 3 results,\n configured to fail if != 0")
    add_result(ready, new, "test_c", "warn")
    add_result(ready, new, "model_b", "skipped")
    found = ask(close_checks.dbt_results, ready, registry)
    assert severities(found) == {"test_b": "fail", "test_c": "warn"}
    assert found["test_b"].message == "fail: Got 3 results, configured to fail if != 0"


# --- the journal


@pytest.fixture
def sealed(ready: Connection) -> Connection:
    """Three sealed closes of one balanced entry each."""
    for day in (27, 28, 29):
        close_id = add_close(ready, date(2026, 10, day))
        execute(
            ready,
            "insert into ledger.journal (close_id, entry_key, leg_no, event_type, business_date, value_date, account, "
            "currency, amount_minor) select %s, 'e' || %s, leg, 'capture', %s, %s, 'a' || leg, 'EUR', "
            "case leg when 1 then 100 else -100 end from generate_series(1, 2) as leg",
            close_id, day, date(2026, 10, day), date(2026, 10, day),
        )  # fmt: skip
        execute(
            ready,
            "insert into ledger.seals (close_id, line_count, lines_digest, previous_seal, seal) "
            "select c, 2, d, p, encode(sha256(convert_to(p || '|' || c || '|' || d, 'UTF8')), 'hex') from ("
            "select %s::bigint as c, ledger.lines_digest(%s) as d, "
            "coalesce((select seal from ledger.seals order by seal_no desc limit 1), '') as p) as next",
            close_id, close_id,
        )  # fmt: skip
    return ready


def test_an_intact_journal_passes(sealed: Connection, registry: Registry) -> None:
    found = ask(close_checks.journal_chain, sealed, registry)
    assert severities(found) == {}
    assert found["journal"].observed["recomputed"] == 3


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("update ledger.journal set amount_minor = amount_minor * 2 where entry_key = 'e28'", "lines sealed by close"),
        ("delete from ledger.journal where entry_key = 'e28'", "lines sealed by close"),
        ("delete from ledger.seals where seal_no = 2", "does not follow"),
        ("update ledger.seals set lines_digest = 'x' where seal_no = 3", "not the digest of its contents"),
    ],
)
def test_a_change_that_even_a_superuser_makes_is_found(
    sealed: Connection, registry: Registry, damage: str, said: str
) -> None:
    execute(sealed, f"set local session_replication_role = replica; {damage}")
    found = ask(close_checks.journal_chain, sealed, registry)
    assert severities(found) == {"journal": "fail"}
    assert said in found["journal"].message


def test_older_closes_are_recomputed_in_turns(
    sealed: Connection, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(close_checks, "SEALS_ALWAYS", 1)
    execute(sealed, "set local session_replication_role = replica; delete from ledger.journal where entry_key = 'e27'")
    quarter = timedelta(minutes=15)
    day_of_runs = [
        severities(ask(close_checks.journal_chain, sealed, registry, AS_OF + turn * quarter)) for turn in range(96)
    ]
    assert day_of_runs.count({"journal": "fail"}) == 1


def test_every_check_is_in_the_list_and_says_what_it_asks() -> None:
    defined = {
        name
        for module in (checks, close_checks, load_checks)
        for name, thing in vars(module).items()
        if isinstance(thing, FunctionType)
        and thing.__module__ == module.__name__
        and list(thing.__annotations__) == ["connection", "registry", "as_of", "return"]
        and not name.startswith("_")
    }
    assert {check.__name__ for check in CHECKS} == defined
    assert all("?" in (check.__doc__ or "") for check in CHECKS)
