"""The truth is complete and consistent, judged against what ledger and files say at each close."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from tieout import sandbox
from tieout.sandbox.trouble_plan import PAYMENTS_PER_COPY, PAYOUT_PLANTS, PLANTS, STRAY_ENTRIES

from . import reports
from .conftest import World
from .test_files import files_truth

DAILY_CLOSES = [date(2026, 10, day) for day in (27, 28, 29, 30)]
# Kinds that show in files.csv, in the files alone, or in no break at all.
WITHOUT_ITEMS = {
    "LATE_REPORT", "TRUNCATED_FILE", "DUPLICATE_FILE", "MISSING_RATE", "SPLIT", "NEGATIVE_BATCH",
}  # fmt: skip
# Sides agree in amount and reference and still differ.
DIFFERS_OTHERWISE = {"FEE_VARIANCE", "DATE_OUT_OF_WINDOW"}
FAMILIES = {
    "Settled": "capture", "charge": "capture", "T0006": "capture",
    "Refunded": "refund", "refund": "refund", "T1107": "refund",
    "Chargeback": "chargeback", "dispute": "chargeback", "T1201": "chargeback",
    "ChargebackReversed": "won", "dispute_reversal": "won", "T1202": "won",
}  # fmt: skip


def truth(world: World) -> list[dict[str, str]]:
    with (world.state / "sandbox" / "truth.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def open_at(rows: list[dict[str, str]], day: date) -> list[dict[str, str]]:
    text = day.isoformat()
    return [r for r in rows if r["opens_on"] <= text and (not r["clears_on"] or text < r["clears_on"])]


def test_every_kind_is_planted(world: World) -> None:
    assert {r["kind"] for r in truth(world)} == sandbox.KINDS.keys() - WITHOUT_ITEMS


def test_every_kind_shows_at_some_close_of_the_walk(world: World) -> None:
    rows = truth(world)
    shown = [{r["kind"] for r in open_at(rows, day)} for day in DAILY_CLOSES]
    assert set.union(*shown) == sandbox.KINDS.keys() - WITHOUT_ITEMS
    # The opening close is no easier than the daily ones, and each day brings something new.
    assert len(shown[0]) > 15
    for day in DAILY_CLOSES[1:]:
        assert any(r["opens_on"] == day.isoformat() and r["kind"] != "EXPECTED_NOT_DUE" for r in rows), day
        assert any(r["clears_on"] == day.isoformat() for r in rows), day


def test_at_least_a_code_of_each_planted_family(world: World) -> None:
    codes = {r["break_code"] for day in DAILY_CLOSES for r in open_at(truth(world), day)}
    assert len(codes) == 24


def test_windows_are_windows_and_no_item_has_two_at_once(world: World) -> None:
    windows = defaultdict(list)
    for r in truth(world):
        assert r["opens_on"] >= "2026-10-19"
        assert not r["clears_on"] or r["opens_on"] < r["clears_on"]
        windows[r["reconciliation"], r["side"], r["reference"]].append((r["opens_on"], r["clears_on"] or "9999"))
    for key, found in windows.items():
        found.sort()
        for (_, ends), (begins, _) in pairwise(found):
            assert ends <= begins, key


def test_no_item_carries_two_troubles(world: World) -> None:
    kinds = defaultdict(set)
    for r in truth(world):
        if r["kind"] != "EXPECTED_NOT_DUE":
            kinds[r["reconciliation"], r["side"], r["reference"]].add(r["kind"])
    assert not {key: found for key, found in kinds.items() if len(found) > 1}


def delivered_until(world: World, day: date, origins: tuple[str, ...]) -> list[str]:
    odd = {r["file"] for r in files_truth(world) if r["status"] in ("quarantined", "duplicate")}
    return [
        str(path)
        for delivery, paths in world.delivered.items()
        if delivery <= day
        for path in paths
        if path.parent.name in origins and path.name not in odd
    ]


def ledger_items(world: World, day: date) -> dict[str, tuple[tuple[str, str, str], int, str]]:
    """Reference of each left item known at the close of a day: (processor, psp reference, family), amount, currency."""
    items = {}
    for reference, processor, psp, amount, currency in world.query(
        f"select capture_id, processor, psp_reference, amount_minor, currency from payments.captures"
        f" where captured_at::date <= '{day}'"
    ):
        items[reference] = ((processor, psp, "capture"), amount, currency)
    for reference, processor, psp, amount, currency in world.query(
        f"select refund_id, processor, psp_reference, -amount_minor, currency from payments.refunds"
        f" where status = 'succeeded' and updated_at::date <= '{day}'"
    ):
        items[reference] = ((processor, psp, "refund"), amount, currency)
    for reference, stage, processor, psp, amount, currency in world.query(
        f"select dispute_id || ':' || stage, stage, processor, psp_reference,"
        f" case stage when 'won' then amount_minor else -amount_minor end, currency from payments.disputes"
        f" where stage <> 'lost' and stage_at::date <= '{day}'"
    ):
        items[reference] = ((processor, psp, stage), amount, currency)
    return items


@pytest.mark.parametrize("day", sandbox.BUSINESS_DAYS, ids=str)
def test_open_items_of_payment_processor_are_exactly_the_truth(world: World, day: date) -> None:
    left = ledger_items(world, day)
    right: dict[tuple[tuple[str, str, str], int, str], list[str]] = defaultdict(list)
    open_right: Counter[str] = Counter()
    released = set()
    holds = set()
    for name in delivered_until(world, day, ("adyen", "stripe", "paypal")):
        path = Path(name)
        for row in reports.settlement(path):
            if row.record_type in (*reports.PAYOUTS, *reports.FEES):
                continue
            key = row.psp_reference or path.name
            reference = f"{row.processor}:{key}:{row.record_type if row.psp_reference else row.line_no}"
            if row.record_type == "DepositCorrection":
                (holds if row.gross < 0 else released).add(row.psp_reference)
                continue
            family = FAMILIES.get(row.record_type, row.record_type)
            right[(row.processor, row.psp_reference, family), row.gross, row.gross_currency].append(reference)
    open_left = holds - released
    for reference, item in left.items():
        if right[item]:
            right[item].pop()
        else:
            open_left.add(reference)
    for references in right.values():
        open_right.update(references)

    rows = [r for r in open_at(truth(world), day) if r["reconciliation"] == "payment_processor"]
    hard = [r for r in rows if r["break_code"] not in DIFFERS_OTHERWISE]
    assert open_left == {r["reference"] for r in hard if r["side"] == "left"}
    assert open_right == Counter(r["reference"] for r in hard if r["side"] == "right")
    # The softer differences are pairs: both sides are there, and there are as many left as right.
    soft = [r for r in rows if r["break_code"] in DIFFERS_OTHERWISE]
    assert Counter(r["break_code"] for r in soft if r["side"] == "left") == Counter(
        r["break_code"] for r in soft if r["side"] == "right"
    )
    assert {r["reference"] for r in soft if r["side"] == "left"} <= left.keys()
    for r in hard:
        if r["side"] == "left" and r["reference"] in left:
            assert (int(r["amount_minor"]), r["currency"]) == left[r["reference"]][1:]


@pytest.mark.parametrize("day", sandbox.BUSINESS_DAYS, ids=str)
def test_open_items_of_processor_bank_are_exactly_the_truth(world: World, day: date) -> None:
    payouts = {}
    for name in delivered_until(world, day, ("adyen", "stripe", "paypal")):
        for row in reports.settlement(Path(name)):
            if row.record_type in reports.PAYOUTS:
                payouts[row.psp_reference] = (f"{row.processor}:{row.psp_reference}", -row.net, row.net_currency)
    found: dict[str, list[tuple[str, int]]] = defaultdict(list)
    open_right = set()
    for name in delivered_until(world, day, ("bank",)):
        statement = reports.bank(Path(name))
        assert statement.day <= day
        for entry in statement.entries:
            words = entry.text.split()
            if "FX" in words or any(word.startswith("PO-") for word in words) or entry.text == "ACCOUNT FEES":
                continue
            payout = next((word for word in words if word in payouts), "")
            reference = f"{statement.account}:{entry.reference}"
            if payout:
                found[payout].append((reference, entry.amount))
            else:
                open_right.add(reference)
    open_left = set()
    for psp, (reference, amount, _) in payouts.items():
        entries = found[psp]
        if sum(value for _, value in entries) == amount and entries:
            continue
        matching = [name for name, value in entries if value == amount]
        open_right |= {name for name, _ in entries} - set(matching[:1])
        if not matching:
            open_left.add(reference)
    rows = [r for r in open_at(truth(world), day) if r["reconciliation"] == "processor_bank"]
    assert open_left == {r["reference"] for r in rows if r["side"] == "left"}
    assert open_right == {r["reference"] for r in rows if r["side"] == "right"}


@pytest.mark.parametrize("day", sandbox.BUSINESS_DAYS, ids=str)
def test_overdue_codes_say_whether_a_report_came(world: World, day: date) -> None:
    """IN_LEDGER_NOT_PSP needs a report that should have held the item; MISSING_OVERDUE needs that there is none."""
    accounts = dict(
        world.query(
            "select c.capture_id, p.processor_account from payments.captures c"
            " join payments.payments p using (payment_id)"
        )
    )
    for r in open_at(truth(world), day):
        if r["break_code"] == "MISSING_OVERDUE":
            assert accounts.get(r["reference"], "EZTIEOUTAP") == "EZTIEOUTAP"
            assert day >= date(2026, 10, 30)
        if r["break_code"] == "IN_LEDGER_NOT_PSP":
            assert accounts.get(r["reference"], "") != "EZTIEOUTAP" or day < date(2026, 10, 30)


def test_a_small_world_holds_each_planted_trouble_once(world: World) -> None:
    planted = [r for r in truth(world) if r["kind"] not in ("EXPECTED_NOT_DUE", "MISSING_OVERDUE")]
    assert world.payments_per_day < 2 * PAYMENTS_PER_COPY
    # A plant is one row, or a pair, or the three of an ambiguous order, or a pair and the days before it.
    singles = len(PLANTS) + len(PAYOUT_PLANTS) + len(STRAY_ENTRIES)
    assert singles < len(planted) < 2 * singles


def test_the_label_list_describes_every_kind() -> None:
    assert all(text and not text.endswith(".") for text in sandbox.KINDS.values())
    assert len(sandbox.KINDS) >= 30


def test_cut_off_items_clear_the_next_day(world: World) -> None:
    rows = [r for r in truth(world) if r["kind"] == "CUTOFF_TEMPORARY"]
    assert rows
    for r in rows:
        opens = date.fromisoformat(r["opens_on"])
        assert r["clears_on"] == (opens + timedelta(1)).isoformat()
