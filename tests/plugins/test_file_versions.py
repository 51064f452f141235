"""Documents that come again, whatever files overlap: nothing twice, nothing lost, and what changed is said."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import psycopg2
import pytest

from tests.plugins.desk import AS_OF, FIXTURES, Desk, adyen, statement
from tieout.landing import documents, quarantine
from tieout.landing.load import FileOutcome, load_landing
from tieout.watch import checks
from tieout.watch.findings import Check, Finding

# The newest version of each row, as every reader of raw must see it.
LIVING = """
select {columns} from (
    select *, row_number() over (partition by row_key, occurrence order by batch_id desc) as recency from (
        select t.*, coalesce(
            occurrence_no, row_number() over (partition by t.batch_id, row_key order by is_deleted, abs(line_no))
        ) as occurrence
        from raw.{table} t left join ops.repeated_rows o on (o.batch_id, o.row_no) = (t.batch_id, t.line_no)
    ) numbered
) versions where recency = 1 and not is_deleted order by 1, 2
"""


def living_lines(desk: Desk) -> list[tuple[Any, ...]]:
    """(batch, reference, cents) of every capture that stands."""
    columns = "batch_reference, psp_reference, net_minor, record_type"
    rows = desk.ask(LIVING.format(columns=columns, table="settlement_lines"))
    return [row[:3] for row in rows if row[3] == "Settled"]


def notes(desk: Desk, kind: str = "file_superseded") -> list[dict[str, Any]]:
    return [row[0] for row in desk.ask("select observed from ops.load_notes where kind = %s order by note_id", kind)]


def findings(desk: Desk, check: Check) -> list[Finding]:
    return checks.run_checks(desk.warehouse, desk.registry, AS_OF, [check])


def test_a_restated_report_is_a_new_version_and_what_is_gone_is_taken_back(desk: Desk) -> None:
    """FAULTS 37 and 49: the same name with other bytes; both versions stay in raw."""
    desk.put("batch_42.csv", adyen({42: [("A", 10000), ("B", 5000), ("C", 700)]}))
    (first,) = desk.run()
    desk.put("batch_42.csv", adyen({42: [("A", 10000), ("C", 800), ("D", 900)]}))
    (second,) = desk.run()
    assert (first.outcome, second.outcome) == ("loaded", "loaded")
    assert living_lines(desk) == [("42", "A", 10000), ("42", "C", 800), ("42", "D", 900)]
    assert desk.ask("select count(*) from raw.settlement_lines where file_id = %s", first.file_id) == [(4,)]
    # B, and the payout's amount is another: its row is a changed one.
    assert desk.ask(
        "select psp_reference, line_no, gross_minor, fee_minor, net_minor, document_no, file_id "
        "from raw.settlement_lines where is_deleted"
    ) == [("B", -1, 0, 0, 0, 1, second.file_id)]
    assert desk.ask("select version, document_no, file_id, superseded_by from ops.documents order by 1") == [
        (1, 1, first.file_id, second.file_id), (2, 1, second.file_id, None)
    ]  # fmt: skip
    ((rows, total),) = desk.ask(
        "select b.row_count, t.sum_minor from ops.batches b join ops.batch_totals t using (batch_id) "
        "where file_id = %s and measure = 'gross_minor'", second.file_id
    )  # fmt: skip
    assert (rows, total) == (5, 0), "captures and the payout come to zero; the tombstone adds a row and no money"
    assert [finding.severity for finding in findings(desk, checks.control_totals)] == ["ok"]
    assert notes(desk) == [
        {"file": "batch_42.csv", "superseded_file_id": first.file_id, "superseded_file": "batch_42.csv", "documents": 1,
         "unchanged": 1, "changed": 2, "new": 1, "vanished": 1}
    ]  # fmt: skip


# What a report says under one reference, version by version, and how each differs from the one before.
REPEATED: dict[str, tuple[list[list[int]], list[tuple[int, int, int, int]]]] = {
    # The line that is left is the one of 200, whichever place it has now.
    "the first is gone": ([[100, 200], [200]], [(1, 1, 0, 1)]),
    "one of three is gone": ([[100, 200, 300], [100, 300]], [(2, 1, 0, 1)]),
    "one of two that are alike is gone": ([[100, 100], [100]], [(1, 1, 0, 1)]),
    "they change places": ([[100, 200], [200, 100]], []),
    "the one that is not there any more has changed": ([[100, 200], [200, 150]], [(1, 2, 0, 0)]),
    "another stands before it": ([[100], [50, 100]], [(1, 1, 1, 0)]),
    # The payout changes with each version; what was found once is kept: 300 stands for the 100 ever since.
    "gone, then another comes, then that changes": (
        [[100, 200], [200], [200, 300], [250, 300]], [(1, 1, 0, 1), (1, 1, 1, 0), (1, 2, 0, 0)],
    ),
    "the one that is left is alone": ([[100, 200], [200], [210]], [(1, 1, 0, 1), (0, 2, 0, 0)]),
}  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), REPEATED.values(), ids=REPEATED.keys())
def test_a_line_that_a_report_repeats_keeps_its_identity_whatever_its_place(
    given: list[list[int]], expected: list[tuple[int, int, int, int]], desk: Desk
) -> None:
    """Nothing but amounts tells them apart: unchanged, changed (with the payout), new and vanished of each version."""
    for number, cents in enumerate(given):
        desk.put(f"{number}.csv", adyen({42: [("A", each) for each in cents]}))
        assert desk.outcomes()[f"{number}.csv"] == "loaded"
        assert sorted(living_lines(desk)) == sorted(("42", "A", each) for each in cents)
    found = [(note["unchanged"], note["changed"], note["new"], note["vanished"]) for note in notes(desk)]
    assert found == expected
    assert [finding.severity for finding in findings(desk, checks.control_totals)] == ["ok"]


def test_repeated_lines_of_one_amount_are_told_apart_by_what_else_they_say(desk: Desk) -> None:
    """The first of two is gone: the date of the one that is left says which."""
    both = adyen({42: [("A", 100), ("A", 100)]})
    first, later_on = "2026-10-18 09:15:00", "2026-10-19 09:15:00"
    desk.put("1.csv", both.replace(later_on, first, 1))
    desk.put("2.csv", adyen({42: [("A", 100)]}))
    assert set(desk.outcomes().values()) == {"loaded"}
    assert desk.ask("select occurred_at::date::text, occurrence_no from raw.settlement_lines t "
                    "join ops.repeated_rows o on (o.batch_id, o.row_no) = (t.batch_id, t.line_no) order by line_no"
    ) == [("2026-10-18", 1), ("2026-10-19", 2)]  # fmt: skip
    assert living_lines(desk) == [("42", "A", 100)]


def later(desk: Desk, name: str, content: str, hours: float = 1) -> None:
    """Put a file there as if so many hours from now, by the landing's clock."""
    path = desk.put(name, content)
    os.utime(path, (time.time() + hours * 3600,) * 2)


