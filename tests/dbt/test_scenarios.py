"""Golden scenarios: what is given to three closes in small CSVs, and what they make of it.

``expect/items.csv`` lists the outcome of every item at every close; where a scenario is about the books or the
register, ``expect/journal.csv``, ``expect/balances.csv``, ``expect/breaks.csv``, ``expect/changes.csv`` and
``expect/kpis.csv`` say all of theirs; ``expect/actions.csv`` says what became of each decision.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.dbt import given
from tests.dbt.worlds import Told, Warehouse

Rows = list[dict[str, str]]

ITEMS = """
    select c.business_date, reconciliation, side, source_reference as reference, status,
        coalesce(break_code, exclusion_reason) as outcome, correction_reason as correction, i.amount_minor, currency,
        rule_id as rule, expected_date as expected, due_date as due, i.file_id
    from reconciliation.reconciliation_items i join ops.closes c using (close_id)
"""
BREAKS = """
    select b.business_date, break_code, correction_reason as correction, severity, currency, item_count, left_minor,
        right_minor, clearing_minor, exposure_minor, first_seen_business_date as first_seen, age_business_days as age,
        b.owner, last_comment as comment, source_references as references
    from reconciliation.break_register b
"""
CHANGES = """
    select business_date, change, earlier_break_code as earlier_code, break_code, closed_by_rule_id as rule,
        (select kind from ops.break_actions where action_id = closed_by_action_id) as decision,
        source_references as references
    from reconciliation.break_changes
"""
KPIS = """
    select business_date, value_date, market, submitted_count, authorised_count, captured_count, captured_minor,
        banked_count, settlement_lag_days_total
    from kpi.kpi_daily where market <> 'unknown'
"""
ACTIONS = """
    select business_date, actor, kind, reason, outcome, regexp_replace(refusal, 'action \\d+', 'action N') as refusal
    from reconciliation.break_actions
