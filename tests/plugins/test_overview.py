"""The overview: every figure from the close that stands, and a verdict that can fall."""

from __future__ import annotations

import io
from datetime import date

import pytest
from psycopg2.extensions import connection as Connection
from rich.console import Console

from tieout import overview
from tieout.overview import Books, NothingPublishedError, money, percent

# The reader views and rules as tables: what the overview asks of them, without dbt.
VIEWS = """
    create schema if not exists rules;
    create table rules.books as select 'global' as book, 'EUR' as reporting_currency;
    create table rules.break_codes (break_code text, is_timing boolean);
    insert into rules.break_codes values ('UNDER', false), ('EXPECTED_NOT_DUE', true);
    create table rules.kpi_targets (metric text, target_value numeric, valid_from date, valid_to date);
    insert into rules.kpi_targets values
        ('refund_rate', 0.07, '2026-01-01', '2026-10-30'), ('refund_rate', 0.06, '2026-10-30', '2026-11-01'),
        ('refund_rate', 0.05, '2026-11-01', null), ('dispute_rate', 0.01, '2026-01-01', '2026-10-30'),
        ('match_rate_by_count', 0.97, '2026-01-01', null);
    create table published.reconciliation_summary (
        close_id bigint, business_date date, reconciliation text, side text, status text, outcome text,
        item_count bigint);
    create table published.break_register (
        business_date date, reconciliation text, break_code text, is_timing boolean, item_count bigint,
        reporting_exposure_minor bigint, first_seen_business_date date, owner text);
    create table published.proof_items (
        business_date date, check_name text, subject text, currency text, expected_count bigint, actual_count bigint,
        expected_minor numeric, actual_minor numeric, is_proven boolean);
    create table published.proof_clearing (like published.proof_items);
    create table published.proof_exceptions (
        business_date date, check_name text, subject text, currency text, difference_count bigint,
        difference_minor numeric, first_seen_business_date date, signed_by text);
    create table published.trial_balance (business_date date, account_type text, currency text, balance_minor bigint);
    create table published.kpi_daily (
        authorised_count bigint, submitted_count bigint, captured_reporting_minor bigint,
        refunded_reporting_minor bigint, dispute_count bigint, captured_count bigint, cost_reporting_minor bigint,
        settled_reporting_minor bigint, settlement_lag_days_total bigint, banked_count bigint,
        captured_minor bigint default 0, refunded_minor bigint default 0);
    create table published.kpi_match (
        business_date date, reconciliation text, matched_count bigint, due_count bigint, matched_reporting_minor bigint,
        due_reporting_minor bigint);
"""
ROWS = """
    insert into ops.closes (book, business_date, generation, state, rules_digest, as_of, published_at) values
        ('global', '2026-10-29', 1, 'published', '', now(), now()),
        ('global', '2026-10-30', 1, 'published', '', now(), now());
    insert into ops.published select book, business_date, close_id from ops.closes;
    insert into published.reconciliation_summary
        select close_id, business_date, 'payment_processor', 'left', s.status, s.outcome, s.items
        from ops.closes, (values ('matched', 'MATCHED', 90), ('open', 'UNDER', 2), ('open', 'EXPECTED_NOT_DUE', 7),
            ('excluded', 'FAILED', 1)) s (status, outcome, items);
    insert into published.break_register values
        ('2026-10-29', 'payment_processor', 'OVER', false, 9, 1, '2026-10-28', 'x'),
        ('2026-10-30', 'payment_processor', 'UNDER', false, 2, 123456, '2026-10-28', 'payments-operations'),
        ('2026-10-30', 'payment_processor', 'EXPECTED_NOT_DUE', true, 7, null, '2026-10-30', 'payments-data');
    insert into published.proof_items values
        ('2026-10-29', 'explained', 'captures', 'EUR', 100, 100, 5000, 5000, true),
        ('2026-10-30', 'explained', 'captures', 'EUR', 100, 100, 5000, 5000, true);
    insert into published.proof_clearing values
        ('2026-10-30', 'clearing', 'psp_clearing:adyen', 'EUR', 0, 0, 250, 250, true);
    insert into published.trial_balance values
        ('2026-10-29', 'bank', 'EUR', 1), ('2026-10-30', 'bank', 'EUR', 123456),
        ('2026-10-30', 'revenue', 'EUR', -123456),
        ('2026-10-30', 'bank', 'JPY', 500), ('2026-10-30', 'revenue', 'JPY', -500);
    insert into published.kpi_daily values
        (88, 100, 100000, 1700, 1, 200, 190, 10000, 31, 10), (1, 1, 0, 0, 0, 0, 0, 0, 0, 0);
    insert into published.kpi_match values
        ('2026-10-29', 'processor_bank', 0, 9, 0, 9), ('2026-10-30', 'processor_bank', 1, 2, 1, 10),
        ('2026-10-30', 'payment_processor', 49999, 50000, 2, 5),
        ('2026-10-30', 'payment_processor', 50000, 50000, 3, 5);
    insert into ops.findings (check_name, subject, severity, message, as_of)
        values ('quarantine', 'f.csv', 'fail', '', now());
    insert into ops.incidents
        (check_name, subject, severity, message, owner, opened_at, last_seen_at, resolved_at, finding_id)
        values ('quarantine', 'f.csv', 'fail', 'was refused [bold]', 'payments-data', now(), now(), null, 1),
            ('volume', 'captures', 'warn', 'few', 'payments-data', now(), now(), now(), 1);
"""
SEAL = """
    insert into ledger.journal
        (close_id, entry_key, leg_no, event_type, business_date, value_date, account, currency, amount_minor)
        select close_id, 'capture:' || close_id, leg, 'capture', business_date, business_date, 'a', 'EUR', amount
        from ops.closes, (values (1, 5), (2, -5)) legs (leg, amount);
    do $$
    declare
        c bigint;
        before text := '';
    begin
        for c in select close_id from ops.closes order by close_id loop
            insert into ledger.seals (close_id, line_count, lines_digest, previous_seal, seal)
            values (c, 2, ledger.lines_digest(c), before,
                encode(sha256(convert_to(before || '|' || c || '|' || ledger.lines_digest(c), 'UTF8')), 'hex'))
            returning seal into before;
        end loop;
    end $$;
"""