def versions(desk: Desk) -> list[tuple[Any, ...]]:
    """(version, name, delivery of the file, whether it stands) of each version of a document."""
    return desk.ask(
        "select d.version, f.name, f.delivery, d.superseded_by is null from ops.documents d "
        "join ops.files f using (file_id) order by d.identity, d.version"
    )


def test_what_is_sent_again_after_it_was_replaced_stands_again(desk: Desk) -> None:
    """Money misreported: a wrong restatement that its sender takes back would stay in the books."""
    original, wrong = adyen({42: [("A", 100), ("B", 500)]}), adyen({42: [("A", 150), ("C", 700)]})
    desk.put("1.csv", original)
    desk.run()
    desk.put("2.csv", wrong)
    assert desk.outcomes() == {"1.csv": "known", "2.csv": "loaded"}
    # Both lie there for days: neither is sent again by that.
    for _ in range(2):
        before = desk.traces()
        known, _ = desk.run()
        assert known.outcome == "known"
        assert "another file stands for its documents: put it there anew" in str(known.reason)
        assert desk.traces() == before
    later(desk, "3.csv", original)
    assert desk.outcomes() == {"1.csv": "known", "2.csv": "known", "3.csv": "loaded"}
    assert living_lines(desk) == [("42", "A", 100), ("42", "B", 500)]
    assert versions(desk) == [(1, "1.csv", 1, False), (2, "2.csv", 1, False), (3, "3.csv", 2, True)]
    assert [(note["file"], note["changed"], note["new"], note["vanished"]) for note in notes(desk)] == [
        ("2.csv", 2, 1, 1), ("3.csv", 2, 1, 1)
    ]  # fmt: skip
    assert [finding.severity for finding in findings(desk, checks.control_totals)] == ["ok"]
    assert set(desk.outcomes().values()) == {"known"}
    # Where it lies itself, too, and as often as its sender changes his mind.
    later(desk, "2.csv", wrong, 2)
    assert desk.outcomes() == {"1.csv": "known", "2.csv": "loaded", "3.csv": "known"}
    assert living_lines(desk) == [("42", "A", 150), ("42", "C", 700)]
    assert set(desk.outcomes().values()) == {"known"}


