"""The truth is complete and consistent, judged against what ledger and files say at each close."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from tieout import sandbox
from tieout.sandbox.days import add_business_days
from tieout.sandbox.trouble_plan import (
    FX_PLANTS,
    MERCHANT_PAYOUT_PLANTS,
    PAYMENTS_PER_COPY,
    PAYOUT_PLANTS,
    PLANTS,
    STRAY_ENTRIES,
)

from . import reports
from .conftest import World
from .test_files import files_truth

DAILY_CLOSES = [date(2026, 10, day) for day in (27, 28, 29, 30)]
# Kinds that show in files.csv, in the files alone, or in no break at all.
WITHOUT_ITEMS = {
    "LATE_REPORT", "TRUNCATED_FILE", "DUPLICATE_FILE", "MISSING_RATE", "SPLIT", "NEGATIVE_BATCH", "PAYOUT_BACK",
    "BULK_PAYOUT",
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
    assert len(codes) == 32


def test_the_closes_are_those_of_make_run() -> None:
    assert sandbox.CLOSES == DAILY_CLOSES


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
        # An account's day is what the account's open days are together: it may change its name.
        if r["kind"] != "EXPECTED_NOT_DUE" and r["reconciliation"] != "ledger_bank":
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


def entries_until(world: World, day: date) -> list[tuple[reports.BankFile, reports.Booked]]:
    files = [reports.bank(Path(name)) for name in delivered_until(world, day, ("bank",))]
    return [(statement, entry) for statement in files for entry in statement.entries]


def word_of(text: str, beginning: str) -> str:
    return next((word for word in text.split() if word.startswith(beginning)), "")


def items_of(rows: list[dict[str, str]], reconciliation: str, day: date) -> set[tuple[str, str, int]]:
    return {
        (r["side"], r["reference"], int(r["amount_minor"]))
        for r in open_at(rows, day)
        if r["reconciliation"] == reconciliation
    }


@pytest.mark.parametrize("day", sandbox.BUSINESS_DAYS, ids=str)
def test_open_items_of_payout_bank_are_exactly_the_truth(world: World, day: date) -> None:
    sent: dict[str, list[tuple[str, str, int]]] = defaultdict(list)
    back: Counter[str] = Counter()
    for reference, payout_id, amount, came_back in world.query(
        "select p.bank_reference, p.payout_id, p.amount_minor, e.booked_at::date from payments.payouts p"
        " left join payments.ledger_entries e on e.source_id = p.payout_id and e.source_type = 'payout_return'"
        f" where p.sent_at::date <= '{day}'"
    ):
        sent[reference].append(("left", payout_id, -amount))
        back[reference] += amount if came_back is not None and came_back <= day else 0
    booked: dict[str, list[tuple[str, str, int]]] = defaultdict(list)
    for statement, entry in entries_until(world, day):
        if reference := word_of(entry.text, "PO-"):
            booked[reference].append(("right", f"{statement.account}:{entry.reference}", entry.amount))
    wanted = set()
    for reference in sent.keys() | booked.keys():
        left, right = sent[reference], booked[reference]
        paid, owed = sum(item[2] for item in right), sum(item[2] for item in left)
        if right and paid == owed + back[reference]:
            continue
        # A payout that is there and has come back leaves only what came back.
        wanted |= set(right[1:] if left and right[:1] and right[0][2] == owed else left + right)
    assert items_of(truth(world), "payout_bank", day) == wanted


def test_payouts_go_wrong_in_every_way_within_the_closes(world: World) -> None:
    rows = [r for r in truth(world) if r["reconciliation"] == "payout_bank"]
    found = {
        (r["break_code"], r["side"], r["opens_on"], r["clears_on"])
        for r in rows
        if r["break_code"] != "EXPECTED_NOT_DUE"
    }
    assert found == {
        ("PAYOUT_NOT_BANK", "left", "2026-10-24", ""), ("PAYOUT_NOT_BANK", "left", "2026-10-29", ""),
        ("BANK_NOT_PAYOUT", "right", "2026-10-23", ""), ("BANK_NOT_PAYOUT", "right", "2026-10-28", ""),
        ("OVER", "left", "2026-10-23", ""), ("OVER", "right", "2026-10-23", ""),
        ("OVER", "left", "2026-10-29", ""), ("OVER", "right", "2026-10-29", ""),
        ("PAYOUT_RETURNED", "right", "2026-10-28", "2026-10-29"),
        ("PAYOUT_RETURNED", "right", "2026-10-29", "2026-10-30"),
    }  # fmt: skip
    assert world.query(
        "select sent_at::date, count(*) from payments.payouts"
        " where bank_reference in (select bank_reference from payments.payouts group by 1 having count(*) > 1)"
        " group by 1 order by 1"
    ) == [(date(2026, 10, 22), 2), (date(2026, 10, 27), 2)]
    # What the payment system learns of each return is a change of a payout that an earlier close saw paid, or not.
    known = world.query("select updated_at::date from payments.payouts where status = 'returned' order by 1")
    assert known == [(date(2026, 10, day),) for day in (27, 29, 29, 30)]


@pytest.mark.parametrize("day", sandbox.BUSINESS_DAYS, ids=str)
def test_open_items_of_fx_bank_are_exactly_the_truth(world: World, day: date) -> None:
    legs: dict[tuple[str, str], tuple[str, str, int]] = {}
    for number, reference, *sides in world.query(
        "select fx_conversion_id, bank_reference, sell_bank_account, sell_amount_minor, buy_bank_account,"
        f" buy_amount_minor from payments.fx_conversions where executed_at::date <= '{day}'"
    ):
        legs[sides[0], reference] = ("left", f"{number}:sold", -sides[1])
        legs[sides[2], reference] = ("left", f"{number}:bought", sides[3])
    wanted = set(legs.values())
    for statement, entry in entries_until(world, day):
        if reference := word_of(entry.text, "FX-"):
            leg = legs.get((statement.account, reference))
            if leg is not None and leg[2] == entry.amount:
                wanted.discard(leg)
            else:
                wanted.add(("right", f"{statement.account}:{entry.reference}", entry.amount))
    assert items_of(truth(world), "fx_bank", day) == wanted


def test_conversions_go_wrong_in_every_way_within_the_closes(world: World) -> None:
    rows = [r for r in truth(world) if r["reconciliation"] == "fx_bank" and r["break_code"] != "EXPECTED_NOT_DUE"]
    assert {(r["break_code"], r["side"], r["currency"], r["opens_on"], r["clears_on"]) for r in rows} == {
        ("FX_NOT_BANK", "left", "GBP", "2026-10-28", ""),
        ("FX_DIFFERENCE", "left", "EUR", "2026-10-28", ""),
        ("FX_DIFFERENCE", "right", "EUR", "2026-10-28", ""),
        ("BANK_NOT_FX", "right", "USD", "2026-10-29", ""),
    }


def test_open_days_of_ledger_bank_are_exactly_the_truth(world: World) -> None:
    """Played close by close from the book's rows and the statements: days, then the account, then what is left."""
    days: dict[str, dict[date, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    for account, day, amount in world.query(
        "select bank_account, booked_at::date, sum(amount_minor)::bigint from payments.ledger_entries group by 1, 2"
    ):
        days[account][day]["left"] = amount
    currencies = {}
    for name in delivered_until(world, DAILY_CLOSES[-1], ("bank",)):
        statement = reports.bank(Path(name))
        currencies[statement.account] = statement.currency
        amounts = [entry.amount for entry in statement.entries]
        if statement.day == date(2026, 10, 19):
            amounts.append(statement.opening)
        if amounts:
            days[statement.account][statement.day]["right"] = sum(amounts)
    rows = [r for r in truth(world) if r["reconciliation"] == "ledger_bank"]
    ways = set()
    for close in DAILY_CLOSES:
        wanted = set()
        for account, found in days.items():
            seen = {day: sums for day, sums in found.items() if day <= close}
            agreed = [day for day, sums in seen.items() if sums.get("left", 0) == sums.get("right", 0)]
            rest = {day: sums for day, sums in seen.items() if day not in agreed}
            if sum(sums.get("left", 0) - sums.get("right", 0) for sums in rest.values()) == 0:
                agreed += rest
                ways.add("an account agrees in total") if rest else None
                rest = {}
            for day in agreed:
                del found[day]
            sides = {side for sums in rest.values() for side in sums}
            for day, sums in rest.items():
                code = "BALANCE_DIFFERENCE" if len(sides) == 2 else "BANK_NOT_LEDGER"
                if sides == {"left"}:
                    currency = currencies[account]
                    due = add_business_days(add_business_days(day, 0, currency), 1, currency)
                    code = "EXPECTED_NOT_DUE" if due >= close else "LEDGER_NOT_BANK"
                wanted |= {(side, f"{account}:{day}", amount, code) for side, amount in sums.items()}
                ways.add(f"{code} {currencies[account]} {close.day}")
        assert wanted == {
            (r["side"], r["reference"], int(r["amount_minor"]), r["break_code"]) for r in open_at(rows, close)
        }
    assert ways >= {
        "an account agrees in total", "LEDGER_NOT_BANK KWD 27", "BANK_NOT_LEDGER KWD 29", "BANK_NOT_LEDGER KWD 30",
        "BALANCE_DIFFERENCE EUR 27", "BALANCE_DIFFERENCE EUR 30",
    }  # fmt: skip


def test_no_row_of_ledger_bank_outlives_the_close_that_wrote_it(world: World) -> None:
    following = dict(pairwise([day.isoformat() for day in DAILY_CLOSES])) | {DAILY_CLOSES[-1].isoformat(): ""}
    rows = [r for r in truth(world) if r["reconciliation"] == "ledger_bank"]
    assert {r["opens_on"] for r in rows} == following.keys()
    assert all(r["clears_on"] == following[r["opens_on"]] for r in rows)


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
    planted = [
        r
        for r in truth(world)
        if r["kind"] not in ("EXPECTED_NOT_DUE", "MISSING_OVERDUE") and r["reconciliation"] != "ledger_bank"
    ]
    assert world.payments_per_day < 2 * PAYMENTS_PER_COPY
    # A plant is one row, or a pair, or the three of an ambiguous order, or a pair and the days before it.
    singles = sum(map(len, (PLANTS, PAYOUT_PLANTS, STRAY_ENTRIES, MERCHANT_PAYOUT_PLANTS, FX_PLANTS)))
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