def do(connection: Connection, *statements: str) -> None:
    with connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@pytest.fixture
def books(warehouse: Connection) -> Connection:
    """A warehouse with two published and sealed closes."""
    do(warehouse, VIEWS, ROWS, SEAL)
    return warehouse


def shown(books: Books) -> str:
    console = Console(file=io.StringIO(), width=200)
    overview.render(books, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_everything_comes_from_the_close_that_stands(books: Connection) -> None:
    found = overview.read(books)
    assert (found.head.business_date, found.head.closes) == (date(2026, 10, 30), 2)
    assert [(close.business_date.day, close.items, close.matched, close.open) for close in found.closes] == [
        (30, 100, 90, 9),
        (29, 100, 90, 9),
    ]
    assert found.sides == [overview.Side("payment_processor", "left", 100, 90, 1, 9, 7)]
    assert [(found.break_code, found.items, found.value_minor) for found in found.breaks] == [
        ("UNDER", 2, 123456),
        ("EXPECTED_NOT_DUE", 7, None),
    ]
    assert [(proof.check_name, proof.comparisons, proof.failed) for proof in found.proofs] == [
        ("clearing", 1, 0),
        ("explained", 2, 0),
    ]
    assert [incident.check_name for incident in found.incidents] == ["quarantine"]
    assert (found.resolved_incidents, found.unexplained, found.broken_seals, found.proven) == (1, 0, [], True)


def test_figures_are_ratios_of_sums(books: Connection) -> None:
    figures = {kpi.label: (kpi.value, kpi.target) for kpi in overview.read(books).kpis}
    assert figures == {
        "authorisation rate": ("88.12%", ""),
        "captured volume": ("1,000.00 EUR", ""),
        "refund rate, by value": ("1.70%", "6.0%"),
        "dispute rate, by count": ("0.50%", ""),
        "cost of settled volume": ("190.0 bps", ""),
        "capture to bank": ("3.1 days", ""),
        "match rate of payment_processor, by count": ("99.99%", "97.0%"),
        "match rate of payment_processor, by amount": ("50.00%", ""),
        "match rate of processor_bank, by count": ("50.00%", "97.0%"),
        "match rate of processor_bank, by amount": ("10.00%", ""),
    }


@pytest.mark.parametrize(
    ("unvalued", "label", "shown"),
    [
        ("insert into published.kpi_daily (captured_minor) values (5)", "captured volume", "not valued"),
        ("insert into published.kpi_daily (captured_minor) values (0)", "captured volume", "1,000.00 EUR"),
        ("insert into published.kpi_daily (refunded_minor) values (5)", "refund rate, by value", "-"),
        ("update published.kpi_daily set cost_reporting_minor = null where banked_count = 0",
         "cost of settled volume", "-"),
        ("insert into published.kpi_match values ('2026-10-30', 'processor_bank', 1, 1, null, null)",
         "match rate of processor_bank, by amount", "-"),
    ],
)  # fmt: skip
def test_a_figure_with_an_unvalued_part_is_none(books: Connection, unvalued: str, label: str, shown: str) -> None:
    do(books, unvalued)
    assert {kpi.label: kpi.value for kpi in overview.read(books).kpis}[label] == shown


def test_a_controller_sees_items_breaks_proof_balance_and_alerts(books: Connection) -> None:
    text = shown(overview.read(books))
    for expected in ("1,234.56 EUR", "not valued", "was refused [bold]", "unexplained: 0", "The books are proven"):
        assert expected in text
    assert [line.split() for line in text.splitlines() if line.startswith("total ")] == [["total", "0.00", "0"]]


@pytest.mark.parametrize(
    ("damage", "unexplained"),
    [
        ("update published.proof_items set is_proven = false, actual_count = 99 where business_date = '2026-10-29'", 1),
        ("update published.proof_items set is_proven = null", 2),
        ("update published.trial_balance set balance_minor = 501 where currency = 'JPY' and account_type = 'bank'", 0),
        ("delete from published.proof_items; delete from published.proof_clearing", 0),
        ("delete from published.trial_balance", 0),
    ],
)
def test_the_verdict_falls(books: Connection, damage: str, unexplained: int) -> None:
    do(books, damage)
    found = overview.read(books)
    assert not found.proven
    assert found.unexplained == unexplained
    assert "NOT PROVEN" in shown(found)


def test_a_failed_comparison_is_spelled_out(books: Connection) -> None:
    do(books, "update published.proof_clearing set is_proven = false, actual_minor = 251")
    (clearing, _) = overview.read(books).proofs
    assert clearing.first_failure == "psp_clearing:adyen EUR: expected 0 / 250, found 0 / 251"


def test_what_two_people_signed_for_is_shown_as_that(books: Connection) -> None:
    do(
        books,
        "update published.proof_clearing set is_proven = false, actual_minor = 251",
        "insert into published.proof_exceptions values "
        "('2026-10-30', 'clearing', 'psp_clearing:adyen', 'EUR', 0, 1, '2026-10-29', 'ann, bob')",
        "update ops.closes set exception_count = 1 where business_date = '2026-10-30'",
    )
    found = overview.read(books)
    assert (found.proven, found.unexplained, [close.exceptions for close in found.closes]) == (True, 0, [1, 0])
    assert [(proof.check_name, proof.failed, proof.excused) for proof in found.proofs] == [
        ("clearing", 0, 1), ("explained", 0, 0)
    ]  # fmt: skip
    text = shown(found)
    assert "The books are proven but for 1 exception(s) that two people signed for" in text
    assert "clearing psp_clearing:adyen is off by 0.01 EUR since 2026-10-29, signed by ann, bob" in text
    # Another difference than the one they signed for is nobody's.
    do(books, "update published.proof_clearing set actual_minor = 252")
    assert (overview.read(books).proven, overview.read(books).unexplained) == (False, 1)


def test_a_changed_journal_breaks_its_seal(books: Connection) -> None:
    do(books, "alter table ledger.journal disable trigger append_only")
    do(books, "update ledger.journal set amount_minor = amount_minor * 2 where entry_key = 'capture:1'")
    found = overview.read(books)
    assert (found.broken_seals, found.proven) == ([1], False)
    assert "journal of close 1 is not what was sealed" in shown(found)


def test_a_look_at_the_newest_close_alone_does_not_recompute_the_journal(books: Connection) -> None:
    newest = overview.read(books, every_close=False)
    assert [(proof.check_name, proof.comparisons) for proof in newest.proofs] == [("clearing", 1), ("explained", 1)]
    do(books, "alter table ledger.journal disable trigger append_only")
    do(books, "update ledger.journal set amount_minor = amount_minor * 2 where entry_key = 'capture:1'")
    assert overview.read(books, every_close=False).proven
    do(books, "alter table ledger.seals disable trigger append_only", "update ledger.seals set seal = 'x'")
    assert not overview.read(books, every_close=False).proven


def test_a_close_without_a_seal_is_not_proven(books: Connection) -> None:
    do(books, "alter table ledger.seals disable trigger append_only", "delete from ledger.seals where close_id = 2")
    assert overview.read(books).broken_seals == [2]


def test_a_kept_message_is_told_from_a_sent_one(books: Connection) -> None:
    assert "1 open (1 kept here, not sent), 1 resolved" in shown(overview.read(books))
    do(
        books,
        "insert into ops.outbox (incident_id, kind, severity, body, sent_at) values (1, 'opened', 'fail', 'x', now())",
    )
    assert "1 open (0 kept here, not sent), 1 resolved" in shown(overview.read(books))


def test_reading_changes_nothing_and_leaves_the_connection_usable(books: Connection) -> None:
    overview.read(books)
    do(books, "create table still_writable (id int)")


def test_without_a_published_close_there_is_nothing_to_show(warehouse: Connection) -> None:
    with pytest.raises(NothingPublishedError, match="not deployed"):
        overview.read(warehouse)
    do(warehouse, VIEWS)
    with pytest.raises(NothingPublishedError, match="no close of book global"):
        overview.read(warehouse)


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [
        (123456789, "EUR", "1,234,567.89 EUR"),
        (-5, "EUR", "-0.05 EUR"),
        (1234, "JPY", "1,234 JPY"),
        (-1234567, "KWD", "-1,234.567 KWD"),
        (2**62, "EUR", "46,116,860,184,273,879.04 EUR"),
        (None, "EUR", "not valued"),
    ],
)
def test_money_is_shown_exactly(minor: int | None, currency: str, text: str) -> None:
    assert money(minor, currency) == text


def test_a_share_is_never_rounded_up_to_all() -> None:
    assert percent(999_999, 1_000_000) == "99.99%"
    assert percent(1_000_000, 1_000_000) == "100.00%"
    assert percent(0, 0) == percent(None, 5) == "-"