"""
JOURNAL = "select business_date, entry_key as entry, value_date, account, currency, amount_minor from ledger.journal"


@dataclass
class Outcome:
    """What all scenarios together came to, scenario -> kind -> rows as the expect files spell them."""

    warehouse: Warehouse
    rows: dict[str, dict[str, Rows]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))


@pytest.fixture(scope="module")
def outcome(told: Told) -> Outcome:
    """What the three closes over everything given came to."""
    return _split(told.warehouse)


def _split(warehouse: Warehouse) -> Outcome:
    outcome = Outcome(warehouse)
    named = {row[0]: row[1] for row in warehouse.query("select file_id, name from ops.files", name="scenarios")}
    keys = {given.File(n, "", None, given.CLOSES[0], "", []).sha256[:16]: n for n in named.values()}
    names = given.scenario_names()

    def owner(*texts: object) -> str:
        """The scenario that one of these names begins with or has an id in."""
        found = {name for text in texts for name in names if re.search(rf"(^|:){name}/", str(text))}
        assert len(found) == 1, f"{texts} belongs to {found}"
        return found.pop()

    for row in _rows(warehouse, ITEMS):
        if _is_shared(row):
            continue
        scenario = owner(named.get(row.pop("file_id"), ""), row["reference"])
        outcome.rows[scenario]["items"].append(_spelled(scenario, row))
    owners = _owners_of_references(warehouse, named, owner)
    for row in _rows(warehouse, BREAKS):
        scenario = owners[row["references"].split(" / ")[0]]
        outcome.rows[scenario]["breaks"].append(_spelled(scenario, row))
    for row in _rows(warehouse, CHANGES):
        scenario = owners[row["references"].split(" / ")[0]]
        outcome.rows[scenario]["changes"].append(_spelled(scenario, row))
    for row in _rows(warehouse, ACTIONS):
        scenario = row.pop("actor")
        outcome.rows[scenario]["actions"].append(_spelled(scenario, row))
    for row in _rows(warehouse, KPIS):
        scenario = owner(row["market"])
        outcome.rows[scenario]["kpis"].append(_spelled(scenario, row))
    balances: dict[tuple[str, str, str], int] = defaultdict(int)
    for row in _rows(warehouse, JOURNAL):
        # The accounts that all scenarios share are opened, and kept by the payment system, for nobody.
        if re.fullmatch(rf"(opening|book):({'|'.join(given.BANKS.values())})[:/].*", row["entry"]):
            continue
        for key, name in keys.items():
            row["entry"] = row["entry"].replace(key, name)
        scenario = owner(row["entry"])
        balances[scenario, row["account"], row["currency"]] += row["amount_minor"]
        outcome.rows[scenario]["journal"].append(_spelled(scenario, row))
    for (scenario, account, currency), balance in balances.items():
        row = {"account": account, "currency": currency, "balance_minor": str(balance)}
        outcome.rows[scenario]["balances"].append(row)
    return outcome


def _is_shared(row: dict[str, Any]) -> bool:
    """Whether the item is about the balance of an account that all scenarios share; those agree at every close."""
    shared = row["reconciliation"] == "ledger_bank"
    assert not shared or row["status"] == "matched", row
    return shared


def _owners_of_references(warehouse: Warehouse, named: dict[int, str], owner: Callable[..., str]) -> dict[str, str]:
    rows = warehouse.query(
        "select distinct source_reference, file_id from reconciliation.reconciliation_items "
        "where reconciliation <> 'ledger_bank'", name="scenarios",
    )  # fmt: skip
    return {reference: owner(named.get(file_id, ""), reference) for reference, file_id in rows}


def _rows(warehouse: Warehouse, statement: str) -> list[dict[str, Any]]:
    with warehouse.connect(name="scenarios") as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _spelled(scenario: str, row: dict[str, Any]) -> dict[str, str]:
    """As the expect files have it: text, nothing for null, ids without their scenario, versions without their batch."""

    def spelled(value: object) -> str:
        return "" if value is None else re.sub(r"@\d+", "@later", str(value).replace(f"{scenario}/", ""))

    return {name: spelled(value) for name, value in row.items()}


@pytest.mark.parametrize("scenario", given.scenario_names())
def test_scenario(outcome: Outcome, scenario: str) -> None:
    expected = sorted((given.SCENARIOS / scenario / "expect").glob("*.csv"))
    assert "items.csv" in [path.name for path in expected]
    for path in expected:
        wanted = given.read_csv(path)
        assert wanted, f"{path} expects nothing"
        found = [{column: row[column] for column in wanted[0]} for row in outcome.rows[scenario][path.stem]]
        assert _sorted(found) == _sorted(wanted), path.name


def _sorted(rows: Rows) -> Rows:
    return sorted(rows, key=lambda row: list(row.values()))


def test_there_are_scenarios() -> None:
    assert len(given.scenario_names()) >= 15


def test_the_trial_balance_is_the_sum_of_the_scenarios(outcome: Outcome) -> None:
    """Nothing is posted that no scenario gave, besides the balances the books were opened with."""
    total: dict[tuple[str, str], int] = defaultdict(int)
    for rows in outcome.rows.values():
        for row in rows["balances"]:
            total[row["account"], row["currency"]] += int(row["balance_minor"])
    for currency, account in given.BANKS.items():
        total[f"bank:{account}", currency] += given.OPENING_MINOR
        total["opening_balance", currency] -= given.OPENING_MINOR
        # What the payment system's own book says of an account that all share is what the bank says.
        held = total[f"bank:{account}", currency]
        total[f"system_book:{account}", currency] += held
        total["system_book_contra", currency] -= held
    found = outcome.warehouse.query(
        "select account, currency, balance_minor from published.trial_balance where business_date = %s",
        (given.CLOSES[-1],),
        "scenarios",
    )
    assert {(a, c): b for a, c, b in found if b} == {key: balance for key, balance in total.items() if balance}


def test_fees_in_total_count_each_line_once_and_show_what_stands_open(outcome: Outcome) -> None:
    """Of one scenario's contract: what a controller adds up over closes, and what is still to be claimed."""
    found = outcome.warehouse.query(
        "select business_date, line_count, charged_on_minor, expected_fee_minor, actual_fee_minor, variance_minor, "
        "beyond_tolerance_count, beyond_tolerance_minor, open_count, open_variance_minor from published.fee_summary "
        "where fee_schedule_id = 'diners' order by 1", name="scenarios",
    )  # fmt: skip
    first, *later = found
    assert first == (given.CLOSES[0], 3, 21000, 133, 137, 4, 1, 4, 1, 4)
    assert later == [(day, 0, 0, 0, 0, 0, 0, 0, 1, 4) for day in given.CLOSES[1:]]
    split = outcome.warehouse.query(
        "select business_date, expected_fee_minor, fee_minor, fee_schedule_id "
        "from published.reconciliation_items where source_reference = "
        "'adyen:two_lines_of_a_capture_pay_its_fixed_fee_once/whole:Settled' order by 1, amount_minor",
        name="scenarios",
    )  # fmt: skip
    one, two, _ = given.CLOSES
    assert split == [(one, 50, 50, "visa"), (two, 50, 50, "visa"), (two, 60, 60, "visa")]


def test_the_audit_shows_what_was_gone_and_what_came_again(outcome: Outcome) -> None:
    """The controller's question of every load: what is not there any more, and whose place did a file take?"""
    gone: dict[tuple[str, str], int] = defaultdict(int, {(str(given.CLOSES[1]), "fee_schedules"): 1})
    for path in sorted(given.SCENARIOS.glob("*/given/*/*.csv")):
        gone[str(given.CLOSES[int(path.parent.name) - 1]), path.stem] += sum(
            row.get("is_deleted") == "true" for row in given.read_csv(path)
        )
    audit = outcome.warehouse.query(
        "select business_date::text, table_name, sum(gone_count)::bigint from published.load_audit group by 1, 2",
        name="scenarios",
    )
    assert sum(gone.values()) > 10
    assert {(day, table): count for day, table, count in audit if count} == {k: n for k, n in gone.items() if n}
    again = outcome.warehouse.query(
        "select business_date, file_name, superseded_files from published.load_audit "
        "where superseded_files is not null order by 1, 2", name="scenarios",
    )  # fmt: skip
    assert (given.CLOSES[1], "payout_line_restated/account/adyen/2", "payout_line_restated/account/adyen/1") in again
    noted = outcome.warehouse.query(
        "select business_date, file_name from published.load_notes where kind = 'file_superseded' order by 1, 2",
        name="scenarios",
    )
    assert noted == [(day, name) for day, name, _ in again]
