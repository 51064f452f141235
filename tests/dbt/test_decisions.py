"""A controller decides on the books of a deployed warehouse, and a close over decisions alone takes them."""

from __future__ import annotations

from datetime import date

import pytest
from psycopg2 import errors

from tests.dbt import given
from tests.dbt.worlds import Told, Warehouse
from tieout import breaks
from tieout.sources import load_registry
from tieout.watch.close_checks import refused_actions

# The Monday after the last close; nothing is loaded for it.
MONDAY = date(2026, 10, 26)
SCENARIO = "swapped_references_are_taken_apart_and_linked"


@pytest.fixture
def published(told: Told) -> Warehouse:
    """The scenarios' books after their last close."""
    told.warehouse.restore(told.published)
    return told.warehouse


def key(warehouse: Warehouse, scenario: str, reference: str) -> str:
    ((item_key,),) = warehouse.query(
        "select item_key from published.reconciliation_items where business_date = %s and source_reference like %s",
        (given.CLOSES[-1], reference.format(scenario + "/")),
    )
    return str(item_key)


def matched(warehouse: Warehouse, reconciliation: str, reference: str) -> str:
    """Any item under a reference that some close matched."""
    ((item_key,),) = warehouse.query(
        "select min(item_key) from published.reconciliation_items "
        "where reconciliation = %s and source_reference = %s and status = 'matched'", (reconciliation, reference),
    )  # fmt: skip
    return str(item_key)


def test_a_close_over_decisions_alone_takes_them(published: Warehouse) -> None:
    dear = key(published, "one_link_takes_an_item_from_another", "{}ours")
    again = key(published, SCENARIO, "{}first")
    # One credit for several payouts, and two items of one side that come to nothing.
    several = matched(published, "processor_bank", "adyen:TX1901")
    one_side = matched(published, "batch_payout", "adyen:chargeback_then_won/account:1:EUR")
    with published.connect("controller") as connection:
        listed = {each.break_id: each for each in breaks.list_breaks(connection, code="IN_LEDGER_NOT_PSP")}
        assert listed[dear].source_references.endswith("/ours")
        shown = breaks.describe(connection, dear, load_registry())
        assert [action.outcome for action in shown.actions] == ["applied at the close of 2026-10-21"]
        assert "capture_id one_link_takes_an_item_from_another/ours" in dict(shown.sources[dear])["record"]
        unlinked = breaks.act(connection, "unlink", "the shop says no", "ana", item_keys=[again])
        of_several = breaks.act(connection, "unlink", "the credit is somebody else's", "ana", item_keys=[several]).items
        assert sorted(item.side for item in of_several) == ["left", "left", "right"]
        of_one_side = breaks.act(connection, "unlink", "won another one", "ana", item_keys=[one_side]).items
        assert [item.side for item in of_one_side] == ["left", "left"]
        breaks.act(connection, "assign", "knows the shop", "ana", [dear], owner="dora")
        # Behind the back of the command line: an item named twice, and what the close refuses and somebody hears of.
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "insert into ops.break_actions (book, kind, item_keys, reason, actor) "
                "values ('global', 'unlink', %s, 'named twice', 'ana') returning login, acted_at is not null",
                ([item.item_key for item in of_one_side] * 2,),
            )
            assert cursor.fetchall() == [("controller", True)]
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "insert into ops.break_actions (book, kind, item_keys, reason, actor) "
                "values ('global', 'exclude', %s, 'away with it', 'carla')",
                ([dear],),
            )
        for theirs in ("acted_at", "as_of", "login"):
            with connection.cursor() as cursor, pytest.raises(errors.InsufficientPrivilege):
                cursor.execute(f"insert into ops.break_actions ({theirs}) values (null)")
            connection.rollback()
    opened = published.open_close(MONDAY)
    published.build(opened)
    published.build(opened, "monitoring")
    assert published.publish(opened) == 0, "nothing is booked by a decision"
    ended = "select kind, outcome from published.break_actions where close_id = %s order by action_id"
    assert published.query(ended, (opened.close_id,)) == [
        ("unlink", "applied"), ("unlink", "applied"), ("unlink", "refused"), ("assign", "applied"),
        ("unlink", "applied"), ("exclude", "refused"),
    ]  # fmt: skip
    status = "select status, break_code from published.reconciliation_items where close_id = %s and item_key = %s"
    for item in unlinked.items:
        ((found, code),) = published.query(status, (opened.close_id, item.item_key))
        assert (found, code) == ("open", "IN_LEDGER_NOT_PSP" if item.side == "left" else "IN_PSP_NOT_LEDGER")
    for item in (*of_several, *of_one_side):
        found = published.query(
            status.replace("break_code", "group_id"), (opened.close_id, item.item_key)
        )
        assert found == [("open", None)], item.item_key
    with published.connect("controller") as connection:
        assert [each.break_id for each in breaks.list_breaks(connection, owner="dora")] == [dear]
        history = [(a.kind, a.outcome) for a in breaks.describe(connection, again, load_registry()).actions]
        assert history[-1] == ("unlink", "applied at the close of 2026-10-26")
    with published.connect("loader") as connection:
        findings = refused_actions(connection, load_registry(), given._instant("2026-10-27"))
    assert [(f.severity, f.message[:64]) for f in findings if "carla" in f.message] == [
        ("warn", "the close of 2026-10-26 refused the exclude by carla: its items ")
    ]