@pytest.mark.parametrize("hours", [-24, 1], ids=["with its old time", "anew"])
def test_a_copy_of_what_was_replaced_is_not_sent_again_unless_it_is_newer(hours: float, desk: Desk) -> None:
    """A landing that was moved with its times, or is called by another address, changes nothing."""
    original = adyen({42: [("A", 100)]})
    desk.put("1.csv", original)
    later(desk, "2.csv", adyen({42: [("A", 150)]}), 0)
    assert set(desk.outcomes().values()) == {"loaded"}
    later(desk, "moved/1.csv", original, hours)
    desk.run()
    assert living_lines(desk) == [("42", "A", 100 if hours > 0 else 150)]


def test_a_replaced_version_that_lacks_a_line_is_held_until_somebody_releases_it(desk: Desk) -> None:
    """What holds a new version holds one that is sent again; of it only the new delivery is released."""
    fewer = adyen({42: [("A", 100)]}, paid_out=False)
    desk.put("1.csv", fewer)
    desk.put("2.csv", adyen({42: [("A", 100), ("B", 500)]}, paid_out=False))
    first, _ = desk.run()
    later(desk, "3.csv", fewer)
    held = desk.run()[-1]
    assert (held.outcome, first.file_id == held.file_id) == ("held", False)
    with pytest.raises(quarantine.QuarantineError, match=f"file {first.file_id} .* is loaded"):
        quarantine.release(desk.warehouse, int(first.file_id or 0), "B was a mistake", "me")
    quarantine.release(desk.warehouse, int(held.file_id or 0), "B was a mistake", "me")
    assert "loaded" in desk.outcomes().values()
    assert living_lines(desk) == [("42", "A", 100)]
    assert set(desk.outcomes().values()) == {"known"}


def test_of_lines_that_are_alike_as_many_are_gone_as_are_missing(desk: Desk) -> None:
    desk.put("a.csv", adyen({42: [("A", 100), ("A", 100), ("A", 100), ("B", 100)]}))
    desk.run()
    desk.put("a.csv", adyen({42: [("B", 100), ("A", 100)]}))
    assert desk.outcomes() == {"a.csv": "loaded"}
    assert living_lines(desk) == [("42", "A", 100), ("42", "B", 100)]
    assert desk.ask("select psp_reference, line_no from raw.settlement_lines where is_deleted order by 2 desc") == [
        ("A", -1), ("A", -2)
    ]  # fmt: skip
    desk.put("a.csv", adyen({42: [("A", 100), ("A", 100), ("A", 100), ("B", 100)]}) + "\n")
    assert desk.outcomes() == {"a.csv": "loaded"}
    assert [reference for _, reference, _ in living_lines(desk)] == ["A", "A", "A", "B"]


