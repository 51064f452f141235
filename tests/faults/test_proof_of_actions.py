"""What people decided is proven like everything else: lose, invent or bend an action, and the proof names it.

Money lost if it could not fail: a break is said to be settled that nobody settled, or a decision is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest

from tests.dbt.conftest import RESTATED_DAY
from tests.dbt.worlds import WORKING, Told
from tests.faults.proven_close import Finding, ProvenClose, models_of

KINDS = ("assign", "comment", "exclude", "force", "link", "unlink")
JUDGED = "intermediate.int_break_actions"
DECIDED = "intermediate.int_decided_items"
ITEMS = "intermediate.int_items"


@pytest.fixture(scope="module")
def proven(told: Told) -> Iterator[ProvenClose]:
    """The scenarios' close that took actions of every kind, applied and refused ones; not yet published."""
    connection = psycopg2.connect(told.warehouse.cluster.dsn(told.proven(RESTATED_DAY)))
    models = models_of(told.artifacts(RESTATED_DAY), WORKING)
    yield ProvenClose(connection, told.closes[RESTATED_DAY].close_id, models)
    connection.close()


def checks(found: list[Finding]) -> set[tuple[str, str]]:
    return {(finding.check, finding.subject) for finding in found}


def without_effect(found: list[Finding]) -> set[tuple[str, str]]:
    """Each action without effect has a line of its own, its kind before its number."""
    return {(check, subject.split()[0]) for check, subject in checks(found) if subject.split()[-1].isdigit()}


def one(proven: ProvenClose, relation: str, where: str) -> dict[str, Any]:
    row, *_ = proven.rows(relation, where)
    return row


def test_untouched_it_is_proven(proven: ProvenClose) -> None:
    assert {row["kind"] for row in proven.rows(JUDGED)} == set(KINDS)
    assert proven.unchanged(JUDGED) == []


@pytest.mark.parametrize("kind", KINDS)
def test_an_action_that_is_lost_or_invented_is_named(proven: ProvenClose, kind: str) -> None:
    row = one(proven, JUDGED, f"kind = '{kind}'")
    lost = proven.delete(JUDGED, row)
    assert ("actions", kind) in checks(lost)
    assert any(f"actions {row['action_id']}" in finding.detail for finding in lost)
    refused = one(proven, JUDGED, "outcome = 'refused'")
    invented = proven.double(JUDGED, refused, action_id=9_000_000, kind=kind)
    assert ("actions", kind) in checks(invented)


@pytest.mark.parametrize("kind", ["exclude", "force", "link", "unlink"])
def test_an_applied_action_without_effect_is_named(proven: ProvenClose, kind: str) -> None:
    """Its items are somewhere else than it says: on their own, or matched with one another again."""
    where = "is_unlinked and is_strong_key_barred" if kind == "unlink" else f"manual_rule_id = 'manual_{kind}'"
    assert ("actions_take_effect", kind) in without_effect(proven.delete(DECIDED, one(proven, DECIDED, where)))


@pytest.mark.parametrize(("kind", "check"), [("force", "matched_to_zero"), ("exclude", "clearing")])
def test_a_difference_that_is_accepted_all_the_same_is_named(proven: ProvenClose, kind: str, check: str) -> None:
    refused = one(proven, JUDGED, f"kind = '{kind}' and refusal like '%zero%'")
    found = proven.change(JUDGED, refused, outcome="applied", refusal=None)
    assert check in {finding.check for finding in found}


def test_a_match_that_is_taken_apart_by_half_is_named(proven: ProvenClose) -> None:
    reopened = one(proven, ITEMS, "is_unlinked and carried_break_code is null and is_carried")
    assert ("actions_take_effect", "unlink") in without_effect(proven.delete(ITEMS, reopened))
    assert "explained" in {finding.check for finding in proven.delete(ITEMS, reopened)}
    half = one(proven, JUDGED, "kind = 'unlink' and refusal like '%are named%'")
    found = proven.change(JUDGED, half, outcome="applied", refusal=None, matched_close_id=1)
    assert "clearing" in {finding.check for finding in found}


def test_a_link_over_two_currencies_is_not_called_matched(proven: ProvenClose) -> None:
    refused = one(proven, JUDGED, "refusal like '%one currency%'")
    with proven._mutated() as cursor:
        cursor.execute(
            f"update {JUDGED} set outcome = 'applied', refusal = null where action_id = %s", (refused["action_id"],)
        )
        assert proven._proof_after(cursor, JUDGED) == []
        cursor.execute(
            "select distinct status, break_code from reconciliation.reconciliation_items "
            "where close_id = %s and group_id = %s",
            (proven.close_id, f"manual:{refused['action_id']}"),
        )
        assert cursor.fetchall() == [("open", "CURRENCY_MISMATCH")]
