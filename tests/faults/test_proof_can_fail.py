"""Delete, double, re-sign one row, or change its currency, in each layer: each time the proof fails and names it.

Money lost if the proof could not fail: a close goes through whose figures are not the source's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from tests.dbt.conftest import FAULTY_DAYS, RESTATED_DAY
from tests.dbt.worlds import WORKING, Told, World
from tests.faults.proven_close import Finding, ProvenClose, models_of

Row = dict[str, Any]
# The opening close has every kind of event; a daily one stands on a parent and carries its open items.
OPENING, DAILY = FAULTY_DAYS
# A currency the sandbox does not use.
FOREIGN = "ZAR"


@dataclass(frozen=True)
class Layer:
    """A table of the close, and what the proof must say when one of its rows is wrong.

    :param kinds: columns; of each combination of their values one row is tried, of ``most`` at most.
    :param amounts: amount columns, each with its currency column.
    :param checks: one of these identities has to fail ...
    :param names: ... and its line has to name one of these, given the row.
    :param double_as: column to change in a doubled row where a key refuses an exact copy.
    """

    relation: str
    kinds: tuple[str, ...]
    amounts: Mapping[str, str]
    checks: frozenset[str]
    names: Callable[[Row], set[str]]
    double_as: str | None = None
    where: str = "true"
    most: int = 4
    day: date = DAILY

    def __str__(self) -> str:
        return f"{self.relation} {self.day:%m%d}"


def _of_item(row: Row) -> set[str]:
    named = {f"{row['reconciliation']}.{row['side']}", row["source_table"], row["clearing_account"]}
    return named | {row.get("group_id") or row["clearing_account"]}


def _of_event(row: Row) -> set[str]:
    accounts = {f"{account}:{row['processor']}" for account in ("psp_clearing", "psp_balance", "reserve_receivable")}
    tables = {"payouts.", "fx_conversions.", "disputes.", "settlement_lines.", "bank_entries.", "invoice_lines."}
    return accounts | tables | {row["event_key"], row["bank_account"]}


def _keys_of(row: Row) -> set[str]:
    """How later tables name this row."""
    ids = ("capture_id", "refund_id", "dispute_id", "payout_id", "fx_conversion_id", "line_key", "entry_key")
    return {row[name] for name in ids if name in row} | ({f":{row['line_no']}"} if "line_no" in row else set())


def _raw(table: str, kinds: tuple[str, ...], amounts: Mapping[str, str]) -> Layer:
    name = f"{table.removeprefix('payments_')}."
    return Layer(f"raw.{table}", kinds, amounts, frozenset({"source_to_raw"}), lambda row: {name, *_keys_of(row)})


def _staged(
    model: str,
    kinds: tuple[str, ...],
    amounts: Mapping[str, str],
    where: str = "true",
    day: date = DAILY,
    most: int = 3,
) -> Layer:
    name = f"{model.rsplit('__', 1)[1]}."
    checks = frozenset({"source_to_staging"})
    return Layer(
        f"staging.{model}", kinds, amounts, checks, lambda row: {name, *_keys_of(row)}, where=where, most=most, day=day
    )


# Of rows that come again, so many kinds are tried; `make faults` tries more.
IS_LONG = os.environ.get("TIEOUT_FAULTS") == "long"
MOST_AGAIN = 20 if IS_LONG else 5
AMOUNT = {"amount_minor": "currency"}
LINE = {"gross_minor": "gross_currency", "fee_minor": "net_currency", "net_minor": "net_currency"}
SOLD_AND_BOUGHT = {"sell_amount_minor": "sell_currency", "buy_amount_minor": "buy_currency"}
BALANCES = {"opening_minor": "currency", "closing_minor": "currency"}

EVENTS = Layer(
    "intermediate.int_events", ("event_type", "model"),
    {"gross_minor": "gross_currency", "net_minor": "net_currency", "fee_minor": "net_currency"},
    frozenset({"staging_to_events", "clearing", "bank_balance", "balanced_entries"}), _of_event, "event_key",
    most=40 if IS_LONG else 20,
)  # fmt: skip
ITEMS = Layer(
    "intermediate.int_items", ("reconciliation", "side", "is_carried", "exclusion_reason"),
    {"amount_minor": "currency", "control_minor": "control_currency"},
    frozenset({"source_to_items", "explained", "excluded_as_counted", "compared_as_counted", "clearing"}), _of_item,
    "item_key", most=20,
)  # fmt: skip
LAYERS = [
    _raw("payments_captures", ("processor",), AMOUNT),
    _raw("payments_refunds", ("processor",), AMOUNT),
    _raw("payments_payouts", (), {**AMOUNT, "fee_minor": "currency"}),
    _raw("settlement_lines", ("processor",), LINE),
    _raw("bank_entries", (), AMOUNT),
    _raw("bank_statements", (), BALANCES),
    _staged("stg_payments__captures", ("processor",), AMOUNT),
    _staged("stg_payments__refunds", ("status",), AMOUNT),
    _staged("stg_payments__disputes", ("stage",), AMOUNT, day=OPENING),
    _staged("stg_payments__payouts", ("status",), AMOUNT, day=OPENING),
    _staged("stg_payments__fx_conversions", (), SOLD_AND_BOUGHT, day=OPENING),
    _staged("stg_files__settlement_lines", ("item_type",), LINE),
    _staged("stg_files__bank_entries", ("entry_class",), AMOUNT),
    _staged("stg_files__bank_statements", (), BALANCES, where="is_consumed_now"),
    ITEMS,
    Layer(
        "reconciliation.reconciliation_items", ("reconciliation", "side", "status", "is_carried"),
        {"amount_minor": "currency", "clearing_minor": "currency"},
        frozenset({"explained", "matched_to_zero", "clearing"}), _of_item, "item_key", most=20,
    ),
    EVENTS,
    replace(EVENTS, day=OPENING),
    Layer(
        "accounting.journal_proposed", ("event_type", "leg_no"), AMOUNT,
        frozenset({"balanced_entries"}), lambda row: {row["entry_key"]}, "leg_no", most=80 if IS_LONG else 30,
    ),
    Layer(
        "accounting.trial_balance", ("account", "currency"), {"balance_minor": "currency"},
        frozenset({"rolled_forward"}), lambda row: {row["account"]}, "account", most=80 if IS_LONG else 12,
    ),
    # What comes for the second time: changed, unchanged, gone.
    replace(_raw("settlement_lines", ("is_deleted",), LINE), day=RESTATED_DAY),
    _staged(
        "stg_files__settlement_lines", ("item_type", "version_reason", "is_deleted"), LINE,
        where="has_prior_version", day=RESTATED_DAY, most=MOST_AGAIN,
    ),
    _staged("stg_files__bank_entries", ("version_reason",), AMOUNT, where="has_prior_version", day=RESTATED_DAY),
    _staged("stg_payments__captures", ("is_deleted",), AMOUNT, where="has_prior_version", day=RESTATED_DAY),
    replace(
        ITEMS, kinds=(*ITEMS.kinds, "item_type", "correction_reason"), where="item_key like '%@%'", day=RESTATED_DAY,
        most=MOST_AGAIN,
    ),
    replace(EVENTS, where="event_key like '%@%'", day=RESTATED_DAY, most=MOST_AGAIN),
    # What clears no account.
    replace(_raw("invoice_lines", (), AMOUNT), day=RESTATED_DAY),
    _staged("stg_files__invoice_lines", ("version_reason",), AMOUNT, day=RESTATED_DAY, most=2),
    replace(
        ITEMS, kinds=("side", "is_carried", "exclusion_reason", "correction_reason"),
        where="reconciliation = 'contract_invoice'", day=RESTATED_DAY, most=4,
    ),
    replace(EVENTS, where="event_type = 'processor_invoice'", day=RESTATED_DAY, most=2),
]  # fmt: skip
KEYED = [layer for layer in LAYERS if layer.double_as]


@pytest.fixture(scope="module")
def closes(request: pytest.FixtureRequest) -> Iterator[Callable[[date], ProvenClose]]:
    """Closes of these dates, each proven and not yet published."""
    connections: dict[date, Connection] = {}

    def of(day: date) -> ProvenClose:
        played: World | Told = request.getfixturevalue("told" if day == RESTATED_DAY else "world")
        if day not in connections:
            connections[day] = psycopg2.connect(played.warehouse.cluster.dsn(played.proven(day)))
        models = models_of(played.artifacts(day), WORKING)
        return ProvenClose(connections[day], played.closes[day].close_id, models)

    yield of
    for connection in connections.values():
        connection.close()


@pytest.fixture
def proven(closes: Callable[[date], ProvenClose], layer: Layer) -> ProvenClose:
    """The close that this layer is tried in."""
    return closes(layer.day)


def rows_of(proven: ProvenClose, layer: Layer) -> list[Row]:
    """One row of each kind; a layer without rows would prove nothing."""
    kinds: dict[tuple[object, ...], Row] = {}
    for row in proven.rows(layer.relation, layer.where):
        kinds.setdefault(tuple(row[column] for column in layer.kinds), row)
    assert kinds, f"{layer.relation} has no row at this close"
    return list(kinds.values())[: layer.most]


def amounts_of(row: Row, layer: Layer) -> list[str]:
    """The amounts a row carries; a gross that no rule posts is none."""
    return [
        amount
        for amount in layer.amounts
        if row[amount] and (row.get("event_type"), amount) != ("payout_returned", "gross_minor")
    ]


def another(value: object) -> object:
    """A value like this one that no other row has."""
    return value + 900 if isinstance(value, int) else f"{value}:again"


def unnoticed(layer: Layer, row: Row, found: list[Finding]) -> str | None:
    """Why these findings are not enough for this row, or None when they are."""
    names = {name for name in layer.names(row) if name and not name.endswith(":None")}
    if any(f.check in layer.checks and any(n in f.subject + f.detail for n in names) for f in found):
        return None
    return f"row {[row[column] for column in layer.kinds]}: wanted {set(layer.checks)} to name {names}, found {found}"


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_an_untouched_close_is_proven(proven: ProvenClose, layer: Layer) -> None:
    assert proven.downstream(layer.relation), "nothing would be rebuilt: the tests below could not fail"
    assert proven.unchanged(layer.relation) == []


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_a_deleted_row_is_named(proven: ProvenClose, layer: Layer) -> None:
    verdicts = [unnoticed(layer, row, proven.delete(layer.relation, row)) for row in rows_of(proven, layer)]
    assert [verdict for verdict in verdicts if verdict] == []


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_a_doubled_row_is_named(proven: ProvenClose, layer: Layer) -> None:
    # Where a key of a later table refuses the copy first, dbt ends there, and Postgres names the key.
    layer = replace(layer, checks=layer.checks | {"refused"})
    verdicts = []
    for row in rows_of(proven, layer):
        changes = {layer.double_as: another(row[layer.double_as])} if layer.double_as else {}
        verdicts.append(unnoticed(layer, row, proven.double(layer.relation, row, **changes)))
    assert [verdict for verdict in verdicts if verdict] == []


@pytest.mark.parametrize("layer", KEYED, ids=str)
def test_an_exact_copy_is_refused_by_its_key(proven: ProvenClose, layer: Layer) -> None:
    row = rows_of(proven, layer)[0]
    (finding,) = proven.double(layer.relation, row)
    assert finding.check == "refused"
    assert "duplicate key" in finding.detail


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_a_changed_sign_is_named(proven: ProvenClose, layer: Layer) -> None:
    verdicts = [
        unnoticed(layer, row, proven.change(layer.relation, row, **{amount: -row[amount]}))
        for row in rows_of(proven, layer)
        for amount in amounts_of(row, layer)
    ]
    assert verdicts, "no row carries an amount"
    assert [verdict for verdict in verdicts if verdict] == []


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_a_changed_currency_is_named(proven: ProvenClose, layer: Layer) -> None:
    verdicts = [
        unnoticed(layer, row, proven.change(layer.relation, row, **{currency: FOREIGN}))
        for row in rows_of(proven, layer)
        for currency in sorted({layer.amounts[amount] for amount in amounts_of(row, layer)})
    ]
    assert verdicts, "no row carries an amount"
    assert [verdict for verdict in verdicts if verdict] == []


@pytest.mark.parametrize(
    ("event_type", "account"), [("merchant_payout", "payout_in_transit"), ("fx_sold", "fx_clearing")]
)
def test_a_whole_entry_that_vanishes_is_named(
    closes: Callable[[date], ProvenClose], event_type: str, account: str
) -> None:
    """Its legs balance: the count of events tells, and the account that it would have moved at the bank."""
    proven = closes(date(2026, 10, 27))
    with proven._mutated() as cursor:
        cursor.execute(
            "delete from accounting.journal_proposed where close_id = %s and entry_key = (select min(entry_key) "
            "from accounting.journal_proposed where close_id = %s and event_type = %s)",
            (proven.close_id, proven.close_id, event_type),
        )
        assert cursor.rowcount >= 2
        found = proven._proof_after(cursor, "accounting.journal_proposed")
    checks = {(finding.check, finding.subject.split(":")[0]) for finding in found}
    assert checks == {("events_to_journal", event_type), ("clearing", account)}