def test_overlapping_reports_double_nothing_and_say_nothing(desk: Desk) -> None:
    """FAULTS 39."""
    desk.put("1-2.csv", adyen({1: [("A", 100)], 2: [("B", 200), ("C", 300)]}))
    desk.put("2-3.csv", adyen({2: [("B", 200), ("C", 300)], 3: [("D", 400)]}))
    first, second = desk.run()
    assert (first.outcome, second.outcome) == ("loaded", "loaded")
    assert living_lines(desk) == [("1", "A", 100), ("2", "B", 200), ("2", "C", 300), ("3", "D", 400)]
    standing = desk.ask("select identity, file_id from ops.documents where superseded_by is null order by 1")
    assert [file_id for _, file_id in standing] == [first.file_id, second.file_id, second.file_id]
    assert notes(desk) == []


def test_documents_of_two_files_in_one_are_taken_back_from_both(desk: Desk) -> None:
    desk.put("1.csv", adyen({1: [("A", 100), ("B", 100)]}))
    desk.put("2.csv", adyen({2: [("C", 100), ("D", 100)]}))
    desk.run()
    desk.put("3.csv", adyen({2: [("C", 150)], 1: [("A", 100)], 3: [("E", 100)]}))
    assert desk.outcomes()["3.csv"] == "loaded"
    assert living_lines(desk) == [("1", "A", 100), ("2", "C", 150), ("3", "E", 100)]
    gone = desk.ask("select psp_reference, line_no, document_no from raw.settlement_lines where is_deleted order by 1")
    assert gone == [("B", -1, 2), ("D", -2, 1)], "each has a number of its own, and the document's in the new file"
    assert [(note["superseded_file"], note["vanished"]) for note in notes(desk)] == [("1.csv", 1), ("2.csv", 1)]


def test_a_version_that_lacks_a_line_and_does_not_prove_itself_is_held(desk: Desk) -> None:
    desk.put("a.csv", adyen({42: [("A", 100), ("B", 100)]}, paid_out=False))
    desk.run()
    before = desk.traces()
    desk.put("a.csv", adyen({42: [("A", 100)]}, paid_out=False))
    for _ in range(2):
        (outcome,) = desk.run()
        assert outcome.outcome == "held"
        said = "settlement_batch adyen|ShopEU|42|EUR has 1 lines here and 2 in file 1 (a.csv), 1 of them in both"
        assert said in str(outcome.reason)
    assert desk.traces() == {**before, "ops.files": 2}
    assert living_lines(desk) == [("42", "A", 100), ("42", "B", 100)]
    # More lines than before do not say that the one that is missing is gone.
    desk.put("a.csv", adyen({42: [("A", 100), ("C", 100), ("D", 100)]}, paid_out=False))
    (replaced,) = desk.run()
    assert "has 3 lines here and 2 in file 1 (a.csv), 1 of them in both" in str(replaced.reason)
    quarantine.release(desk.warehouse, int(replaced.file_id or 0), "the sender took B back", "me")
    assert desk.outcomes() == {"a.csv": "loaded"}
    assert [reference for _, reference, _ in living_lines(desk)] == ["A", "C", "D"]


def test_a_version_without_a_proof_may_change_and_add_lines(desk: Desk) -> None:
    desk.put("a.csv", adyen({42: [("A", 100), ("B", 100)]}, paid_out=False))
    desk.run()
    desk.put("a.csv", adyen({42: [("C", 100), ("A", 150), ("B", 100)]}, paid_out=False))
    assert desk.outcomes() == {"a.csv": "loaded"}
    assert living_lines(desk) == [("42", "A", 150), ("42", "B", 100), ("42", "C", 100)]


def test_another_part_of_a_document_is_no_version_of_it(desk: Desk) -> None:
    """A batch that comes page by page, or half in one day's report and half in the next."""
    desk.put("1.csv", adyen({42: [("A", 100), ("B", 100)]}, paid_out=False))
    desk.put("2.csv", adyen({42: [("C", 100), ("D", 100)]}, paid_out=False))
    first, second = desk.run()
    assert (first.outcome, second.outcome) == ("loaded", "held")
    assert "0 of them in both" in str(second.reason)
    # One that proves the whole batch is believed.
    desk.put("3.csv", adyen({42: [("C", 100), ("D", 100)]}))
    assert desk.outcomes()["3.csv"] == "loaded"
    assert [reference for _, reference, _ in living_lines(desk)] == ["C", "D"]


def test_a_line_of_no_document_is_only_ever_itself(desk: Desk) -> None:
    """Two fees of one amount on two days are two lines; the same line in an overlapping report is one."""
    header, fee, *_ = (FIXTURES / "stripe.csv").read_text(encoding="utf-8").splitlines()
    fee = fee.replace("po_1Abc", "").replace(",,Network costs", ",acct_gulf,Network costs")
    charge = "po_{0},txn_{0},ch_{0},{1},{1},kwd,1.000,0.000,1.000,charge,ch_{0},card,visa,,acct_gulf,"
    other = fee.replace("2026-10-19", "2026-10-20").replace("txn_1", "txn_2")
    desk.put("1.csv", "\n".join([header, fee, charge.format(4, "2026-10-19 08:00:00"), ""]))
    desk.put("2.csv", "\n".join([header, other, charge.format(5, "2026-10-20 08:00:00"), ""]))
    assert set(desk.outcomes().values()) == {"loaded"}
    living = LIVING.format(columns="occurred_at::text, net_minor", table="settlement_lines")
    fees = [(when[:10], net) for when, net in desk.ask(living) if net < 0]
    assert fees == [("2026-10-19", -1250), ("2026-10-20", -1250)]
    desk.put("3.csv", "\n".join([header, other, fee, charge.format(6, "2026-10-20 08:00:00"), ""]))
    assert desk.outcomes()["3.csv"] == "loaded"
    assert [(when[:10], net) for when, net in desk.ask(living) if net < 0] == fees


STRIPE_HEADER = (FIXTURES / "stripe.csv").read_text(encoding="utf-8").splitlines()[0]


def stripe(*transactions: tuple[str, str, str], payout: str = "") -> str:
    """Balance transactions (payout or blank, id, amount) of one account, and the payout that takes those it names."""
    when = "2026-10-19 08:00:00,2026-10-21 00:00:00,usd"
    lines = [STRIPE_HEADER]
    for taken_by, transaction, amount in transactions:
        lines.append(f"{taken_by},{transaction},,{when},{amount},0,{amount},charge,ch_{transaction},,,,acct_1,")
    if payout:
        total = sum(Decimal(amount) for taken_by, _, amount in transactions if taken_by == payout)
        lines.append(f"{payout},txn_of_{payout},,{when},-{total},0,-{total},payout,{payout},,,,acct_1,")
    return "\n".join([*lines, ""])


@pytest.mark.parametrize("automatic", [True, False], ids=["beside a payout", "alone"])
@pytest.mark.parametrize("order", [("waiting", "paid"), ("paid", "waiting"), ("waiting", "paid", "paid again")])
def test_a_balance_transaction_is_counted_once_with_its_payout_and_without(
    automatic: bool, order: tuple[str, ...], desk: Desk
) -> None:
    """A line that no payout has taken yet comes again with its payout; alone such lines read as a day's activity."""
    first = ("po_1", "txn_1", "10.00")
    contents = {
        "waiting": stripe(*([first] if automatic else []), ("", "txn_2", "5.00"), payout="po_1" if automatic else ""),
        "paid": stripe(("po_2", "txn_2", "5.00"), payout="po_2"),
        "paid again": stripe(("po_2", "txn_2", "5.00"), ("", "txn_3", "7.00"), payout="po_2"),
    }
    for place, which in enumerate(order):
        desk.put(f"{place}.csv", contents[which])
        assert desk.outcomes()[f"{place}.csv"] == "loaded"
    living = desk.ask(LIVING.format(columns="psp_reference, net_minor, record_type", table="settlement_lines"))
    charges = [row[:2] for row in living if row[2] == "charge"]
    wanted = [("ch_txn_1", 1000)] * automatic + [("ch_txn_2", 500)] + [("ch_txn_3", 700)] * ("paid again" in order)
    assert charges == wanted
    assert sorted(row[1] for row in living if row[2] == "payout") == [-1000] * automatic + [-500]


def test_a_statement_that_comes_again_takes_its_entries_back(desk: Desk) -> None:
    desk.put("s.sta", statement(1, 0, 500, -200, -300))
    desk.run()
    desk.put("s.sta", statement(1, 0, 500, -500))
    assert desk.outcomes() == {"s.sta": "loaded"}
    columns = "bank_account, amount_minor"
    assert [cents for _, cents in desk.ask(LIVING.format(columns=columns, table="bank_entries"))] == [-500, 500]
    # No entry is left, so the file brings no row of the table: the tombstones need a batch all the same.
    desk.put("s.sta", statement(1, 0))
    (third,) = desk.run()
    assert third.outcome == "loaded"
    assert desk.ask(LIVING.format(columns=columns, table="bank_entries")) == []
    assert desk.ask("select table_name, row_count from ops.batches where file_id = %s order by 1", third.file_id) == [
        ("bank_entries", 2), ("bank_statements", 1)
    ]  # fmt: skip
    assert [finding.severity for finding in findings(desk, checks.control_totals)] == ["ok", "ok"]


def test_a_report_is_not_compared_with_one_of_before_versions(desk: Desk) -> None:
    desk.put("a.csv", adyen({42: [("A", 100)]}))
    desk.run()
    desk.ask("update ops.documents set document_no = null; select 1")
    desk.put("b.csv", adyen({42: [("A", 200)]}))
    assert "before versions were kept" in str(desk.run()[1].reason)
    assert len(living_lines(desk)) == 1


def test_whatever_the_order_the_same_rows_stand(desk: Desk) -> None:
    """A gap, an overlap and a re-delivery in any order; of two deliveries of a batch the later one stands."""
    orders = list(itertools.permutations(range(5)))
    # Every eighth of the 120 orders here, all of them under `make faults`; each has accounts of its own.
    for number, order in enumerate(orders[:: 1 if os.environ.get("TIEOUT_FAULTS") == "long" else 8]):
        folder = desk.folder / str(number)
        bank, shop = f"GB{number:012d}", f"Shop{number}"
        contents = [
            statement(1, 0, 500, account=bank),
            statement(2, 500, -100, account=bank),
            statement(3, 400, 50, account=bank),
            adyen({1: [("A", 100)], 2: [("B", 200), ("C", 300)]}, shop),
            adyen({2: [("B", 250)], 3: [("D", 400)]}, shop),
        ]
        for place, which in enumerate(order):
            desk.put(f"{number}/{place}", contents[which])
            outcomes = Counter(desk.outcomes(folder).values())
            assert not outcomes.keys() - {"loaded", "known", "held"}, (order, outcomes)
        assert outcomes["held"] == 0, order
        stands = [("2", "B", 250)] if order.index(4) > order.index(3) else [("2", "B", 200), ("2", "C", 300)]
        columns = "batch_reference, psp_reference, net_minor, record_type, processor_account"
        rows = desk.ask(LIVING.format(columns=columns, table="settlement_lines"))
        found = [row[:3] for row in rows if row[3:] == ("Settled", shop)]
        assert found == [("1", "A", 100), *stands, ("3", "D", 400)], order
        entries = desk.ask(LIVING.format(columns="booking_date, amount_minor, bank_account", table="bank_entries"))
        assert [cents for _, cents, account in entries if account == bank] == [500, -100, 50], order


def test_two_runs_that_bring_a_document_at_once_make_two_versions(desk: Desk) -> None:
    """One waits for the other's commit: neither finds the document new while the other enters it."""
    for name, cents in (("a", 100), ("b", 200)):
        desk.put(f"{name}/1.csv", adyen({42: [("A", cents)]}))

    def go(name: str) -> list[str]:
        connection = psycopg2.connect(desk.warehouse.dsn)
        try:
            return [each.outcome for each in load_landing(desk.folder / name, connection, desk.registry, AS_OF)]
        finally:
            connection.close()

    waiting = (
        "select count(*) from pg_locks l join pg_database d on d.oid = l.database "
        "where l.locktype = 'advisory' and not l.granted and d.datname = current_database()"
    )
    desk.ask("select pg_advisory_lock(hashtextextended('ops.documents', 0)) is null")
    with ThreadPoolExecutor(2) as threads:
        runs = [threads.submit(go, name) for name in ("a", "b")]
        deadline = time.monotonic() + 30
        while desk.ask(waiting) != [(2,)]:
            assert time.monotonic() < deadline, "the runs do not wait for one another"
            time.sleep(0.02)
        desk.ask("select pg_advisory_unlock(hashtextextended('ops.documents', 0))")
        # Whose rows are older may be the last to enter: then the next run loads it.
        assert sorted(run.result()[0] for run in runs) in (["loaded", "loaded"], ["loaded", "waiting"])
    desk.run()
    assert [row[0::3] for row in versions(desk)] == [(1, False), (2, True)]
    standing = desk.ask("select net_minor from ops.documents d join raw.settlement_lines l using (file_id) "
                        "where superseded_by is null and record_type = 'Settled' and not is_deleted")  # fmt: skip
    assert [(cents,) for _, _, cents in living_lines(desk)] == standing


def test_the_version_that_stands_is_the_one_readers_take(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Money misreported: a run that reads for long, and is overtaken, would enter the newer version with older rows."""
    desk.put("a/1.csv", adyen({42: [("A", 100)]}))
    desk.put("b/1.csv", adyen({42: [("A", 200)]}))
    enter, read, overtaken = documents.enter, threading.Event(), threading.Event()

    def slowly(cursor: Any, file_id: int, reading: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            read.set()
            assert overtaken.wait(30)
        return enter(cursor, file_id, reading)

    monkeypatch.setattr(documents, "enter", slowly)

    def go() -> list[FileOutcome]:
        with contextlib.closing(psycopg2.connect(desk.warehouse.dsn)) as connection:
            return load_landing(desk.folder / "a", connection, desk.registry, AS_OF)

    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(go)
        assert read.wait(30)
        assert desk.outcomes(desk.folder / "b") == {"1.csv": "loaded"}
        overtaken.set()
        (waiting,) = slow.result()
    assert waiting.outcome == "waiting"
    assert "(1.csv) while this one was being read: the next run loads it" in str(waiting.reason)
    assert living_lines(desk) == [("42", "A", 200)]
    assert desk.traces()["ops.files"] == 1
    assert desk.outcomes(desk.folder / "a") == {"1.csv": "loaded"}
    assert living_lines(desk) == [("42", "A", 100)]
    assert [row[0::3] for row in versions(desk)] == [(1, False), (2, True)]


def test_a_file_whose_documents_are_new_is_compared_with_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What versions cost is paid where a document comes again, and only there."""

    def refuse(*_: Any) -> None:
        raise AssertionError("compared with nothing")

    monkeypatch.setattr(documents.Comparison, "supersede", refuse)
    desk.put("a.csv", adyen({42: [("A", 100)]}))
    assert desk.outcomes() == {"a.csv": "loaded"}
    desk.put("b.csv", adyen({42: [("B", 100)]}))
    assert desk.outcomes()["b.csv"] == "failed"
